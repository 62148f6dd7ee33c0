"""The pictures of a dataset, checked by decoding every one: how many, their size, and the masks' class ids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from maskact_ros.core.errors import MaskACTError
from maskact_ros.data.datasets.dataset import mask_classes
from maskact_ros.data.datasets.lerobot_layout import DatasetError, Layout
from maskact_ros.data.datasets.lerobot_reader import EpisodeRows, LeRobotFolder, VideoSpan
from maskact_ros.data.datasets.pictures import decoded, labels_of, picture_of
from maskact_ros.data.inspection.findings import Finding, inside, of_error

Spans = list[tuple[EpisodeRows, VideoSpan]]


def check_pictures(source: LeRobotFolder, layout: Layout) -> Iterator[Finding | int]:
    """Findings, and between them how many rows' pictures have been looked at since, for a progress bar."""
    camera = layout.robot.only_camera
    size = (camera.height, camera.width)
    videos: dict[Path, Spans] = defaultdict(list)
    for episode in source.episodes:
        if layout.image_key in episode.videos:
            span = episode.videos[layout.image_key]
            videos[span.path].append((episode, span))
        elif layout.image_key in source.features:
            yield from _images(source, layout.image_key, episode, size)
    for path, spans in videos.items():
        yield from _video(source, path, spans, size)


def check_masks(source: LeRobotFolder, layout: Layout) -> Iterator[Finding | int]:
    """As `check_pictures`."""
    camera = layout.robot.only_camera
    try:
        classes = mask_classes(source, layout.mask_key)
    except MaskACTError as error:
        yield of_error(error, source.folder)
        return
    if classes is not None:
        for episode in source.episodes:
            yield from _images(source, layout.mask_key, episode, (camera.height, camera.width), classes)


def _images(
    source: LeRobotFolder,
    name: str,
    episode: EpisodeRows,
    size: tuple[int, int],
    classes: tuple[str, ...] | None = None,
) -> Iterator[Finding | int]:
    """Masks where there are `classes`, pictures else."""
    rows = 0
    try:
        for shown, content in source.contents(name, episode):
            try:
                image = picture_of(content, shown) if classes is None else labels_of(content, shown)
                if image.shape[:2] != size:
                    raise DatasetError(f"{shown}: is {_size(image.shape)}; allowed: {_size(size)}")
                if classes is not None and (largest := int(image.max())) >= len(classes):
                    allowed = f"0 to {len(classes) - 1} ({', '.join(classes)})"
                    raise DatasetError(f"{shown}: has class id {largest}; allowed: {allowed}")
            except DatasetError as error:
                yield of_error(error, source.folder)
            rows += 1
            yield 1
    except DatasetError as error:  # of the file: what follows in this episode is lost, too
        yield of_error(error, source.folder)
    if rows < episode.length:
        yield Finding(f"{name}, episode {episode.index}", f"only {rows} of {episode.length} can be read")


def _video(source: LeRobotFolder, path: Path, spans: Spans, size: tuple[int, int]) -> Iterator[Finding | int]:
    where = inside(source.folder, str(path))
    count = 0
    try:
        for number, frame in decoded(path, fps=source.fps):
            if number != count:
                raise DatasetError(f"{path}: frame {number} is where frame {count} belongs, at {source.fps:g} frames/s")
            if (frame.height, frame.width) != size:
                raise DatasetError(f"{path}: frame {number} is {frame.width}x{frame.height}; allowed: {_size(size)}")
            count += 1
            yield 1
    except DatasetError as error:
        yield of_error(error, source.folder)
    needed = max(span.end for _, span in spans)
    if count != needed:
        short = [str(episode.index) for episode, span in spans if span.end > count]
        lost = f", so that episodes {', '.join(short)} lack some" if short else ""
        yield Finding(where, f"{count} frames can be read, but its episodes need {needed}{lost}")
    end = 0
    for episode, span in spans:
        if span.first != end:
            yield Finding(f"{where}, episode {episode.index}", f"begins at frame {span.first}; allowed: {end}")
        end = span.end


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
