"""The action publisher's services `~/enable` and `~/reset`. An answer is sent only after the command loop has acted.

In: service requests; reasons against them from the ROS graph. Out: the command loop's answer, after it has served the
request, or the reason why it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from std_srvs.srv import SetBool, Trigger

from maskact_ros.control.curves import Moment
from maskact_ros.control.follower import PlanFollower
from maskact_ros.control.ladder import Rung
from maskact_ros.core.errors import MaskACTError
from maskact_ros.nodes.command.loop_inbox import Question
from maskact_ros.nodes.ros.managed import ManagedNode


class Enabling:
    """Both services."""

    def __init__(
        self,
        node: ManagedNode,
        *,
        ask: Callable[[Question], str],
        standing: Callable[[Moment], str | None],
        refusal: Callable[[], str | None],
        missing: Callable[[], Sequence[str]],
    ):
        """Create the services.

        Args:
            node: the action publisher.
            ask: runs a function in the command loop and returns its answer; raises MaskACTError.
            standing: what is wrong with the clock, or None; called in the command loop.
            refusal: why the graph or the parameters do not allow enabling now, or None.
            missing: the peers that gave no sign of life.
        """
        self._node, self._ask, self._standing = node, ask, standing
        self._refusal, self._missing = refusal, missing
        self._services = [
            node.create_service(SetBool, "~/enable", self._serve_enable),
            node.create_service(Trigger, "~/reset", self._serve_reset),
        ]

    def destroy(self) -> None:
        """Destroy the services."""
        for service in self._services:
            self._node.destroy_service(service)

    def _serve_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        return _answered(response, self._enable if request.data else self._disable)

    def _serve_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return _answered(response, self._reset)

    def _enable(self) -> str:
        refusal = self._missed() or self._refusal()
        if refusal is not None:
            raise MaskACTError(f"not enabled: {refusal}")
        topic = self._node.resolve_topic_name("action_chunk")
        return self._ask(self._enabled) + (
            "" if self._node.count_publishers(topic) else f"; nothing publishes {topic} yet"
        )

    def _enabled(self, follower: PlanFollower, moment: Moment) -> str:
        """Enable the follower and return the answer; in the command loop."""
        if follower.state.rung is Rung.FAULT:
            raise MaskACTError(f"not enabled: it is in a fault ({follower.state.reason}); call ~/reset first")
        refusal = follower.cannot_engage(moment, self._standing(moment))
        if refusal is not None:
            raise MaskACTError(f"not enabled: {refusal} ({self._node.resolve_topic_name('joint_states')})")
        follower.enable(moment.now_ns)
        within_s = follower.settings.hold_timeout_s
        return f"enabled; engaging with the first chunk captured from now on, within {within_s:g} s"

    def _disable(self) -> str:
        return self._ask(lambda follower, _: follower.disable("disabled by ~/enable"))

    def _reset(self) -> str:
        if (missed := self._missed()) is not None:
            raise MaskACTError(f"not reset: {missed}")
        return self._ask(_reset)

    def _missed(self) -> str | None:
        missing = self._missing()
        return f"{', '.join(missing)} gave no sign of life; start it again first" if missing else None


def _reset(follower: PlanFollower, moment: Moment) -> str:
    """Reset the follower and return the answer; in the command loop."""
    if follower.fault_persists is not None:
        raise MaskACTError(f"not reset: {follower.fault_persists}")
    return follower.reset(moment.now_ns)


def _answered(
    response: SetBool.Response | Trigger.Response, act: Callable[[], str]
) -> SetBool.Response | Trigger.Response:
    try:
        response.success, response.message = True, act()
    except MaskACTError as refusal:
        response.success, response.message = False, str(refusal)
    return response
