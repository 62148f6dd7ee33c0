"""MaskACT as policies are usually published: eager, every layer as in its paper, nothing folded or merged.

`benchmarks model` compares with it. `Baseline.load` reads a checkpoint of ours and computes the same function:
DINOv3 of `transformers`, LoRA not merged, batch norm after each convolution, PyTorch's own multi-head attention,
an attention mask that is built query by query, and float64 where NumPy uses it by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import peft
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from maskact_ros.core.checkpoint import WEIGHTS, CheckpointInfo
from maskact_ros.core.config import LATENT_LABEL, PATCH_SIZE, MaskACTConfig
from maskact_ros.core.geometry import ImageGeometry
from maskact_ros.policy.model.weights import load_tensors

ATTENTIONS = ("eager", "sdpa")  # of DINOv3, as transformers names them
IMAGE, STATE, LATENT = range(3)  # rows of the modality embedding


class Perception(nn.Module):
    """DINOv3, the projection and the mask head."""

    def __init__(self, info: CheckpointInfo, attention: str) -> None:
        super().__init__()
        config = info.config
        settings = {name: value for name, value in info.backbone.items() if name != "model_type"}
        backbone = DINOv3ViTModel(DINOv3ViTConfig(**settings | {"attn_implementation": attention})).float()
        self.prefix = 1 + backbone.config.num_register_tokens
        self.image_size = config.image_size
        if config.use_lora:
            lora = config.lora
            adapter = peft.LoraConfig(
                r=lora.r,
                lora_alpha=lora.lora_alpha,
                target_modules=list(lora.target_modules),
                bias=lora.bias,
                use_rslora=True,
            )
            peft.inject_adapter_in_model(adapter, backbone)
        self.encoder = nn.Module()
        self.encoder.backbone = backbone
        self.encoder.projection = nn.Linear(backbone.config.hidden_size, config.dim_model)
        self.mask_head = MaskHead(config.dim_model, config.mask_head_channels, config.num_mask)

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) normalised to (B, N, D)."""
        hidden = self.encoder.backbone(pixel_values=images).last_hidden_state
        return self.encoder.projection(hidden[:, self.prefix :, :])

    def pixel_logits(self, features: Tensor) -> Tensor:
        """(B, N, D) to (B, C, S, S)."""
        batch, patches, width = features.shape
        side = int(patches**0.5)
        grid = features.permute(0, 2, 1).reshape(batch, width, side, side)
        size = (self.image_size, self.image_size)
        return F.interpolate(self.mask_head(grid), size=size, mode="bilinear", align_corners=False)


class MaskHead(nn.Module):
    """ASPP."""

    def __init__(self, width: int, channels: int, classes: int) -> None:
        super().__init__()
        self.image_pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), *self._block(width, channels, 1, 1))
        self.branches = nn.ModuleList(
            nn.Sequential(*self._block(width, channels, 1 if dilation == 1 else 3, dilation))
            for dilation in (1, 6, 12, 18)
        )
        self.bottleneck = nn.Sequential(*self._block(5 * channels, channels, 3, 1))
        self.classifier = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(channels, classes, 1))

    def forward(self, grid: Tensor) -> Tensor:
        """(B, D, P, P) to (B, C, P, P)."""
        pooled = F.interpolate(self.image_pooling(grid), size=grid.shape[-2:], mode="bilinear", align_corners=False)
        outputs = [pooled]
        for branch in self.branches:
            outputs.append(branch(grid))  # noqa: PERF401 - the plain style
        return self.classifier(self.bottleneck(torch.cat(outputs, dim=1)))

    @staticmethod
    def _block(width: int, channels: int, kernel: int, dilation: int) -> tuple[nn.Module, ...]:
        padding = dilation * (kernel // 2)
        convolution = nn.Conv2d(width, channels, kernel, padding=padding, dilation=dilation, bias=False)
        return convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)


