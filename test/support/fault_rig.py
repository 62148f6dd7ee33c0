"""An action publisher behind the proxy, with a stand-in planner and arm: tests inject faults and remove them."""

import itertools
import time
from dataclasses import dataclass, field

import numpy as np
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.core.robot import RobotSpec
from support.node_bench import Bench, Probe, Program, rungs_of, set_points, state_of
from support.proxy import Stream, faulty
from support.soundness import Pulse, assert_sound, begin_index, periods_to_stop, rest_index
from support.stand_ins import Arm, Planner

DATED = 5  # the joint whose position encodes the age of the plan: wrist_roll, which has the widest range
STEP = 0.02  # rad, by which it moves on with each chunk; small, so that it takes no part in what limits the motion
REMAPPINGS = faulty("action_chunk", "joint_states")
CHUNK_S, EVERY_S, AGE_S = 2.0, 0.2, 0.1  # a chunk's length, how often one comes, how old its image is


class StreamingPlanner(Planner):
    """Sends a chunk of one and the same smooth motion each 0.2 s, as a policy that knows what it wants would.

    All joints swing, but one: that joint stands still within a chunk, and a step further in each next one. Where it
    is commanded to be tells, from outside, how new the plan is that the publisher follows.
    """

    def __init__(self, probe: Probe, robot: RobotSpec):
        super().__init__(probe, robot)
        self._began_ns: int | None = None
        self._probe.every(EVERY_S, self._send_next)
        self.sent_ns: list[int] = []

    def begin(self, pose: np.ndarray) -> None:
        """Move on from this pose (D,): towards the middle and about it."""
        self._pose = pose
        self._direction = -1.0 if pose[DATED] > 0 else 1.0
        self._numbers = itertools.count()
        self._began_ns = self._probe.now_ns()

    def end(self) -> None:
        self._began_ns = None

    def _send_next(self) -> None:
        if self._began_ns is not None:
            self.send(self.next_chunk(), stamp_ns=self._stamp_ns)

    def next_chunk(self) -> np.ndarray:
        """The actions (K, D) of the next chunk, captured a little while ago."""
        self._stamp_ns = self._probe.now_ns() - round(AGE_S * 1e9)
        self.sent_ns.append(self._stamp_ns)
        count = round(CHUNK_S * self._robot.policy_rate_hz)
        times_s = (self._stamp_ns - self._began_ns) / 1e9 + np.arange(1, count + 1) / self._robot.policy_rate_hz
        actions = self._motion(times_s)
        actions[:, DATED] = self._pose[DATED] + self._direction * STEP * next(self._numbers)
        return actions

    def _motion(self, times_s: np.ndarray) -> np.ndarray:
        lower, upper = self._robot.lower, self._robot.upper
        share = np.clip(times_s / 4.0, 0.0, 1.0)[:, None]
        centre = self._pose + (3.0 - 2.0 * share) * share**2 * ((lower + upper) / 2 - self._pose)
        amplitude = np.minimum(0.5 * self._robot.velocity / np.pi, 0.3 * (upper - lower))
        fade = np.clip(times_s, 0.0, 1.0)[:, None]
        fade = (3.0 - 2.0 * fade) * fade**2
        return np.clip(centre + fade * np.sin(np.pi * times_s)[:, None] * amplitude, lower, upper)


PERIOD_S = 0.01
TRANSPORT_S = 0.02  # from the moment of an injection to the last message that was before it
EARLY_S = 0.05  # an injection comes up to two measurements after the last good one


