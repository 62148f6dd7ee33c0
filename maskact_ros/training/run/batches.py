"""Batches for training: the rows of a step, their chunks of actions, and a thread that prepares them.

A step's rows and the randomness of their pictures depend on seed and step alone. So a run that was killed continues
with the same batches, and several processes share the batch that one process would have.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from maskact_ros.data.datasets.dataset import Dataset
from maskact_ros.policy.model.maskact import TrainingBatch
from maskact_ros.training.run.augment import Augmentation, augment
from maskact_ros.training.run.frames import FrameCache

_SHUFFLE, _PICTURE = 0, 1  # purposes of random streams
_AHEAD = 3  # most batches that wait for the trainer
_FEWEST_SHARED, _SHARED = 5, 0.9  # different rows, and the share of them, that make two episodes the same


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of all datasets of a run, one after the other."""

    frames: tuple[FrameCache, ...]
    tokens: tuple[NDArray[np.float16], ...] | None  # (N, P, H) of each one's frames, where the backbone's are known
    states: NDArray[np.float32]  # (N, D)
    actions: NDArray[np.float32]  # (N, D)
    episodes: NDArray[np.int64]  # (E, 2): first row, and the row after the last
    sources: tuple[str, ...]  # (E,): the bag or file of each episode; empty where nobody wrote it down

    @classmethod
    def of(
        cls,
        datasets: Sequence[Dataset],
        frames: Sequence[FrameCache],
        tokens: tuple[NDArray[np.float16], ...] | None = None,
    ) -> Rows:
        """Join the rows of several datasets."""
        ranges, first = [], 0
        for dataset in datasets:
            ranges += [(first + e.start, first + e.start + e.length) for e in dataset.episodes]
            first += len(dataset.states)
        return cls(
            frames=tuple(frames),
            tokens=tokens,
            states=np.concatenate([dataset.states for dataset in datasets]),
            actions=np.concatenate([dataset.actions for dataset in datasets]),
            episodes=np.array(ranges, np.int64).reshape(-1, 2),
            sources=tuple(e.source for dataset in datasets for e in dataset.episodes),
        )

    @property
    def with_masks(self) -> bool:
        """Whether every row has a mask."""
        return all(frames.masks is not None for frames in self.frames)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """(N,): the row after the last of each row's episode."""
        return np.repeat(self.episodes[:, 1], self.episodes[:, 1] - self.episodes[:, 0])

    @cached_property
    def _firsts(self) -> NDArray[np.int64]:
        """(number of datasets,): the first row of each dataset."""
        return np.cumsum([0, *(len(frames.rgb) for frames in self.frames)])[:-1]

    def picture(self, row: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """RGB (S, S, 3) and class ids (S, S) of a row, without augmentation."""
        part, local = self._place(row)
        return np.asarray(self.frames[part].rgb[local]), self.mask(row)

    def mask(self, row: int) -> NDArray[np.uint8] | None:
        """Class ids (S, S) of a row, or None."""
        part, local = self._place(row)
        masks = self.frames[part].masks
        return None if masks is None else np.asarray(masks[local])

    def tokens_of(self, row: int) -> NDArray[np.float16]:
        """Tokens (P, H) of a row; only if tokens are known."""
        assert self.tokens is not None
        part, local = self._place(row)
        return np.asarray(self.tokens[part][local])

    def _place(self, row: int) -> tuple[int, int]:
        """The number of a row's dataset, and the row in it."""
        part = int(np.searchsorted(self._firsts, row, side="right")) - 1
        return part, row - int(self._firsts[part])

    def chunks(self, rows: NDArray[np.int64], length: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(B, K, D) and (B, K): K actions from each row on, and whether each is padding (the episode's last action)."""
        wanted = rows[:, None] + np.arange(length)  # (B, K)
        ends = self._ends[rows, None]
        return self.actions[np.minimum(wanted, ends - 1)], wanted >= ends


def split_episodes(sources: Sequence[str], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the training episodes and of the held-out episodes: at least one of each, if there are two.

    Episodes of one source are held out together, unless all are of one source: the pictures before and after a gap
    are nearly equal. The held-out share is as large as whole sources allow without exceeding `share`; if none fits, the
    smallest source is held out.
    """
    groups = _by_source(sources)
    wanted = min(max(1, round(share * len(sources))), len(sources) - 1) if share > 0 else 0
    held_out: list[int] = []
    order = np.random.default_rng([seed, _SHUFFLE]).permutation(len(groups))
    for group in (groups[number] for number in order):
        if len(held_out) + len(group) <= wanted:
            held_out += group
    if wanted > 0 and not held_out:
        held_out = min((groups[number] for number in order), key=len)
    return np.setdiff1d(np.arange(len(sources)), held_out), np.array(sorted(held_out), np.int64)


def _by_source(sources: Sequence[str]) -> list[list[int]]:
    """Numbers of the episodes of each source; if there is only one source, each episode is a group of its own."""
    groups: dict[str | int, list[int]] = {}
    for episode, source in enumerate(sources):
        groups.setdefault(source or episode, []).append(episode)
    return list(groups.values()) if len(groups) > 1 else [[episode] for episode in range(len(sources))]


def also_trained_on(rows: Rows, training: NDArray[np.int64], held_out: NDArray[np.int64]) -> list[int]:
    """Held-out episodes whose rows are among those of training, as where two datasets were made from the same bag."""
    numbers = np.ascontiguousarray(np.concatenate([rows.states, rows.actions], axis=1))
    known = {numbers[row].tobytes() for row in rows_of(rows.episodes[training])}
    found = []
    for episode in held_out.tolist():
        own = {numbers[row].tobytes() for row in range(*rows.episodes[episode])}
        if len(own) >= _FEWEST_SHARED and len(own & known) >= _SHARED * len(own):
            found.append(episode)
    return found


def rows_of(episodes: NDArray[np.int64]) -> NDArray[np.int64]:
    """All rows of episodes (E, 2)."""
    return np.concatenate([np.arange(start, end) for start, end in episodes] or [np.empty(0, np.int64)])


@dataclass(frozen=True, eq=False)
class Batches:
    """One process's share of each step's batch."""

    rows: Rows
    training_rows: NDArray[np.int64]
    chunk_size: int
    augmentation: Augmentation
    seed: int
    batch_size: int  # of all processes together
    process: int = 0
    processes: int = 1
    use_masks: bool = True  # whether the loss needs masks
    pinned: bool = False  # whether batches are in pinned memory, for asynchronous copies to a GPU

    def step_rows(self, step: int) -> NDArray[np.int64]:
        """Rows of a step for all processes together: every row once in random order, then again in a new order."""
        slots = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, places = np.divmod(slots, len(self.training_rows))
        return np.array([self._order(int(e))[p] for e, p in zip(epochs, places, strict=True)])

    def make(self, step: int, pool: ThreadPoolExecutor | None = None) -> TrainingBatch:
        """The batch of a step, with augmented pictures."""
        share = slice(self.process, None, self.processes)
        rows, slots = self.step_rows(step)[share], range(self.batch_size)[share]
        if self.rows.tokens is not None:
            return self.plain(rows)
        pictures = (pool.map if pool else map)(lambda slot, row: self._picture(step, slot, row), slots, rows)
        return self._assembled(rows, list(pictures))

    def plain(self, rows: NDArray[np.int64]) -> TrainingBatch:
        """A batch of these rows without augmentation, with tokens in place of pictures if they are known."""
        if self.rows.tokens is None:
            return self._assembled(rows, [self.rows.picture(row) for row in rows])
        tokens = np.stack([self.rows.tokens_of(row) for row in rows])
        masks = [self.rows.mask(row) for row in rows]
        return self._batch(rows, masks, tokens=torch.from_numpy(tokens))

    def _picture(self, step: int, slot: int, row: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        rng = np.random.default_rng([self.seed, _PICTURE, step, slot])
        rgb, mask = self.rows.picture(row)
        return augment(rgb, mask, self.augmentation, rng)

    def _assembled(
        self, rows: NDArray[np.int64], pictures: list[tuple[NDArray[np.uint8], NDArray[np.uint8] | None]]
    ) -> TrainingBatch:
        images = torch.from_numpy(np.stack([rgb for rgb, _ in pictures]))
        return self._batch(rows, [mask for _, mask in pictures], images=images)

    def _batch(
        self, rows: NDArray[np.int64], masks: Sequence[NDArray[np.uint8] | None], **seen: torch.Tensor
    ) -> TrainingBatch:
        actions, is_pad = self.rows.chunks(rows, self.chunk_size)
        labels = [mask for mask in masks if mask is not None]
        tensors = seen | {
            "state": torch.from_numpy(self.rows.states[rows]),
            "actions": torch.from_numpy(actions),
            "action_is_pad": torch.from_numpy(is_pad),
        }
        if self.use_masks and len(labels) == len(masks):
            tensors["masks"] = torch.from_numpy(np.stack(labels))
        if self.pinned:
            tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
        return TrainingBatch(**tensors)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return _shuffled(self.seed, epoch, self.training_rows.tobytes())


@lru_cache(maxsize=4)
def _shuffled(seed: int, epoch: int, rows: bytes) -> NDArray[np.int64]:
    return np.random.default_rng([seed, _SHUFFLE, 1 + epoch]).permutation(np.frombuffer(rows, np.int64))


class Prefetcher:
    """Makes batches in a thread while the trainer computes; a context manager and an iterator over steps."""

    def __init__(self, batches: Batches, steps: range, workers: int) -> None:
        self._batches, self._steps, self._workers = batches, steps, workers
        self._ready: queue.Queue[TrainingBatch | BaseException] = queue.Queue(_AHEAD)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self.waited_s = 0.0  # time that the trainer has waited for data

    def __enter__(self) -> Prefetcher:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        while self._thread.is_alive():
            try:
                self._ready.get(timeout=0.01)
            except queue.Empty:
                continue

    def __iter__(self) -> Iterator[tuple[int, TrainingBatch]]:
        for step in self._steps:
            begin_s = time.perf_counter()
            batch = self._ready.get()
            self.waited_s += time.perf_counter() - begin_s
            if isinstance(batch, BaseException):
                raise batch
            yield step, batch

    def _work(self) -> None:
        try:
            with ThreadPoolExecutor(self._workers) as pool:
                for step in self._steps:
                    if self._stopping.is_set():
                        return
                    self._ready.put(self._batches.make(step, pool if self._workers > 1 else None))
        except BaseException as error:  # noqa: BLE001 raised again in the trainer's thread
            self._ready.put(error)
