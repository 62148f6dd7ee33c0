"""`ImagePreprocessor`: the picture at the model's size to the encoder's input; for training and for the robot."""

from __future__ import annotations

from torch import Tensor, nn

from maskact_ros.core.statistics import FeatureStatistics
from maskact_ros.policy.model.normalize import Normalizer


class ImagePreprocessor(nn.Module):
    """RGB bytes to a normalised picture; always divided by 255, independently of the picture's values."""

    def __init__(self, *, statistics: FeatureStatistics, mode: str) -> None:
        super().__init__()
        self.normalizer = Normalizer(statistics=statistics, mode=mode, feature="image", width=3)

    def forward(self, images: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 to (B, 3, S, S) float32."""
        normalised: Tensor = self.normalizer(images.float() / 255)
        return normalised.permute(0, 3, 1, 2).contiguous()
