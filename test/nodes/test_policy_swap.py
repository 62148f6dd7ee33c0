"""The policy changes while both nodes work: features and chunks go on, those of one never meet the other's weights."""

import json
import shutil
import signal
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import String
from support.asking import all_values, ask, message
from support.node_bench import BEST_EFFORT, Bench, Program
from support.stand_ins import Camera
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.core.checkpoint import MANIFEST, WEIGHTS, CheckpointInfo
from maskact_ros.nodes.ros.messages import features_from_message, ns_to_stamp, stamp_to_ns

NODES = ("camera_encoder", "inference")


@dataclass
class Pair:
    """Encoder and inference at work, a camera and joints before them."""

    bench: Bench
    robot: object
    programs: dict[str, Program]
    camera: Camera
    features: list
    chunks: list
    used: list

    @property
    def probe(self):
        return self.bench.probe

    def policy_paths(self) -> list[str]:
        return [all_values(self.probe, node)["policy_path"] for node in NODES]

    def wait_for_policy(self, folder) -> None:
        """Wait until both say, and show, that they run it."""
        for node in NODES:

            def running(report) -> bool:
                return report.values["policy"] == str(folder) and report.values["policy_swap"] == "running"

            self.probe.wait_for_report(node, running, f"{node} to run {folder}")
        assert self.policy_paths() == [str(folder)] * 2

    def swap(self, folder, *, told: str = "inference") -> None:
        result = ask(self.probe, told, policy_path=str(folder))
        assert result.successful, result.reason
        self.wait_for_policy(folder)

    def wait_for_chunks(self, count: int) -> None:
        known = len(self.chunks)
        try:
            self.probe.wait(lambda: len(self.chunks) >= known + count, f"{count} chunks")
        except AssertionError as failure:
            says = "\n".join(f"{node}: {self.probe.reports(node)[-1:]}" for node in NODES)
            raise AssertionError(f"{failure}; the nodes:\n{says}\n{self.programs['inference'].output}") from None

    def assert_well(self) -> None:
        for program in self.programs.values():
            assert program.running
            assert "Traceback" not in program.output


def start(bench, robot, **options) -> Pair:
    probe = bench.probe
    states = probe.publisher(JointState, "joint_states")

    def measure() -> None:
        joints = JointState(name=list(robot.joint_names), position=[0.1] * len(robot.joints))
        joints.header.stamp = ns_to_stamp(probe.now_ns())
        states.publish(joints)

    camera = Camera(probe, robot)
    probe.every(0.01, measure)
    features = probe.hear(CompressedImage, "features", BEST_EFFORT)
    chunks, used = probe.hear(JointTrajectory, "action_chunk"), probe.hear(String, "inference/used")
    programs = {node: bench.start(node, **options) for node in NODES}
    for node, program in programs.items():
        bench.wait_until_active(node, program)
    pair = Pair(bench, robot, programs, camera, features, chunks, used)
    pair.wait_for_chunks(1)
    return pair


@pytest.fixture(scope="module")
def running(module_bench, robot):
    return start(module_bench, robot, n_action_steps=1)


@pytest.fixture
def pair(running, policy):
    """With the bench's own policy to begin with."""
    if running.policy_paths() != [str(policy)] * 2:
        running.swap(policy)
    yield running
    running.assert_well()


@pytest.mark.parametrize("told", NODES)
def test_one_call_changes_both_and_features_and_chunks_go_on(pair, policy, make_policy, told):
    other = make_policy(seed=1)
    pair.wait_for_chunks(30)
    began, asked_ns = len(pair.features), pair.probe.now_ns()
    pair.swap(other, told=told)
    pair.wait_for_chunks(30)

    seen = [features_from_message(heard.message) for heard in pair.features[began:]]
    hashes = [features.weights_hash for features in seen]
    old, new = (CheckpointInfo.read(folder).weights_hash for folder in (policy, other))
    switch = hashes.index(new)
    assert hashes == [old] * switch + [new] * (len(hashes) - switch)
    meanwhile_ns = [features.stamp_ns for features in seen[:switch] if features.stamp_ns > asked_ns]
    assert meanwhile_ns, "the old policy does not go on while the new one is loaded"
    planned_ns = {stamp_to_ns(heard.message.header.stamp) for heard in pair.chunks}
    assert planned_ns & set(meanwhile_ns), "no chunk of the old policy while the new one was loaded"


