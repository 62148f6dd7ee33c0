"""The real action publisher, which also records the wake-ups of its command loop: `python -m … FILE --ros-args …`.

FILE is written when the node is deactivated. Nothing else differs from `action_publisher`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from maskact_ros.nodes.action_publisher import ActionPublisher
from maskact_ros.nodes.ros.node_process import main
from maskact_ros.tools.bench.wakes import WakeRecord


class RecordedPublisher(ActionPublisher):
    """Records each call of the loop before it, which takes 0.5 µs."""

    file: Path

    def __init__(self) -> None:
        super().__init__()
        self._record = WakeRecord()

    def deactivate(self) -> None:
        """As the publisher; then write the record."""
        super().deactivate()
        self._record.save(self.file)

    def _tick(self, deadline_ns: int) -> None:
        self._record.note(deadline_ns, time.monotonic_ns())
        super()._tick(deadline_ns)


if __name__ == "__main__":
    RecordedPublisher.file = Path(sys.argv.pop(1))
    main(RecordedPublisher)
