"""Rules and class weights of a policy, which can change while it runs, as arrays for each call.

A rule table is (L, L) booleans: whether a query of one label (row) may attend to a key of another (column). Label 0 of
the table is latent and state, then the classes follow.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.config import LATENT_LABEL, MaskACTConfig


def rule_table(rules: Mapping[int, tuple[int, ...]], num_mask: int) -> NDArray[np.bool_]:
    """The table of rules; a label without a rule attends to all labels."""
    table = np.ones((num_mask + 1, num_mask + 1), np.bool_)
    for query, keys in rules.items():
        table[query - LATENT_LABEL] = False
        table[query - LATENT_LABEL, [key - LATENT_LABEL for key in keys]] = True
    return table


def configured_rules(config: MaskACTConfig) -> NDArray[np.bool_] | None:
    """The `rule_table` of a configuration; None if it has no rules or no masks."""
    if not (config.use_mask and config.label_attention_rules):
        return None
    return rule_table(config.label_attention_rules, config.num_mask)


def isolated_labels(config: MaskACTConfig) -> tuple[int, ...]:
    """The labels to which no other label may attend, latent and state included."""
    table = configured_rules(config)
    if table is None:
        return ()
    others = table & ~np.eye(len(table), dtype=np.bool_)
    return tuple(label for label in range(config.num_mask) if not others[:, label - LATENT_LABEL].any())


def class_importance(config: MaskACTConfig) -> NDArray[np.float32]:
    """The weights (C,) of the classes in the pixels' vote; all 1 if the configuration has none."""
    return np.array(config.mask_importance_weights or (1.0,) * config.num_mask, np.float32)
