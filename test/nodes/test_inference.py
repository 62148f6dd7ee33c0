"""Inference between a stand-in encoder and a stand-in arm: from which images it plans, and which it refuses."""

import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import String
from support.asking import ask
from support.node_bench import LATCHED, NAMESPACE, Bench, Program
from support.stand_ins import PEER, features_to_message, healthy, shuffled, silent, with_a_nan, without_the_last_joint
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.control.ladder import FollowerState, Rung
from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.features import Features
from maskact_ros.nodes.ros.messages import ns_to_stamp, stamp_to_ns, state_to_message
from maskact_ros.nodes.ros.policy_swap import Phase, Standing


@dataclass
class Rig:
    """Sends an image's features, with a joint state just before, each time it is told to."""

    bench: Bench
    program: Program
    chunks: list
    weights_hash: str
    joint_names: tuple[str, ...]
    publishers: dict = field(default_factory=dict)
    sent_ns: list[int] = field(default_factory=list)

    @property
    def probe(self):
        return self.bench.probe

    @property
    def planned_ns(self) -> list[int]:
        """The stamps of all chunks."""
        return [self.stamp_of(heard) for heard in self.chunks]

    def stamp_of(self, heard) -> int:
        return stamp_to_ns(heard.message.header.stamp)

    def see(
        self, *, stamp_ns: int = 0, weights_hash: str = "", alter=healthy, seed: int | None = None, content_ns: int = 0
    ) -> int:
        """An image was captured, another than before unless a seed is given; returns its stamp."""
        stamp_ns = stamp_ns or self.probe.now_ns()
        joints = JointState(name=list(self.joint_names), position=[0.1] * len(self.joint_names))
        joints.header.stamp = ns_to_stamp(stamp_ns - 1_000_000)
        joints = alter(joints)
        if joints is not None:
            self.publishers["joint_states"].publish(joints)
        generator = np.random.default_rng(len(self.sent_ns) if seed is None else seed)
        features = Features(
            stamp_ns,
            weights_hash or self.weights_hash,
            generator.normal(size=(4, 32)).astype(np.float16),
            np.array([0, 1, 2, 1], np.int8),
            np.ones(4, np.float16),
            content_ns or stamp_ns,
        )
        self.publishers["features"].publish(features_to_message(features, "top"))
        self.sent_ns.append(stamp_ns)
        return stamp_ns

    @contextmanager
    def seeing(self, *, age_s: float = 0.0, **image):
        """An image each 40 ms, which was taken so long ago, within the `with` block."""
        timer = self.probe.every(0.04, lambda: self.see(stamp_ns=self.probe.now_ns() - round(age_s * 1e9), **image))
        yield
        self.probe.end(timer)

    def see_until(self, condition, what: str, **image) -> None:
        with self.seeing(**image):
            self.probe.wait(condition, what)

    @contextmanager
    def none_planned(self):
        """No chunk is made of the images that are sent within the `with` block; chunks of others may still come."""
        known = len(self.sent_ns)
        yield
        planned_ns = set(self.planned_ns) & set(self.sent_ns[known:])
        assert not planned_ns, f"chunks came of the images {planned_ns}"

    def wait_for_chunk(self, stamp_ns: int) -> None:
        self.probe.wait(lambda: stamp_ns in self.planned_ns, "the image's chunk")


def start(bench, policy, robot, **parameters) -> Rig:
    rig = Rig(bench, None, bench.probe.hear(JointTrajectory, "action_chunk"), "", robot.joint_names)
    rig.weights_hash = CheckpointInfo.read(policy).weights_hash
    rig.publishers = {
        "features": bench.probe.publisher(CompressedImage, "features"),
        "joint_states": bench.probe.publisher(JointState, "joint_states"),
    }
    rig.program = bench.start_active("inference", **parameters)
    rig.see_until(lambda: rig.chunks, "the first chunk")
    return rig


