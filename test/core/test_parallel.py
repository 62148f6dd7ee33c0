"""The same work on many items gives the same in one process and in several, also when one of these dies."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from support import shared_work
from support.source_tree import ROOT

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.parallel import Workers, in_parallel

TWO = Workers(jobs=2)


@pytest.mark.parametrize("workers", [Workers(), TWO], ids=["one process", "two"])
def test_each_item_is_done_once_and_its_share_counts(workers):
    reached = []
    done = in_parallel(shared_work.square, range(5), workers=workers, reach=reached.append)
    assert sorted(done) == [0, 1, 4, 9, 16]
    assert reached == sorted(reached)
    assert reached[-1] == 5


def test_two_jobs_are_two_processes_and_neither_is_this_one():
    pids = set(in_parallel(shared_work.pid, range(20), workers=TWO))
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2


def test_an_item_is_done_again_when_its_process_is_killed(tmp_path):
    work = partial(shared_work.die, tmp_path, 2)
    assert sorted(in_parallel(work, range(4), workers=TWO)) == [0, 1, 4, 9]
    assert shared_work.noted(tmp_path, "begun") == 3


def test_an_item_that_kills_each_process_is_named_in_one_sentence(tmp_path):
    work = partial(shared_work.die, tmp_path, 99)
    with pytest.raises(
        MaskACTError, match=r"^bag 1: its process was ended by SIGKILL; it was tried 3 times\..*fewer --jobs need less$"
    ):
        list(in_parallel(work, range(4), workers=TWO, name="bag {}".format))
    assert shared_work.noted(tmp_path, "begun") == 3


def test_what_the_work_raises_is_raised_as_it_was_and_not_tried_again(tmp_path):
    with pytest.raises(MaskACTError, match="bag 1 is empty") as raised:
        list(in_parallel(partial(shared_work.refuse, tmp_path), range(4), workers=TWO))
    assert raised.value.lines == ("really",)
    assert shared_work.noted(tmp_path, "begun") == 1


def test_a_bug_in_the_work_comes_with_the_stack_of_its_process():
    with pytest.raises(IndexError) as raised:
        list(in_parallel(shared_work.stumble, range(2), workers=TWO))
    assert "return [][item]" in "".join(raised.value.__notes__)


def test_an_exception_that_cannot_be_sent_is_told_as_text():
    with pytest.raises(RuntimeError, match="UnreadableError: what cannot be unpickled"):
        list(in_parallel(shared_work.raise_unreadable, range(2), workers=TWO))


def test_who_stops_early_stops_the_items_in_work_at_their_next_tick(tmp_path):
    def stop(done):
        if shared_work.noted(tmp_path, "begun") == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(in_parallel(partial(shared_work.go_on, tmp_path), range(9), workers=TWO, reach=stop))
    assert shared_work.noted(tmp_path, "begun") == shared_work.noted(tmp_path, "ended") == 2


SCRIPT = """
import sys
from functools import partial
from pathlib import Path
from support import shared_work
from maskact_ros.core.parallel import Workers, in_parallel
if __name__ == "__main__":
    list(in_parallel(partial(shared_work.go_on, Path(sys.argv[1])), range(2), workers=Workers(jobs=2)))
"""


def test_workers_end_when_their_parent_is_killed(tmp_path):
    parent = start(tmp_path)
    try:
        wait_until(lambda: shared_work.noted(tmp_path, "begun") == 2)
    finally:
        parent.kill()
        parent.communicate()
    wait_until(lambda: shared_work.noted(tmp_path, "ended") == 2)


def test_ctrl_c_reaches_the_parent_alone_however_early(tmp_path):
    parent = start(tmp_path, start_new_session=True)
    try:
        wait_until(lambda: shared_work.noted(tmp_path, "begun") >= 1)  # the other one may still import
        os.killpg(parent.pid, signal.SIGINT)
        error = parent.communicate(timeout=60)[1]
    finally:
        parent.kill()
    assert error.count("Traceback") == error.count("KeyboardInterrupt") == 1
    assert shared_work.noted(tmp_path, "begun") == shared_work.noted(tmp_path, "ended")


def start(folder, **options):
    script = folder / "script.py"
    script.write_text(SCRIPT)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "test"), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        env=os.environ | {"PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_until(condition):
    until_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.01)


@pytest.mark.parametrize("jobs", [0, 1025])
def test_a_number_of_jobs_that_makes_no_sense_is_one_sentence(jobs):
    with pytest.raises(MaskACTError, match=f"^--jobs is {jobs}; allowed: 1 to 1024$"):
        Workers(jobs=jobs)
