"""The only path from an observation to a chunk, for nodes, evaluation and tests; without ROS and threads.

`Perceiver`: a camera's picture to `Perceived`: features and figures of the mask. `ChunkPlanner`: features and joint
states to `Planned` with a chunk, or a `Refusal` with its reason. The two protocols here are what a policy must offer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from maskact_ros.control.ensemble import TemporalEnsembler
from maskact_ros.control.mask_health import MaskFigures, MaskHealth
from maskact_ros.control.schedule import PlanSchedule
from maskact_ros.core.align import AlignmentError
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.features import Features
from maskact_ros.core.geometry import ImageGeometry
from maskact_ros.core.robot import Camera, RobotSpec
from maskact_ros.policy.runtime import Encoding

STILL_RAD = 0.02  # a joint that moved further than this must change the picture
STILL_SHARE = 0.01  # the same for a prismatic joint, as a share of its range


class PerceptionPolicy(Protocol):
    """The interface of a policy for perception; `runtime.EncoderRuntime` is ours."""

    @property
    def weights_hash(self) -> str:
        """The hash of the weights: a policy never plans from the features of another one."""

    @property
    def image_size(self) -> int:
        """Side of the square picture that `encode` takes, in pixels."""

    @property
    def geometry(self) -> ImageGeometry:
        """How the camera's picture becomes that square."""

    @property
    def mask_classes(self) -> tuple[str, ...]:
        """Names of the classes, by id."""

    def encode(
        self, image: NDArray[np.uint8], *, label_image: bool = False, confidence_image: bool = False
    ) -> Encoding:
        """Encode an RGB picture (S, S, 3); raises MaskACTError."""