@pytest.fixture(scope="module")
def running(module_bench, policy, robot):
    return start(module_bench, policy, robot)


@pytest.fixture
def rig(running):
    assert running.probe.reset("inference").success
    yield running
    assert "Traceback" not in running.program.output


def test_without_ensembling_a_chunk_serves_for_n_action_steps(rig, robot):
    span_ns = 10 * robot.policy_period_ns
    known = len(rig.chunks)
    rig.see_until(lambda: len(rig.chunks) >= known + 8, "eight chunks")
    gaps_ns = np.diff(rig.planned_ns[known:])
    assert np.median(gaps_ns) <= span_ns
    assert np.median(gaps_ns) >= span_ns / 3  # not from each image, which would be 40 ms


@pytest.mark.extended
def test_fewer_n_action_steps_mean_more_chunks(bench, policy, robot, rig):
    eager = start(bench, policy, robot, n_action_steps=3)
    counts = []
    for each in (rig, eager):
        known = len(each.chunks), len(each.sent_ns)
        each.see_until(lambda each=each, known=known: len(each.sent_ns) >= known[1] + 60, "60 images")
        counts.append(len(each.chunks) - known[0])
    assert counts[1] > 1.5 * counts[0]


def test_with_ensembling_every_image_is_planned_from(bench, policy, robot, tmp_path):
    params_file = tmp_path / "maskact.yaml"
    params_file.write_text("/**/inference:\n  ros__parameters:\n    temporal_ensemble_coeff: 0.01\n")
    # In lock step, the state of the image before may serve: they come on two topics, in whatever order.
    ensembling = start(bench, policy, robot, params_file=params_file, state_tolerance_s=10.0, max_image_age_s=10.0)
    for _ in range(20):
        ensembling.wait_for_chunk(ensembling.see())
    stamps = ensembling.planned_ns
    assert (np.diff(stamps) > 0).all()


def test_features_of_other_weights_are_refused_by_hash(rig, make_policy):
    other = CheckpointInfo.read(make_policy(seed=1)).weights_hash
    known = len(rig.chunks)
    sentence = (
        f"the features are of the weights {other[:12]}, this node has {rig.weights_hash[:12]}; "
        "start both nodes with the same policy_path"
    )
    with rig.none_planned(), rig.seeing(weights_hash=other):
        rig.probe.wait_for_problem("inference", sentence)
    assert sentence in rig.program.output
    rig.see_until(lambda: len(rig.chunks) > known, "chunks of our own features")


def test_features_that_are_none_are_refused(rig):
    rig.publishers["features"].publish(CompressedImage(format="jpeg", data=b"1234"))
    rig.probe.wait_for_problem("inference", "the features' format is 'jpeg'")
    whole = serialize_message(CompressedImage(format="jpeg", data=b"1234"))
    rig.publishers["features"].publish(whole[:-6])
    rig.probe.wait_for_problem("inference", "what came is no CompressedImage")
    assert 0 not in rig.planned_ns  # their stamp


def test_features_of_an_old_image_are_not_planned_from(rig):
    with rig.none_planned():
        rig.see(stamp_ns=rig.probe.now_ns() - 3600_000_000_000)
        rig.probe.wait_for_report("inference", lambda r: int(r.values.get("features_too_old", 0)) > 0, "the count")


@pytest.mark.parametrize(("age_s", "limit_s"), [(1.6, 1.0), (7200.0, 1.0), (0.9, 0.5)])
def test_features_of_which_all_are_too_old_are_told_with_their_age_and_what_it_may_be(rig, age_s, limit_s):
    probe, texts = (
        rig.probe,
        (
            f"features are not planned from: their image is {age_s:.1f}",
            f"s old; allowed: {limit_s:g} s (max_image_age_s); {age_s:.1f}",
            "s of that had passed when they were sent: camera_encoder is too slow",
        ),
    )
    assert ask(probe, "inference", max_image_age_s=limit_s).successful
    with rig.seeing():
        probe.wait_for_ok("inference")
    with rig.none_planned(), rig.seeing(age_s=age_s):
        probe.wait_for_problem("inference", *texts)
        probe.wait(
            lambda: any(all(text in line for text in texts) for line in rig.program.output.splitlines()),
            "the log's line",
        )
    assert ask(probe, "inference", max_image_age_s=1.0).successful
    with rig.seeing():
        probe.wait_for_ok("inference")


