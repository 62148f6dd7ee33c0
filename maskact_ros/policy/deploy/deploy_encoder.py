"""DINOv3 for the robot: a picture's bytes to features, with all constants computed beforehand.

The picture's normalisation is folded into the patch embedding's weights, LayerScale into those of the layers' outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from maskact_ros.core.config import PATCH_SIZE
from maskact_ros.policy.deploy.packed_layers import Product, attend, compute_in
from maskact_ros.policy.model.backbone import layers_of
from maskact_ros.policy.model.maskact import Perception
from maskact_ros.policy.model.normalize import Normalizer


class DeployedEncoder(nn.Module):
    """Preprocessing, DINOv3 and the projection, for one picture."""

    prefix: Tensor
    rotation: Tensor

    def __init__(self, perception: Perception) -> None:
        """Copy the weights of a perception whose LoRA adapters are merged."""
        super().__init__()
        backbone: Any = perception.encoder.backbone
        embeddings = backbone.embeddings
        self.side = perception.image_size // PATCH_SIZE
        self.embedding = _embedding(embeddings.patch_embeddings, perception.preprocessor.normalizer)
        tokens = torch.cat([embeddings.cls_token, embeddings.register_tokens], dim=1)[0]  # (prefix, hidden)
        self.register_buffer("prefix", tokens.detach().clone(), persistent=False)
        self.register_buffer("rotation", _rotation(backbone, perception.image_size, len(tokens)), persistent=False)
        self.layers = nn.ModuleList(_Layer(layer) for layer in layers_of(backbone))
        self.norm = backbone.norm
        self.projection = Product.joined(perception.encoder.projection)

    def forward(self, image: Tensor) -> Tensor:
        """(S, S, 3) uint8 RGB to features (N, D) in single precision, patches row by row."""
        grid = image.view(self.side, PATCH_SIZE, self.side, PATCH_SIZE, 3)
        patches = grid.transpose(1, 2).reshape(self.side**2, -1)  # (N, rows * columns * colours)
        tokens = torch.cat([self.prefix, self.embedding(patches)])  # (T, hidden)
        for layer in self.layers:
            tokens = layer(tokens, self.rotation)
        features: Tensor = self.projection(self.norm(tokens[len(self.prefix) :]))
        return features

    def compute_in(self, precision: torch.dtype) -> None:
        """Let the layers compute in another precision, in place.

        The residual stream, norms, embedding and projection stay in single precision.
        """
        compute_in(self.layers, precision)


class _Layer(nn.Module):
    """One layer: attention, then a feed-forward network, each added to its input."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention, mlp = layer.attention, layer.mlp
        self.n_heads: int = attention.num_heads
        width = attention.head_dim
        # The rotation acts on channels i and i + width / 2 of a head. Reordered side by side they are a complex number.
        # Queries and keys are reordered in the same way, so their products stay the same.
        order = torch.arange(self.n_heads * width).view(self.n_heads, 2, width // 2).transpose(1, 2).flatten()
        self.qkv = Product.joined(
            _reordered(attention.q_proj, order), _reordered(attention.k_proj, order), attention.v_proj
        )
        self.output = Product.scaled(attention.o_proj, layer.layer_scale1.lambda1)
        self.is_gated = hasattr(mlp, "gate_proj")
        self.up = Product.joined(mlp.gate_proj, mlp.up_proj) if self.is_gated else Product.joined(mlp.up_proj)
        self.activation = mlp.act_fn
        self.down = Product.scaled(mlp.down_proj, layer.layer_scale2.lambda1)
        self.norm1, self.norm2 = layer.norm1, layer.norm2

    def forward(self, tokens: Tensor, rotation: Tensor) -> Tensor:
        """(T, hidden) and `_rotation`'s table to (T, hidden)."""
        tokens = self.output.added_to(tokens, self._attended(self.norm1(tokens), rotation))
        inner = self.up(self.norm2(tokens))
        if self.is_gated:
            gate, inner = inner.chunk(2, dim=1)
            inner = self.activation(gate) * inner
        else:
            inner = self.activation(inner)
        return self.down.added_to(tokens, inner)

    def _attended(self, tokens: Tensor, rotation: Tensor) -> Tensor:
        qkv = self.qkv.heads(tokens, 3 * self.n_heads)  # (T, 3 H, W)
        query, key = _rotated(qkv[:, : 2 * self.n_heads], rotation).chunk(2, dim=1)
        return attend(query, key, qkv[:, 2 * self.n_heads :])


def _embedding(convolution: nn.Conv2d, normalizer: Normalizer) -> Product:
    """The product of a patch's bytes that equals the convolution of the normalised picture."""
    weight = convolution.weight.double() / normalizer.scale.double()[:, None, None]  # (hidden, 3, 16, 16)
    shift = (weight * normalizer.centre.double()[:, None, None]).sum(dim=(1, 2, 3))
    bias = -shift if convolution.bias is None else convolution.bias.double() - shift
    return Product((weight / 255).permute(0, 2, 3, 1).flatten(1).float(), bias.float())


def _reordered(layer: nn.Linear, order: Tensor) -> nn.Linear:
    """A layer with its outputs in another order."""
    reordered = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    reordered.weight.data = layer.weight.detach()[order]
    if layer.bias is not None:
        reordered.bias.data = layer.bias.detach()[order]
    return reordered


def _rotation(backbone: Any, image_size: int, prefix: int) -> Tensor:
    """(T, W / 2, 2): cosine and sine of the rotation of each token's channel pairs; no rotation in the prefix."""
    cosine, sine = backbone.rope_embeddings(torch.zeros(1, 3, image_size, image_size))  # (N, W), both halves the same
    half = cosine.shape[1] // 2
    table = torch.stack([cosine[:, :half], sine[:, :half]], dim=-1)
    unturned = torch.tensor([1.0, 0.0]).expand(prefix, half, 2)
    return torch.cat([unturned, table]).contiguous()


def _rotated(heads: Tensor, rotation: Tensor) -> Tensor:
    """(T, H, W) with its channel pairs rotated."""
    pairs = heads.float().view(*heads.shape[:2], -1, 2)  # (T, H, W / 2, 2)
    if torch.compiler.is_compiling():  # ONNX has no complex numbers
        cosine, sine = rotation[:, None].unbind(dim=-1)
        first, second = pairs.unbind(dim=-1)
        turned = torch.stack([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(rotation)[:, None])
    return turned.flatten(-2).to(heads.dtype)
