"""Changes the policy of camera_encoder and inference together, while both go on with the one they have.

Whoever is given another `policy_path` begins, the other joins: both load beside the old policy. When both are ready
the encoder switches, and inference does so at the first features of the new one. If either fails, neither changes; once
inference has said that it is ready, the encoder decides alone. Each says on the latched topic `policy` where it stands.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from std_msgs.msg import String

from maskact_ros.control.realtime import SWITCH_S
from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.errors import MaskACTError, printable
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.messages import MessageError
from maskact_ros.nodes.ros.params import ParameterError, is_spec, overwrite
from maskact_ros.nodes.ros.slow_topic import SlowTopic

TOPIC = "policy"
ANSWER_WITHIN_S = 5.0  # if the other node has not joined by then, there is no swap
FEATURES_WITHIN_S = 1.0  # after the encoder's switch; inference waits no longer where there are no images
_WATCH_S = 0.1
_NICENESS = 10
_NODE = re.compile(r"\w{1,255}", re.ASCII)
_SWAP = re.compile(r"(\d{1,20})(-\w{1,255})?", re.ASCII)  # when it began, in ns, and who did
_AHEAD_NS = 86_400_000_000_000  # by which the clocks of two machines may differ
_LONGEST_PATH = 4096


class Phase(StrEnum):
    """Where a node stands in its newest swap."""

    RUNNING = "running"  # switched; or no swap yet
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"  # goes on with the policy it had


@dataclass(frozen=True)
class Standing:
    """What a node says of itself; `swap` grows from one to the next and is empty before the first."""

    node: str
    swap: str
    phase: Phase
    path: str
    reason: str = ""
    chunk_use: str = ""  # `ChunkUse.text`, of inference

    def to_message(self) -> String:
        """As JSON."""
        return String(data=json.dumps(asdict(self)))

    @classmethod
    def from_message(cls, message: String) -> Standing:
        """The inverse of `to_message`; raises MessageError."""
        try:
            values = json.loads(message.data)
            if not all(isinstance(value, str) for value in values.values()):
                raise TypeError
            standing = cls(**values | {"phase": Phase(values["phase"])})
            if not (_NODE.fullmatch(standing.node) and _is_swap(standing.swap) and len(standing.path) <= _LONGEST_PATH):
                raise ValueError
            standing.path.encode()  # which a parameter must be able to carry
            return standing
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            shown = message.data[:80]
            raise MessageError(f"the standing is {shown!r}; allowed: what camera_encoder and inference send") from None


def _is_swap(name: str) -> bool:
    """Whether it is empty, or begins with a time, as `begin` makes it, that is not of the distant future."""
    made = _SWAP.fullmatch(name)
    return name == "" or (made is not None and int(made[1]) < time.time_ns() + _AHEAD_NS)


class Runtime(Protocol):
    """A policy's part that a node runs."""

    info: CheckpointInfo


Loaded = TypeVar("Loaded", bound=Runtime)


@dataclass(eq=False)
class _Swap(Generic[Loaded]):
    """One that is under way."""

    name: str
    path: str  # as the user wrote it, where this node was told
    info: CheckpointInfo
    began_s: float
    loaded: Loaded | None = None
    peer: Phase | None = None  # where the other node stands in it; None before it takes part
    peer_running_s: float = 0.0  # when it said that it has switched