def test_each_chunk_is_of_the_weights_that_made_its_features(pair, policy, make_policy):
    from maskact_ros.policy.engine import Engine
    from maskact_ros.policy.runtime import PlannerRuntime  # loads torch

    other = make_policy(seed=1)
    began = len(pair.chunks)
    pair.swap(other)
    pair.wait_for_chunks(10)
    pair.swap(policy)
    pair.wait_for_chunks(10)

    planners = {
        info.weights_hash: PlannerRuntime.load(info, engine=Engine(device="cpu"))
        for info in map(CheckpointInfo.read, (policy, other))
    }
    features = {
        stamp_to_ns(heard.message.header.stamp): features_from_message(heard.message) for heard in pair.features
    }
    states = {values["stamp_ns"]: values["state"] for values in (json.loads(heard.message.data) for heard in pair.used)}
    checked = set()
    for heard in pair.chunks[began:]:
        stamp_ns = stamp_to_ns(heard.message.header.stamp)
        if stamp_ns not in features or stamp_ns not in states:
            continue  # the probe missed one of the three
        seen = features[stamp_ns]
        expected = planners[seen.weights_hash].predict(seen.features, seen.patch_labels, np.array(states[stamp_ns]))
        np.testing.assert_allclose([point.positions for point in heard.message.points], expected, atol=1e-6)
        checked.add(seen.weights_hash)
    assert checked == set(planners)


@pytest.mark.extended
def test_the_parameters_show_the_new_checkpoint_and_what_the_user_set_where_it_fits(pair, make_policy):
    other = make_policy(seed=2, chunk_size=8, n_action_steps=8, num_mask=4)
    assert ask(pair.probe, "inference", n_action_steps=15, temporal_ensemble_coeff=0.5).successful
    pair.swap(other)
    values = all_values(pair.probe, "inference")
    shown = {name: values[name] for name in ("chunk_size", "n_action_steps", "temporal_ensemble_coeff", "num_mask")}
    assert shown == {"chunk_size": 8, "n_action_steps": 8, "temporal_ensemble_coeff": 0.5, "num_mask": 4}
    assert values["label_attention_rules.3"] == "none"
    assert (
        "n_action_steps is as in the new policy's checkpoint: 15 does not fit it" in pair.programs["inference"].output
    )
    pair.wait_for_chunks(3)
    assert len(pair.chunks[-1].message.points) == 8
    assert not ask(pair.probe, "inference", n_action_steps=9).successful
    assert ask(pair.probe, "inference", n_action_steps=1, temporal_ensemble_coeff="none").successful


@pytest.mark.extended
def test_the_same_weights_in_another_folder_are_another_policy(pair, policy, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(policy, copy)
    pair.swap(copy, told="camera_encoder")
    pair.wait_for_chunks(3)
    pair.swap(policy)


def damaged(policy, folder, content: bytes, *, said: bool):
    """A copy with other weights, of which the manifest knows or not."""
    import hashlib

    shutil.copytree(policy, folder)
    (folder / WEIGHTS).write_bytes(content)
    if said:
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["files"][WEIGHTS] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def nowhere(policy, folder, **_):
    return folder


def truncated(policy, folder, **_):
    return damaged(policy, folder, (policy / WEIGHTS).read_bytes()[:-100], said=False)


def of_another_robot(policy, folder, *, make_policy, robot):
    return make_policy(seed=3, of=replace(robot, name="faster", policy_rate_hz=robot.policy_rate_hz * 2))


@pytest.mark.parametrize("told", NODES)
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (nowhere, "there is no such folder"),
        (truncated, "truncated"),
        (of_another_robot, "is for another robot: policy_rate_hz"),
    ],
)
def test_what_is_known_at_once_is_the_refusals_reason(pair, policy, make_policy, robot, tmp_path, told, make, reason):
    folder = make(policy, tmp_path / "policy", make_policy=make_policy, robot=robot)
    refusal = ask(pair.probe, told, policy_path=str(folder))
    assert not refusal.successful
    assert reason in refusal.reason
    assert pair.policy_paths() == [str(policy)] * 2
    pair.wait_for_chunks(3)


def with_a_flipped_bit(policy, folder, **_):
    content = bytearray((policy / WEIGHTS).read_bytes())
    content[-1] ^= 1
    return damaged(policy, folder, bytes(content), said=False)


def no_safetensors(policy, folder, **_):
    size = (policy / WEIGHTS).stat().st_size  # one that is too small is found out at once
    return damaged(policy, folder, (b"\x80\x04K\x01." * size)[:size], said=True)


def of_stage_1(policy, folder, *, make_policy):
    return make_policy(seed=4, training_stage="stage1")


