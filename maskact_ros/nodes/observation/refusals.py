"""`Refusals`: reports in diagnostics and log why inference makes no chunk, and when a cause is gone.

In: the results of `ChunkPlanner.plan`. Late images are reported only if most of the stream is late (`DropWatch`);
other causes are reported until they are gone.
"""

from __future__ import annotations

from maskact_ros.nodes.observation.joint_history import JointHistory
from maskact_ros.nodes.ros.diagnostics import Diagnostics
from maskact_ros.nodes.ros.drop_watch import DropWatch
from maskact_ros.policy.infer import Cause, Planned, Refusal

# Causes that concern one late image: the name of their count in diagnostics.
_LATE = {Cause.OTHER_POLICY: "features_of_another_policy", Cause.OLD_EPOCH: "features_of_an_old_epoch"}
# The other causes, in the order in which the planner checks them: the name of their problem in diagnostics.
_LASTING = {Cause.NO_STATE: "alignment", Cause.FROZEN: "frozen", Cause.POLICY: "policy"}


class Refusals:
    """The refusals of one node; `turn` counts how many features are planned from, and how many are dropped."""

    def __init__(self, diagnostics: Diagnostics, joints: JointHistory, turn: DropWatch):
        self._diagnostics, self._joints, self._turn = diagnostics, joints, turn

    def say(self, outcome: Planned | Refusal) -> None:
        """Report the result for one image."""
        if not isinstance(outcome, Refusal):
            self._turn.used()
            for problem in _LASTING.values():
                self._diagnostics.solved(problem)
        elif outcome.cause in _LATE:
            self._turn.dropped(_LATE[outcome.cause], lambda: outcome.reason)
        else:
            self._turn.used()
            self._say_lasting(outcome)

    def _say_lasting(self, refusal: Refusal) -> None:
        for cause, problem in _LASTING.items():
            if cause == refusal.cause:
                break
            self._diagnostics.solved(problem)  # the planner's check for it has passed
        if refusal.cause == Cause.NO_STATE:
            text = self._joints.why_none(refusal.reason)
        else:
            text = f"no chunk: {refusal.reason}"
        self._diagnostics.problem(problem, text)
        if refusal.cause == Cause.FROZEN:
            self._diagnostics.count("features_of_a_frozen_camera")