def test_features_of_the_future_are_told_and_planned_from_as_the_publisher_judges_them(rig):
    with rig.seeing(age_s=-1.4):
        rig.probe.wait_for_problem("inference", "the features' image is 1.", "s ahead of this node's clock: the clocks")
        known = len(rig.chunks)
        rig.probe.wait(lambda: len(rig.chunks) > known, "a chunk")
    assert rig.probe.reset("inference").success
    with rig.seeing():
        rig.probe.wait_for_ok("inference")


def test_features_that_are_always_of_an_epoch_before_are_told(rig):
    states = rig.probe.publisher(String, "state", LATCHED)
    assert ask(rig.probe, "inference", max_image_age_s=60.0).successful
    with rig.seeing(age_s=4.0):
        states.publish(state_to_message(FollowerState(Rung.ENGAGING, 70, "")))
        rig.probe.wait_for_problem(
            "inference",
            "features whose turn has come are not planned from: their image was taken",
            "was enabled, reset",
        )
    assert ask(rig.probe, "inference", max_image_age_s=1.0).successful
    with rig.seeing():
        rig.probe.wait_for_ok("inference")


def _without_stamps(joints: JointState) -> JointState:
    joints.header.stamp = ns_to_stamp(0)
    return joints


def _since_power_on(joints: JointState) -> JointState:
    joints.header.stamp = ns_to_stamp(stamp_to_ns(joints.header.stamp) % 10**12)
    return joints


@pytest.mark.parametrize("stamps", [_without_stamps, _since_power_on])
def test_joint_states_of_another_clock_are_told_with_the_parameter_to_set(rig, stamps):
    with rig.seeing(alter=stamps):
        rig.probe.wait_for_problem(
            "inference",
            "no chunk without the joints (/maskact/joint_states): ",
            "by their stamps, joint states are ",
            "s old when they come",
            "set joint_states_stamp_source to receipt",
        )
    with rig.seeing():
        rig.probe.wait_for_ok("inference")


def test_stamped_at_receipt_joint_states_of_any_stamp_are_planned_with_by_the_nodes_clock(bench, policy, robot):
    probe, real_ns = bench.probe, bench.probe.now_ns
    began_ns = real_ns()
    clock = probe.publisher(Clock, "/clock", QoSProfile(depth=1))
    probe.now_ns = lambda: 5_000_000_000_000 + real_ns() - began_ns  # the simulation's, which stamps images
    probe.every(0.01, lambda: clock.publish(Clock(clock=ns_to_stamp(probe.now_ns()))))
    stamps = iter(range(10**9))

    def counted(joints: JointState) -> JointState:
        joints.header.stamp = ns_to_stamp(next(stamps) % 3)  # zero, and nonsense that goes back
        return joints

    rig = Rig(bench, None, probe.hear(JointTrajectory, "action_chunk"), "", robot.joint_names)
    rig.weights_hash = CheckpointInfo.read(policy).weights_hash
    rig.publishers = {
        "features": probe.publisher(CompressedImage, "features"),
        "joint_states": probe.publisher(JointState, "joint_states"),
    }
    parameters = {"joint_states_stamp_source": "receipt", "use_sim_time": True, "n_action_steps": 2}
    rig.program = bench.start_active("inference", **parameters)
    rig.see_until(lambda: len(rig.chunks) > 10, "chunks", alter=counted)
    probe.wait_for_ok("inference")
    with rig.seeing(alter=silent):
        probe.wait_for_problem("inference", "no chunk without the joints", "s older than it; allowed: 0.1 s")


