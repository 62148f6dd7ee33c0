"""`StreamClocks`: by which clock each stream of a bag is stamped, and whether these are one clock.

In: each message's stamp and the moment of its receipt. Out: the stamp that the contract chooses, or an error where it
cannot be right.
"""

from __future__ import annotations

from collections import defaultdict

from maskact_ros.core.align import AlignmentError
from maskact_ros.data.bags.contract import Contract, StampSource
from maskact_ros.data.bags.recorded_message import BagError, Message

_CLOCKS_APART_NS = 10_000_000_000  # no message takes so long from its header's stamp to its receipt
_FIRST = 50  # messages of a topic: without a sound stamp among so many, it is stamped by another clock


class StreamClocks:
    """The clocks of one bag's streams."""

    def __init__(self, contract: Contract):
        self._receipts = contract.action_source == "command" and contract.action_stamp == "receipt"
        self._apart_ns: dict[str, tuple[int, ...]] = {}  # receipt less header: the usual, and an odd latest one
        self._sound: set[str] = set()  # topics that had a message with a sound stamp
        self._unsound: defaultdict[str, list[BagError]] = defaultdict(list)  # of the others, what is wrong, by topic

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
        """Raise BagError when a topic had no sound stamp at all."""
        for errors in self._unsound.values():
            raise errors[0]
