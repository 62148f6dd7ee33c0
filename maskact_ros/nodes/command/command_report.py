"""The action publisher's /diagnostics, once a second: figures of the command loop, and problems.

In: the follower, its loop, its topics and the ROS graph. Out: values and problems. The follower is told, too, whether
a controller subscribes to the commands, and whether other nodes publish them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from maskact_ros.control.curves import Moment
from maskact_ros.control.ladder import FollowerState, Rung
from maskact_ros.control.loop_clock import steady_ns
from maskact_ros.nodes.command.command_graph import CommandGraph
from maskact_ros.nodes.command.command_loop import CommandLoop
from maskact_ros.nodes.command.sole_driver import SoleDriver
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.publishers import publishing_nodes


class CommandReport:
    """Reports from its construction until `destroy`; its methods are called in the executor's thread."""

    def __init__(
        self,
        node: ManagedNode,
        loop: CommandLoop,
        *,
        graph: CommandGraph | None,
        sole_driver: SoleDriver,
        difference: Callable[[], str | None],
    ):
        """Report from now on.

        Args:
            node: the action publisher, whose diagnostics are filled.
            loop: the command loop.
            graph: the nodes on the command topics; None in a dry run.
            sole_driver: finds other action publishers of the same topic.
            difference: how inference's use of chunks differs, or None.
        """
        self._node, self._diagnostics = node, node.diagnostics
        self._follower, self._intake, self._rate_loop = loop.follower, loop.intake, loop.rate_loop
        self._graph, self._sole_driver, self._difference = graph, sole_driver, difference
        self._unheard = self._rivals = ""
        self._doubted = 0  # joint states, until the last report
        self._timer = node.create_steady_timer(1.0, self._report)

    def destroy(self) -> None:
        """Stop reporting."""
        self._node.destroy_timer(self._timer)

    def look_at_graph(self) -> None:
        """Find out who takes the commands, and who else sends some; the reason of a fault mentions it."""
        if self._graph is not None:
            others = ", ".join(self._graph.others)
            self._unheard = self._graph.unheard or ""
            self._rivals = f"commands come from {others}, too" if others else ""
            self._follower.hear_of(self._unheard, self._rivals)

    def _report(self) -> None:
        follower, loop, state = self._follower, self._rate_loop, self._follower.state
        self.look_at_graph()
        values = {
            "rung": state.rung,
            "epoch": state.epoch,
            "reason": state.reason,
            **{entry.name: getattr(loop.settings, entry.name) for entry in fields(loop.settings)},
            "control_rate_hz": f"{follower.rate_hz:g}",
            "deadline_misses": loop.misses,
            "stalls": follower.stalls,
            "unasked_stops": follower.unasked_stops,
            "targets_clamped": follower.clamped,
            "chunks_out_of_date": follower.chunks_refused,
            "joint_states_not_believed": follower.poses_refused,
            "chunks_skipped": self._intake.chunks_skipped,
            "joint_states_skipped": self._intake.joint_states_skipped,
        }
        for name, value in values.items():
            self._diagnostics.value(name, value)
        for name, samples, scale in (
            ("command_lateness", loop.lateness_us, 1e-3),
            ("chunk_age_at_use", follower.chunk_age_ms, 1.0),
            ("image_to_command", follower.image_to_command_ms, 1.0),
        ):
            while samples:
                self._diagnostics.duration(name, samples.popleft() * scale)
        self._report_problems(state)

    def _report_problems(self, state: FollowerState) -> None:
        warn, error = self._diagnostics.WARN, self._diagnostics.ERROR
        told = "" if self._rivals in state.reason else f"; {self._rivals}"
        sends, in_fault = state.rung is not Rung.IDLE, state.rung is Rung.FAULT
        drives = f"another action publisher drives {self._node.resolve_topic_name('command')}, too"
        reports = {
            "rung": {
                Rung.FAULT: (f"fault: {state.reason}{told}", error),
                Rung.HOLDING: (f"the arm holds: {state.reason}", warn),
                Rung.DECELERATING: (f"the arm decelerates: {state.reason}", warn),
                Rung.REMAINING: (state.reason, warn),
            }.get(state.rung, (None, warn)),
            "driver": (drives if self._sole_driver.others else None, error),
            "listeners": (self._unheard if sends else None, warn),
            "rivals": (self._rivals if sends and not in_fault else None, warn),
            "doubt": (self._follower.lasting_doubt(Moment(0, steady_ns())), error),
            "joint_states_twice": (self._two_arms(), error),
            "planner": (self._intake.sole_planner.refusal, error),
            "chunk_use": (self._difference(), warn),
            "dry_run": ("dry run: commands are not sent" if self._node.get("dry_run") else None, warn),
        }
        for name, (problem, level) in reports.items():
            if problem:
                self._diagnostics.problem(name, problem, level)
            else:
                self._diagnostics.solved(name)

    def _two_arms(self) -> str | None:
        """The nodes that publish joint states, if there are several and some states are not believed; else None."""
        before, self._doubted = self._doubted, self._follower.poses_refused
        topic = self._node.resolve_topic_name("joint_states")
        nodes = publishing_nodes(self._node, topic) if self._doubted > before else []
        return f"several nodes publish {topic}: {', '.join(nodes)}" if len(nodes) > 1 else None
