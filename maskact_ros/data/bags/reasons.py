"""`Reasons`: why pictures and messages were not used, counted by kind, each with one whole sentence as example."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*")
_MOST_TEXTS = 100  # of a kind that are told apart; of the others the number counts
_TOO_SHORT = "in an episode that is too short"


class Reasons:
    """Sentences that differ in their numbers only are of one kind; the one that came most often is its example."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._texts: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def add(self, text: str, times: int = 1) -> None:
        """Count a reason; memory does not grow with the number of different sentences of a kind."""
        kind = _NUMBER.sub("#", text)
        self._counts[kind] += times
        texts = self._texts[kind]
        if text in texts or len(texts) < _MOST_TEXTS:
            texts[text] += times

    def add_too_short(self, rows: int) -> None:
        """Count rows of a piece between two gaps that is not kept: a consequence, whose cause counts by itself."""
        self.add(_TOO_SHORT, rows)

    def examples(self, most: int) -> dict[str, int]:
        """How often each kind came, by its example, the most frequent first."""
        return {self._texts[kind].most_common(1)[0][0]: times for kind, times in self._counts.most_common(most)}


def first_cause(dropped: dict[str, int], ignored: dict[str, int], topics: dict[str, str]) -> tuple[str, int] | None:
    """What is behind most of it, and how often it came; None where nothing was dropped or ignored.

    `topics` names the topic of each stream: picture, state, command, mask. A picture without a joint state may be a
    consequence: where the joint states were ignored, that is the cause. A short episode ends because of something.
    """
    causes = {text: times for text, times in dropped.items() if text != _TOO_SHORT}
    if not causes:
        causes = ignored or dropped
    if not causes:
        return None
    text = max(causes, key=lambda cause: causes[cause])
    for stream, sign in (("state", "no joint state"), ("command", "no command"), ("mask", "no mask")):
        behind = {told: times for told, times in ignored.items() if told.startswith(f"{topics.get(stream)}: ")}
        if sign in text and behind:
            text = max(behind, key=lambda cause: behind[cause])
            causes = behind
    return text, causes[text]
