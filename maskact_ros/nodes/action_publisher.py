"""The action publisher: chunks in, one joint command each control period out, within the robot's limits.

Subscribes action_chunk and joint_states; publishes command and state. It sends nothing until `~/enable` is called with
true. Then it follows chunks that were captured after the call. Without a chunk to follow it goes down the stop ladder.
`state` gives the reason. `~/reset` clears a fault.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from std_msgs.msg import String

from maskact_ros.control.follower import PlanFollower
from maskact_ros.control.ladder import FollowerState
from maskact_ros.control.loop_clock import LoopClock, steady_ns
from maskact_ros.control.lost_peers import LostPeers
from maskact_ros.control.realtime import SERVING_PRIORITY, prefer_realtime
from maskact_ros.control.trajectory_follower import TrajectoryFollower
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import resolve_path
from maskact_ros.core.urdf_limits import limits_from_urdf
from maskact_ros.nodes.command.chunk_use import ChunkUse
from maskact_ros.nodes.command.command_graph import CommandGraph
from maskact_ros.nodes.command.command_loop import CommandLoop
from maskact_ros.nodes.command.command_output import PositionOutput, TrajectoryOutput
from maskact_ros.nodes.command.command_report import CommandReport
from maskact_ros.nodes.command.enabling import Enabling
from maskact_ros.nodes.command.leaving import leaving_s
from maskact_ros.nodes.command.loop_inbox import LoopInbox, Question, Request
from maskact_ros.nodes.command.loop_intake import LoopIntake
from maskact_ros.nodes.command.publisher_parameters import PARAMETERS, PublisherParameters
from maskact_ros.nodes.command.sole_driver import SoleDriver
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.messages import state_to_message
from maskact_ros.nodes.ros.node_process import main
from maskact_ros.nodes.ros.params import overwrite, refuse_unknown
from maskact_ros.nodes.ros.peers import Peers
from maskact_ros.nodes.ros.policy_swap import TOPIC, Phase, Standing
from maskact_ros.nodes.ros.slow_topic import SlowTopic

_LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
_EVERY_POLICY = QoSProfile(depth=10, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
_LARGEST_URDF = 2_000_000  # bytes; a humanoid's is a tenth of that


class ActionPublisher(ManagedNode):
    """Topics and services; `CommandLoop` asks the follower for set points, in its own thread, and publishes them."""

    CHANGEABLE_SPEC = ("n_action_steps", "temporal_ensemble_coeff")
    STRANGERS_SHARE = 0.025

    def __init__(self) -> None:
        super().__init__("action_publisher", PARAMETERS)
        self._loop: CommandLoop | None = None

    def configure(self) -> None:
        """Check the robot against the checkpoint; create topics and services."""
        _, config, self._robot = self.policy_and_robot(also=("limits",))
        self._tuning = PublisherParameters(self, self._robot)
        refuse_unknown(self)
        self._tuning.check({})
        simulated, clock = self.get("use_sim_time"), self.get_clock()
        # Without simulated time the node's clock is the system's; `time` reads it in a fiftieth of rclpy's time.
        read_ns = (lambda: clock.now().nanoseconds) if simulated else time.time_ns
        self._loop_clock = LoopClock(read_ns, simulated=simulated)
        self._inbox = LoopInbox()
        self._output: PositionOutput | TrajectoryOutput | None = None
        self._graph: CommandGraph | None = None
        if not self.get("dry_run"):
            kind = PositionOutput if self.get("command_interface") == "position" else TrajectoryOutput
            self._output = kind(self, self._robot)
            self._graph = CommandGraph(self, self._output.to_controllers, self.get("command_interface"))
        self._states = self.create_lifecycle_publisher(String, "state", _LATCHED)
        self._intake = LoopIntake(self, self._robot, self._loop_clock, config.chunk_size)
        self._policies = SlowTopic(self, String, TOPIC, self._receive_policy, _EVERY_POLICY)
        if self.get("limits_from") == "robot_description":
            self._descriptions = SlowTopic(
                self, String, "robot_description", self._receive_description, _LATCHED, most_bytes=_LARGEST_URDF
            )
        self._enabling = Enabling(
            self,
            ask=self._ask,
            standing=self._loop_clock.standing,
            refusal=self._refusal,
            missing=lambda: self._peers.missing,
        )
        self._inference_use: ChunkUse | None = None  # how inference uses chunks, once it has said so
        self._lost = LostPeers()
        self._peers = Peers(self, ("camera_encoder", "inference"), lost=self._lose, found=self._lost.found)
        self._sole_driver = SoleDriver(self, self.resolve_topic_name("command"), self._give_way)

    def activate(self) -> None:
        """Start the command loop, silent."""
        kind = PlanFollower if self.get("command_interface") == "position" else TrajectoryFollower
        rate_hz, cpu = self.get("control_rate_hz"), self.get("cpu")
        self._follower = kind(self._robot, rate_hz=rate_hz, settings=self._tuning.settings({}))
        self._follower.change(limits=self._tuning.limits({}))
        self._said: FollowerState | None = None
        prefer_realtime(SERVING_PRIORITY)
        self._loop = CommandLoop(
            self._follower,
            cpu=None if cpu < 0 else cpu,
            clock=self._loop_clock,
            intake=self._intake,
            inbox=self._inbox,
            lost=self._lost,
            output=self._output,
            say_state=self._say_state,
            diagnostics=self.diagnostics,
        )
        self._report = CommandReport(
            self, self._loop, graph=self._graph, sole_driver=self._sole_driver, difference=self._difference
        )
        self._loop.start()
        self.get_logger().info(f"the command loop runs; {self._loop.rate_loop.settings.text}")

    def deactivate(self) -> None:
        """Come to rest, then stop the command loop."""
        if self._loop is not None:
            self.leave()
            self._loop.stop()
            self._loop = None
            if self._output is not None:
                self._output.settle()
            self._report.destroy()

    def clean_up(self) -> None:
        """Destroy topics and services."""
        self.destroy_entities("_states")
        for held in ("_output", "_enabling", "_intake", "_policies", "_descriptions", "_peers", "_sole_driver"):
            entity = self.__dict__.pop(held, None)
            if entity is not None:
                entity.destroy()

    def reconfigure(self, values: Mapping[str, Any]) -> None:
        """Take new parameters between two ticks."""
        self._tuning.check(values)
        settings, limits = self._tuning.settings(values), self._tuning.limits(values)
        rate_hz = values.get("control_rate_hz")
        self._post(lambda follower, _: follower.change(settings=settings, limits=limits, rate_hz=rate_hz))

    def leave(self) -> None:
        """Decelerate within the limits, and wait until the set point rests."""
        if self._loop is None:
            return
        self._inbox.post(lambda follower, _: follower.leave("the node is leaving"))
        if not self._loop.comes_to_rest(leaving_s(self._robot)):
            self.get_logger().error("the arm was still moving when its commands ended")

    @property
    def may_end(self) -> bool:
        """Always: the other nodes wait for the action publisher."""
        return True

    @property
    def crash(self) -> BaseException | None:
        """A bug that has ended the command loop, or will end it when the arm is at rest."""
        return None if self._loop is None else self._loop.crash

    def _say_state(self) -> None:
        """Publish the state, and log it, when it has changed; in the command loop's thread."""
        if self._follower.state is not self._said and self._follower.state != self._said:
            self._said = self._follower.state
            self._states.publish(state_to_message(self._said))
            self.get_logger().info(f"{self._said.rung}: {self._said.reason}")

    # -- The executor's thread

    def _receive_description(self, message: String) -> None:
        before = self._tuning.described
        try:
            self._tuning.described = limits_from_urdf(message.data, self._robot)
            self._tuning.check({})
        except MaskACTError as error:
            self._tuning.described = before  # the limits of the last usable URDF stay in force
            self.diagnostics.problem("robot_description", f"robot_description is refused: {error}")
            return
        self.diagnostics.solved("robot_description")
        limits = self._tuning.limits({})
        self._post(lambda follower, _: follower.change(limits=limits))

    def _receive_policy(self, message: String) -> None:
        """Inference has changed its policy. The new policy determines how long its chunks are fresh."""
        try:
            standing = Standing.from_message(message)
            running = standing.node == "inference" and standing.phase is Phase.RUNNING
            if running:
                self._inference_use = ChunkUse.from_text(standing.chunk_use)
            if not running or str(resolve_path(standing.path)) == str(resolve_path(self.get("policy_path"))):
                return
            config = self.config_under(self.check_policy(standing.path, self._robot))
            self._intake.allow_chunks_of(config.chunk_size)
        except MaskACTError as error:
            self.diagnostics.problem("policy", f"the policy that inference runs now is not known here: {error}")
            return
        self.diagnostics.solved("policy")
        overwrite(self, "policy_path", standing.path)
        settings = self._tuning.settings({})
        self._post(lambda follower, _: follower.change(settings=settings))

    def _lose(self, name: str) -> None:
        self._lost.note(name, steady_ns())

    def _give_way(self) -> None:
        reason = f"another action publisher drives {self.resolve_topic_name('command')}, and was there before"
        self._inbox.post(lambda follower, _: follower.disable(reason))

    def _post(self, request: Request) -> None:
        if self._loop is not None:
            self._inbox.post(request)

    def _ask(self, question: Question) -> str:
        """The command loop's answer, after it has served the request; raises MaskACTError."""
        if self._loop is None:
            raise MaskACTError("the node is not active")
        return self._inbox.ask(question)

    def _refusal(self) -> str | None:
        """Why the arm cannot be enabled now, as far as the graph tells, or None."""
        if self._sole_driver.others:
            return f"another action publisher drives {self.resolve_topic_name('command')}; end it first"
        if (planners := self._intake.sole_planner.look()) is not None:
            return planners
        if self.get("limits_from") == "robot_description" and self._tuning.described is None:
            return f"no usable robot_description on {self.resolve_topic_name('robot_description')} yet (limits_from)"
        if self._loop is not None:
            self._report.look_at_graph()
        if (theirs := self._inference_use) is not None and ChunkUse.of(self.config_with({})).stops(theirs):
            return self._difference()
        return None if self._graph is None else self._graph.unheard

    def _difference(self) -> str | None:
        """How inference and this node differ in their use of chunks, or None."""
        theirs = self._inference_use
        return None if theirs is None else ChunkUse.of(self.config_with({})).difference(theirs)


def run() -> None:
    """Entry point of `ros2 run maskact_ros action_publisher`."""
    main(ActionPublisher)


if __name__ == "__main__":
    run()