def test_a_stamp_source_that_does_not_exist_is_refused_by_name(bench):
    program = bench.start("inference", joint_states_stamp_source="now")
    assert program.wait(within_s=60.0) == 1
    assert "joint_states_stamp_source is 'now'; allowed: header, receipt" in program.output


def test_joint_states_are_matched_by_name(rig):
    known = len(rig.chunks)
    rig.see_until(lambda: len(rig.chunks) > known, "a chunk", alter=shuffled)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (without_the_last_joint, "joint_states is refused: the joints gripper are missing"),
        (with_a_nan, "joint_states is refused: the position of elbow is not finite"),
        (silent, "s older than it; allowed: 0.1 s"),
    ],
)
def test_without_usable_joint_states_there_is_no_chunk(rig, fault, sentence):
    with rig.seeing(alter=fault):
        texts = (sentence, "no chunk without the joints (/maskact/joint_states): ")
        rig.probe.wait_for_problem("inference", *texts)
        with rig.none_planned():
            rig.probe.wait_for_problem("inference", *texts)
    assert all(text in rig.program.output for text in texts)
    known = len(rig.chunks)
    with rig.seeing():
        rig.probe.wait(lambda: len(rig.chunks) > known, "chunks with good joint states")
        rig.probe.wait_for_ok("inference")


def test_a_new_epoch_of_the_publisher_is_planned_for_at_once(rig, robot):
    states = rig.probe.publisher(String, "state", LATCHED)
    first = len(rig.chunks)
    with rig.seeing():
        for epoch in range(7, 15):
            known = len(rig.chunks)
            states.publish(state_to_message(FollowerState(Rung.ENGAGING, epoch, "")))
            rig.probe.wait(lambda known=known: len(rig.chunks) > known, "a chunk of the new epoch")
    assert np.median(np.diff(rig.planned_ns[first:])) < 10 * robot.policy_period_ns / 2  # long before it is used up


def test_images_in_flight_at_a_new_epoch_are_not_planned_from(bench, make_policy, robot):
    long = make_policy(seed=0, chunk_size=1200, n_action_steps=1200)  # a chunk serves for longer than the test waits
    rig = start(bench, long, robot, policy_path=str(long), max_image_age_s=10.0, state_tolerance_s=10.0)
    states = rig.probe.publisher(String, "state", LATCHED)
    began_ns = rig.probe.now_ns()
    states.publish(state_to_message(FollowerState(Rung.ENGAGING, 1, "")))
    rig.probe.every(0.04, lambda: rig.see(stamp_ns=rig.probe.now_ns() - 1_000_000_000))  # each comes a second late
    rig.probe.wait(lambda: rig.planned_ns[-1] > began_ns, "a chunk of the new epoch")


@pytest.mark.extended
@pytest.mark.parametrize("lost", ["camera_encoder", "action_publisher"])
def test_a_lost_node_beside_it_is_said_at_once(bench, lost):
    program = bench.start_active("inference")
    other = bench.start_active(lost)
    for _ in range(3):  # seconds, in which the two have surely met
        bench.probe.wait_for_report(lost, lambda report: True, "a report")
    other.send(signal.SIGKILL)
    sentence = f"{lost} gave no sign of life for 0.1 s"
    bench.probe.wait(lambda: sentence in program.output, "the log's line")
    bench.probe.wait_for_problem("inference", sentence)


