"""`Contract`: what of a bag becomes which feature, with which stamp and tolerance.

In: `contract.yaml`, which refers to the `robot.yaml` that owns joints, cameras, topics and rate. Out: a frozen contract
whose topics are absolute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from maskact_ros.core.documents import read_yaml, shortened
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import resolve_path
from maskact_ros.core.robot import RobotSpec

StampSource = Literal["header", "receipt"]
ActionSource = Literal["command", "future_state"]
_STAMPS, _ACTIONS = ("header", "receipt"), ("command", "future_state")
_MOST_CLASSES = 256  # ids of mono8
_LONGEST_S = 3600.0
_WAITING_BYTES = 2**29  # of decoded pictures, while their piece may still turn out to be too short


class ContractError(MaskACTError):
    """A contract that does not say what is needed: the text names file, entry, value and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What becomes which feature; topics are absolute, times in seconds."""

    robot: RobotSpec
    task: str
    image_topics: tuple[str, ...]  # the first that a bag has counts
    image_stamp: StampSource
    rate_tolerance: float  # share of the policy's period
    mask_topic: str | None  # at most one of topic and folder
    mask_folder: Path | None
    mask_classes: tuple[str, ...] | None  # None without masks
    state_topic: str
    state_stamp: StampSource
    state_tolerance_s: float
    action_source: ActionSource
    action_topic: str
    action_stamp: StampSource
    action_tolerance_s: float
    action_joints: tuple[str, ...]  # the order of a command's values
    shortest_episode_s: float

    @property
    def topics(self) -> tuple[str, ...]:
        """All that are to be recorded, each once."""
        wanted = [*self.image_topics, self.mask_topic, self.state_topic, self.action_topic]
        return tuple(dict.fromkeys(topic for topic in wanted if topic is not None))

    @classmethod
    def from_yaml(cls, path: str | Path) -> Contract:
        """Read a contract and its robot; raises MaskACTError that names the file."""
        path = resolve_path(path)
        values = read_yaml(path)
        try:
            return _contract(_Section("contract", values), path.parent)
        except ContractError as error:
            raise ContractError(f"{path}: {error}") from None

    def to_yaml(self) -> str:
        """What a dataset keeps of it beside its robot.yaml: every value spelled out."""
        masks = {"topic": self.mask_topic} if self.mask_topic else {"folder": str(self.mask_folder)}
        values = {
            "robot": "robot.yaml",
            "namespace": "/",
            "task": self.task,
            "images": {
                "topics": list(self.image_topics),
                "stamp": self.image_stamp,
                "rate_tolerance": self.rate_tolerance,
            },
            "state": {"topic": self.state_topic, "stamp": self.state_stamp, "tolerance_s": self.state_tolerance_s},
            "action": {
                "source": self.action_source,
                "topic": self.action_topic,
                "stamp": self.action_stamp,
                "tolerance_s": self.action_tolerance_s,
                "joints": list(self.action_joints),
            },
            "shortest_episode_s": self.shortest_episode_s,
        }
        if self.mask_classes is not None:
            values["masks"] = masks | {"classes": list(self.mask_classes)}
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def absolute(topic: str, namespace: str) -> str:
    """A topic's full name, as ROS resolves it."""
    return topic if topic.startswith("/") else f"/{namespace.strip('/')}/{topic}".replace("//", "/")


