"""The parameters of a policy that can change while it runs, as the arrays that each call takes: rules, class weights.

A rule table is (L, L) booleans, may a query of this label attend to a key of that; L counts the label of latent and
state, then the classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.config import LATENT_LABEL, MaskACTConfig


def rule_table(rules: Mapping[int, tuple[int, ...]], num_mask: int) -> NDArray[np.bool_]:
    """The table of rules; a label without a rule attends to all."""
    table = np.ones((num_mask + 1, num_mask + 1), np.bool_)
    for query, keys in rules.items():
        table[query - LATENT_LABEL] = False
        table[query - LATENT_LABEL, [key - LATENT_LABEL for key in keys]] = True
    return table


def configured_rules(config: MaskACTConfig) -> NDArray[np.bool_] | None:
    """The `rule_table` of a configuration; None where it has no rules, or no masks for them to act on."""
    if not (config.use_mask and config.label_attention_rules):
        return None
    return rule_table(config.label_attention_rules, config.num_mask)


def isolated_labels(config: MaskACTConfig) -> tuple[int, ...]:
    """The labels that no other label's rule allows, that of latent and state included."""
    table = configured_rules(config)
    if table is None:
        return ()
    others = table & ~np.eye(len(table), dtype=np.bool_)
    return tuple(label for label in range(config.num_mask) if not others[:, label - LATENT_LABEL].any())


def class_importance(config: MaskACTConfig) -> NDArray[np.float32]:
    """The weights (C,) of the classes when pixels vote; all 1 where the configuration has none."""
    return np.array(config.mask_importance_weights or (1.0,) * config.num_mask, np.float32)
