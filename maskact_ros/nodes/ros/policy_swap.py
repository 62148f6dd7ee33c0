"""Changes the policy of camera_encoder and inference together, while both continue with the old one.

The node that gets another `policy_path` begins, the other joins: both load the new policy beside the old one. When both
are ready the encoder switches; inference switches at the first features of the new policy. If either fails, neither
changes. When inference has reported that it is ready, the encoder decides alone. Each reports on the latched `policy`.
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
ANSWER_WITHIN_S = 5.0  # if the other node has not joined by then, the swap is given up
FEATURES_WITHIN_S = 1.0  # after the encoder's switch; then inference switches without features: there are no images
_WATCH_S = 0.1
_NICENESS = 10
_NODE = re.compile(r"\w{1,255}", re.ASCII)
_SWAP = re.compile(r"(\d{1,20})(-\w{1,255})?", re.ASCII)  # when it began, in ns, and the node that began it
_AHEAD_NS = 86_400_000_000_000  # largest allowed difference of two machines' clocks
_LONGEST_PATH = 4096


class Phase(StrEnum):
    """A node's phase in its newest swap."""

    RUNNING = "running"  # it has switched; or there was no swap yet
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"  # it continues with the old policy


@dataclass(frozen=True)
class Standing:
    """A node's report on the topic. Names of swaps rise from one to the next; `swap` is empty before the first."""

    node: str
    swap: str
    phase: Phase
    path: str
    reason: str = ""
    chunk_use: str = ""  # `ChunkUse.text` of inference

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
            standing.path.encode()  # the path must be a valid value of a parameter
            return standing
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            shown = message.data[:80]
            raise MessageError(f"the standing is {shown!r}; allowed: what camera_encoder and inference send") from None


def _is_swap(name: str) -> bool:
    """Whether a swap's name is empty, or begins with a time (see `begin`) that is not in the distant future."""
    made = _SWAP.fullmatch(name)
    return name == "" or (made is not None and int(made[1]) < time.time_ns() + _AHEAD_NS)


class Runtime(Protocol):
    """The part of a policy that a node runs."""

    info: CheckpointInfo


Loaded = TypeVar("Loaded", bound=Runtime)


@dataclass(eq=False)
class _Swap(Generic[Loaded]):
    """A swap in progress."""

    name: str
    path: str  # as the user wrote it, if the user set it on this node
    info: CheckpointInfo
    began_s: float
    loaded: Loaded | None = None
    peer: Phase | None = None  # the other node's phase in it; None before it takes part
    peer_running_s: float = 0.0  # when the other node reported that it has switched


class PolicySwap(Generic[Loaded]):
    """One node's part in swaps. Loading has a thread of its own; all else happens in the executor's thread."""

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
        """Take part in swaps from now on.

        Args:
            node: camera_encoder or inference.
            running: the policy of its `policy_path`, which it runs.
            leads: whether this node switches as soon as both are ready; the other node follows.
            check: reads a checkpoint, and raises MaskACTError for what is wrong with it before loading.
            load: loads and warms up, in a thread of its own; raises MaskACTError.
            switch: takes the loaded policy into use, at once.
            chunk_use: returns how inference uses chunks now.
        """
        self._node, self._leads = node, leads
        self._check, self._load, self._switch, self._chunk_use = check, load, switch, chunk_use
        self._path: str = node.get("policy_path")
        self._weights_hash = running.weights_hash
        self._swap: _Swap[Loaded] | None = None
        self._newest = ""  # name of the newest swap that is known
        self._lock = threading.Lock()  # for the next two
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
        """Begin a swap to the `policy_path` of a request; raises MaskACTError if it can be refused at once."""
        if any(map(is_spec, values)):
            raise ParameterError("policy_path changes by itself; set the policy's parameters before or after it")
        if self._swap is not None:
            raise ParameterError(f"the policy is being changed to {self._swap.path}; wait until that is done")
        path = values["policy_path"]
        info = self._check(path)
        newest_ns = int(self._newest.partition("-")[0] or 0)  # names must rise, also when the clock goes back
        name = f"{max(time.time_ns(), newest_ns + 1):020d}-{self._node.get_name()}"
        self._start(_Swap(name, path, info, time.monotonic()))

    def first_features(self, weights_hash: str) -> bool:
        """Whether features of these weights show that the encoder has switched. If so, inference switches now."""
        swap = self._swap
        if self._leads or swap is None or swap.loaded is None or swap.info.weights_hash != weights_hash:
            return False
        self._finish(swap, swap.loaded)
        return True

    def lost(self, peer: str) -> None:
        """The other node gives no sign of life: it died, it was stopped, or this node was stopped."""
        swap = self._swap
        if swap is None or swap.peer is None:
            return
        if self._leads or swap.loaded is None:  # else the encoder may have switched, and its report is on its way
            self._give_up(f"{peer} was lost meanwhile")

    def close(self) -> None:
        """Stop taking part, and give up a swap in progress."""
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
        """Load the new policy; in a thread of low priority, so that the running policy is not slowed down."""
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
        except Exception as error:  # noqa: BLE001 - such as no memory for a second policy: the first one continues
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
        """Join a swap that the other node began. If both nodes began one at the same time, the later one counts."""
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
        """Switch if both nodes are ready for it."""
        swap = self._swap
        if swap is None or swap.loaded is None:
            return
        if swap.peer is None:
            due = self._is_alone()  # no other node to wait for
        elif self._leads:
            due = swap.peer == Phase.READY
        else:  # if both policies have the same weights, features do not show which policy they are from
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
        """Report again, as the use of chunks has changed."""
        if self._swap is None:
            self._say(Phase.RUNNING)

    def _say(self, phase: Phase, reason: str = "") -> None:
        path = self._path if self._swap is None else str(self._swap.info.folder)
        standing = Standing(self._node.get_name(), self._newest, phase, path, reason, self._chunk_use())
        self._publisher.publish(standing.to_message())
        self._node.diagnostics.value("policy", self._path)
        self._node.diagnostics.value("policy_swap", phase)
