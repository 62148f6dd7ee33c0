"""How long each chunk is meant to serve: inference decides it, and the action publisher must expect the same.

In: the configuration that each of the two has in effect. Out: what differs, and whether the arm would stop of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from maskact_ros.core.config import MaskACTConfig

_TEXT = re.compile(r"(\d{1,9}) (none|[\d.e+-]{1,30})", re.ASCII)


@dataclass(frozen=True)
class ChunkUse:
    """`n_action_steps` and `temporal_ensemble_coeff`, the latter as parameters spell it."""

    n_action_steps: int
    coeff: str

    @classmethod
    def of(cls, config: MaskACTConfig) -> ChunkUse:
        """As a configuration says."""
        coeff = config.temporal_ensemble_coeff
        return cls(config.n_action_steps, "none" if coeff is None else f"{coeff:g}")

    @classmethod
    def from_text(cls, text: str) -> ChunkUse | None:
        """The inverse of `text`, or None."""
        found = _TEXT.fullmatch(text)
        return None if found is None else cls(int(found[1]), found[2])

    @property
    def text(self) -> str:
        """As a node tells another."""
        return f"{self.n_action_steps} {self.coeff}"

    @property
    def steps(self) -> int:
        """After how many steps a newer chunk is to be there; with ensembling, each image brings one."""
        return self.n_action_steps if self.coeff == "none" else 1

    def difference(self, inference: ChunkUse) -> str | None:
        """How inference uses chunks otherwise than this, the publisher's use; or None."""
        named = (
            ("n_action_steps", self.n_action_steps, inference.n_action_steps),
            ("temporal_ensemble_coeff", self.coeff, inference.coeff),
        )
        apart = [f"{name} is {theirs} on inference and {ours} here" for name, ours, theirs in named if ours != theirs]
        return f"{'; '.join(apart)}; set it alike on both" if apart else None

    def stops(self, inference: ChunkUse) -> bool:
        """Whether chunks would go stale before inference sends the next one."""
        return inference.steps > self.steps
