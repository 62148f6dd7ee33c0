"""The moments of injection: drawn anew for each test and phase, from one seed that the environment may set."""

import os
import time
import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

SEED = int(os.environ.get("FAULTS_SEED") or 0)
PHASES = int(os.environ.get("FAULTS_PHASES") or 1)

Option = TypeVar("Option")


class Phase:
    """One injection's random numbers: the same for the same seed, test and number."""

    def __init__(self, test: str, number: int):
        self.number = number
        self._offset = zlib.crc32(test.encode()) + SEED  # so that a sample is not always the first of its options
        self.random = np.random.default_rng([SEED, zlib.crc32(test.encode()), number])

    def let_it_move(self, at_most_s: float = 2.0) -> None:
        """Let a random part of the motion pass: the injection comes at no particular moment of it."""
        time.sleep(self.random.uniform(0.0, at_most_s))

    def pick(self, options: Sequence[Option]) -> Option:
        """One of the options; as many phases as there are options see each of them."""
        return options[(self._offset + self.number) % len(options)]