@dataclass
class Rig:
    """The publisher and its surroundings; `began` is the index of the present test's first command."""

    bench: Bench
    robot: RobotSpec
    publisher: Program
    arm: Arm
    planner: StreamingPlanner
    chunks: Stream
    joints: Stream
    pulse: Pulse
    began: int = 0
    breaks: list[int] = field(default_factory=list)  # commands that begin a motion of their own

    @classmethod
    def start(cls, bench: Bench, robot: RobotSpec, *, at: np.ndarray | None = None, **parameters) -> "Rig":
        """The whole rig with an active publisher; the arm stands at a pose (D,), or in the middle of its range."""
        probe = bench.probe
        chunks = Stream(probe, JointTrajectory, "action_chunk")
        joints = Stream(probe, JointState, "joint_states")
        arm, planner = Arm(probe, robot), StreamingPlanner(probe, robot)
        if at is not None:
            arm.middle = at
        publisher = bench.start_active("action_publisher", remappings=REMAPPINGS, **parameters)
        return cls(bench, robot, publisher, arm, planner, chunks, joints, Pulse(probe))

    @property
    def probe(self) -> Probe:
        return self.bench.probe

    @property
    def rung(self) -> str:
        return state_of(self.arm.states[-1])["rung"] if self.arm.states else ""

    @property
    def pose(self) -> np.ndarray:
        """The arm's position (D,)."""
        return set_points(self.arm.commands[-1:])[0] if self.arm.commands else self.arm.middle

    def rungs_since(self, index: int) -> list[str]:
        """The rungs that were said from this state on."""
        return rungs_of(self.arm.states[index:])

    def move(self) -> None:
        """Enable, from whatever rung, and follow the stream of chunks; what comes now concerns the present test."""
        self.began = max(0, len(self.arm.commands) - 2)
        self.breaks.clear()
        self.engage()

    def engage(self) -> None:
        """Enable, from whatever rung, and follow the stream of chunks."""
        if self.rung == "fault":
            self.probe.wait(lambda: self.probe.reset("action_publisher").success, "the fault to be reset")
            self.probe.wait(lambda: self.rung in ("disabled", "idle"), "the fault to be cleared")
        if self.rung == "idle":
            self.breaks.append(len(self.arm.commands))
        self.arm.wait_for_measurements(5)
        self.probe.wait(lambda: self.probe.enable().success, "being enabled")
        self.planner.begin(self.pose)
        self.arm.wait_for_rung("following")
        self.arm.wait_for_commands(20)

    def heal(self) -> None:
        """Remove all faults."""
        self.chunks.heal()
        self.joints.heal()

    def settle(self) -> None:
        """Remove all faults, come to rest, and check all commands since `move` against the limits."""
        self.heal()
        self.planner.end()
        if self.rung not in ("idle", "fault"):
            assert self.probe.enable(False).success
            self.probe.wait(lambda: self.rung in ("disabled", "idle", "fault"), "being disabled")
        if len(self.arm.commands) > self.began + 2:
            self.arm.wait_for_rest()
        self.assert_sound()

    def assert_sound(self) -> None:
        assert "Traceback" not in self.publisher.output, self.publisher.output
        commands = self.arm.commands[self.began :]
        assert_sound(commands, self.robot, breaks=[i - self.began for i in self.breaks])

    def assert_rate(self, begin: int, rate_hz: float = 100.0) -> None:
        """The commands from this one on came at their rate, and none of them much late; the probe's part is allowed."""
        came_s = np.array([heard.at_s for heard in self.arm.commands[begin:]])
        allowed_s = 3 / rate_hz + self.pulse.worst_s(came_s[0])
        assert np.diff(came_s).max() < allowed_s, f"{np.diff(came_s).max():.3f} s without a command"
        measured_hz = (len(came_s) - 1) / (came_s[-1] - came_s[0])
        assert abs(measured_hz / rate_hz - 1) < 0.05, f"the commands came at {measured_hz:.1f} Hz"

    def assert_never_an_older_plan(self, begin: int | None = None) -> None:
        """The dated joint never goes back: no set point was of an older plan than the one before it."""
        commands = self.arm.commands[self.began if begin is None else begin :]
        dated = set_points(commands)[:, DATED] * self.planner._direction
        back = np.maximum.accumulate(dated) - dated
        assert back.max() < STEP / 4, f"the plan of {back.max() / STEP:.1f} chunks ago was followed again"

    def wait_to_decelerate(self, known: int, due_s: float) -> None:
        """Deceleration begins, of the states from `known` on, at `due_s` and two periods, and ends as limits allow.

        `due_s` is a moment of the steady clock. What the probe itself was late by is added.
        """
        decelerating = self.probe.wait(
            lambda: next((s for s in self.arm.states[known:] if state_of(s)["rung"] == "decelerating"), None),
            "the rung decelerating",
        )
        due_s += time.time() - time.monotonic()  # on the system's clock, as messages are stamped
        off_s = decelerating.sent_ns / 1e9 - due_s
        late_s = 2 * PERIOD_S + TRANSPORT_S + self.pulse.worst_s(decelerating.at_s - 1.0)
        assert -EARLY_S < off_s < late_s, f"deceleration began {off_s:.3f} s after it was due, allowed {late_s:.3f} s"
        began = begin_index(self.arm.commands, decelerating)
        self.arm.wait_for_rest()
        rest = self.probe.wait(lambda: rest_index(self.arm.commands, began), "the arm to rest")
        periods = periods_to_stop(self.robot)
        assert rest - began <= periods, f"it took {rest - began} periods to stop, allowed {periods}"

    def wait_for_line(self, text: str, since: int = 0, within_s: float = 10.0) -> str:
        """The first line of the publisher's log, from this position on, with the text in it."""
        return self.probe.wait(
            lambda: next((line for line in self.publisher.output[since:].splitlines() if text in line), None),
            f"the log to say {text!r}; it said:\n{self.publisher.output[since:]}",
            within_s,
        )

    def close(self) -> None:
        self.pulse.close()
        self.chunks.close()
        self.joints.close()
