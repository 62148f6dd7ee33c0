"""`StreamClocks`: by which clock each stream of a bag is stamped, and whether these are one clock.

In: each message's stamp and the moment of its receipt. Out: the stamp that the contract chooses, or an error where it
cannot be right; in the end each stream's latency, and a sentence where the streams' clocks differ.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from maskact_ros.core.align import AlignmentError
from maskact_ros.data.bags.contract import Contract, StampSource
from maskact_ros.data.bags.latency import Difference, Latency
from maskact_ros.data.bags.recorded_message import BagError, Message

ACCEPT = "--accept-latency"
_CLOCKS_APART_NS = 10_000_000_000  # no message takes so long from its header's stamp to its receipt
_FIRST = 50  # messages of a topic: without a sound stamp among so many, it is stamped by another clock
_LOOK_AFTER_NS = 10_000_000_000  # then a difference is told, before the whole bag is read


class StreamClocks:
    """The clocks of one bag's streams; with `accept`, what differs is noted and not an error."""

    def __init__(self, contract: Contract, image_topic: str, *, accept: bool = False):
        self.apart: str | None = None  # the sentence, once the clocks are known to differ
        self._contract, self._image_topic, self._accept = contract, image_topic, accept
        self._receipts = contract.action_source == "command" and contract.action_stamp == "receipt"
        self._apart_ns: dict[str, tuple[int, ...]] = {}  # receipt less header: the usual, and an odd latest one
        self._sound: set[str] = set()  # topics that had a message with a sound stamp
        self._unsound: defaultdict[str, list[BagError]] = defaultdict(list)  # of the others, what is wrong, by topic
        self._latencies: defaultdict[str, Latency] = defaultdict(Latency)  # of streams that go by their headers
        self._look_ns: int | None = None

    def stamp(self, message: Message, header_ns: int, source: StampSource) -> int:
        """The stamp of a message; raises AlignmentError for an odd one, BagError when all of its topic are odd."""
        if source == "receipt":
            return message.received_ns
        apart_ns = message.received_ns - header_ns
        # Where nothing goes by receipt, headers may be of any clock: it is the stream's own two messages that agree.
        usual = (0,) if self._receipts else self._apart_ns.get(message.topic, (apart_ns,))
        sound = any(abs(apart_ns - usual_ns) <= _CLOCKS_APART_NS for usual_ns in usual)
        self._apart_ns[message.topic] = (apart_ns,) if sound else (usual[0], apart_ns)
        if sound:
            self._sound.add(message.topic)
            self._unsound.pop(message.topic, None)
            self._latencies[message.topic].add(message.received_ns, header_ns)
            self._look(message.received_ns)
            return header_ns
        if message.topic not in self._sound:
            errors = self._unsound[message.topic]
            errors.append(
                BagError(
                    f"{message.topic}: its header says {header_ns / 1e9:.3f} s, but it was received at "
                    f"{message.received_ns / 1e9:.3f} s, by which the commands are stamped; the contract's remedy is "
                    "stamp: receipt for every stream"
                )
            )
            if len(errors) == _FIRST:
                raise errors[0]
        raise AlignmentError("its header's stamp is far from its receipt")

    def finish(self) -> None:
        """Raise BagError when a topic had no sound stamp at all, or the clocks differ and that is not accepted."""
        for errors in self._unsound.values():
            raise errors[0]
        self._check()

    def figures(self) -> dict[str, dict[str, Any]]:
        """Each stream's latency."""
        return {topic: latency.figures() for topic, latency in self._latencies.items()}

    def _look(self, now_ns: int) -> None:
        if self._look_ns is None:
            self._look_ns = now_ns + _LOOK_AFTER_NS
        elif 0 < self._look_ns <= now_ns:
            self._look_ns = 0
            self._check()

    def _check(self) -> None:
        for topic, latency in self._latencies.items():
            if latency.is_stuck:
                raise BagError(
                    f"{topic}: its messages all carry the same stamp, or nearly so; the contract's remedy is "
                    f"{self._section(topic)}: stamp: receipt"
                )
        self.apart = self._sentence()
        if self.apart is not None and not self._accept:
            raise BagError(f"{self.apart}; {ACCEPT} converts it as it is")

    def _sentence(self) -> str | None:
        """How the clocks of two streams differ."""
        contract = self._contract
        image, state = (self._latencies.get(topic) for topic in (self._image_topic, contract.state_topic))
        receipts = self._receipts or "receipt" in (contract.image_stamp, contract.state_stamp)
        pairs: list[tuple[Latency, Latency | None, tuple[str, str], float]] = []  # with their topics and tolerance
        if image is not None and state is not None:
            names = (self._image_topic, contract.state_topic)
            if abs(image.median_s) < abs(state.median_s):
                pairs.append((state, image, (names[1], names[0]), contract.state_tolerance_s))
            else:
                pairs.append((image, state, names, contract.state_tolerance_s))
        if receipts:
            tolerance_s = contract.action_tolerance_s if self._receipts else contract.state_tolerance_s
            for stream, topic in ((image, self._image_topic), (state, contract.state_topic)):
                if stream is not None:
                    pairs.append((stream, None, (topic, ""), tolerance_s))
        for stream, other, (topic, other_topic), tolerance_s in pairs:
            found = stream.difference(other, tolerance_s)
            if found is not None:
                beside = "commands go by receipt" if other is None else f"{other_topic}'s are {_age(other.median_s)}"
                return (
                    f"{topic}: {_told(found)}, while {beside}; allowed: {tolerance_s:g} s. Are there two clocks? The "
                    f"contract's remedy is {self._section(topic)}: stamp: receipt"
                )
        return None

    def _section(self, topic: str) -> str:
        return "images" if topic == self._image_topic else "state"


def _told(found: Difference) -> str:
    if found.kind == "ahead":
        return f"its stamps are {_age(-found.seconds)}, which is impossible with one clock"
    if found.kind == "drifts":
        return f"its stamps drift by about {abs(found.seconds) * 1e3:.2g} ms a second"
    if found.kind == "changes":
        return f"its stamps jump, by up to {_seconds(found.seconds)}"
    return f"its stamps are {_age(found.own_s)}"


def _age(seconds: float) -> str:
    return f"{_seconds(abs(seconds))} {'older' if seconds >= 0 else 'later'} than their receipt"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