@pytest.mark.extended
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (with_a_flipped_bit, "its content has changed since the checkpoint was written"),
        (no_safetensors, "cannot be read as safetensors"),
        (of_stage_1, "is of training stage 1"),
    ],
)
def test_what_is_found_out_later_keeps_the_old_policy_in_both_and_is_said(
    pair, policy, make_policy, tmp_path, make, reason
):
    folder = make(policy, tmp_path / "policy", make_policy=make_policy)
    result = ask(pair.probe, "camera_encoder", policy_path=str(folder))
    assert result.successful, result.reason
    for node in NODES:
        pair.probe.wait_for_problem(node, f"the policy stays {policy}: ", reason)
        assert f"the policy stays {policy}: " in pair.programs[node].output
    assert pair.policy_paths() == [str(policy)] * 2
    known = len(pair.features)
    pair.wait_for_chunks(5)
    hashes = {features_from_message(heard.message).weights_hash for heard in pair.features[known:]}
    assert hashes == {CheckpointInfo.read(policy).weights_hash}
    pair.swap(make_policy(seed=1))  # and the next one does well
    for node in NODES:
        pair.probe.wait_for_ok(node)


@pytest.mark.extended
def test_a_second_change_during_the_first_is_refused(pair, policy, make_policy):
    client = pair.probe.node.create_client(SetParameters, "inference/set_parameters")
    assert client.wait_for_service(timeout_sec=10.0)
    wanted = [make_policy(seed=1), make_policy(seed=2, chunk_size=8, n_action_steps=8, num_mask=4)]
    requests = [SetParameters.Request(parameters=[message("policy_path", str(folder))]) for folder in wanted]
    answers = [client.call_async(request) for request in requests]
    pair.probe.wait(lambda: all(answer.done() for answer in answers), "the answers")
    first, second = (answer.result().results[0] for answer in answers)
    assert first.successful
    assert f"the policy is being changed to {wanted[0]}; wait until that is done" in second.reason
    pair.wait_for_policy(wanted[0])


def test_policy_path_and_parameters_of_the_policy_are_not_set_in_one_request(pair, policy, make_policy):
    refusal = ask(pair.probe, "inference", policy_path=str(make_policy(seed=1)), n_action_steps=5)
    assert "policy_path changes by itself" in refusal.reason
    assert pair.policy_paths() == [str(policy)] * 2


@pytest.mark.extended
def test_where_the_other_node_is_not_there_one_changes_alone(bench, policy, make_policy):
    bench.start_active("camera_encoder")
    other = make_policy(seed=1)
    assert ask(bench.probe, "camera_encoder", policy_path=str(other)).successful
    bench.probe.wait_for_report("camera_encoder", lambda r: r.values["policy"] == str(other), "the other policy")


@pytest.mark.extended
@pytest.mark.parametrize("then", [signal.SIGCONT, signal.SIGKILL])
def test_a_node_that_does_not_answer_means_that_both_keep_the_old_policy(bench, robot, policy, make_policy, then):
    pair = start(bench, robot)
    pair.probe.wait_for_report("camera_encoder", lambda r: r.values["peer_inference"] == "alive", "the two to have met")
    pair.programs["inference"].send(signal.SIGSTOP)
    pair.probe.wait_for_problem("camera_encoder", "inference gave no sign of life for ")
    assert ask(pair.probe, "camera_encoder", policy_path=str(make_policy(seed=1))).successful
    pair.probe.wait_for_problem("camera_encoder", f"the policy stays {policy}: ")
    assert all_values(pair.probe, "camera_encoder")["policy_path"] == str(policy)
    known = len(pair.features)
    pair.probe.wait(lambda: len(pair.features) > known + 5, "features")
    assert features_from_message(pair.features[-1].message).weights_hash == CheckpointInfo.read(policy).weights_hash
    pair.programs["inference"].send(then)
    if then == signal.SIGCONT:
        pair.wait_for_chunks(5)
        pair.swap(make_policy(seed=1), told="inference")
    else:
        pair.programs["inference"].wait()
        pair.bench.start("inference")
        pair.wait_for_chunks(1)


@pytest.mark.extended
def test_without_images_the_change_ends_all_the_same(bench, robot, make_policy):
    pair = start(bench, robot)
    pair.camera.alter = lambda image: None
    began_s = time.monotonic()
    pair.swap(make_policy(seed=1))
    assert time.monotonic() - began_s < 20.0
    pair.camera.alter = lambda image: image
    pair.wait_for_chunks(1)