def test_a_picture_that_stays_the_same_while_joints_move_is_not_planned_from(rig):
    moving = {"by": 0.0}

    def moved(joints):
        joints.position[1] += moving["by"]
        return joints

    content_ns = rig.see()
    rig.wait_for_chunk(content_ns)
    known = len(rig.chunks)
    with rig.seeing(content_ns=content_ns, alter=moved):
        rig.probe.wait(lambda: rig.planned_ns[-1] > content_ns + 500_000_000, "a chunk: the joints are still")
        assert len(rig.chunks) > known
        moving["by"] = 0.1
        sentence = "no chunk: the camera is frozen: it has sent the same picture for"
        rig.probe.wait_for_problem("inference", sentence)
        moving["by"] = 0.0  # and it stays so when the arm rests
        with rig.none_planned():
            rig.probe.wait_for_problem("inference", sentence)
    known = len(rig.chunks)
    assert sum(sentence in line for line in rig.program.output.splitlines()) == 1
    rig.see_until(lambda: len(rig.chunks) > known, "chunks of a camera that works again")
    rig.probe.wait_for_ok("inference")


def test_patches_that_the_rules_isolate_are_left_out_if_the_parameter_says_so_while_it_runs(rig):
    probe, seen = rig.probe, ["-1", "1", "2"]
    rules = {f"label_attention_rules__{label}": ["0"] if label == 0 else seen for label in (-1, 0, 1, 2)}
    with rig.seeing():
        assert ask(probe, "inference", drop_isolated_patches=True, **rules).successful
        left_out = "patches of 0 (background) are dropped; not exact"
        probe.wait_for_report("inference", lambda r: r.values["dropped_patches"].startswith(left_out), "it to be said")
        known = len(rig.chunks)
        probe.wait(lambda: len(rig.chunks) > known, "a chunk of what is left")
        probe.wait_for_ok("inference")
        assert ask(probe, "inference", drop_isolated_patches=False, **dict.fromkeys(rules, "none")).successful
        text = "no patches are dropped"
        probe.wait_for_report("inference", lambda r: r.values["dropped_patches"] == text, "it to be said")


def test_what_the_planner_runs_on_is_said(rig):
    report = rig.probe.wait_for_report("inference", lambda report: "engine" in report.values, "a report")
    assert report.values["engine"].startswith("torch, fp32, cpu, ")
    said = f"the planner runs on {report.values['engine']}; no patches are dropped"
    assert sum(said in line for line in rig.program.output.splitlines()) == 1


@pytest.mark.extended
def test_ready_for_another_policy_it_waits_for_what_the_encoder_decides_though_that_falls_silent(
    bench, policy, robot, make_policy
):
    rig = start(bench, policy, robot)
    encoder = bench.run([sys.executable, "-c", PEER, "camera_encoder", "--ros-args", "-r", f"__ns:={NAMESPACE}"])
    other = make_policy(seed=1)
    standings = bench.probe.hear(String, "policy", LATCHED)
    encoder_stands = bench.probe.publisher(String, "policy", LATCHED)

    swap = f"{time.time_ns():020}-camera_encoder"

    def inference_stands(phase: Phase) -> bool:
        return any(
            (standing.node, standing.swap, standing.phase) == ("inference", swap, phase)
            for standing in (Standing.from_message(heard.message) for heard in standings)
        )

    bench.probe.wait_for_report(
        "inference", lambda r: r.values["peer_camera_encoder"] == "alive", "the two to have met"
    )
    encoder_stands.publish(Standing("camera_encoder", swap, Phase.LOADING, str(other)).to_message())
    bench.probe.wait(lambda: inference_stands(Phase.READY), "inference to be ready")
    encoder.send(signal.SIGSTOP)
    bench.probe.wait_for_problem("inference", "camera_encoder gave no sign of life")
    known = len(rig.chunks)
    rig.see_until(lambda: len(rig.chunks) > known + 3, "chunks of the old policy")
    known = len(rig.chunks)
    rig.see_until(
        lambda: len(rig.chunks) > known + 3,
        "chunks of the policy to which the encoder had switched",
        weights_hash=CheckpointInfo.read(other).weights_hash,
    )
    assert inference_stands(Phase.RUNNING)
    assert not inference_stands(Phase.FAILED)
