"""What other threads ask of the command loop's follower, and the loop's answers.

In: functions of the follower. Out: their calls, in the loop's thread, in order. Who asks for an answer waits for it, so
that what a service says is true when it says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from maskact_ros.control.curves import Moment
from maskact_ros.control.follower import PlanFollower
from maskact_ros.core.errors import MaskACTError

ANSWER_S = 1.0  # a period is at most 0.1 s

Request = Callable[[PlanFollower, Moment], object]
Question = Callable[[PlanFollower, Moment], str]


class LoopInbox:
    """Requests from any thread to one loop."""

    def __init__(self) -> None:
        self._requests: deque[Request] = deque()

    def __bool__(self) -> bool:
        """Whether something waits."""
        return bool(self._requests)

    def post(self, request: Request) -> None:
        """Call it in the loop's thread, when the next period begins."""
        self._requests.append(request)

    def ask(self, question: Question) -> str:
        """Call it in the loop's thread, and return its answer.

        Raises:
            MaskACTError: the question raised it, or the loop did not take it within a second; nothing is done then.
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
        """Forget what waits; who asked is told after its time."""
        self._requests.clear()

    def serve(self, follower: PlanFollower, moment: Moment) -> None:
        """Call all that waits; in the loop's thread."""
        while self._requests:
            self._requests.popleft()(follower, moment)
