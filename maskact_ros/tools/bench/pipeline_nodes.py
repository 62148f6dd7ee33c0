"""The real nodes, which also record the times of each image: `python -m … NODE FILE --ros-args …`.

FILE is written when the node is deactivated. They record the events and durations that they give to /diagnostics.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from rclpy.node import Node

from maskact_ros.nodes.action_publisher import ActionPublisher
from maskact_ros.nodes.observation.engine_parameters import let_waiting_threads_sleep
from maskact_ros.nodes.ros.control_cdr import stamp_of
from maskact_ros.nodes.ros.diagnostics import Diagnostics
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.node_process import main


class Tracing(Diagnostics):
    """Diagnostics that also keep the time of each event and the duration of each stage, by the image's stamp."""

    file: Path

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._notes: dict[int, dict[str, float]] = {}
        self._image = threading.local()  # each thread works on an image of its own

    @contextlib.contextmanager
    def image(self, stamp_ns: int) -> Iterator[None]:
        """Within this context, this thread's events and durations belong to this image."""
        self.begin(stamp_ns)
        yield
        self.end()

    def begin(self, stamp_ns: int) -> None:
        """From now on, this thread's events and durations belong to this image."""
        self._image.notes = self._notes.setdefault(stamp_ns, {})

    def end(self) -> None:
        """From now on, this thread's events and durations belong to no image."""
        self._image.notes = None

    def note(self, name: str, value: float) -> None:
        """Record a value for the present image, if there is one; only the first value of a name is kept."""
        notes = getattr(self._image, "notes", None)
        if notes is not None:
            notes.setdefault(name, value)

    def event(self, name: str) -> None:
        """As Diagnostics."""
        self.note(name, time.time_ns())
        super().event(name)

    def duration(self, name: str, milliseconds: float) -> None:
        """As Diagnostics."""
        self.note(f"{name}_at", time.time_ns())
        self.note(name, milliseconds)
        super().duration(name, milliseconds)

    def save(self) -> None:
        """Write the recorded values."""
        self.file.write_text(json.dumps(self._notes), encoding="utf-8")


def traced(name: str) -> type[ManagedNode]:
    """The class of the node of this name; only its own modules are loaded."""
    if name == "camera_encoder":
        return _traced_encoder()
    return _traced_inference() if name == "inference" else TracedPublisher


class TracedPublisher(ActionPublisher):
    """Records the tick that takes a chunk, and when the chunk came."""

    diagnostics: Tracing
    DIAGNOSTICS = Tracing

    def deactivate(self) -> None:
        """As the action publisher, and write the file."""
        super().deactivate()
        self.diagnostics.save()

    def _receive_chunk(self, data: bytes) -> None:
        self.diagnostics.begin(stamp_of(data))
        self.diagnostics.note("chunks", self._chunks.came_ns)
        self.diagnostics.note("tick", time.time_ns())
        super()._receive_chunk(data)

    def _tick(self, deadline_ns: int) -> None:
        super()._tick(deadline_ns)
        self.diagnostics.end()


def _traced_encoder() -> type[ManagedNode]:
    from maskact_ros.nodes.camera_encoder import CameraEncoder
    from maskact_ros.nodes.observation.image_intake import Captured

    class TracedEncoder(CameraEncoder):
        diagnostics: Tracing
        DIAGNOSTICS = Tracing

        def deactivate(self) -> None:
            super().deactivate()
            self.diagnostics.save()

        def _receive(self, data: bytes) -> None:
            with self.diagnostics.image(stamp_of(data)):
                super()._receive(data)

        def _encode(self, captured: Captured) -> None:
            with self.diagnostics.image(captured.stamp_ns):
                super()._encode(captured)
                self.diagnostics.note("done", time.time_ns())

    return TracedEncoder


def _traced_inference() -> type[ManagedNode]:
    from maskact_ros.nodes.inference import Inference
    from maskact_ros.nodes.observation.feature_intake import Received

    class TracedInference(Inference):
        diagnostics: Tracing
        DIAGNOSTICS = Tracing

        def deactivate(self) -> None:
            super().deactivate()
            self.diagnostics.save()

        def _receive_features(self, data: bytes, about: dict[str, int]) -> None:
            with self.diagnostics.image(stamp_of(data)):
                super()._receive_features(data, about)

        def _plan(self, received: Received) -> None:
            with self.diagnostics.image(received.features.stamp_ns):
                super()._plan(received)
                self.diagnostics.note("done", time.time_ns())

    return TracedInference


if __name__ == "__main__":
    node = sys.argv.pop(1)
    Tracing.file = Path(sys.argv.pop(1))
    let_waiting_threads_sleep()
    main(traced(node))
