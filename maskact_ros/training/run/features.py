"""A frozen backbone's tokens of a dataset's frames, computed once and read from a memory-mapped file.

In: a model with a frozen backbone, and decoded frames. Out: patch tokens (N, P, H) in half precision, the projection's
input. A file belongs to one backbone's weights and one cache of frames. It grows row by row, so that an interrupted
computation continues.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from maskact_ros.core.outputs import open_own, output_path, refuse_link
from maskact_ros.core.progress import Progress
from maskact_ros.policy.model.backbone import canonical_name
from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.training.errors import TrainingError
from maskact_ros.training.run.frames import FrameCache
from maskact_ros.training.run.settings import TrainSettings

Tokens = NDArray[np.float16]  # (N, P, H)
_BLOCK = 16  # frames computed at a time
_COMPARED = 16  # frames, at most, that are computed again to see whether a file is what its name says
_ROUNDING = 0.05  # of the mean: what other devices and precisions may differ by
_SYNC_EVERY_S = 5.0
_REMEDY = "--cache takes another folder, and --cache-features never does without"


def open_tokens(
    settings: TrainSettings, model: MaskACT, frames: Sequence[FrameCache], parents: Sequence[Path]
) -> tuple[tuple[Tokens, ...] | None, str]:
    """The tokens of each dataset's frames, or None and the reason why they are computed in each step.

    Missing tokens are computed on the model's device, and written to each dataset's cache folder.

    Raises:
        TrainingError: --cache-features is always, and caching is not possible.
    """
    if settings.cache_features == "never":
        return None, "--cache-features is never"
    files = [FeatureFile.of(model, cache, parent) for cache, parent in zip(frames, parents, strict=True)]
    reason = _why_not(settings, model) or _too_large(files)
    if settings.cache_features == "auto":
        rows = sum(len(cache.rgb) for cache in frames)
        if not reason and settings.steps * settings.batch_size < rows:
            reason = f"the run sees fewer pictures than the datasets' {rows}"
    elif reason:
        raise TrainingError(f"--cache-features is always, but {reason}; allowed here: never, auto")
    return (None, reason) if reason else (tuple(file.open() for file in files), "")


def _why_not(settings: TrainSettings, model: MaskACT) -> str:
    """Why a picture's tokens differ from step to step; empty if they do not."""
    learning = [name for name, p in model.perception.encoder.backbone.named_parameters() if p.requires_grad]
    if any(".lora_" in name for name in learning):
        return "LoRA adapters are trained (use_lora)"
    if learning:
        return "the backbone is trained (freeze_backbone is false)"
    if settings.augment.probability:
        return "the pictures are augmented (--augment)"
    return ""


def _too_large(files: Sequence[FeatureFile]) -> str:
    """The error that a disk has no space for the files; empty if there is space."""
    needed = sum(file.missing_bytes for file in files)
    for file in files:
        free = shutil.disk_usage(file.path.parent).free
        if needed > free:
            return f"they need {needed / 2**30:.1f} GiB in {file.path.parent}, and {free / 2**30:.1f} GiB are free"
    return ""


