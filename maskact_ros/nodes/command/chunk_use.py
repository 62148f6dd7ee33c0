"""How many steps of each chunk are executed. Inference decides it; the action publisher must expect the same.

In: the configuration in effect on each of the two nodes. Out: the differences, and whether they would stop the arm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from maskact_ros.core.config import MaskACTConfig

_TEXT = re.compile(r"(\d{1,9}) (none|[\d.e+-]{1,30})", re.ASCII)


@dataclass(frozen=True)
class ChunkUse:
    """`n_action_steps` and `temporal_ensemble_coeff`; the latter is spelled as in parameters ("none" for off)."""

    n_action_steps: int
    coeff: str

    @classmethod
    def of(cls, config: MaskACTConfig) -> ChunkUse:
        """From a configuration."""
        coeff = config.temporal_ensemble_coeff
        return cls(config.n_action_steps, "none" if coeff is None else f"{coeff:g}")

    @classmethod
    def from_text(cls, text: str) -> ChunkUse | None:
        """The inverse of `text`, or None."""
        found = _TEXT.fullmatch(text)
        return None if found is None else cls(int(found[1]), found[2])

    @property
    def text(self) -> str:
        """The text that a node sends to another."""
        return f"{self.n_action_steps} {self.coeff}"

    @property
    def steps(self) -> int:
        """The number of steps after which a newer chunk is expected; with ensembling 1, as each image gives a chunk."""
        return self.n_action_steps if self.coeff == "none" else 1

    def difference(self, inference: ChunkUse) -> str | None:
        """How inference's use differs from this one, the publisher's; or None."""
        named = (
            ("n_action_steps", self.n_action_steps, inference.n_action_steps),
            ("temporal_ensemble_coeff", self.coeff, inference.coeff),
        )
        apart = [f"{name} is {theirs} on inference and {ours} here" for name, ours, theirs in named if ours != theirs]
        return f"{'; '.join(apart)}; set it alike on both" if apart else None

    def stops(self, inference: ChunkUse) -> bool:
        """Whether chunks would go stale before inference sends the next one."""
        return inference.steps > self.steps
