"""Tools of the ROS tests: real nodes in processes of their own, and a probe that subscribes and publishes.

`Bench` is a ROS domain of its own with nodes and a probe in it; at the end of its `with` block all of them are gone.
Waiting is for events, each with a deadline that is generous on a loaded machine; nothing sleeps for luck.
"""

import contextlib
import functools
import gc
import itertools
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from std_srvs.srv import SetBool, Trigger

from maskact_ros.tools.bench.children import end_with_parent
from maskact_ros.tools.bringup import Process
from maskact_ros.tools.isolation import IsolatedDomain

NAMESPACE = "/maskact"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where DDS puts its segments
RELIABLE = QoSProfile(depth=2000, reliability=QoSReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.BEST_EFFORT)
PATIENCE_S = 60.0  # for an event: ten times what it takes where other tests have both cores
LATCHED = QoSProfile(depth=100, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
_UNDER_WAY_S = (
    0.2  # for messages of killed programs: Fast DDS has crashed of one that came while a reader was destroyed
)


@dataclass(frozen=True)
class Heard:
    """A message: when it came (steady clock), when it was sent (system's clock), which of its publisher's it is."""

    at_s: float
    message: object
    sent_ns: int = 0
    number: int = 0


@dataclass(frozen=True)
class Report:
    """A node's report on /diagnostics."""

    level: bytes
    message: str
    values: dict[str, str]


class Probe:
    """A node of the test's own process that records what it subscribes to; its callbacks run in one thread.

    Other nodes of the process use its `context`, and so its participant: while a participant is taken apart, Fast DDS
    may still hand it what another one of the same process sends, and crash.
    """

    def __init__(self, domain_id: int):
        self.context = Context()
        rclpy.init(args=[], context=self.context, domain_id=domain_id)
        self.node = Node("probe", namespace=NAMESPACE, context=self.context)
        self._changed = threading.Condition()
        self._reports: dict[str, list[Report]] = {}
        self._clients: dict[str, Client] = {}  # by service
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._receive_report, 20)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._unwanted: list[Subscription | Publisher | Timer] = []
        self._failure: BaseException | None = None  # what ended the thread
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def hear(self, kind: type, topic: str, qos: QoSProfile = RELIABLE) -> list[Heard]:
        """Subscribe; the list grows with every message."""
        heard: list[Heard] = []
        self.node.create_subscription(kind, topic, functools.partial(self._note, heard), qos)
        return heard

    @contextlib.contextmanager
    def hearing(self, topics: dict[str, type], qos: QoSProfile = RELIABLE):
        """As `hear`, by topic; the subscriptions end with the `with` block."""
        heard: dict[str, list[Heard]] = {topic: [] for topic in topics}
        subscriptions = [
            self.node.create_subscription(kind, topic, functools.partial(self._note, heard[topic]), qos)
            for topic, kind in topics.items()
        ]
        try:
            yield heard
        finally:
            self.end(*subscriptions)

    def end(self, *entities) -> None:
        """Destroy subscriptions, publishers or timers; in the thread that waits for them, as rclpy fails of it else."""
        with self._changed:
            self._unwanted.extend(entities)
        self.wait(lambda: not self._unwanted, "what is not wanted any more to end")

    def publisher(self, kind: type, topic: str, qos: QoSProfile = RELIABLE):
        return self.node.create_publisher(kind, topic, qos)

    def every(self, period_s: float, callback: Callable[[], None]):
        return self.node.create_timer(period_s, callback)

    def now_ns(self) -> int:
        return self.node.get_clock().now().nanoseconds

    def wait(self, condition: Callable[[], object], what: str, within_s: float = PATIENCE_S):
        """The condition's value once it is true; fails with `what` at the deadline."""
        until_s = time.monotonic() + within_s
        with self._changed:
            while not (value := condition()):
                if self._failure is not None:
                    raise RuntimeError("the probe's thread ended") from self._failure
                assert time.monotonic() < until_s, f"waited {within_s:g} s in vain for {what}"
                self._changed.wait(timeout=0.02)
        return value

    def call(self, kind: type, service: str, request, within_s: float = PATIENCE_S):
        """A service's response.

        A service that has only just found its client may answer into the void, so a client is kept for the next call.
        """
        client = self._clients.get(service)
        if client is None:
            client = self._clients[service] = self.node.create_client(kind, service)
        assert client.wait_for_service(timeout_sec=within_s), f"there is no service {service}"
        future = client.call_async(request)
        self.wait(future.done, f"the response of {service}", within_s)
        return future.result()

    def call_again_if_lost(self, kind: type, service: str, request):
        """As `call`, of what may be asked twice: for 20 s, DDS shows the services of a killed node as if it lived."""
        try:
            return self.call(kind, service, request, within_s=10.0)
        except AssertionError:
            return self.call(kind, service, request)

    def enable(self, on: bool = True, node: str = "action_publisher") -> SetBool.Response:
        return self.call_again_if_lost(SetBool, f"{node}/enable", SetBool.Request(data=on))

    def reset(self, node: str) -> Trigger.Response:
        return self.call_again_if_lost(Trigger, f"{node}/reset", Trigger.Request())

    def reports(self, node: str) -> list[Report]:
        """All that a node said on /diagnostics."""
        return self._reports.setdefault(node, [])

    def wait_for_report(
        self, node: str, condition: Callable[[Report], object], what: str, within_s: float = PATIENCE_S
    ):
        """The first report, of those to come, for which the condition holds."""
        known = len(self.reports(node))
        return self.wait(lambda: next(filter(condition, self.reports(node)[known:]), None), what, within_s)

    def wait_for_problem(self, node: str, *texts: str) -> Report:
        """The first report, of those to come, of a warning or an error with these texts in it."""

        def fits(report: Report) -> bool:
            return report.level != DiagnosticStatus.OK and all(text in report.message for text in texts)

        return self.wait_for_report(node, fits, f"a problem of {node} with {texts}")

    def wait_for_ok(self, node: str) -> Report:
        return self.wait_for_report(node, lambda report: report.level == DiagnosticStatus.OK, f"{node} to be well")

    def close(self) -> None:
        # Nothing is taken apart while the thread waits for it: rclpy can crash of that.
        self._closing.set()
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()
        gc.collect()  # else circles of references keep it in its domain, which others use next
        self.context.try_shutdown()

    def _spin(self) -> None:
        try:
            while not self._closing.is_set():
                self._executor.spin_once(timeout_sec=0.1)
                self._end_the_unwanted()
        except BaseException as failure:  # noqa: BLE001 - for the thread that waits to raise
            self._failure = failure

    def _end_the_unwanted(self) -> None:
        with self._changed:
            while self._unwanted:
                entity = self._unwanted.pop()
                kind = {Subscription: "subscription", Publisher: "publisher"}.get(type(entity), "timer")
                getattr(self.node, f"destroy_{kind}")(entity)

    def _note(self, heard: list[Heard], message: object, info: dict) -> None:
        with self._changed:
            sent_ns, number = info["source_timestamp"], info["publication_sequence_number"]
            heard.append(Heard(time.monotonic(), message, sent_ns, number))
            self._changed.notify_all()

    def _receive_report(self, array: DiagnosticArray) -> None:
        with self._changed:
            for status in array.status:
                values = {item.key: item.value for item in status.values}
                name = status.name.rsplit("/", 1)[-1]
                self._reports.setdefault(name, []).append(Report(status.level, status.message, values))
            self._changed.notify_all()