class Layer(nn.Module):
    """A transformer layer, of the encoder or of the decoder; sequences are (T, B, D)."""

    def __init__(self, config: MaskACTConfig, *, decoder: bool) -> None:
        super().__init__()
        width, hidden = config.dim_model, config.dim_feedforward
        self.pre_norm = config.pre_norm
        self.self_attention = nn.MultiheadAttention(width, config.n_heads, dropout=config.dropout)
        if decoder:
            self.cross_attention = nn.MultiheadAttention(width, config.n_heads, dropout=config.dropout)
            self.norm3 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, 2 * hidden if config.feedforward_activation == "glu" else hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)
        self.activation = {"relu": F.relu, "gelu": F.gelu, "glu": F.glu}[config.feedforward_activation]

    def encode(self, source: Tensor, position: Tensor, mask: Tensor | None) -> Tensor:
        """(T, B, D) to (T, B, D); `mask` (T, T) is true where a query may not attend."""
        value = self.norm1(source) if self.pre_norm else source
        query = key = value + position
        source = source + self.dropout(self.self_attention(query, key, value=value, attn_mask=mask)[0])
        if not self.pre_norm:
            source = self.norm1(source)
        return self._feed_forward(source, self.norm2)

    def decode(self, target: Tensor, position: Tensor, memory: Tensor, memory_position: Tensor) -> Tensor:
        """(Q, B, D) to (Q, B, D), with attention to a memory (T, B, D)."""
        value = self.norm1(target) if self.pre_norm else target
        target = target + self.dropout(self.self_attention(value + position, value + position, value=value)[0])
        if not self.pre_norm:
            target = self.norm1(target)
        query = (self.norm2(target) if self.pre_norm else target) + position
        target = target + self.dropout(self.cross_attention(query, memory + memory_position, value=memory)[0])
        if not self.pre_norm:
            target = self.norm2(target)
        return self._feed_forward(target, self.norm3)

    def _feed_forward(self, tokens: Tensor, norm: nn.Module) -> Tensor:
        value = norm(tokens) if self.pre_norm else tokens
        tokens = tokens + self.dropout(self.linear2(self.dropout(self.activation(self.linear1(value)))))
        return tokens if self.pre_norm else norm(tokens)


class Stack(nn.Module):
    """Layers, one after the other."""

    def __init__(self, config: MaskACTConfig, count: int, *, decoder: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config, decoder=decoder) for _ in range(count))
        self.norm = nn.LayerNorm(config.dim_model) if decoder or config.pre_norm else nn.Identity()


class ACT(nn.Module):
    """The transformer from one observation to a chunk of normalised actions."""

    def __init__(self, config: MaskACTConfig, joints: int) -> None:
        super().__init__()
        width = config.dim_model
        self.config = config
        self.latent_projection = nn.Linear(config.latent_dim, width)
        self.state_projection = nn.Linear(joints, width)
        self.modality_embedding = nn.Embedding(3, width)
        self.label_embedding = nn.Embedding(config.num_mask, width)
        self.encoder = Stack(config, config.n_encoder_layers, decoder=False)
        self.decoder = Stack(config, config.n_decoder_layers, decoder=True)
        self.action_queries = nn.Parameter(torch.zeros(config.chunk_size, width))
        self.action_head = nn.Linear(width, joints)
        self.register_buffer("positions", position_table(config.patches_per_side, width), persistent=False)

    def forward(self, features: Tensor, labels: Tensor, state: Tensor) -> Tensor:
        """(1, N, D), (1, N) and (1, J) to (1, K, J)."""
        latent = torch.zeros(1, self.config.latent_dim, dtype=torch.float32, device=state.device)
        tokens = [self.latent_projection(latent), self.state_projection(state)]
        tokens.extend(features.permute(1, 0, 2))  # one (1, D) for each patch
        source = torch.stack(tokens, dim=0)  # (2 + N, 1, D)

        modality = self.modality_embedding.weight
        patch_position = self.positions + modality[IMAGE] + self.label_embedding(labels[0])
        position = torch.cat([modality[[LATENT, STATE]], patch_position], dim=0).unsqueeze(1)
        if self.config.position_in_tokens:
            source = source + position

        mask = None
        if self.config.label_attention_rules:
            token_labels = torch.cat([labels.new_full((2,), LATENT_LABEL), labels[0]])
            mask = attention_mask(token_labels, self.config.label_attention_rules)
        for layer in self.encoder.layers:
            source = layer.encode(source, position, mask)
        memory = self.encoder.norm(source)

        query_position = self.action_queries.unsqueeze(1)
        target = torch.zeros_like(query_position)
        for layer in self.decoder.layers:
            target = layer.decode(target, query_position, memory, position)
        return self.action_head(self.decoder.norm(target)).permute(1, 0, 2)


