"""From a picture to features, and from features to a chunk, with policies that are not ours: two small protocols."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from maskact_ros.core.align import StateBuffer
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.features import Features
from maskact_ros.core.geometry import ImageGeometry
from maskact_ros.core.paths import shared
from maskact_ros.core.robot import RobotSpec
from maskact_ros.policy.infer import (
    Cause,
    ChunkPlanner,
    Epoch,
    MaskLimits,
    Perceiver,
    Picture,
    PictureError,
    Planned,
    PlanSetup,
    Refusal,
)
from maskact_ros.policy.runtime import EncodeTimings, Encoding

MS = 1_000_000
START_NS = 1_000_000 * MS
ROBOT = RobotSpec.from_yaml(shared("config/robot.yaml"))
CAMERA = ROBOT.only_camera


@dataclass
class Follower:
    """A policy that wants each joint where it is, and one step further with each point."""

    weights_hash: str = "mine"
    n_action_steps: int = 4
    temporal_ensemble_coeff: float | None = None
    step: float = 0.01
    refuses: bool = False
    seen: list = field(default_factory=list)

    def predict(self, features, patch_labels, state):
        self.seen.append(state)
        if self.refuses:
            raise MaskACTError("the actions are not finite")
        return state + self.step * np.arange(1, 9)[:, None]


@dataclass
class Eyes:
    """A policy that takes a bright patch for an object."""

    weights_hash: str = "mine"
    image_size: int = 32
    geometry: ImageGeometry = field(default_factory=ImageGeometry)
    mask_classes: tuple = ("background", "object")
    masks: bool = True

    def encode(self, image, *, label_image=False, confidence_image=False):
        patches = image.reshape(2, 16, 2, 16, 3).mean((1, 3, 4)).ravel()
        return Encoding(
            features=patches[:, None].astype(np.float16),
            patch_labels=(patches > 128).astype(np.int8) if self.masks else None,
            patch_confidence=np.full(4, 0.75, np.float16) if self.masks else None,
            label_image=np.zeros((32, 32), np.uint8) if label_image else None,
            confidence_image=None,
            timings=EncodeTimings(0.0, 0.0),
        )


def features(stamp_ns, *, weights_hash="mine", content_ns=None):
    content_ns = stamp_ns if content_ns is None else content_ns
    return Features(stamp_ns, weights_hash, np.zeros((4, 8), np.float16), None, None, content_ns)


@pytest.fixture
def states():
    buffer = StateBuffer(tolerance_s=0.05)
    for i in range(100):
        buffer.add(START_NS + i * 10 * MS, np.full(len(ROBOT.joints), i * 1e-4))
    return buffer


def planner(states, policy=None, **setup):
    return ChunkPlanner(ROBOT, states, PlanSetup(policy or Follower(), **setup))


def refused(outcome):
    assert isinstance(outcome, Refusal)
    return outcome.cause


# -- From features to a chunk


def test_a_chunk_has_the_images_stamp_and_follows_from_the_joint_state_at_it(states):
    planned = planner(states).plan(features(START_NS + 105 * MS), now_ns=START_NS + 120 * MS)
    assert isinstance(planned, Planned)
    assert planned.chunk.stamp_ns == START_NS + 105 * MS
    assert planned.chunk.period_ns == ROBOT.policy_period_ns
    np.testing.assert_array_equal(planned.state, np.full(len(ROBOT.joints), 10 * 1e-4))  # of 100 ms, not of 110
    np.testing.assert_array_equal(planned.chunk.actions[0], planned.state + 0.01)


def test_features_of_another_policy_are_refused(states):
    policy = Follower()
    outcome = planner(states, policy).plan(features(START_NS, weights_hash="other"), now_ns=START_NS)
    assert refused(outcome) == Cause.OTHER_POLICY
    assert not policy.seen


@pytest.mark.parametrize(("captured_ms", "planned_from"), [(99, False), (100, False), (101, True)])
def test_an_image_captured_when_the_epoch_began_or_earlier_is_refused(states, captured_ms, planned_from):
    epoch = Epoch(1, began_ns=START_NS + 100 * MS)
    outcome = planner(states, epoch=epoch).plan(features(START_NS + captured_ms * MS), now_ns=START_NS + 150 * MS)
    assert isinstance(outcome, Planned) == planned_from
    if not planned_from:
        assert refused(outcome) == Cause.OLD_EPOCH


def test_an_epoch_that_began_in_the_future_is_of_a_clock_that_went_back(states):
    epoch = Epoch(1, began_ns=START_NS + 5_000 * MS)
    assert isinstance(planner(states, epoch=epoch).plan(features(START_NS), now_ns=START_NS + MS), Planned)


def test_without_a_joint_state_at_the_stamp_there_is_no_chunk(states):
    late_ns = START_NS + 2_000 * MS
    outcome = planner(states).plan(features(late_ns), now_ns=late_ns)
    assert refused(outcome) == Cause.NO_STATE
    assert "allowed: 0.05 s" in outcome.reason


def test_what_the_policy_refuses_is_a_refusal_with_its_reason(states):
    outcome = planner(states, Follower(refuses=True)).plan(features(START_NS), now_ns=START_NS)
    assert outcome == Refusal(Cause.POLICY, "the actions are not finite")


def test_a_picture_that_stays_while_joints_move_is_refused_until_it_changes():
    states = StateBuffer(tolerance_s=0.05)
    planning = planner(states, frozen_timeout_s=0.3)
    outcomes = []
    for i in range(60):  # the arm moves for a second, then rests
        now_ns = START_NS + i * 20 * MS
        states.add(now_ns, np.full(len(ROBOT.joints), 0.01 * min(i, 50)))
        outcomes.append(planning.plan(features(now_ns, content_ns=START_NS), now_ns=now_ns))
    assert all(isinstance(outcome, Planned) for outcome in outcomes[:16])  # up to 0.3 s
    assert {refused(outcome) for outcome in outcomes[16:]} == {Cause.FROZEN}
    assert isinstance(planning.plan(features(now_ns), now_ns=now_ns), Planned)


def test_a_picture_that_stays_while_the_arm_rests_is_planned_from():
    states = StateBuffer(tolerance_s=0.05)
    planning = planner(states, frozen_timeout_s=0.3)
    for i in range(60):
        now_ns = START_NS + i * 20 * MS
        states.add(now_ns, np.zeros(len(ROBOT.joints)))
        assert isinstance(planning.plan(features(now_ns, content_ns=START_NS), now_ns=now_ns), Planned)


def test_the_next_chunk_is_wanted_when_the_last_is_about_to_be_used_up(states):
    planning = planner(states)
    assert planning.wants(START_NS)
    planned = planning.plan(features(START_NS), now_ns=START_NS)
    planning.published(planned.chunk, START_NS + 10 * MS)
    span_ns = 4 * ROBOT.policy_period_ns
    assert not planning.wants(START_NS + 33 * MS)
    assert planning.wants(START_NS + span_ns - 10 * MS)


def test_a_new_epoch_forgets_the_plan(states):
    policy = Follower()
    planning = planner(states, policy)
    planned = planning.plan(features(START_NS), now_ns=START_NS)
    planning.published(planned.chunk, START_NS)
    assert not planning.wants(START_NS + 33 * MS)
    planning.follow(PlanSetup(policy, Epoch(1, START_NS + 40 * MS)))
    assert planning.wants(START_NS + 66 * MS)


def ensembled(states, between):
    """The second of two chunks that differ, with ensembling; `between` them the set-up changes."""
    first = Follower(temporal_ensemble_coeff=0.0, step=0.01)
    planning = planner(states, first)
    planning.plan(features(START_NS), now_ns=START_NS)
    planning.follow(between(first))
    return planning.plan(features(START_NS + 50 * MS), now_ns=START_NS + 50 * MS).chunk.actions[0]


def test_chunks_of_one_epoch_are_averaged_and_those_of_an_older_one_are_not(states):
    alone = planner(states).plan(features(START_NS + 50 * MS), now_ns=START_NS + 50 * MS).chunk.actions[0]
    averaged = ensembled(states, lambda first: PlanSetup(first))
    assert not np.allclose(averaged, alone)
    for change in (
        lambda first: PlanSetup(first, Epoch(1)),
        lambda first: PlanSetup(replace(first, temporal_ensemble_coeff=0.1)),
        lambda first: PlanSetup(replace(first, temporal_ensemble_coeff=None)),
    ):
        np.testing.assert_allclose(ensembled(states, change), alone)


def test_chunks_of_another_policy_are_not_averaged_with(states):
    planning = planner(states, Follower(temporal_ensemble_coeff=0.0))
    planning.plan(features(START_NS), now_ns=START_NS)
    planning.follow(PlanSetup(Follower("other", temporal_ensemble_coeff=0.0)))
    stamp_ns = START_NS + 50 * MS
    planned = planning.plan(features(stamp_ns, weights_hash="other"), now_ns=stamp_ns)
    np.testing.assert_array_equal(planned.chunk.actions[0], planned.state + 0.01)


# -- From a picture to features


def picture(stamp_ms, brightness=0, *, height=CAMERA.height, width=CAMERA.width):
    rgb = np.full((height, width, 3), brightness, np.uint8)
    return Picture(START_NS + stamp_ms * MS, rgb, rgb.ravel())


def see(perceiver, shown, eyes=None, limits=None, **asked):
    return perceiver.perceive(eyes or Eyes(), shown, limits or MaskLimits(), **asked)


def test_features_carry_the_pictures_stamp_and_the_weights_that_made_them():
    perceived = see(Perceiver(CAMERA), picture(0, 200), Eyes("weights"))
    assert (perceived.features.stamp_ns, perceived.features.weights_hash) == (START_NS, "weights")
    assert perceived.features.patch_labels.tolist() == [1, 1, 1, 1]
    assert perceived.model_image.shape == (32, 32, 3)
    assert perceived.encoding.label_image is None


def test_a_picture_of_another_size_is_refused_with_both():
    with pytest.raises(PictureError, match=rf"320x240; allowed: {CAMERA.width}x{CAMERA.height}.*{CAMERA.name}"):
        see(Perceiver(CAMERA), picture(0, height=240, width=320))


def test_features_say_since_when_the_picture_is_the_same():
    perceiver = Perceiver(CAMERA)
    content_ms = [
        (see(perceiver, picture(stamp_ms, brightness)).features.content_stamp_ns - START_NS) // MS
        for stamp_ms, brightness in ((0, 1), (33, 2), (66, 2), (100, 2), (133, 3), (10, 3))
    ]
    assert content_ms == [0, 33, 33, 33, 133, 10]  # at last the clock went back


def test_a_mask_that_changes_suddenly_is_a_fault_until_the_memory_begins_anew():
    perceiver, limits = Perceiver(CAMERA), MaskLimits(max_change=0.5)
    assert see(perceiver, picture(0, 0), limits=limits).mask.fault is None
    assert "changed suddenly" in see(perceiver, picture(33, 200), limits=limits).mask.fault
    assert see(perceiver, picture(66, 200), Eyes("other"), limits).mask.fault is None  # it may see otherwise
    assert "changed suddenly" in see(perceiver, picture(100, 0), Eyes("other"), limits).mask.fault
    perceiver.reset()
    assert see(perceiver, picture(133, 0), Eyes("other"), limits).mask.fault is None


def test_a_mask_that_is_not_sure_is_a_fault_and_a_policy_without_masks_has_none():
    assert "confidence is 0.750" in see(Perceiver(CAMERA), picture(0), limits=MaskLimits(min_confidence=0.8)).mask.fault
    assert see(Perceiver(CAMERA), picture(0), Eyes(masks=False), MaskLimits(min_confidence=0.8)).mask is None