class PolicySwap(Generic[Loaded]):
    """One node's part in it; all but the loading happens in the executor's thread."""

    def __init__(
        self,
        node: ManagedNode,
        running: CheckpointInfo,
        *,
        leads: bool,
        check: Callable[[str], CheckpointInfo],
        load: Callable[[CheckpointInfo], Loaded],
        switch: Callable[[Loaded], None],
        chunk_use: Callable[[], str] = lambda: "",
    ):
        """Take part from now on.

        Args:
            node: camera_encoder or inference.
            running: the policy of its `policy_path`, which it runs.
            leads: switches as soon as both are ready; the other node follows.
            check: reads a checkpoint and raises MaskACTError for what can be told at once.
            load: loads and warms up, in a thread of its own; raises MaskACTError.
            switch: takes what was loaded into use, at once.
            chunk_use: how inference uses chunks now.
        """
        self._node, self._leads = node, leads
        self._check, self._load, self._switch, self._chunk_use = check, load, switch, chunk_use
        self._path: str = node.get("policy_path")
        self._weights_hash = running.weights_hash
        self._swap: _Swap[Loaded] | None = None
        self._newest = ""  # name of the newest swap that was heard of
        self._lock = threading.Lock()  # of the next two
        self._outcomes: deque[tuple[_Swap[Loaded], Loaded | str]] = deque()
        self._closed = False
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        latched_by_both = QoSProfile(depth=10, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self._guard = node.create_guard_condition(self._take_outcomes)
        self._publisher = node.create_publisher(String, TOPIC, latched)
        self._subscription = SlowTopic(node, String, TOPIC, self._hear, latched_by_both)
        self._timer = node.create_steady_timer(_WATCH_S, self._watch)
        self._say(Phase.RUNNING)

    def begin(self, values: Mapping[str, Any]) -> None:
        """Begin to change to the `policy_path` of a request; raises MaskACTError where it can be refused at once."""
        if any(map(is_spec, values)):
            raise ParameterError("policy_path changes by itself; set the policy's parameters before or after it")
        if self._swap is not None:
            raise ParameterError(f"the policy is being changed to {self._swap.path}; wait until that is done")
        path = values["policy_path"]
        info = self._check(path)
        newest_ns = int(self._newest.partition("-")[0] or 0)  # names grow, also when the clock goes back
        name = f"{max(time.time_ns(), newest_ns + 1):020d}-{self._node.get_name()}"
        self._start(_Swap(name, path, info, time.monotonic()))

    def first_features(self, weights_hash: str) -> bool:
        """Whether features of these weights mean that the encoder has switched; if so, inference now has, too."""
        swap = self._swap
        if self._leads or swap is None or swap.loaded is None or swap.info.weights_hash != weights_hash:
            return False
        self._finish(swap, swap.loaded)
        return True

    def lost(self, peer: str) -> None:
        """The other node gives no sign of life: it died, or was stopped, or we were."""
        swap = self._swap
        if swap is None or swap.peer is None:
            return
        if self._leads or swap.loaded is None:  # else the encoder may have switched, and what it says is on its way
            self._give_up(f"{peer} was lost meanwhile")

    def close(self) -> None:
        """Take no part any more; what is under way is given up."""
        with self._lock:
            self._closed = True
        if self._swap is not None:
            self._swap = None
            overwrite(self._node, "policy_path", self._path)
        self._node.destroy_timer(self._timer)
        self._subscription.destroy()
        self._node.destroy_publisher(self._publisher)
        self._node.destroy_guard_condition(self._guard)

    def _start(self, swap: _Swap[Loaded]) -> None:
        self._newest, self._swap = swap.name, swap
        self._node.diagnostics.forget("policy_swap")
        self._node.get_logger().info(f"loading the policy {printable(swap.path)} beside the one that runs")
        self._say(Phase.LOADING)
        threading.Thread(target=self._load_beside, args=(swap,), name="load", daemon=True).start()

    def _load_beside(self, swap: _Swap[Loaded]) -> None:
        """In a thread of its own, which leaves processor and interpreter to the policy that runs."""
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        interval_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        outcome: Loaded | str
        try:
            outcome = self._load(swap.info)
        except MaskACTError as error:
            outcome = str(error)
        except Exception as error:  # noqa: BLE001 - such as no memory for a second policy: the first one goes on
            outcome = f"the checkpoint {swap.info.folder} cannot be loaded ({type(error).__name__}: {error})"
        finally:
            sys.setswitchinterval(interval_s)
        with self._lock:
            if not self._closed:
                self._outcomes.append((swap, outcome))
                self._guard.trigger()

    def _take_outcomes(self) -> None:
        while self._outcomes:
            swap, outcome = self._outcomes.popleft()
            if swap is not self._swap:
                continue  # given up meanwhile
            if isinstance(outcome, str):
                self._give_up(outcome)
            else:
                swap.loaded = outcome
                self._say(Phase.READY)
                self._go_on()

    def _hear(self, message: String) -> None:
        try:
            standing = Standing.from_message(message)
        except MessageError as error:
            self._node.diagnostics.problem("policy", str(error))
            return
        self._node.diagnostics.solved("policy")
        if standing.node == self._node.get_name():
            return
        swap = self._swap
        if swap is not None and standing.swap == swap.name:
            self._note(swap, standing)
        elif standing.swap > self._newest and standing.phase in (Phase.LOADING, Phase.READY):
            self._join(standing)
        elif swap is not None and swap.peer is not None:
            self._give_up(f"{standing.node} has begun anew meanwhile")

    def _note(self, swap: _Swap[Loaded], standing: Standing) -> None:
        if standing.phase == Phase.FAILED:
            self._give_up(f"{standing.node}: {standing.reason}")
            return
        swap.peer = standing.phase
        if standing.phase == Phase.RUNNING:
            swap.peer_running_s = time.monotonic()
        self._go_on()

    def _join(self, standing: Standing) -> None:
        """The other node was told; of two that were told at the same time, the later one counts."""
        self._newest = standing.swap
        try:
            info = self._check(standing.path)
        except MaskACTError as error:
            self._give_up(str(error))
            return
        overwrite(self._node, "policy_path", standing.path)
        self._start(_Swap(standing.swap, standing.path, info, time.monotonic(), peer=standing.phase))

    def _watch(self) -> None:
        swap = self._swap
        if swap is None:
            return
        alone = self._is_alone()
        if alone and swap.peer is not None:
            self._give_up("the other node has left meanwhile")
        elif not alone and swap.peer is None and time.monotonic() > swap.began_s + ANSWER_WITHIN_S:
            self._give_up(f"the other node has not answered within {ANSWER_WITHIN_S:g} s")
        else:
            self._go_on()

    def _is_alone(self) -> bool:
        return bool(self._node.count_publishers(self._node.resolve_topic_name(TOPIC)) < 2)

    def _go_on(self) -> None:
        """Switch if it is time to."""
        swap = self._swap
        if swap is None or swap.loaded is None:
            return
        if swap.peer is None:
            due = self._is_alone()  # nobody to wait for
        elif self._leads:
            due = swap.peer == Phase.READY
        else:  # features of the same weights do not tell which of the two policies they are from
            same = swap.info.weights_hash == self._weights_hash
            due = swap.peer == Phase.RUNNING and (same or time.monotonic() > swap.peer_running_s + FEATURES_WITHIN_S)
        if due:
            self._finish(swap, swap.loaded)

    def _finish(self, swap: _Swap[Loaded], loaded: Loaded) -> None:
        self._swap, self._path, self._weights_hash = None, swap.path, swap.info.weights_hash
        self._switch(loaded)
        self._node.get_logger().info(f"the policy is {printable(swap.path)} from now on")
        self._say(Phase.RUNNING)

    def _give_up(self, reason: str) -> None:
        self._swap = None
        overwrite(self._node, "policy_path", self._path)
        problem = f"the policy stays {self._path}: {reason}"
        self._node.diagnostics.problem("policy_swap", problem, self._node.diagnostics.WARN)
        self._say(Phase.FAILED, reason)

    def say_again(self) -> None:
        """Say where it stands, as chunks are used otherwise from now on."""
        if self._swap is None:
            self._say(Phase.RUNNING)

    def _say(self, phase: Phase, reason: str = "") -> None:
        path = self._path if self._swap is None else str(self._swap.info.folder)
        standing = Standing(self._node.get_name(), self._newest, phase, path, reason, self._chunk_use())
        self._publisher.publish(standing.to_message())
        self._node.diagnostics.value("policy", self._path)
        self._node.diagnostics.value("policy_swap", phase)
