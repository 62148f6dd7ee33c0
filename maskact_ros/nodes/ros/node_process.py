"""Runs a node as a process: arguments, signals, the order in which the nodes of a bringup end, and exit codes."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
import traceback

import rclpy
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args, try_shutdown

from maskact_ros.control.realtime import DDS_PRIORITY, prefer_other_threads
from maskact_ros.core.errors import MaskACTError
from maskact_ros.nodes.ros.launcher import Launcher
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.node_help import help_text
from maskact_ros.nodes.ros.serving import Serving
from maskact_ros.nodes.ros.stop_request import StopRequest, end_signals

ARM_FIRST_S = 5.0  # how long the other nodes wait for the action publisher, which brings the arm to rest
# The kernel sends SIGTERM when the launcher's first thread ends. Until its other threads have ended, it looks alive.
_LAUNCHER_SEEN_S = 0.05
_LAST_WORDS_S = 0.1  # time for other processes to read the last messages, such as a service's answer


def main(node_class: type[ManagedNode]) -> None:
    """Run a node until SIGINT or SIGTERM; the exit code is 0, 1 after a refused start, 2 after a wrong parameter."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text(node_class))
        return
    # While weights load, which takes seconds, a signal ends the process at once: there is nothing to bring to rest.
    for number in end_signals():
        signal.signal(number, lambda *_: os._exit(0))
    launcher = Launcher()
    if launcher.gone:
        return
    try:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # rcl cannot read an argument or parameter file; drop the place in its C code
        sys.exit(f"{node_class.__name__}: {' '.join(str(error).split()).partition(', at ')[0]}")
    unknown = remove_ros_args(sys.argv)[1:]
    if unknown:
        sys.exit(
            f"{node_class.__name__}: unknown argument {unknown[0]}; allowed: --help, --ros-args and what follows it"
        )
    try:
        code = _run(node_class, launcher)
    except MaskACTError as error:
        print(f"{node_class.__name__}: {error}", file=sys.stderr, flush=True)
        code = 2
    gc.collect()  # the node has reference cycles, and its shared memory is freed only with it
    try_shutdown()  # not `rclpy.try_shutdown`: with it a late signal would end the process as if it had been killed
    with contextlib.suppress(OSError):  # the reader of our output may be gone
        sys.stdout.flush()
        sys.stderr.flush()
    # Threads of torch and DDS sometimes crash while Python shuts down, so skip that: all of ours is closed by now.
    os._exit(code)


def _run(node_class: type[ManagedNode], launcher: Launcher) -> int:
    node = node_class()  # type: ignore[call-arg]  # each node names itself
    prefer_other_threads(DDS_PRIORITY)  # only DDS has threads yet
    executor = Serving(node.diagnostics, sparing=node.STRANGERS_SHARE < 1.0)
    executor.add_node(node)
    if node.get("autostart"):
        for step in (node.trigger_configure, node.trigger_activate):
            if step() != TransitionCallbackReturn.SUCCESS:
                return 1
    stop = StopRequest()
    crash: BaseException | None = None
    while not node.finalized and crash is None and not (stop.is_set() and _turn_to_end(node, launcher, stop)):
        try:
            executor.spin_once(timeout_sec=0.1)
        except Exception as error:  # noqa: BLE001 - after any exception the arm comes to rest before the node ends
            crash = error
        crash = crash or node.crash
    node.leave()
    if crash is not None:
        node.get_logger().fatal(
            "a bug in maskact_ros ends the node, please report it:\n" + "".join(traceback.format_exception(crash))
        )
    elif not node.finalized:
        node.trigger_shutdown()
    time.sleep(_LAST_WORDS_S)
    if crash is not None:
        return 1
    executor.shutdown()
    node.destroy_node()
    return 0


def _turn_to_end(node: ManagedNode, launcher: Launcher, stop: StopRequest) -> bool:
    """Whether a node may end now. Without a launcher that keeps the order, it waits for the action publisher."""
    waits_s = ARM_FIRST_S if launcher.gone else _LAUNCHER_SEEN_S
    return node.may_end or time.monotonic() > stop.asked_s + waits_s
