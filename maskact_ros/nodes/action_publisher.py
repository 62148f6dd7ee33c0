"""The action publisher: chunks in, one joint command each control period out, within the robot's limits.

Subscribes action_chunk and joint_states; publishes command and state. Silent until `~/enable` is called with true;
then it follows chunks captured after that, goes down the stop ladder when there is nothing to follow, and says why in
`state`. `~/reset` clears a fault.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.control.curves import Moment
from maskact_ros.control.follower import PlanFollower
from maskact_ros.control.joint_watch import Measured
from maskact_ros.control.ladder import MOVING, FollowerState, Rung
from maskact_ros.control.lost_peers import LostPeers, gone
from maskact_ros.control.plan_clock import PlanClock
from maskact_ros.control.realtime import SERVING_PRIORITY, RateLoop, prefer_realtime
from maskact_ros.control.trajectory_follower import TrajectoryFollower
from maskact_ros.core.align import JointOrder
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import resolve_path
from maskact_ros.core.urdf_limits import limits_from_urdf
from maskact_ros.nodes.command.chunk_use import ChunkUse
from maskact_ros.nodes.command.command_graph import CommandGraph
from maskact_ros.nodes.command.command_output import PositionOutput, TrajectoryOutput
from maskact_ros.nodes.command.enabling import Enabling
from maskact_ros.nodes.command.leaving import leaving_s
from maskact_ros.nodes.command.loop_inbox import LoopInbox, Question
from maskact_ros.nodes.command.publisher_parameters import PARAMETERS, PublisherParameters
from maskact_ros.nodes.command.sole_driver import SoleDriver
from maskact_ros.nodes.command.sole_planner import SolePlanner
from maskact_ros.nodes.ros.control_cdr import MOST_POINTS, ChunkReader, JointStateReader, most_bytes
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.messages import MessageError, state_to_message
from maskact_ros.nodes.ros.node_process import main
from maskact_ros.nodes.ros.params import overwrite, refuse_unknown
from maskact_ros.nodes.ros.peers import Peers
from maskact_ros.nodes.ros.policy_swap import TOPIC, Phase, Standing
from maskact_ros.nodes.ros.polled import PolledSubscription
from maskact_ros.nodes.ros.publishers import publishing_nodes
from maskact_ros.nodes.ros.receipt import joint_states_clock
from maskact_ros.nodes.ros.slow_topic import SlowTopic

_READ_WITHIN_NS = 200_000  # two clocks, to have been read at once
# Who gives a sign of life so soon after one was missed was only kept waiting: while the plan lasts, and after that.
_HICCUP_NS, _PAUSE_NS = 400_000_000, 100_000_000
_LARGEST_URDF = 2_000_000  # bytes; a humanoid's is a tenth of that


class ActionPublisher(ManagedNode):
    """Thin: the command loop empties an inbox, takes the newest joint state, asks the follower, and publishes."""

    CHANGEABLE_SPEC = ("n_action_steps", "temporal_ensemble_coeff")
    STRANGERS_SHARE = 0.025

    def __init__(self) -> None:
        super().__init__("action_publisher", PARAMETERS)
        self._loop: RateLoop | None = None

    def configure(self) -> None:
        """Check the robot against the checkpoint; create topics and services."""
        _, config, self._robot = self.policy_and_robot(also=("limits",))
        self._tuning = PublisherParameters(self, self._robot)
        refuse_unknown(self)
        self._tuning.check({})
        most_points = max(MOST_POINTS, config.chunk_size)
        self._chunk_reader = ChunkReader(JointOrder(self._robot.joint_names), most_points)
        self._joint_state_reader = JointStateReader(JointOrder(self._robot.joint_names))
        self._inbox = LoopInbox()
        simulated, clock = self.get("use_sim_time"), self.get_clock()
        self._plan_clock = PlanClock() if simulated else None
        # Where time is not simulated, the node's clock is the system's, which rclpy takes 50 times as long to read.
        self._read_clock_ns = (lambda: clock.now().nanoseconds) if simulated else time.time_ns
        self._receipts = joint_states_clock(self, self._read_clock_ns)

        reliable = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        newest = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self._output: PositionOutput | TrajectoryOutput | None = None
        if not self.get("dry_run"):
            kind = PositionOutput if self.get("command_interface") == "position" else TrajectoryOutput
            self._output = kind(self, self._robot)
            self._graph = CommandGraph(self, self._output.to_controllers, self.get("command_interface"))
        self._states = self.create_lifecycle_publisher(String, "state", latched)
        largest, share = most_bytes(most_points, len(self._robot.joints)), self.STRANGERS_SHARE
        self._chunks = PolledSubscription(
            self, JointTrajectory, "action_chunk", reliable, most_bytes=largest, share=share
        )
        self._joint_states = PolledSubscription(self, JointState, "joint_states", newest, share=share)
        every_policy = QoSProfile(depth=10, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self._policies = SlowTopic(self, String, TOPIC, self._receive_policy, every_policy)
        if self.get("limits_from") == "robot_description":
            self._descriptions = SlowTopic(
                self, String, "robot_description", self._receive_description, latched, most_bytes=_LARGEST_URDF
            )
        self._enabling = Enabling(
            self, ask=self._ask, standing=self._standing, refusal=self._refusal, missing=lambda: self._peers.missing
        )
        self._inference_use: ChunkUse | None = None  # how inference uses chunks, once it has said so
        self._lost = LostPeers()
        self._peers = Peers(self, ("camera_encoder", "inference"), lost=self._lose, found=self._lost.found)
        self._sole_driver = SoleDriver(self, self.resolve_topic_name("command"), self._give_way)
        self._sole_planner = SolePlanner(self, "action_chunk")

    def activate(self) -> None:
        """Start the command loop, silent."""
        rate_hz = self.get("control_rate_hz")
        self._inbox.clear()
        self._observed_ns = 0  # when joint states were last asked for, on the steady clock
        self._doubted = 0
        kind = PlanFollower if self.get("command_interface") == "position" else TrajectoryFollower
        self._follower = kind(self._robot, rate_hz=rate_hz, settings=self._tuning.settings({}))
        self._follower.change(limits=self._tuning.limits({}))
        self._bug: Exception | None = None
        self._said: FollowerState | None = None
        self._report = self.create_steady_timer(1.0, self._report_loop)
        prefer_realtime(SERVING_PRIORITY)
        cpu = self.get("cpu")
        self._loop = RateLoop(rate_hz, self._tick, name="command", realtime=True, cpu=None if cpu < 0 else cpu)
        self._loop.start()
        self.get_logger().info(f"the command loop runs; {self._loop.settings.text}")

    def deactivate(self) -> None:
        """Come to rest, then stop the command loop."""
        if self._loop is not None:
            self.leave()
            self._loop.stop()
            self._loop = None
            if self._output is not None:
                self._output.settle()
            self.destroy_timer(self._report)

    def clean_up(self) -> None:
        """Let go of topics and services."""
        self.destroy_entities("_states")
        heard = ("_chunks", "_joint_states", "_policies", "_descriptions")
        for held in ("_output", "_enabling", *heard, "_peers", "_sole_driver", "_sole_planner"):
            entity = self.__dict__.pop(held, None)
            if entity is not None:
                entity.destroy()

    def reconfigure(self, values: Mapping[str, Any]) -> None:
        """Take new parameters between two ticks."""
        self._tuning.check(values)
        settings, limits = self._tuning.settings(values), self._tuning.limits(values)
        rate_hz = values.get("control_rate_hz")
        if self._loop is not None:
            self._inbox.post(lambda follower, _: follower.change(settings=settings, limits=limits, rate_hz=rate_hz))

    def leave(self) -> None:
        """Decelerate within the limits, and wait until the set point rests."""
        if self._loop is None:
            return
        self._inbox.post(lambda follower, _: follower.leave("the node is leaving"))
        until_s = time.monotonic() + leaving_s(self._robot)
        while self._inbox or not self._follower.at_rest:
            if self._loop.failure is not None or time.monotonic() > until_s:
                self.get_logger().error("the arm was still moving when its commands ended")
                return
            time.sleep(0.01)

    @property
    def may_end(self) -> bool:
        """It is the one that the others wait for."""
        return True

    @property
    def crash(self) -> BaseException | None:
        """A bug that ended the command loop, or that will when the arm has come to rest."""
        if self._loop is None:
            return None
        return self._loop.failure or (self._bug if self._bug is not None and self._follower.at_rest else None)

    # -- The command loop's thread

    def _tick(self, deadline_ns: int) -> None:
        """One control period."""
        try:
            self._command(deadline_ns)
        except Exception as bug:  # noqa: BLE001 - a moving arm must not be left at speed
            self._bug = self._bug or bug
            set_point = self._follower.brake()
            if set_point is not None and isinstance(self._output, PositionOutput):
                self._output.publish(set_point)
        try:
            self._say_state()
        except Exception as bug:  # noqa: BLE001 - this period's command is out: the arm brakes from the next one on
            self._bug = self._bug or bug

    def _say_state(self) -> None:
        """Publish the state, and log it, when it has changed."""
        if self._follower.state is not self._said and self._follower.state != self._said:
            self._said = self._follower.state
            self._states.publish(state_to_message(self._said))
            self.get_logger().info(f"{self._said.rung}: {self._said.reason}")

    def _command(self, deadline_ns: int) -> None:
        """Decide on a set point, and send it."""
        moment, now_ns = self._moment(deadline_ns)
        set_point = self._decide(moment, now_ns)
        if set_point is not None and _steady_ns() - moment.steady_ns > self._follower.stall_ns:
            self._follower.retract()  # the process was stopped in the middle; the next period begins from rest
        elif set_point is not None and self._output is not None:
            self._send(self._output, set_point, moment)

    def _moment(self, deadline_ns: int) -> tuple[Moment, int]:
        """When the period began, which is evener than when the thread was woken; and the node's clock now."""
        for _ in range(3):
            before_ns = time.monotonic_ns()
            now_ns, steady_ns = self._read_clock_ns(), _steady_ns()
            woken_ns = time.monotonic_ns()
            if woken_ns - before_ns < _READ_WITHIN_NS:
                break  # else the thread was interrupted in between, and the readings do not belong together
        # More than a period late, it is another period: a stall is told by when commands are sent, not were due.
        late_ns = min(woken_ns - deadline_ns, self._follower.period_ns)
        if isinstance(self._follower, TrajectoryFollower):
            late_ns = 0  # a horizon begins when it is sent, however late that is
        if (clock := self._plan_clock) is None:
            return Moment(now_ns - late_ns, steady_ns - late_ns), now_ns
        began_ns = clock.read(now_ns, steady_ns, steady_ns - late_ns)
        return Moment(began_ns, steady_ns - late_ns, clock.off_ns), clock.at(steady_ns)

    def _decide(self, moment: Moment, now_ns: int) -> NDArray[np.float64] | None:
        """The set point of this period; after a bug the arm brakes, whatever else is the matter."""
        if self._bug is not None:
            self._inbox.clear()
            return self._follower.brake()
        self._observe()
        self._hear_chunk()
        self._inbox.serve(self._follower, moment._replace(now_ns=now_ns))
        moving = self._follower.state.rung in MOVING
        if lost := self._lost.due(moment.steady_ns, _HICCUP_NS if moving else _PAUSE_NS):
            self._follower.condemn(gone(lost))
        set_point = self._follower.tick(moment, self._standing(moment))
        if self._loop is not None and self._follower.rate_hz != self._loop.rate_hz:
            self._loop.rate_hz = self._follower.rate_hz
        return set_point

    def _standing(self, moment: Moment) -> str | None:
        """What is wrong with the clock, or None."""
        stands = self._plan_clock is not None and self._plan_clock.stands(moment.steady_ns)
        return "the clock stands still" if stands else None

    def _observe(self) -> None:
        """Take the newest joint state, if one has come since the last period."""
        if self._joint_states.rests:
            return
        before_ns, self._observed_ns = self._observed_ns, _steady_ns()
        try:
            heard = self._joint_states.read(self._joint_state_reader.read)
        except MaskACTError as error:
            self.diagnostics.problem("joint_states", f"joint_states is refused: {error}")
            return
        if heard is None:
            return
        (stamp_ns, positions), age_ns = heard
        stamp_ns = self._receipts.stamp_ns(age_ns) if self._receipts else stamp_ns
        # It came after the last one was asked for, whatever the system's clock has done since.
        received_ns = max(before_ns, self._observed_ns - age_ns)
        refusal = self._follower.observe(Measured(positions, stamp_ns, received_ns))
        if refusal is not None:
            if self._follower.sends:  # else an arm was moved while nobody looked, or a simulation was reset
                self.diagnostics.problem("joint_states", f"joint_states is not believed: {refusal}")
            return
        self.diagnostics.solved("joint_states")

    def _hear_chunk(self) -> None:
        """Take the newest chunk, if one has come since the last period."""
        try:
            self._chunks.read(self._receive_chunk)
        except MessageError as error:
            self.diagnostics.problem("action_chunk", str(error))
            self.diagnostics.count("chunks_refused")

    def _receive_chunk(self, data: bytes) -> None:
        chunk = self._chunk_reader.read(data)
        now_ns, off_ns = self._even_time()
        if chunk.stamp_ns > now_ns + off_ns:
            ahead_s = (chunk.stamp_ns - now_ns) / 1e9
            raise MessageError(f"the chunk is from the future: its stamp is {ahead_s:.3f} s ahead of this clock")
        self.diagnostics.solved("action_chunk")
        if self._sole_planner.heard(self._chunks.number) is not None:  # which is said once a second
            self.diagnostics.count("chunks_refused")
            return
        self.diagnostics.event("chunks")
        self._follower.offer(chunk, now_ns, off_ns)

    def _even_time(self) -> tuple[int, int]:
        """The node's clock as the command loop has it, in ns, and how far a right stamp may lie from that."""
        clock = self._plan_clock
        if clock is None or not clock.begun:
            return self._read_clock_ns(), 0
        return clock.at(_steady_ns()), clock.off_ns

    def _send(self, output: PositionOutput | TrajectoryOutput, set_point: NDArray[np.float64], moment: Moment) -> None:
        if isinstance(output, PositionOutput):
            output.publish(set_point)
        else:
            assert isinstance(self._follower, TrajectoryFollower)
            horizon = self._follower.horizon(moment)
            if horizon is None:
                return
            output.publish(horizon.positions, horizon.velocities, horizon.period_ns)
        self.diagnostics.event("commands")

    # -- The executor's thread

    def _receive_description(self, message: String) -> None:
        before = self._tuning.described
        try:
            self._tuning.described = limits_from_urdf(message.data, self._robot)
            self._tuning.check({})
        except MaskACTError as error:
            self._tuning.described = before  # what was believed so far goes on holding
            self.diagnostics.problem("robot_description", f"robot_description is refused: {error}")
            return
        self.diagnostics.solved("robot_description")
        if self._loop is not None:
            limits = self._tuning.limits({})
            self._inbox.post(lambda follower, _: follower.change(limits=limits))

    def _receive_policy(self, message: String) -> None:
        """Inference has changed its policy: the new one says for how long its chunks are fresh."""
        try:
            standing = Standing.from_message(message)
            running = standing.node == "inference" and standing.phase is Phase.RUNNING
            if running:
                self._inference_use = ChunkUse.from_text(standing.chunk_use)
            if not running or str(resolve_path(standing.path)) == str(resolve_path(self.get("policy_path"))):
                return
            config = self.config_under(self.check_policy(standing.path, self._robot))
            self._chunk_reader.most_points = max(MOST_POINTS, config.chunk_size)
        except MaskACTError as error:
            self.diagnostics.problem("policy", f"the policy that inference runs now is not known here: {error}")
            return
        self.diagnostics.solved("policy")
        overwrite(self, "policy_path", standing.path)
        if self._loop is not None:
            settings = self._tuning.settings({})
            self._inbox.post(lambda follower, _: follower.change(settings=settings))

    def _lose(self, name: str) -> None:
        self._lost.note(name, _steady_ns())

    def _give_way(self) -> None:
        reason = f"another action publisher drives {self.resolve_topic_name('command')}, and was there before"
        self._inbox.post(lambda follower, _: follower.disable(reason))

    def _ask(self, question: Question) -> str:
        """The command loop's answer, once it has done what is asked; raises MaskACTError."""
        if self._loop is None:
            raise MaskACTError("the node is not active")
        return self._inbox.ask(question)

    def _refusal(self) -> str | None:
        """Why the arm cannot be enabled now, as far as the graph tells, or None."""
        if self._sole_driver.others:
            return f"another action publisher drives {self.resolve_topic_name('command')}; end it first"
        if (planners := self._sole_planner.look()) is not None:
            return planners
        if self.get("limits_from") == "robot_description" and self._tuning.described is None:
            return f"no usable robot_description on {self.resolve_topic_name('robot_description')} yet (limits_from)"
        if self._loop is not None:
            self._look_at_graph()
        use, theirs = ChunkUse.of(self.config_with({})), self._inference_use
        if theirs is not None and use.stops(theirs):
            return use.difference(theirs)
        return self._graph.unheard if self._output is not None else None

    def _look_at_graph(self) -> None:
        """Who takes the commands, and who sends some, too; a fault tells of it."""
        if self._output is not None:
            others = ", ".join(self._graph.others)
            self._follower.unheard = self._graph.unheard or ""
            self._follower.rivals = f"commands come from {others}, too" if others else ""

    def _report_loop(self) -> None:
        """Figures of the command loop for /diagnostics, once a second."""
        if self._loop is None:
            return
        follower, state = self._follower, self._follower.state
        for name, value in (("rung", state.rung), ("epoch", state.epoch), ("reason", state.reason)):
            self.diagnostics.value(name, value)
        for entry in fields(self._loop.settings):
            self.diagnostics.value(entry.name, getattr(self._loop.settings, entry.name))
        self.diagnostics.value("control_rate_hz", f"{follower.rate_hz:g}")
        self.diagnostics.value("deadline_misses", self._loop.misses)
        self.diagnostics.value("stalls", follower.stalls)
        self.diagnostics.value("unasked_stops", follower.unasked_stops)
        self.diagnostics.value("targets_clamped", follower.clamped)
        self.diagnostics.value("chunks_out_of_date", follower.chunks_refused)
        self.diagnostics.value("joint_states_not_believed", follower.poses_refused)
        self._look_at_graph()
        self.diagnostics.value("chunks_skipped", self._chunks.skipped)
        self.diagnostics.value("joint_states_skipped", self._joint_states.skipped)
        for name, samples, scale in (
            ("command_lateness", self._loop.lateness_us, 1e-3),
            ("chunk_age_at_use", follower.chunk_age_ms, 1.0),
            ("image_to_command", follower.image_to_command_ms, 1.0),
        ):
            while samples:
                self.diagnostics.duration(name, samples.popleft() * scale)
        self._report_problems(state)

    def _report_problems(self, state: FollowerState) -> None:
        theirs = self._inference_use
        difference = None if theirs is None else ChunkUse.of(self.config_with({})).difference(theirs)
        topic, rivals = self.resolve_topic_name("command"), self._follower.rivals
        told = "" if rivals in state.reason else f"; {rivals}"
        sends = state.rung is not Rung.IDLE
        doubt = self._follower.lasting_doubt(Moment(0, _steady_ns()))
        reports = {
            "rung": {
                Rung.FAULT: (f"fault: {state.reason}{told}", self.diagnostics.ERROR),
                Rung.HOLDING: (f"the arm holds: {state.reason}", self.diagnostics.WARN),
                Rung.DECELERATING: (f"the arm decelerates: {state.reason}", self.diagnostics.WARN),
                Rung.REMAINING: (state.reason, self.diagnostics.WARN),
            }.get(state.rung),
            "driver": (f"another action publisher drives {topic}, too", self.diagnostics.ERROR)
            if self._sole_driver.others
            else None,
            "listeners": (unheard, self.diagnostics.WARN) if (unheard := self._follower.unheard) and sends else None,
            "rivals": (rivals, self.diagnostics.WARN) if rivals and sends and state.rung is not Rung.FAULT else None,
            "doubt": (doubt, self.diagnostics.ERROR) if doubt is not None else None,
            "joint_states_twice": self._report_two_arms(),
            "planner": (planners, self.diagnostics.ERROR) if (planners := self._sole_planner.refusal) else None,
            "chunk_use": (difference, self.diagnostics.WARN) if difference else None,
            "dry_run": ("dry run: commands are not sent", self.diagnostics.WARN) if self.get("dry_run") else None,
        }
        for name, report in reports.items():
            if report is None:
                self.diagnostics.solved(name)
            else:
                self.diagnostics.problem(name, *report)

    def _report_two_arms(self) -> tuple[str, bytes] | None:
        """Several nodes that send joint states, when some of these are not believed."""
        before, self._doubted = self._doubted, self._follower.poses_refused
        topic = self.resolve_topic_name("joint_states")
        nodes = publishing_nodes(self, topic) if self._doubted > before else []
        return (
            (f"several nodes publish {topic}: {', '.join(nodes)}", self.diagnostics.ERROR) if len(nodes) > 1 else None
        )


def _steady_ns() -> int:
    """The follower's steady clock: as the loop's own, but it goes on while the machine is suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def run() -> None:
    """Entry point of `ros2 run maskact_ros action_publisher`."""
    main(ActionPublisher)


if __name__ == "__main__":
    run()