@dataclass(frozen=True, eq=False)
class FeatureFile:
    """The file of one frame cache's tokens; it may still have to be computed."""

    model: MaskACT
    frames: FrameCache
    path: Path

    @classmethod
    def of(cls, model: MaskACT, frames: FrameCache, parent: Path) -> FeatureFile:
        """The file in `parent` that belongs to these weights and frames."""
        return cls(model, frames, output_path(parent) / f"features-{frames.key}-{_weights_hash(model)}.f16")

    @property
    def missing_bytes(self) -> int:
        """The number of bytes still to write."""
        if self.path.exists():
            return 0
        there = self._partial.stat().st_size if self._partial.exists() else 0
        return max(0, len(self.frames.rgb) * self._row_bytes - there)

    def open(self) -> Tokens:
        """The tokens, memory-mapped; missing ones are computed first.

        Raises:
            TrainingError: the file cannot be written, or half precision cannot hold the tokens.
        """
        refuse_link(self.path)
        if self.path.exists() and (reason := self._why_not_believed()):
            print(f"{self.path}: features that are not used, as {reason}; they are computed anew")
            self.path.unlink()
        if not self.path.exists():
            try:
                with os.fdopen(open_own(self._partial), "ab", buffering=0) as file, _only_one(file, self.path):
                    if not self.path.exists():  # another run may have been faster
                        self._compute(file)
            except OSError as error:
                raise TrainingError(f"{self.path}: cannot be written ({error.strerror}); {_REMEDY}") from None
        return self._mapped(self.path, len(self.frames.rgb))

    def _why_not_believed(self) -> str:
        """What speaks against a file, which may have come with the dataset; empty where it is what the frames give."""
        rows = len(self.frames.rgb)
        if not self.path.is_file() or self.path.stat().st_size != rows * self._row_bytes:
            return "they are of another size"
        if (row := self._foreign_row(self.path, rows)) is not None:
            return f"those of frame {row} are not what the backbone makes of it"
        return ""

    def _foreign_row(self, path: Path, rows: int) -> int | None:
        """One of some rows, which nobody can foresee, that is not what the backbone makes of its frame."""
        chosen = sorted(random.SystemRandom().sample(range(rows), min(rows, _COMPARED)))
        if not chosen:
            return None
        found = self._mapped(path, rows)[chosen].astype(np.float32)
        computed = self._tokens(self.frames.rgb[chosen]).astype(np.float32)
        off = np.abs(found - computed).mean(axis=(1, 2)) / (np.abs(computed).mean(axis=(1, 2)) + 1e-6)
        wrong = np.flatnonzero(~(off < _ROUNDING))  # NaN is wrong, too
        return chosen[int(wrong[0])] if len(wrong) else None

    def _compute(self, file: FileIO) -> None:
        rows, begin = len(self.frames.rgb), min(self._whole_rows(), len(self.frames.rgb))
        if self._foreign_row(self._partial, begin) is not None:
            begin = 0
        file.truncate(begin * self._row_bytes)
        print(f"{self.path}: features of the frozen backbone, {rows * self._row_bytes / 2**30:.2f} GiB")
        synced_s = time.monotonic()
        with Progress("computing features", rows, done=begin) as progress:
            for first in range(begin, rows, _BLOCK):
                tokens = self._tokens(self.frames.rgb[first : first + _BLOCK])
                _write(file, tokens)
                if time.monotonic() - synced_s > _SYNC_EVERY_S:
                    os.fsync(file.fileno())
                    synced_s = time.monotonic()
                progress.advance(len(tokens))
        os.fsync(file.fileno())
        self._partial.rename(self.path)

    @torch.no_grad()
    def _tokens(self, rgb: NDArray[np.uint8]) -> Tokens:
        perception = self.model.perception
        perception.eval()
        images = torch.from_numpy(np.array(rgb)).to(perception.encoder.projection.weight.device)
        tokens = perception.encoder.tokens(perception.preprocessor(images)).half()
        if not bool(tokens.isfinite().all()):
            raise TrainingError(f"{self.path}: half precision cannot hold the backbone's features; {_REMEDY}")
        computed: Tokens = tokens.cpu().numpy()
        return computed

    def _whole_rows(self) -> int:
        """The complete rows of an interrupted run. After a power cut a file may end in zeros; no token is zero."""
        rows = self._partial.stat().st_size // self._row_bytes
        if not rows:
            return 0
        empty = np.flatnonzero(~self._mapped(self._partial, rows)[:, -1].any(axis=1))
        return int(empty[0]) if len(empty) else rows

    def _mapped(self, path: Path, rows: int) -> Tokens:
        return np.memmap(path, np.float16, "r", shape=(rows, *self._shape))

    @property
    def _partial(self) -> Path:
        return self.path.with_name(f".{self.path.name}.partial")

    @property
    def _shape(self) -> tuple[int, int]:
        """(P, H) of one frame."""
        return self.model.spec.config.patches_per_side**2, self.model.perception.encoder.projection.in_features

    @property
    def _row_bytes(self) -> int:
        patches, width = self._shape
        return 2 * patches * width


def _write(file: FileIO, tokens: Tokens) -> None:
    """Write all tokens: a single write to a raw file may be partial."""
    left = memoryview(tokens.tobytes())
    while left:
        left = left[file.write(left) :]


@contextmanager
def _only_one(file: FileIO, path: Path) -> Iterator[None]:
    """Wait while another run computes the same file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{path}: another run computes it; waiting")
        fcntl.flock(file, fcntl.LOCK_EX)
    yield  # closing the file releases the lock


def _weights_hash(model: MaskACT) -> str:
    """16 hexadecimal digits of all that a picture's tokens depend on."""
    perception = model.perception
    digest = hashlib.sha256(json.dumps(dict(model.spec.backbone), sort_keys=True, default=str).encode())
    tensors = {canonical_name(name): tensor for name, tensor in perception.encoder.backbone.state_dict().items()}
    normalizer = perception.preprocessor.normalizer
    tensors |= {"centre": normalizer.centre, "scale": normalizer.scale}
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
