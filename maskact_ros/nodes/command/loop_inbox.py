"""Requests of other threads to the command loop's follower, and the loop's answers.

In: functions of the follower. Out: their calls, in the loop's thread, in order. A caller that needs the answer waits
for it, so a service answers only after the loop has acted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from maskact_ros.control.curves import Moment
from maskact_ros.control.follower import PlanFollower
from maskact_ros.core.errors import MaskACTError

ANSWER_S = 1.0  # longest wait for an answer; a control period is at most 0.1 s

Request = Callable[[PlanFollower, Moment], object]
Question = Callable[[PlanFollower, Moment], str]


class LoopInbox:
    """Requests from any thread to one loop."""

    def __init__(self) -> None:
        self._requests: deque[Request] = deque()

    def __bool__(self) -> bool:
        """Whether a request is waiting."""
        return bool(self._requests)

    def post(self, request: Request) -> None:
        """Call the function in the loop's thread, when the next period begins."""
        self._requests.append(request)

    def ask(self, question: Question) -> str:
        """Call the function in the loop's thread, and return its answer.

        Raises:
            MaskACTError: by the question itself; or the loop did not begin with it within a second, and never will.
        """
        answer: Future[str] = Future()

        def call(follower: PlanFollower, moment: Moment) -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(question(follower, moment))
            except MaskACTError as refusal:
                answer.set_exception(refusal)

        self.post(call)
        try:
            return answer.result(timeout=ANSWER_S)
        except TimeoutError:
            if answer.cancel():
                raise MaskACTError(f"the command loop did not answer within {ANSWER_S:g} s; nothing is done") from None
            return answer.result()

    def clear(self) -> None:
        """Discard the waiting requests. Callers that wait for an answer get a timeout."""
        self._requests.clear()

    def serve(self, follower: PlanFollower, moment: Moment) -> None:
        """Serve all waiting requests; in the loop's thread."""
        while self._requests:
            self._requests.popleft()(follower, moment)