class _Section:
    """One mapping of the file; what is not taken from it in the end is a misspelled entry."""

    def __init__(self, name: str, values: Any):
        if not isinstance(values, Mapping):
            raise ContractError(f"{name} is {shortened(repr(values))}; allowed: a mapping")
        self._name, self._values, self._asked = name, values, list[str]()

    def take(self, key: str, default: Any = None) -> Any:
        self._asked.append(key)
        return self._values.get(key, default)

    def section(self, key: str) -> _Section:
        return _Section(key, self.take(key, {}))

    def text(self, key: str, default: str | None = None) -> str:
        value = self.take(key, default)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, value, "a text")
        return value

    def one_of(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.take(key, default)
        if value not in allowed:
            raise self.wrong(key, value, " or ".join(allowed))
        return str(value)

    def number(self, key: str, default: float, low: float, high: float, why: str = "") -> float:
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise self.wrong(key, value, f"a number >= {low:g} and <= {high:g}{why}")
        return float(value)

    def names(self, key: str, default: list[str] | None = None) -> tuple[str, ...]:
        value = self.take(key, default)
        sound = isinstance(value, list) and value and all(isinstance(name, str) and name.strip() for name in value)
        if not sound or len(set(value)) != len(value):
            raise self.wrong(key, value, "a list of names, each once")
        return tuple(value)

    def wrong(self, key: str, value: Any, allowed: str) -> ContractError:
        where = key if self._name == "contract" else f"{self._name}: {key}"
        state = "missing" if value is None else shortened(repr(value))
        return ContractError(f"{where} is {state}; allowed: {allowed}")

    def check_all_taken(self) -> None:
        for key in self._values:
            if key not in self._asked:
                raise ContractError(f"{self._name}: {key!r} is unknown; allowed: {', '.join(self._asked)}")


def _contract(top: _Section, folder: Path) -> Contract:
    robot = RobotSpec.from_yaml(resolve_path(top.text("robot", "robot.yaml"), base=folder))
    namespace = top.text("namespace", "/")
    images, state, action = top.section("images"), top.section("state"), top.section("action")
    masks = top.section("masks") if top.take("masks") is not None else None
    mask_topic, mask_folder, classes = _masks(masks) if masks else (None, None, None)
    joints = action.names("joints", list(robot.joint_names))
    if set(joints) != set(robot.joint_names):
        raise action.wrong("joints", list(joints), f"each of {', '.join(robot.joint_names)} once")
    longest_s = _longest_wait_s(robot, with_masks=classes is not None)
    contract = Contract(
        robot=robot,
        task=top.text("task"),
        image_topics=tuple(
            absolute(topic, namespace) for topic in images.names("topics", [robot.only_camera.image_topic])
        ),
        image_stamp=cast(StampSource, images.one_of("stamp", _STAMPS, "header")),
        rate_tolerance=images.number("rate_tolerance", 0.3, 0.01, 0.49),
        mask_topic=absolute(mask_topic, namespace) if mask_topic else None,
        mask_folder=resolve_path(mask_folder, base=folder) if mask_folder else None,
        mask_classes=classes,
        state_topic=absolute(state.text("topic", robot.joint_states_topic), namespace),
        state_stamp=cast(StampSource, state.one_of("stamp", _STAMPS, "header")),
        state_tolerance_s=state.number("tolerance_s", 0.1, 0.001, 10),
        action_source=cast(ActionSource, action.one_of("source", _ACTIONS, "command")),
        action_topic=absolute(action.text("topic", robot.command_topic), namespace),
        action_stamp=cast(StampSource, action.one_of("stamp", _STAMPS, "receipt")),
        action_tolerance_s=action.number("tolerance_s", 0.1, 0.001, 10),
        action_joints=joints,
        shortest_episode_s=top.number(
            "shortest_episode_s", min(1.0, longest_s), 0, longest_s, ", as memory holds its pictures meanwhile"
        ),
    )
    for section in (top, images, state, action, *([masks] if masks else [])):
        section.check_all_taken()
    streams = [*contract.image_topics, contract.mask_topic, contract.state_topic, contract.action_topic]
    for topic in contract.topics:
        if streams.count(topic) > 1:
            raise ContractError(f"topic {topic} is named twice; allowed: one stream a topic")
    return contract


def _longest_wait_s(robot: RobotSpec, *, with_masks: bool) -> float:
    """For how long rows may wait for their piece to be long enough."""
    camera = robot.only_camera
    row_bytes = camera.width * camera.height * (4 if with_masks else 3)
    return min(_LONGEST_S, _WAITING_BYTES / (row_bytes * robot.policy_rate_hz))


def _masks(section: _Section) -> tuple[str | None, str | None, tuple[str, ...]]:
    topic, folder = section.take("topic"), section.take("folder")
    if (topic is None) == (folder is None):
        raise ContractError("masks: allowed: either a topic or a folder")
    for key in ("topic", "folder"):
        if section.take(key) is not None:
            section.text(key)
    classes = section.names("classes")
    if len(classes) > _MOST_CLASSES:
        raise section.wrong("classes", list(classes), f"at most {_MOST_CLASSES} names")
    return topic, folder, classes
