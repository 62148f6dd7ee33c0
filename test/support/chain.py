"""Encoder, inference and action publisher with the tiny policy, behind the proxy: from stand-in camera to commands."""

import contextlib
import signal
from dataclasses import dataclass, field

import numpy as np

from maskact_ros.core.robot import RobotSpec
from maskact_ros.nodes.ros.messages import stamp_to_ns
from support.fault_rig import PERIOD_S
from support.node_bench import Bench, Probe, Program, rungs_of, set_points, state_of
from support.soundness import assert_sound, begin_index, periods_to_stop, rest_index, story
from support.vision import MAX_IMAGE_AGE_S, Vision

PLAN_TIMEOUT_S, REMAINING_TIMEOUT_S = 0.1, 0.2
FOLLOWED_S = 10 / 30 + PLAN_TIMEOUT_S + REMAINING_TIMEOUT_S  # a chunk of the tiny policy, from its image on
PLANNING_S = 0.25  # from an image that is young enough to its chunk: 0.02 s, or more where others use the machine


@dataclass
class Chain:
    """All three nodes; `began` is the index of the present test's first command."""

    vision: Vision
    publisher: Program
    began: int = 0
    chunks_began: int = 0
    breaks: list[int] = field(default_factory=list)

    @classmethod
    @contextlib.contextmanager
    def start(cls, folder, policy, robot: RobotSpec):
        with Bench(folder, policy) as bench, Vision.on(bench, robot) as vision:
            chain = cls(vision, cls.start_publisher(bench))
            bench.wait_until_active("action_publisher", chain.publisher)
            yield chain

    @staticmethod
    def start_publisher(bench: Bench) -> Program:
        return bench.start(
            "action_publisher",
            plan_timeout_s=PLAN_TIMEOUT_S,
            remaining_timeout_s=REMAINING_TIMEOUT_S,
            hold_timeout_s=3.0,
            engage_tolerance_s=60.0,
            following_tolerance_s=0.0,  # the stand-in arm is a thread of a busy process
            clamp_timeout_s=60.0,  # an untrained policy wants more than the limits allow
        )

    @property
    def probe(self) -> Probe:
        return self.vision.probe

    @property
    def arm(self):
        return self.vision.arm

    @property
    def rung(self) -> str:
        return state_of(self.arm.states[-1])["rung"] if self.arm.states else ""

    def rungs_since(self, index: int) -> list[str]:
        return rungs_of(self.arm.states[index:])

    def revive(self) -> None:
        """Let all three nodes run, whatever an unfinished test left of them."""
        for name, program in list(self.vision.programs.items()):
            if program.running:
                program.send(signal.SIGCONT)
            else:
                self.vision.start_node(name)
        if self.publisher.running:
            self.publisher.send(signal.SIGCONT)
        else:
            self.publisher = self.start_publisher(self.vision.bench)
            self.vision.bench.wait_until_active("action_publisher", self.publisher)

    def move(self) -> None:
        """Enable, from whatever rung, and follow the policy; what comes now concerns the present test."""
        self.revive()
        self.vision.heal()
        self.vision.wait_for_chunks(2)
        self.began, self.chunks_began = max(0, len(self.arm.commands) - 2), len(self.vision.chunks)
        self.breaks.clear()
        self.engage()

    def engage(self) -> None:
        if self.rung == "fault":
            self.probe.wait(lambda: self.probe.reset("action_publisher").success, "the fault to be reset")
            self.probe.wait(lambda: self.rung in ("disabled", "idle"), "the fault to be cleared")
        if self.rung == "idle":
            self.breaks.append(len(self.arm.commands))
        self.probe.wait(lambda: self.probe.enable().success, "being enabled")
        self.arm.wait_for_rung("following")
        self.arm.wait_for_commands(20)

    def settle(self) -> None:
        """Remove all faults, come to rest, and check all commands since `move`."""
        self.vision.heal()
        if self.rung not in ("idle", "fault"):
            assert self.probe.enable(False).success
            self.probe.wait(lambda: self.rung in ("disabled", "idle", "fault"), "being disabled")
        self.arm.wait_for_rest()
        commands = self.arm.commands[self.began :]
        assert_sound(commands, self.vision.robot, breaks=[i - self.began for i in self.breaks])
        assert np.ptp(set_points(commands), axis=0).max() > 0.01, "it did not move"
        self.vision.assert_sound(self.chunks_began)
        self.assert_no_chunk_of_an_old_image()
        for program in (self.publisher, *self.vision.programs.values()):
            assert "Traceback" not in program.output, program.output

    def assert_no_chunk_of_an_old_image(self) -> None:
        allowed_s = MAX_IMAGE_AGE_S + PLANNING_S
        for heard in self.vision.chunks[self.chunks_began :]:
            age_s = (heard.sent_ns - stamp_to_ns(heard.message.header.stamp)) / 1e9  # both by the system's clock
            assert age_s < allowed_s, f"a chunk came {age_s:.3f} s after its image, allowed {allowed_s:.3f} s"

    def wait_for_the_ladder(self, known: int) -> None:
        """Of the states from `known` on: what remains of the plan is followed, then the arm decelerates, in time."""
        try:
            decelerating = self.probe.wait(
                lambda: next((s for s in self.arm.states[known:] if state_of(s)["rung"] == "decelerating"), None),
                "the rung decelerating",
                within_s=10.0,
            )
        except AssertionError as vain:
            raise AssertionError(f"{vain}; it was {story(self.arm.states[known - 1 :])}") from None
        stamps_s = [stamp_to_ns(heard.message.header.stamp) / 1e9 for heard in self.vision.chunks]
        # ROS time is the system's here, as are the stamps under which messages are sent.
        off_s = decelerating.sent_ns / 1e9 - (max(stamps_s) + FOLLOWED_S)
        late_s = 2 * PERIOD_S + self.vision.pulse.worst_s(decelerating.at_s - 1.0)
        assert abs(off_s) < late_s, f"deceleration began {off_s:.3f} s after it was due, allowed {late_s:.3f} s"
        began = begin_index(self.arm.commands, decelerating)
        rest = self.probe.wait(lambda: rest_index(self.arm.commands, began), "the arm to rest")
        periods = periods_to_stop(self.vision.robot)
        assert rest - began <= periods, f"it took {rest - began} periods to stop, allowed {periods}"
