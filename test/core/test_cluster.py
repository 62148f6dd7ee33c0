"""A dask cluster gives what one process gives, byte for byte, also when one of its workers is killed in the middle."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
from distributed import Client
from support import bags, shared_work
from support.dask_cluster import PYTHONPATH, cluster, free_port
from support.source_tree import ROOT

from maskact_ros.cli import main
from maskact_ros.core import cluster as module
from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.parallel import Workers, in_parallel
from maskact_ros.training.evaluation.success_rate import Evaluation, Setup, run


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("dask")) as made:
        yield made


@pytest.fixture
def dask(scheduler):
    """A cluster of two workers; those of the last test, if they live."""
    scheduler.add_workers(2 - len(scheduler.workers))
    return scheduler


@pytest.fixture
def two(dask):
    return Workers(cluster=dask.address)


def test_each_item_is_done_once_and_counts(two):
    reached = []
    done = in_parallel(shared_work.square, range(9), workers=two, reach=reached.append)
    assert sorted(done) == [n * n for n in range(9)]
    assert reached[-1] == 9


@pytest.mark.extended
def test_an_evaluation_whose_worker_is_killed_in_the_middle_is_the_local_one(dask, two):
    setup, seeds = Setup.of_policy(CheckpointInfo.read(ROOT / "models/demo"), {}, time_limit_s=1.0), range(5)
    results, killed = [], None
    with Client(dask.address, timeout=30, set_as_default=False) as client:
        pids = client.run(os.getpid)
        for result in run(setup, seeds, workers=two):
            results.append(result)
            if killed is None and (working := client.call_stack()):  # the other one, with an episode of its own
                (killed,) = (worker for worker in dask.workers if worker.pid == pids[next(iter(working))])
                killed.kill()
    assert killed.wait() == -signal.SIGKILL
    there, here = (json.dumps(asdict(Evaluation.of(setup, found))) for found in (results, list(run(setup, seeds))))
    assert there == here


@pytest.fixture
def bag_folder(tmp_path):
    for name in "abcd":
        bags.write(tmp_path / "bags" / name, bags.recording(120))
    bags.contract(tmp_path)
    return tmp_path


def convert(folder, out, *options):
    with pytest.raises(SystemExit) as ended:
        main(
            ["convert", str(folder / "bags"), "--contract", str(folder / "contract.yaml"), "--out", str(out), *options]
        )
    assert ended.value.code == 0


@pytest.mark.extended
def test_a_conversion_whose_worker_is_killed_in_the_middle_is_the_local_one(dask, bag_folder):
    here, there = bag_folder / "here", bag_folder / "there"
    convert(bag_folder, here)
    _, victim = dask.workers
    killer = threading.Thread(target=kill_while_it_writes, args=(victim, bag_folder / ".there.parts"))
    killer.start()
    convert(bag_folder, there, "--cluster", dask.address)
    killer.join()
    assert victim.wait() == -signal.SIGKILL
    assert contents(there) == contents(here)
    assert not list(bag_folder.glob(".*"))


def kill_while_it_writes(process, parts):
    until_s = time.monotonic() + 30
    while not any(str(parts) in file for file in open_files(process.pid)):
        assert time.monotonic() < until_s
        time.sleep(0.001)
    process.kill()


def open_files(pid):
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            yield os.readlink(descriptor)


def contents(dataset):
    """Files by name, but for the dataset's identity and how long its conversion took, which differ each time."""
    found = {str(path.relative_to(dataset)): path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    changing = rb'"converting_s": *[0-9.]+|"id": *"[0-9a-f]+"'
    return {name: re.sub(changing, b"", content) for name, content in found.items()}


@pytest.mark.extended
def test_demonstrations_are_the_local_ones_also_of_a_worker_that_has_evaluated(dask, tmp_path):
    robot = tmp_path / "robot.yaml"
    robot.write_text(
        (ROOT / "config/robot.yaml").read_text().replace("width: 640, height: 480", "width: 64, height: 48")
    )
    for out, options in (("here", []), ("there", ["--cluster", dask.address])):
        words = ["--episodes", "2", "--out", str(tmp_path / out), "--robot", str(robot)]
        with pytest.raises(SystemExit) as ended:
            main(["record-demos", *words, *options])
        assert ended.value.code == 0
    there = contents(tmp_path / "there")
    assert there == contents(tmp_path / "here")
    assert {name.partition("/")[0] for name in there} == {"episode_100000", "episode_100001"}


def test_who_stops_early_cancels_what_waits_and_stops_what_is_in_work(two, tmp_path):
    def stop(done):
        if done == 1.0:  # two halves
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(in_parallel(partial(shared_work.go_on, tmp_path), range(9), workers=two, reach=stop))
    assert shared_work.noted(tmp_path, "begun") == shared_work.noted(tmp_path, "ended") == 2
    assert list(in_parallel(shared_work.square, [3], workers=two)) == [9]


@pytest.mark.extended
def test_work_ends_when_the_command_is_killed(dask, tmp_path):
    script = (
        "from functools import partial; from pathlib import Path; from support import shared_work\n"
        "from maskact_ros.core.parallel import Workers, in_parallel\n"
        f"work = partial(shared_work.go_on, Path({str(tmp_path)!r}))\n"
        f"list(in_parallel(work, range(9), workers=Workers(cluster={dask.address!r})))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": PYTHONPATH}) as command:
        wait_until(lambda: shared_work.noted(tmp_path, "begun") == 2)
        command.kill()
    wait_until(lambda: shared_work.noted(tmp_path, "ended") == 2)
    assert shared_work.noted(tmp_path, "begun") == 2


