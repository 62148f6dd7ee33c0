"""`maskact monitor`: listens to /diagnostics and `state`, and shows the present values.

In: a namespace. Out: a live table on a terminal, else a text each second; or JSON. It only subscribes, so it cannot
disturb the nodes.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.exceptions import InvalidNamespaceException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.live import Live
from std_msgs.msg import String

from maskact_ros.control.ladder import FollowerState
from maskact_ros.core.errors import MaskACTError
from maskact_ros.nodes.ros.messages import MessageError, state_from_message
from maskact_ros.nodes.ros.stop_request import StopRequest
from maskact_ros.tools.monitor_view import HINT_S, NodeReport, Snapshot, as_count, as_json, as_table, as_text

GREW_S = 5.0  # for how long a count that grew is highlighted
ONCE_S = 2.0  # since the first report, and since the first report of any node found later: then all are heard
AT_MOST_S = 15.0
MOST_NODES = 100  # nodes that are kept, as strangers may send any number of names
LINE_S = 1.0  # between two lines or texts
FRAME_S = 0.5  # between two updates of the table
PLAIN_WIDTH = 120  # columns without a terminal


@dataclass(frozen=True, kw_only=True)
class MonitorArguments:
    """The command's arguments."""

    namespace: str = "/maskact"
    once: bool = False
    json: bool = False
    seconds: float | None = None  # ends the live view


def run_monitor(arguments: MonitorArguments) -> int:
    """Show reports until Ctrl-C, or once.

    Returns: 0; with `once` 1 when nothing was heard or a node reports an error.
    Raises:
        MaskACTError: the namespace or the seconds are invalid.
    """
    if arguments.seconds is not None and not 0 < arguments.seconds < 1e6:
        raise MaskACTError(f"--seconds is {arguments.seconds:g}; allowed: a number > 0")
    stop = StopRequest()
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        monitor = _Monitor(Listener(arguments.namespace), stop)
        return monitor.once(arguments) if arguments.once else monitor.live(arguments)
    except BrokenPipeError:  # the reader has ended, such as `| head`; prevents a second error when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        rclpy.try_shutdown()


class Listener(Node):  # type: ignore[misc]
    """A plain node that keeps the reports it receives.

    Raises:
        MaskACTError: the namespace is no name.
    """

    def __init__(self, namespace: str):
        try:
            super().__init__(
                f"maskact_monitor_{os.getpid()}",
                namespace="/" + namespace.strip("/"),
                start_parameter_services=False,
                enable_rosout=False,
            )
        except InvalidNamespaceException:
            raise MaskACTError(
                f"--namespace is {namespace!r}; allowed: words of letters, digits and _, with / between them"
            ) from None
        self._began_s = time.monotonic()
        self._heard: dict[str, _Heard] = {}
        self._state: FollowerState | None = None
        self._state_problem = ""
        self.news_s: float | None = None  # when a node, or the state, was heard for the first time
        # Best effort: a reliable subscription can make publishers wait.
        newest = QoSProfile(depth=100, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._receive_diagnostics, newest)
        self.create_subscription(String, "state", self._receive_state, latched)

    def snapshot(self) -> Snapshot:
        """The reports and the state as of now."""
        now_s = time.monotonic()
        names = sorted(self._heard)
        return Snapshot(
            namespace=self.get_namespace(),
            domain_id=os.environ.get("ROS_DOMAIN_ID") or "0, as not set",
            discovery_range=os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") or "SUBNET, as not set",
            listened_s=now_s - self._began_s,
            nodes=tuple(self._heard[name].report(now_s) for name in names if self._is_here(name)),
            state=self._state,
            state_problem=self._state_problem,
            elsewhere=tuple(name for name in names if not self._is_here(name)),
        )

    def _is_here(self, name: str) -> bool:
        return name.startswith(self.get_namespace().rstrip("/") + "/")

    def _receive_diagnostics(self, message: DiagnosticArray) -> None:
        now_s = time.monotonic()
        for status in message.status:
            if status.hardware_id == "maskact":
                if status.name not in self._heard:
                    if len(self._heard) == MOST_NODES:
                        continue
                    self._heard[status.name] = _Heard()
                    self.news_s = now_s if self._is_here(status.name) else self.news_s
                self._heard[status.name].receive(status, now_s)

    def _receive_state(self, message: String) -> None:
        try:
            self._state, self._state_problem = state_from_message(message), ""
        except MessageError as error:
            self._state, self._state_problem = None, str(error)


class _Heard:
    """A node's last report, and when each of its counts last grew."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._grew_s: dict[str, float] = {}

    def receive(self, status: DiagnosticStatus, now_s: float) -> None:
        values = {item.key: item.value for item in status.values}
        for key, value in values.items():
            now, before = as_count(value), as_count(self._values.get(key, "0"))
            if self._values and now is not None and before is not None and now > before:
                self._grew_s[key] = now_s
        self._status, self._values, self._at_s = status, values, now_s

    def report(self, now_s: float) -> NodeReport:
        return NodeReport(
            name=self._status.name,
            level=self._status.level[0],
            message=self._status.message,
            values=self._values,
            age_s=now_s - self._at_s,
            grown=frozenset(key for key, at_s in self._grew_s.items() if now_s - at_s < GREW_S),
        )


class _Monitor:
    """Listens and shows alternately, in one thread."""

    def __init__(self, listener: Listener, stop: StopRequest):
        self._listener = listener
        self._stop = stop
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(listener)
        self._console = Console(highlight=False)

    def once(self, arguments: MonitorArguments) -> int:
        """Show one table; return the exit code."""
        began_s = now_s = time.monotonic()
        while not self._stop.is_set():
            news_s = self._listener.news_s
            if now_s > began_s + (HINT_S if news_s is None else AT_MOST_S) or (news_s and now_s > news_s + ONCE_S):
                break
            self._executor.spin_once(timeout_sec=0.1)
            now_s = time.monotonic()
        snapshot = self._listener.snapshot()
        if not arguments.json and self._console.is_terminal:
            self._console.print(as_table(snapshot))
        else:
            self._print(snapshot, arguments)
        return 1 if snapshot.failed else 0

    def live(self, arguments: MonitorArguments) -> int:
        """Show updates until the end; return the exit code."""
        end_s = time.monotonic() + (arguments.seconds or float("inf"))
        if arguments.json or not self._console.is_terminal or self._console.is_dumb_terminal:
            while self._listen_for(LINE_S, end_s):
                self._print(self._listener.snapshot(), arguments)
            return 0
        with Live(as_table(self._listener.snapshot()), console=self._console, auto_refresh=False) as live:
            while self._listen_for(FRAME_S, end_s):
                live.update(as_table(self._listener.snapshot()), refresh=True)
        return 0

    def _listen_for(self, seconds: float, end_s: float) -> bool:
        """Listen for `seconds`; return False if the end came first."""
        self._listen(until_s=min(time.monotonic() + seconds, end_s))
        return not self._stop.is_set() and time.monotonic() < end_s

    def _listen(self, until_s: float) -> None:
        while not self._stop.is_set() and (left_s := until_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left_s, 0.1))

    def _print(self, snapshot: Snapshot, arguments: MonitorArguments) -> None:
        if arguments.json:
            print(json.dumps(as_json(snapshot), allow_nan=False), flush=True)
        else:
            print(as_text(snapshot, shutil.get_terminal_size((PLAIN_WIDTH, 0)).columns), flush=True)
