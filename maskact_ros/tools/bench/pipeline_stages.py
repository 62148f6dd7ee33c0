"""The duration of each stage from the camera's image to a command, from the records of all processes.

In: the records of each process by the image's stamp: times in ns of the system's clock, and durations in ms. Out: for
each image that led to a command, the duration of each stage in ms, including the model's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Notes = Mapping[int, Mapping[str, float]]  # an image's stamp -> name -> ns of a moment, or ms of a duration

MODEL = ("encoder", "mask head", "ACT")  # the model's own time, which is no overhead
BUSY = ("encoder busy", "ACT busy")  # no overhead either: the model works on an earlier image
STAGES = (
    "image in transit",  # from the capture's stamp to the encoder's callback
    "encoder busy",
    "image waits",  # until the encoder's thread begins
    "decode and resize",
    "encoder",
    "mask head",
    "features sent",  # checks, the message, publish()
    "features in transit",
    "ACT busy",
    "features wait",  # until the planner's thread begins
    "ACT",
    "chunk sent",  # ensembling, the message, publish()
    "chunk in transit",
    "control period",  # until the command loop's next tick
    "command",  # the tick, and the way to the robot's callback
)


def stages_of(
    encoder: Notes, inference: Notes, publisher: Notes, commands: Sequence[tuple[int, int]]
) -> list[dict[str, float]]:
    """The stages, in ms, of each image that all processes have recorded, oldest first.

    `commands` has the times when each command was sent and when it was received, in order.
    """
    sent_ns = np.array([sent for sent, _ in commands], dtype=np.int64)
    done_encoding, done_planning = _ends(encoder), _ends(inference)
    found = []
    for stamp_ns, seen in sorted(encoder.items()):
        planned, commanded = inference.get(stamp_ns, {}), publisher.get(stamp_ns, {})
        if not ("features" in seen and "chunks" in planned and "commands" in commanded):
            continue  # the image was dropped for a newer one, was lost, or was the last of the run
        first = int(np.searchsorted(sent_ns, commanded["tick"]))
        if first == len(commands):
            continue
        encode_at, plan_at = seen["image_age_at_encode_at"], planned["image_age_at_plan_at"]
        encoder_free = _busy_until(done_encoding, seen["images"], encode_at)
        planner_free = _busy_until(done_planning, planned["features"], plan_at)
        encoded_ms = seen["prepare"] + seen["encoder"] + seen["mask_head"]
        found.append(
            {
                "image in transit": (seen["images"] - stamp_ns) / 1e6,
                "encoder busy": (encoder_free - seen["images"]) / 1e6,
                "image waits": (encode_at - encoder_free) / 1e6,
                "decode and resize": seen["prepare"],
                "encoder": seen["encoder"],
                "mask head": seen["mask_head"],
                "features sent": (seen["features"] - encode_at) / 1e6 - encoded_ms,
                "features in transit": (planned["features"] - seen["features"]) / 1e6,
                "ACT busy": (planner_free - planned["features"]) / 1e6,
                "features wait": (plan_at - planner_free) / 1e6,
                "ACT": planned["plan"],
                "chunk sent": (planned["chunks"] - plan_at) / 1e6 - planned["plan"],
                "chunk in transit": (commanded["chunks"] - planned["chunks"]) / 1e6,
                "control period": (commanded["tick"] - commanded["chunks"]) / 1e6,
                "command": (commands[first][1] - commanded["tick"]) / 1e6,
            }
        )
    return found


def overhead_ms(stages: Iterable[Mapping[str, float]]) -> NDArray[np.float64]:
    """The sum of each image's stages without the model (N,)."""
    model = {*MODEL, *BUSY}
    return np.array([sum(ms for name, ms in image.items() if name not in model) for image in stages])


def _ends(notes: Notes) -> NDArray[np.int64]:
    """When the work on each image ended, in order (N,)."""
    return np.array(sorted(noted["done"] for noted in notes.values() if "done" in noted), dtype=np.int64)


def _busy_until(ends_ns: NDArray[np.int64], received_ns: float, begun_ns: float) -> float:
    """When the thread that begins at `begun_ns` had ended its work before; no earlier than `received_ns`."""
    before = int(np.searchsorted(ends_ns, begun_ns))
    return received_ns if before == 0 else max(received_ns, int(ends_ns[before - 1]))
