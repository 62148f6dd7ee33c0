"""Label attention without a mask: tokens are sorted by label, and slices say which tokens attend to which.

With a mask all products are computed, and some are discarded; with slices only the needed ones are computed. The tokens
are latent and state, then the patches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.config import LATENT_LABEL

# For each group: a slice of queries, and the slices of keys that they attend to.
Groups = tuple[tuple[slice, tuple[slice, ...]], ...]


def attention_groups(
    labels: NDArray[np.int64], rules: NDArray[np.bool_], prefix: int
) -> tuple[NDArray[np.int64], Groups]:
    """The order (M,) of patches with labels (M,), and the groups in that order under rules (L, L).

    As in `attention.label_attention_mask`, a label whose rule allows no present token attends to all tokens.
    """
    counts = np.bincount(labels - LATENT_LABEL, minlength=len(rules))
    counts[0] = prefix
    present = np.flatnonzero(counts)
    allowed = rules[np.ix_(present, present)]
    allowed |= ~allowed.any(axis=1, keepdims=True)
    # Labels that attend to the same tokens make one group; the group of latent and state is first, as their tokens are.
    _, member = np.unique(allowed, axis=0, return_inverse=True)
    member = np.where(member == member[0], -1, member)
    turn = np.argsort(member, kind="stable")
    present, member, allowed = present[turn], member[turn], allowed[np.ix_(turn, turn)]
    ends = np.cumsum(counts[present])
    spans = [slice(int(end - count), int(end)) for end, count in zip(ends, counts[present], strict=True)]
    groups = []
    for name in dict.fromkeys(member.tolist()):
        own = np.flatnonzero(member == name)
        queries = slice(spans[own[0]].start, spans[own[-1]].stop)
        groups.append((queries, _merged([spans[key] for key in np.flatnonzero(allowed[own[0]])])))
    place = np.zeros(len(rules), np.int64)
    place[present] = np.arange(len(present))
    order = np.argsort(place[labels - LATENT_LABEL], kind="stable")
    return order, tuple(groups)


def _merged(spans: list[slice]) -> tuple[slice, ...]:
    """Slices in rising order, with adjacent ones joined."""
    merged = spans[:1]
    for span in spans[1:]:
        if span.start == merged[-1].stop:
            merged[-1] = slice(merged[-1].start, span.stop)
        else:
            merged.append(span)
    return tuple(merged)