def position_table(side: int, width: int) -> Tensor:
    """(side * side, width): sines and cosines of the row in the first half, of the column in the second."""

    def line(length: int, channels: int) -> NDArray[np.float64]:
        return np.array(
            [[i / np.power(10000, 2 * (c // 2) / channels) for c in range(channels)] for i in range(length)]
        )

    angles = line(side, width // 2)
    angles[:, 0::2] = np.sin(angles[:, 0::2])
    angles[:, 1::2] = np.cos(angles[:, 1::2])
    table = [np.concatenate([angles[row], angles[column]]) for row in range(side) for column in range(side)]
    return torch.from_numpy(np.array(table)).float()


def attention_mask(labels: Tensor, rules: Mapping[int, tuple[int, ...]]) -> Tensor:
    """(T, T), true where a query may not attend; a query that may attend to nothing attends to everything."""
    mask = torch.zeros(len(labels), len(labels), dtype=torch.bool, device=labels.device)
    for query in range(len(labels)):
        rule = rules.get(int(labels[query].item()))
        if rule is None:
            continue
        allowed = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
        for label in rule:
            allowed |= labels == label
        if allowed.any():
            mask[query] = ~allowed
    return mask


class Baseline:
    """A checkpoint, run in this style."""

    def __init__(self, info: CheckpointInfo, perception: Perception, act: ACT, device: str) -> None:
        self.config, self.device = info.config, torch.device(device)
        self.perception = perception.eval().to(self.device)
        self.planner = act.eval().to(self.device)
        joints, modes = len(info.robot.joints), info.config.normalization_mapping
        self.image_affine = info.statistics.image.affine(modes["VISUAL"], feature="image", width=3)
        self.state_affine = info.statistics.state.affine(modes["STATE"], feature="state", width=joints)
        self.action_affine = info.statistics.action.affine(modes["ACTION"], feature="action", width=joints)

    @classmethod
    def load(cls, folder: str | Path, *, attention: str = "eager", device: str = "cpu") -> Self:
        """Load a checkpoint's folder; raises ValueError for a policy that this plain style does not support."""
        info = CheckpointInfo.read(folder)
        config = info.config
        if not config.use_mask or config.dropped_labels or info.geometry != ImageGeometry():
            raise ValueError(f"{folder}: a policy with masks, no dropped labels and the default geometry is needed")
        tensors = load_file(info.folder / WEIGHTS)
        perception, act = Perception(info, attention), ACT(config, len(info.robot.joints))
        seen = _part(tensors, "perception.", without="auxiliary_head.")
        load_tensors(perception, seen, str(folder))
        load_tensors(act, _packed(_part(tensors, "planner.act.", without="vae.")), str(folder))
        return cls(info, perception, act, device)

    def preprocess(self, rgb: NDArray[np.uint8]) -> Tensor:
        """(H, W, 3) to (1, 3, S, S)."""
        image = cv2.resize(rgb, (self.config.image_size, self.config.image_size), interpolation=cv2.INTER_LINEAR)
        centre, scale = self.image_affine
        normalised = (image / 255.0 - centre) / scale  # float64
        return torch.from_numpy(normalised.transpose(2, 0, 1)).float().unsqueeze(0).to(self.device)

    @torch.no_grad()
    def encode(self, image: Tensor) -> Tensor:
        """(1, 3, S, S) to features (1, N, D)."""
        return self._finished(self.perception.features(image))

    @torch.no_grad()
    def segment(self, features: Tensor) -> Tensor:
        """(1, N, D) to patch labels (1, N)."""
        probability = torch.softmax(self.perception.pixel_logits(features), dim=1)
        side = self.config.patches_per_side
        patches = probability.reshape(1, -1, side, PATCH_SIZE, side, PATCH_SIZE).mean(dim=(3, 5))  # (1, C, P, P)
        weights = torch.tensor(self.config.mask_importance_weights or [1.0] * self.config.num_mask)
        weighted = patches * weights.clamp(0.01, 10.0).view(1, -1, 1, 1).to(self.device)
        weighted = weighted / weighted.sum(dim=1, keepdim=True)
        return self._finished(torch.argmax(weighted, dim=1).reshape(1, -1))

    @torch.no_grad()
    def act(self, features: Tensor, labels: Tensor, state: NDArray[np.float64]) -> NDArray[np.float64]:
        """(1, N, D), (1, N) and joint positions (J,) to future joint positions (K, J)."""
        centre, scale = self.state_affine
        normalised = torch.tensor([((state - centre) / scale).tolist()], dtype=torch.float32, device=self.device)
        actions = self.planner(features, labels, normalised).squeeze(0).cpu().tolist()
        centre, scale = self.action_affine
        return np.array([[a * s + c for a, s, c in zip(row, scale, centre, strict=True)] for row in actions])

    def step(self, rgb: NDArray[np.uint8], state: NDArray[np.float64]) -> NDArray[np.float64]:
        """A camera's picture (H, W, 3) and joint positions (J,) to future joint positions (K, J)."""
        features = self.encode(self.preprocess(rgb))
        return self.act(features, self.segment(features), state)

    def _finished(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return tensor


def _part(tensors: Mapping[str, Tensor], prefix: str, *, without: str) -> dict[str, Tensor]:
    names = {name: name[len(prefix) :] for name in tensors if name.startswith(prefix)}
    return {short: tensors[name] for name, short in names.items() if not short.startswith(without)}


def _packed(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The transformer's tensors by this file's names: queries, keys and values in one, the feed-forward unnamed."""
    packed = {}
    for name, tensor in tensors.items():
        if ".q_proj." in name:
            parts = [tensors[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            packed[name.replace(".q_proj.", ".in_proj_")] = torch.cat(parts, dim=0)
        elif ".k_proj." not in name and ".v_proj." not in name:
            packed[name.replace(".feed_forward.", ".")] = tensor
    return packed
