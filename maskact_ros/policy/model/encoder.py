"""`VisionEncoder`: normalised pictures to patch features, by DINOv3 (LoRA is optional) and a projection."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor, nn

from maskact_ros.core.kinds import LoraConfig
from maskact_ros.policy.model.backbone import add_lora, merge_lora


class VisionEncoder(nn.Module):
    """DINOv3's patch tokens, projected to the transformer's width.

    A frozen backbone stays in evaluation mode, because training mode would rescale its position embedding at random.
    `freeze` freezes the adapters and the projection, too.
    """

    def __init__(self, *, backbone: nn.Module, dim_model: int, frozen: bool, lora: LoraConfig | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.frozen = frozen
        self.wholly_frozen = False
        self.has_lora = lora is not None
        if lora is not None:
            add_lora(backbone, lora)
            if not frozen:
                backbone.requires_grad_(True)
        elif frozen:
            backbone.requires_grad_(False)
        settings: Any = backbone.config
        self.prefix_tokens = 1 + settings.num_register_tokens  # class token and registers come first
        self.projection = nn.Linear(settings.hidden_size, dim_model)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to features (B, N, D), patches row by row."""
        features: Tensor = self.projection(self.tokens(images))
        return features

    def tokens(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to the backbone's patch tokens (B, N, hidden), the projection's input."""
        tokens: Tensor = self.backbone(pixel_values=images).last_hidden_state  # (B, prefix + N, hidden)
        return tokens[:, self.prefix_tokens :]

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, but a frozen backbone stays in evaluation mode, except for its adapters' dropout."""
        super().train(mode and not self.wholly_frozen)
        if self.frozen and not self.wholly_frozen:
            self.backbone.eval()
            for name, module in self.backbone.named_modules():
                if name.endswith("lora_dropout"):
                    module.train(mode)
        return self

    def freeze(self) -> None:
        """Freeze all parameters; features then need no gradient, and no memory for one."""
        self.requires_grad_(False)
        self.wholly_frozen = True

    def merge_lora(self) -> None:
        """Merge the adapters into the backbone, for deployment; the features stay the same."""
        if self.has_lora:
            merge_lora(self.backbone)
            self.has_lora = False