class PlanningPolicy(Protocol):
    """The interface of a policy for planning; `runtime.PlannerRuntime` is ours."""

    @property
    def weights_hash(self) -> str:
        """As `PerceptionPolicy.weights_hash`."""

    @property
    def n_action_steps(self) -> int:
        """The number of points of a chunk that are executed before the next chunk, without ensembling."""

    @property
    def temporal_ensemble_coeff(self) -> float | None:
        """The coefficient of temporal ensembling; None without it."""

    def predict(
        self, features: NDArray[np.float16], patch_labels: NDArray[np.int8] | None, state: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Future joint positions (K, J) from features (N, D), labels (N,) and positions (J,); raises MaskACTError."""


# -- From a picture to features


class PictureError(MaskACTError):
    """A picture that the policy cannot use: the text says what is wrong, and what is allowed."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A camera's picture."""

    stamp_ns: int  # capture time
    rgb: NDArray[np.uint8]  # (H, W, 3)
    sent: NDArray[np.uint8]  # the bytes as the camera sent them, to detect a frozen camera


@dataclass(frozen=True)
class MaskLimits:
    """Limits beyond which a mask must not be used; the defaults accept every mask."""

    min_confidence: float = 0.0
    max_change: float = 1.0


@dataclass(frozen=True, eq=False)
class Perceived:
    """Features and mask of a picture."""

    features: Features
    encoding: Encoding
    model_image: NDArray[np.uint8]  # (S, S, 3), the policy's input
    mask: MaskFigures | None  # None if the policy has no masks; with a `mask.fault` the features must not be used
    prepare_s: float  # the time for making `model_image`


class Perceiver:
    """Perception of one camera, picture by picture in the order of their capture.

    It remembers since when the camera has sent an identical picture, and the share of each class.
    """

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._sent: NDArray[np.uint8] | None = None  # the bytes of the last picture
        self._content_stamp_ns = 0
        self._weights_hash = ""
        self._health = MaskHealth(0)

    def reset(self) -> None:
        """Use the next good mask as the reference for sudden changes."""
        self._health.reset()

    def perceive(
        self,
        policy: PerceptionPolicy,
        picture: Picture,
        limits: MaskLimits,
        *,
        label_image: bool = False,
        confidence_image: bool = False,
    ) -> Perceived:
        """Encode a picture. With another policy than before, the reference for sudden changes starts anew.

        Raises:
            PictureError: the picture has another size than the camera's in `robot.yaml`.
            MaskACTError: the policy's own errors.
        """
        self._check_size(picture)
        started_s = time.perf_counter()
        model_image = policy.geometry.to_model(picture.rgb, policy.image_size)
        prepare_s = time.perf_counter() - started_s
        encoding = policy.encode(model_image, label_image=label_image, confidence_image=confidence_image)
        features = Features(
            picture.stamp_ns,
            policy.weights_hash,
            encoding.features,
            encoding.patch_labels,
            encoding.patch_confidence,
            self._content_since(picture),
        )
        return Perceived(features, encoding, model_image, self._mask_of(policy, features, limits), prepare_s)

    def _check_size(self, picture: Picture) -> None:
        height, width = picture.rgb.shape[:2]
        if (width, height) != (self._camera.width, self._camera.height):
            raise PictureError(
                f"its size is {width}x{height}; allowed: {self._camera.width}x{self._camera.height}, as "
                f"robot.yaml says of the camera {self._camera.name}, which is what the policy was trained with"
            )

    def _content_since(self, picture: Picture) -> int:
        """The stamp of the first picture in the present series of identical pictures (byte for byte)."""
        before, self._sent = self._sent, picture.sent
        if before is None or not np.array_equal(before, picture.sent) or picture.stamp_ns < self._content_stamp_ns:
            self._content_stamp_ns = picture.stamp_ns
        return self._content_stamp_ns

    def _mask_of(self, policy: PerceptionPolicy, features: Features, limits: MaskLimits) -> MaskFigures | None:
        if policy.weights_hash != self._weights_hash:
            self._weights_hash, self._health = policy.weights_hash, MaskHealth(len(policy.mask_classes))
        if features.patch_labels is None or features.patch_confidence is None:
            return None
        return self._health.look(
            features.stamp_ns,
            features.patch_labels,
            features.patch_confidence,
            min_confidence=limits.min_confidence,
            max_change=limits.max_change,
        )


# -- From features to a chunk


@dataclass(frozen=True)
class Epoch:
    """The time from one reset to the next: images captured before it never move the arm."""

    number: int = 0
    began_ns: int | None = None  # images captured at this moment or earlier are of an older epoch


class Cause(StrEnum):
    """Why there is no chunk; in the order in which they are checked."""

    OTHER_POLICY = "other_policy"
    OLD_EPOCH = "old_epoch"
    NO_STATE = "no_state"  # no joint state at the image's stamp
    FROZEN = "frozen"  # the camera repeats a picture while joints move
    POLICY = "policy"  # the policy refuses its input, or its output is not finite


@dataclass(frozen=True)
class Refusal:
    """No chunk, and the reason, worded to follow "no chunk:"."""

    cause: Cause
    reason: str


@dataclass(frozen=True, eq=False)
class Planned:
    """A chunk, and the joint state that it was planned from."""

    chunk: Chunk
    state: NDArray[np.float64]  # (D,), the joint positions at its stamp
    predict_s: float  # how long the policy took


class JointStates(Protocol):
    """The joint states of the last seconds; `core.align.StateBuffer` is one."""

    def at(self, stamp_ns: int, off_ns: int = 0) -> NDArray[np.float64]:
        """The positions (D,) in force at a moment, by a clock that may be `off_ns` off; raises AlignmentError."""

    def moved_since(self, stamp_ns: int) -> NDArray[np.float64]:
        """The largest distance (D,) of each joint, since that moment, from its position then; raises AlignmentError."""


@dataclass(frozen=True, eq=False)
class PlanSetup:
    """The policy and settings for a plan. It is replaced as a whole, so a change never takes effect within a plan."""

    policy: PlanningPolicy
    epoch: Epoch = Epoch()
    frozen_timeout_s: float = 0.0  # a picture that repeats for longer than this while joints move is refused; 0: off


class ChunkPlanner:
    """Planning, image by image in the order of their capture: `follow`, `wants`, `plan`, `published`.

    It remembers when the last chunk ends, the chunks to average, and the picture of a frozen camera.
    """

    def __init__(self, robot: RobotSpec, states: JointStates, setup: PlanSetup) -> None:
        self._robot, self._states, self._setup = robot, states, setup
        prismatic = np.array([joint.type == "prismatic" for joint in robot.joints])
        self._still = np.where(prismatic, STILL_SHARE * (robot.upper - robot.lower), STILL_RAD)  # (D,)
        self._frozen_stamp_ns: int | None = None  # the picture that a frozen camera repeats
        coeff = setup.policy.temporal_ensemble_coeff
        self._ensembler = None if coeff is None else TemporalEnsembler(coeff, robot)
        self._schedule = PlanSchedule(
            n_action_steps=setup.policy.n_action_steps,
            period_ns=robot.policy_period_ns,
            every_image=coeff is not None,
        )

    def follow(self, setup: PlanSetup) -> None:
        """Plan with this setup from now on.

        A new epoch discards the plan. Other ensembling, or another policy, discards the chunks to average.
        """
        before, self._setup = self._setup, setup
        coeff = setup.policy.temporal_ensemble_coeff
        if setup.policy is not before.policy:
            self._schedule.change(n_action_steps=setup.policy.n_action_steps, every_image=coeff is not None)
            same_weights = setup.policy.weights_hash == before.policy.weights_hash
            if coeff != before.policy.temporal_ensemble_coeff or not same_weights:
                self._ensembler = None if coeff is None else TemporalEnsembler(coeff, self._robot)
        if setup.epoch.number != before.epoch.number:
            self._schedule.reset()
            if self._ensembler is not None:
                self._ensembler.reset()

    def wants(self, stamp_ns: int) -> bool:
        """Whether to plan from the image captured at `stamp_ns`; call it for every image, in order."""
        return self._schedule.wants(stamp_ns)

    def plan(self, features: Features, *, now_ns: int, off_ns: int = 0) -> Planned | Refusal:
        """A chunk from a wanted image; stamps and `now_ns` are by a clock that may be `off_ns` off."""
        policy, epoch = self._setup.policy, self._setup.epoch
        if features.weights_hash != policy.weights_hash:
            return Refusal(Cause.OTHER_POLICY, "they are of another policy than this node runs by now")
        # If the epoch began in the future, the clock has gone back since: then it does not count.
        if epoch.began_ns is not None and features.stamp_ns <= epoch.began_ns <= now_ns + off_ns:
            early_s = (epoch.began_ns - features.stamp_ns) / 1e9
            return Refusal(
                Cause.OLD_EPOCH,
                f"their image was taken {early_s:.3f} s before action_publisher was enabled, reset or disabled; does "
                "that happen again and again, or is their age so great?",
            )
        try:
            state = self._states.at(features.stamp_ns, off_ns)
            frozen = self._frozen(features)
        except AlignmentError as error:
            return Refusal(Cause.NO_STATE, str(error))
        if frozen is not None:
            return frozen
        started_s = time.perf_counter()
        try:
            actions = policy.predict(features.features, features.patch_labels, state)
        except MaskACTError as error:
            return Refusal(Cause.POLICY, str(error))
        predict_s = time.perf_counter() - started_s
        chunk = Chunk(features.stamp_ns, self._robot.policy_period_ns, actions)
        if self._ensembler is not None:
            chunk = self._ensembler.add(chunk)
        return Planned(chunk, state, predict_s)

    def published(self, chunk: Chunk, ready_ns: int) -> None:
        """Note that a chunk was published at `ready_ns`: the latency determines when to plan next."""
        self._schedule.planned(chunk.stamp_ns, ready_ns)

    def _frozen(self, features: Features) -> Refusal | None:
        """A refusal if the camera has repeated this picture for too long while the joints moved; else None."""
        limit_s, content_ns = self._setup.frozen_timeout_s, features.content_stamp_ns
        same_s = (features.stamp_ns - content_ns) / 1e9
        if not limit_s or same_s <= limit_s:
            frozen = False
        else:  # a frozen camera stays frozen until the picture changes, even when the arm rests because of it
            moved = self._states.moved_since(content_ns)
            frozen = content_ns == self._frozen_stamp_ns or bool((moved > self._still).any())
        self._frozen_stamp_ns = content_ns if frozen else None
        if not frozen:
            return None
        return Refusal(
            Cause.FROZEN,
            f"the camera is frozen: it has sent the same picture for {same_s:.1f} s while the joints moved; "
            f"allowed: {limit_s:g} s",
        )
