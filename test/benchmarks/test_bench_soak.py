"""`maskact bench soak`: what it counts as a change of rung, what it reads of a process, and a short real run."""

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from benchmarks.soak import Soak
from benchmarks.usage import Usage, children, slope_per_hour
from maskact_ros.control.ladder import FollowerState, Rung
from maskact_ros.core.errors import MaskACTError


def noted(*rungs):
    soak = Soak(1.0, 500.0, "none", "")
    soak._began_s = 0.0
    for rung in rungs:
        soak._note(FollowerState(rung=Rung(rung), reason="a reason"))
    return [(change.before, change.after) for change in soak._unasked]


def test_what_enabling_and_disabling_lead_to_was_asked_for():
    once = ["engaging", "following", "disabled", "idle"]
    assert noted(*once, *once) == []


def test_another_reason_on_the_same_rung_is_no_change():
    assert noted("engaging", "following", "following") == []


@pytest.mark.parametrize("rung", ["remaining", "decelerating", "holding", "fault", "idle"])
def test_leaving_the_plan_by_itself_and_coming_back_are_changes(rung):
    assert noted("engaging", "following", rung, "following") == [("following", rung), (rung, "following")]


def test_a_process_s_usage_grows_with_what_it_holds():
    before = Usage.of(os.getpid())
    held = np.ones(8 * 2**20)  # 64 MiB
    opened, over = open(os.devnull), threading.Event()  # noqa: SIM115
    thread = threading.Thread(target=over.wait)
    thread.start()
    after = Usage.of(os.getpid())
    over.set()
    thread.join()
    opened.close()
    assert after.memory_mib - before.memory_mib > 50
    assert after.threads == before.threads + 1
    assert after.files == before.files + 1
    del held


def test_only_children_that_run_the_package_s_modules_are_found():
    script = "import sys; print('up', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, "a_package.nodes.a_node"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert children("a_package.nodes") == {"a_node": child.pid}
        child.stdin.close()


def test_the_slope_is_per_hour():
    assert slope_per_hour(np.array([0.0, 10.0, 20.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(360.0)
    assert slope_per_hour(np.array([0.0, 10.0]), np.array([1.0, 2.0])) is None


def test_a_rate_beyond_the_publisher_s_is_refused():
    with pytest.raises(MaskACTError, match="--rate is 2000; allowed: a number from 10 to 1000"):
        Soak(1.0, 2000.0, "none", "")


@pytest.mark.extended
def test_a_short_soak_reports_all_nodes():
    command = [sys.executable, "-m", "benchmarks", "soak", "--minutes=0.1", "--rate=100", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    names = {process["name"] for process in result["processes"]}
    assert names == {"sim_robot", "camera_encoder", "inference", "action_publisher"}
    assert result["rung_changes"]["idle -> engaging"] >= 1
    for process in result["processes"]:
        assert len(process["memory_mib"]) == len(result["at_s"])
        assert process["memory_mib_last"] > 20
        assert process["threads_most"] >= process["threads_last"] >= 1