def wait_until(condition):
    until_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_what_the_work_raises_tells_its_worker_and_is_not_tried_again(two, tmp_path):
    with pytest.raises(MaskACTError, match="bag 1 is empty") as raised:
        list(in_parallel(partial(shared_work.refuse, tmp_path), range(4), workers=two))
    (first, second) = raised.value.lines
    assert first == "really"
    assert re.fullmatch(r"on the worker tcp://127\.0\.0\.1:\d+, which must see the same files as this machine", second)
    assert shared_work.noted(tmp_path, "begun") == 1


def refused(workers, work=shared_work.square, **options):
    """The sentence that says why the workers cannot be used."""
    with pytest.raises(MaskACTError) as raised:
        list(in_parallel(work, range(2), workers=workers, **options))
    return str(raised.value)


def test_a_worker_of_other_versions_is_one_sentence(two, monkeypatch):
    other = module.versions() | {"maskact_ros": "9.9", "torch": "1.0"}
    monkeypatch.setattr(module, "versions", lambda: other)
    mine = "maskact_ros 0.1.0, not 9.9; torch 2.13.0, not 1.0"
    assert re.fullmatch(rf"the worker tcp://\S+ has other versions than this machine: .*{mine}; .*anew", refused(two))


def test_a_worker_without_a_library_that_the_work_needs_is_one_sentence(two):
    assert re.fullmatch(
        r"the worker tcp://\S+ cannot import no_such_library; install maskact_ros there as it is here",
        refused(two, shared_work.lacks_a_library),
    )


def test_a_worker_that_does_not_see_the_folder_is_one_sentence(two, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "touch", lambda *_, **__: None)  # as if it were made where the worker looks elsewhere
    sentence = refused(two, into=tmp_path)
    assert re.fullmatch(
        rf"the worker tcp://\S+ does not see {tmp_path} of this machine; .* under the same path", sentence
    )


@pytest.mark.extended
def test_a_worker_of_several_threads_is_one_sentence(tmp_path):
    with cluster(tmp_path) as made:
        made.add_workers(1, "--nthreads", "2")
        sentence = refused(Workers(cluster=made.address))
    assert re.fullmatch(r"the worker tcp://\S+ has 2 threads, .*start it with --nthreads 1, and with .*", sentence)


@pytest.mark.extended
def test_a_worker_without_the_package_is_one_sentence(tmp_path):
    (tmp_path / "maskact_ros").mkdir()
    (tmp_path / "maskact_ros/__init__.py").write_text("raise ImportError('no maskact_ros here')")
    with cluster(tmp_path) as made:
        made.add_workers(1, PYTHONPATH=f"{tmp_path}:{PYTHONPATH}")
        sentence = refused(Workers(cluster=made.address))
    assert "a worker cannot load maskact_ros as it is here (no maskact_ros here); install maskact_ros 0.1.0" in sentence


@pytest.mark.extended
def test_an_item_that_kills_its_workers_is_named_in_one_sentence(tmp_path):
    with cluster(tmp_path, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="1") as made:
        made.add_workers(2)
        notes = tmp_path / "notes"
        notes.mkdir()
        sentence = refused(Workers(cluster=made.address), partial(shared_work.die, notes, 99), name="bag {}".format)
    assert re.fullmatch(r"bag 1: 2 workers have died over it, the last one tcp://\S+; perhaps .* memory", sentence)


def test_a_cluster_without_workers_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 1.0)
    with cluster(tmp_path) as made:
        sentence = refused(Workers(cluster=made.address))
    assert "it has had no worker for 1 s; start some: dask worker tcp://" in sentence


@pytest.mark.extended
def test_a_scheduler_that_dies_in_the_middle_is_one_sentence(tmp_path):
    with cluster(tmp_path) as made:
        made.add_workers(1)
        kill = threading.Thread(
            target=lambda: (wait_until(lambda: shared_work.noted(tmp_path, "begun")), made.scheduler.kill())
        )
        kill.start()
        sentence = refused(Workers(cluster=made.address), partial(shared_work.go_on, tmp_path))
        kill.join()
    assert sentence == f"--cluster {made.address}: the scheduler is gone"


@pytest.mark.parametrize("answer", [None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4])
def test_an_address_without_a_scheduler_is_one_sentence_in_time(answer, monkeypatch):
    monkeypatch.setattr(module, "CONNECT_S", 1.0)
    port = free_port()
    with contextlib.ExitStack() as stack:
        if answer is not None:  # somebody else listens, who is silent or speaks another language
            listener = stack.enter_context(socket.create_server(("127.0.0.1", port)))
            threading.Thread(target=serve, args=(listener, answer), daemon=True).start()
        began_s = time.monotonic()
        sentence = refused(Workers(cluster=f"tcp://127.0.0.1:{port}"))
        assert time.monotonic() - began_s < 5
    assert re.match(rf"--cluster tcp://127\.0\.0\.1:{port}: no dask scheduler answered within 1 s \(.+\)$", sentence)
    assert "\n" not in sentence


def serve(listener, answer):
    kept = []
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            connection.sendall(answer)
            kept.append(connection)


@pytest.mark.parametrize(
    "address",
    ["", "host", "host:8786", "http://host:8786", "tcp://host", "tcp://:8786", "tcp://host:99999", "tcp://h:1/x"],
)
def test_what_is_no_address_is_one_sentence(address):
    with pytest.raises(MaskACTError, match=rf"^--cluster is {address!r}; allowed: tcp://HOST:PORT or tls://HOST:PORT"):
        Workers(cluster=address)


def test_a_machine_without_dask_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    sentence = refused(Workers(cluster="tcp://host:8786"))
    assert sentence == '--cluster needs dask.distributed: pip install "maskact_ros[cluster]"'
