"""ACT: patch features, their labels and the robot's state to a chunk of actions; all values are normalised.

Action Chunking with Transformers (Zhao et al. 2023, arXiv:2304.13705): a conditional VAE whose latent is zero when
the policy runs, and a transformer from latent, state and patches to K actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskact_ros.core.config import LATENT_LABEL, MaskACTConfig
from maskact_ros.policy.model.attention import label_attention_mask
from maskact_ros.policy.model.positions import sine_grid, sine_sequence
from maskact_ros.policy.model.transformer import Decoder, Encoder, LayerSettings, reset_parameters
from maskact_ros.policy.rules import configured_rules

IMAGE, STATE, LATENT = range(3)  # rows of the modality embedding
PREFIX = 2  # tokens before the patches: latent, state
_EMBEDDING_STD = 0.02


@dataclass(frozen=True)
class Latent:
    """A diagonal normal distribution: mean and log of the variance, both (B, latent_dim)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """A sample (B, latent_dim), with gradients to mean and variance."""
        return self.mean + (self.log_variance / 2).exp() * torch.randn_like(self.mean)


class ActionVAE(nn.Module):
    """The VAE's encoder: state and actions to the latent's distribution; for training only."""

    positions: Tensor

    def __init__(self, *, config: MaskACTConfig, state_dim: int, action_dim: int) -> None:
        super().__init__()
        width = config.dim_model
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.state_projection = nn.Linear(state_dim, width)
        self.action_projection = nn.Linear(action_dim, width)
        self.encoder = Encoder(LayerSettings.of(config), config.n_vae_encoder_layers)
        self.latent_projection = nn.Linear(width, 2 * config.latent_dim)
        self.register_buffer("positions", sine_sequence(2 + config.chunk_size, width), persistent=False)
        reset_parameters(self.encoder)

    def forward(self, state: Tensor, actions: Tensor, is_pad: Tensor) -> Latent:
        """The latent for (B, Ds), (B, K, Da), and (B, K): true where an action is padding, which is ignored."""
        tokens = torch.cat(
            [
                self.class_token.expand(len(state), -1, -1),
                self.state_projection(state)[:, None],
                self.action_projection(actions),
            ],
            dim=1,
        )  # (B, 2 + K, D)
        prefix = is_pad.new_zeros(len(state), 2)
        allowed = ~torch.cat([prefix, is_pad], dim=1)[:, None]  # (B, 1, 2 + K)
        encoded = self.encoder(tokens, self.positions, allowed, wanted=1)
        mean, log_variance = self.latent_projection(encoded[:, 0]).chunk(2, dim=-1)
        return Latent(mean, log_variance)


class ACT(nn.Module):
    """The transformer from one observation to a chunk of actions.

    Modality and label embeddings are added to the tokens' position. Label attention acts on the encoder only.
    """

    positions: Tensor
    rules: Tensor | None
    dropped: Tensor | None

    def __init__(self, *, config: MaskACTConfig, state_dim: int, action_dim: int) -> None:
        super().__init__()
        width = config.dim_model
        settings = LayerSettings.of(config)
        self.latent_dim = config.latent_dim
        self.position_in_tokens = config.position_in_tokens
        self.vae = ActionVAE(config=config, state_dim=state_dim, action_dim=action_dim) if config.use_vae else None
        self.latent_projection = nn.Linear(config.latent_dim, width)
        self.state_projection = nn.Linear(state_dim, width)
        self.modality_embedding = nn.Embedding(3, width)
        self.label_embedding = nn.Embedding(config.num_mask, width) if config.use_mask else None
        self.encoder = Encoder(settings, config.n_encoder_layers)
        self.decoder = Decoder(settings, config.n_decoder_layers)
        self.action_queries = nn.Parameter(torch.randn(config.chunk_size, width))
        self.action_head = nn.Linear(width, action_dim)
        rules = configured_rules(config)
        self.register_buffer("rules", None if rules is None else torch.from_numpy(rules), persistent=False)
        dropped = torch.tensor(config.dropped_labels) if config.dropped_labels else None
        self.register_buffer("dropped", dropped, persistent=False)
        self.register_buffer("positions", sine_grid(config.patches_per_side, width), persistent=False)
        reset_parameters(self.encoder)
        reset_parameters(self.decoder)
        for embedding in (self.modality_embedding, self.label_embedding):
            if embedding is not None:
                nn.init.normal_(embedding.weight, std=_EMBEDDING_STD)

    def forward(
        self, features: Tensor, patch_labels: Tensor | None, state: Tensor, latent: Tensor | None = None
    ) -> Tensor:
        """Actions (B, K, Da) from features (B, N, D), labels (B, N) and state (B, Ds); without a latent it is zeros.

        Labels are needed only if the policy has masks.
        """
        batch, _, width = features.shape
        if latent is None:
            latent = features.new_zeros(batch, self.latent_dim)
        modality = self.modality_embedding.weight
        patch_position = (self.positions + modality[IMAGE]).expand(batch, -1, -1)  # (B, N, D)
        if self.label_embedding is not None:
            patch_position = patch_position + self.label_embedding(patch_labels)

        seen = None
        if self.dropped is not None:
            assert patch_labels is not None
            kept = ~torch.isin(patch_labels, self.dropped)  # (B, N)
            # Kept patches come first; M is the largest number of kept patches of a picture in the batch.
            order = kept.int().argsort(dim=1, descending=True, stable=True)[:, : int(kept.sum(dim=1).max())]  # (B, M)
            wide = order[:, :, None].expand(-1, -1, width)
            features, patch_position = features.gather(1, wide), patch_position.gather(1, wide)  # (B, M, D)
            patch_labels = patch_labels.gather(1, order)
            seen = F.pad(kept.gather(1, order), (PREFIX, 0), value=True)[:, None]  # (B, 1, 2 + M)

        tokens = torch.cat(
            [self.latent_projection(latent)[:, None], self.state_projection(state)[:, None], features], dim=1
        )  # (B, 2 + M, D), M = N where nothing is dropped
        prefix_position = modality[[LATENT, STATE]].expand(batch, PREFIX, width)
        position = torch.cat([prefix_position, patch_position], dim=1)  # (B, 2 + M, D)
        if self.position_in_tokens:  # DINOv3 has relative positions only, and values have none
            tokens = tokens + position

        allowed = seen
        if self.rules is not None:
            assert patch_labels is not None
            prefix_labels = patch_labels.new_full((batch, PREFIX), LATENT_LABEL)
            allowed = label_attention_mask(torch.cat([prefix_labels, patch_labels], dim=1), self.rules, seen)

        memory = self.encoder(tokens, position, allowed)
        decoded = self.decoder(self.action_queries.expand(batch, -1, -1), memory, position, seen)  # (B, K, D)
        actions: Tensor = self.action_head(decoded)
        return actions
