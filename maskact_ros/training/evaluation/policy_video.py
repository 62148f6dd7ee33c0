"""A video of the camera's pictures with the policy's masks over them.

In: pictures with their labels, at the camera's rate. Out: an mp4 or an animated WebP, complete when it is closed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.outputs import MARK, output_path, replaced_file
from maskact_ros.core.overlay import overlay
from maskact_ros.data.datasets.animation import AnimationWriter
from maskact_ros.data.datasets.video import VideoWriter
from maskact_ros.training.evaluation.policy_planner import IMAGE_RATE_HZ, Watcher
from maskact_ros.training.evaluation.success_rate import EvaluationError

FILMED = 3  # episodes in a video
_WRITERS: dict[str, type[VideoWriter | AnimationWriter]] = {".mp4": VideoWriter, ".webp": AnimationWriter}
_ALPHA = 0.45  # of the overlay


class _NothingSeenError(Exception):
    """Ends the writing of a film that has no picture."""


@contextmanager
def filming(path: Path, info: CheckpointInfo) -> Iterator[Watcher]:
    """A watcher that writes what it sees to `path`; there is a file if it saw anything, also before Ctrl-C.

    Raises:
        MaskACTError: the path is none of a film, something else is there, or the video did not become whole.
    """
    if path.suffix not in _WRITERS or not path.parent.is_dir():
        allowed = " or ".join(_WRITERS)
        raise EvaluationError(f"--film is {path}; allowed: a file that ends in {allowed}, in a folder that exists")
    camera = info.robot.only_camera
    ended: BaseException | None = None
    with suppress(_NothingSeenError), replaced_file(output_path(path), "a film") as partial:
        writer, fps = _WRITERS[path.suffix], round(IMAGE_RATE_HZ)
        video = writer(partial, width=camera.width, height=camera.height, fps=fps, comment=MARK)

        def watch(_: int, rgb: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
            video.add(overlay(rgb, labels, info.mask_classes, alpha=_ALPHA))

        try:
            yield watch
        except BaseException as error:  # noqa: BLE001 it is raised again below
            ended = error
        if not video.frames:
            video.abandon()
            raise _NothingSeenError
        video.close()
    if ended is not None:
        raise ended