class Program:
    """A process of a test: what it printed, and how it ended."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path):
        self._log = log
        with log.open("w", encoding="utf-8") as file:
            self._process = subprocess.Popen(
                command,
                env=os.environ | environment | {"PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    @property
    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, within_s: float = PATIENCE_S) -> int:
        """The exit code; fails with what it has printed so far at the deadline."""
        try:
            return self._process.wait(timeout=within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"waited {within_s:g} s in vain for the end; it said:\n{self.output}") from None

    def kill(self) -> None:
        if self.running:
            self.send(signal.SIGKILL)
        self._process.wait()


class Bench:
    """A ROS domain with nodes and a probe in it; use it in a `with` block."""

    def __init__(self, folder: Path, policy: Path):
        self._folder = folder
        self._policy = policy
        self._programs: list[Program] = []

    def __enter__(self):
        self.domain = IsolatedDomain()
        self._shared_before = set(SHARED_MEMORY.iterdir())
        self.probe = Probe(self.domain.id)
        return self

    def __exit__(self, *_) -> None:
        for program in self._programs:
            program.kill()
        time.sleep(_UNDER_WAY_S)
        self.probe.close()
        self._remove_what_the_killed_shared()
        self.domain.close()

    def _remove_what_the_killed_shared(self) -> None:
        """Files that nobody uses any more: segments, 16 MiB for each killed node, and this domain's ports."""
        unused = set(SHARED_MEMORY.glob("*fast*")) - self._shared_before
        unused -= shared_memory_in_use()
        # A port's lock does not show who uses it: it goes with its port, and other domains' stay where they are.
        ports = {path: int(found[1]) for path in unused if (found := re.search(r"_port(\d+)", path.name))}
        own = range(7400 + 250 * self.domain.id, 7400 + 250 * (self.domain.id + 1))
        gone = {ports[path] for path in ports if path.name.startswith("fast") and not path.name.endswith("_el")}
        for leftover in unused:
            if leftover not in ports or (ports[leftover] in own and ports[leftover] in gone):
                leftover.unlink(missing_ok=True)

    def run(self, command: list[str], **environment: str) -> Program:
        """Start any program in the domain."""
        log = self._folder / f"{len(self._programs)}.log"
        program = Program(command, self.domain.environment | environment, log)
        self._programs.append(program)
        return program

    def start(
        self,
        executable: str,
        *,
        name: str = "",
        params_file: Path | str = "",
        remappings: dict[str, str] | None = None,
        **parameters,
    ) -> Program:
        """Start a node; the nodes that have a policy get the bench's, unless told otherwise."""
        if executable not in ("sim_robot", "expert"):
            parameters = {"policy_path": str(self._policy)} | parameters
        process = Process(
            executable=executable,
            name=name or executable,
            namespace=NAMESPACE,
            params_file=str(params_file),
            parameters=parameters,
            remappings=remappings or {},
        )
        return self.run(process.command(self._parameters_folder()))

    def _parameters_folder(self) -> Path:
        folder = self._folder / f"parameters_{len(self._programs)}"
        folder.mkdir()
        return folder

    def start_active(self, executable: str, **options) -> Program:
        """Start a node, and wait until it says that it is active."""
        program = self.start(executable, **options)
        self.wait_until_active(options.get("name", executable), program)
        return program

    def wait_until_active(self, name: str, program: Program) -> None:
        def active() -> bool:
            assert program.running, f"{name} ended by itself:\n{program.output}"
            return any(report.values.get("state") == "active" for report in self.probe.reports(name))

        self.probe.wait(active, f"{name} to become active; it said:\n{program.output}", within_s=60.0)


def shared_memory_in_use() -> set[Path]:
    """The files of shared memory that any process has open or mapped."""
    used = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # one that has just ended, or somebody else's
            for descriptor in (process / "fd").iterdir():  # before the maps: a file is opened, mapped, and then closed
                with contextlib.suppress(OSError):  # closed meanwhile
                    used.add(descriptor.readlink())
            lines = (process / "maps").read_text(encoding="utf-8", errors="replace").splitlines()
            used |= {Path(line[line.index("/") :]) for line in lines if f" {SHARED_MEMORY}/" in line}
    return used


def state_of(heard: Heard) -> dict:
    """The content of a message of the `state` topic."""
    return json.loads(heard.message.data)


def rungs_of(states: list[Heard]) -> list[str]:
    """The rungs that these messages tell of, one after the other; each can be said again, with another reason."""
    return [rung for rung, _ in itertools.groupby(state_of(heard)["rung"] for heard in states)]


def set_points(commands: list[Heard]) -> np.ndarray:
    """The commands as one array (T, D); fails when one has another number of values than the first."""
    return np.array([list(command.message.data) for command in commands])
