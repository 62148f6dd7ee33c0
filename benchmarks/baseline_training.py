"""MaskACT's training as it is usually published: samples read one by one, everything eager, a default optimizer.

`benchmarks train` compares with it. `Trainer.load` reads a checkpoint of ours and computes the same losses: samples
opened, decoded, resized and normalised one at a time from HDF5, collated by lists; the model of `baseline_model`, which
is loaded before this; attention masks built sample by sample and query by query; AdamW as PyTorch gives it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import cv2
import h5py
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks import baseline_model as plain
from maskact_ros.core.checkpoint import WEIGHTS, CheckpointInfo
from maskact_ros.core.config import LATENT_LABEL, PATCH_SIZE, MaskACTConfig
from maskact_ros.policy.model.weights import load_tensors

CLIP_NORM = 10.0


def write_samples(path: Path, episodes: Sequence[dict[str, NDArray[Any]]]) -> None:
    """An HDF5 file of episodes: `images` (T, H, W, 3), `masks` (T, H, W), `joints` and `actions` (T, J)."""
    with h5py.File(path, "w") as file:
        for number, episode in enumerate(episodes):
            group = file.create_group(f"data/demo_{number}")
            for name, values in episode.items():
                picture = values.ndim > 2
                chunks = (1, *values.shape[1:]) if picture else None
                group.create_dataset(name, data=values, chunks=chunks, compression="gzip" if picture else None)


class Samples(Dataset):
    """One sample for each row of each episode."""

    def __init__(self, path: Path, info: CheckpointInfo) -> None:
        self.path, self.config = path, info.config
        modes, joints = info.config.normalization_mapping, len(info.robot.joints)
        self.image = [np.array(v) for v in info.statistics.image.affine(modes["VISUAL"], feature="image", width=3)]
        self.state = [np.array(v) for v in info.statistics.state.affine(modes["STATE"], feature="state", width=joints)]
        affine = info.statistics.action.affine(modes["ACTION"], feature="action", width=joints)
        self.action = [np.array(v) for v in affine]
        self.index = []
        with h5py.File(path, "r") as file:
            for demo in file["data"]:
                self.index += [(demo, t) for t in range(len(file["data"][demo]["joints"]))]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        demo, t = self.index[number]
        size, length = (self.config.image_size,) * 2, self.config.chunk_size
        with h5py.File(self.path, "r") as file:
            group = file["data"][demo]
            image, mask = group["images"][t], group["masks"][t]
            state, actions = group["joints"][t], group["actions"][t : t + length]
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        image = (image / 255.0 - self.image[0]) / self.image[1]
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
        is_pad = np.zeros(length, dtype=bool)
        is_pad[len(actions) :] = True
        actions = np.concatenate([actions, np.repeat(actions[-1:], length - len(actions), axis=0)])
        return {
            "image": torch.from_numpy(image.transpose(2, 0, 1)).float(),
            "mask": torch.from_numpy(mask).long(),
            "state": torch.from_numpy((state - self.state[0]) / self.state[1]).float(),
            "actions": torch.from_numpy((actions - self.action[0]) / self.action[1]).float(),
            "is_pad": torch.from_numpy(is_pad),
        }


def collate(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Lists of tensors to tensors of batches."""
    columns = {name: [sample[name] for sample in samples] for name in samples[0]}
    return {name: torch.stack(values, dim=0) for name, values in columns.items()}


class VAE(nn.Module):
    """State and actions to the latent's distribution."""

    def __init__(self, config: MaskACTConfig, joints: int) -> None:
        super().__init__()
        width = config.dim_model
        self.n_heads = config.n_heads
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.state_projection = nn.Linear(joints, width)
        self.action_projection = nn.Linear(joints, width)
        self.encoder = plain.Stack(config, config.n_vae_encoder_layers, decoder=False)
        self.latent_projection = nn.Linear(width, 2 * config.latent_dim)
        self.register_buffer("positions", sequence_table(2 + config.chunk_size, width), persistent=False)

    def forward(self, state: Tensor, actions: Tensor, is_pad: Tensor) -> tuple[Tensor, Tensor]:
        """(B, J), (B, K, J), (B, K) to mean and log of the variance (B, Z)."""
        token = self.class_token.repeat(len(state), 1, 1)
        source = torch.cat([token, self.state_projection(state).unsqueeze(1), self.action_projection(actions)], dim=1)
        source = source.permute(1, 0, 2)
        hidden = torch.cat([torch.zeros(len(state), 2, dtype=torch.bool, device=is_pad.device), is_pad], dim=1)
        mask = hidden.unsqueeze(1).repeat(1, hidden.shape[1], 1).repeat_interleave(self.n_heads, dim=0)
        for layer in self.encoder.layers:
            source = layer.encode(source, self.positions.unsqueeze(1), mask)
        return self.latent_projection(self.encoder.norm(source)[0]).chunk(2, dim=-1)


def sequence_table(length: int, width: int) -> Tensor:
    """(length, width): sines and cosines."""
    angles = np.array([[i / np.power(10000, 2 * (c // 2) / width) for c in range(width)] for i in range(length)])
    angles[:, 0::2] = np.sin(angles[:, 0::2])
    angles[:, 1::2] = np.cos(angles[:, 1::2])
    return torch.from_numpy(angles).float()


class TrainedACT(plain.ACT):
    """The baseline's transformer, for batches, with the VAE that training needs."""

    def __init__(self, config: MaskACTConfig, joints: int) -> None:
        super().__init__(config, joints)
        if config.use_vae:
            self.vae = VAE(config, joints)

    def forward(self, features: Tensor, labels: Tensor, state: Tensor, latent: Tensor) -> Tensor:
        """(B, N, D), (B, N), (B, J) and (B, Z) to (B, K, J)."""
        tokens = [self.latent_projection(latent), self.state_projection(state)]
        tokens.extend(features.permute(1, 0, 2))
        source = torch.stack(tokens, dim=0)  # (2 + N, B, D)
        modality = self.modality_embedding.weight
        prefix = modality[[plain.LATENT, plain.STATE]].unsqueeze(1).repeat(1, len(state), 1)
        patches = self.positions + modality[plain.IMAGE] + self.label_embedding(labels)  # (B, N, D)
        position = torch.cat([prefix, patches.permute(1, 0, 2)], dim=0)
        if self.config.position_in_tokens:
            source = source + position
        mask = None
        if self.config.label_attention_rules:
            masks = []
            for sample in labels:
                token_labels = torch.cat([sample.new_full((2,), LATENT_LABEL), sample])
                masks.append(plain.attention_mask(token_labels, self.config.label_attention_rules))
            mask = torch.stack(masks, dim=0).repeat_interleave(self.config.n_heads, dim=0)  # (B * H, T, T)
        for layer in self.encoder.layers:
            source = layer.encode(source, position, mask)
        memory = self.encoder.norm(source)
        query_position = self.action_queries.unsqueeze(1).repeat(1, len(state), 1)
        target = torch.zeros_like(query_position)
        for layer in self.decoder.layers:
            target = layer.decode(target, query_position, memory, position)
        return self.action_head(self.decoder.norm(target)).permute(1, 0, 2)


class Trainer:
    """Continues the training of a checkpoint in this style."""

    def __init__(self, info: CheckpointInfo, samples: Samples, batch_size: int, device: str, workers: int) -> None:
        self.config, self.device = info.config, torch.device(device)
        self.perception = plain.Perception(info, "eager")
        self.act = TrainedACT(info.config, len(info.robot.joints))
        self.loader = DataLoader(
            samples, batch_size, shuffle=True, drop_last=True, collate_fn=collate, num_workers=workers
        )
        self.batches: Iterator[dict[str, Tensor]] = iter(())

    @classmethod
    def load(cls, folder: Path, path: Path, *, batch_size: int, device: str = "cpu", workers: int = 0) -> Self:
        """Of a checkpoint's folder, and an HDF5 file."""
        info = CheckpointInfo.read(folder)
        trainer = cls(info, Samples(path, info), batch_size, device, workers)
        tensors = load_file(info.folder / WEIGHTS)
        seen = plain._part(tensors, "perception.", without="auxiliary_head.")
        load_tensors(trainer.perception, seen, str(folder))
        load_tensors(trainer.act, plain._packed(plain._part(tensors, "planner.act.", without="-")), str(folder))
        trainer.prepare()
        return trainer

    def prepare(self) -> None:
        """Freeze the parts that are not trained, and make the optimizer."""
        config = self.config
        for name, parameter in self.perception.encoder.backbone.named_parameters():
            parameter.requires_grad_(("lora_" in name) if config.use_lora else not config.freeze_backbone)
        acting = config.training_stage == "stage2"
        self.act.requires_grad_(acting)
        self.perception.to(self.device)
        self.act.to(self.device)
        if acting:
            encoder_lr, mask_lr = config.optimizer_lr * config.stage2_dino_lr_ratio, config.optimizer_lr * 0.1
        else:
            encoder_lr, mask_lr = config.optimizer_lr_backbone, config.optimizer_lr
        parts = [(self.perception.encoder, encoder_lr), (self.perception.mask_head, mask_lr)]
        parts += [(self.act, config.optimizer_lr)] if acting else []
        groups = [{"params": [p for p in part.parameters() if p.requires_grad], "lr": lr} for part, lr in parts]
        self.parameters = [p for group in groups for p in group["params"]]
        self.optimizer = torch.optim.AdamW(
            groups, betas=config.optimizer_betas, weight_decay=config.optimizer_weight_decay
        )
        self.train()

    def train(self, mode: bool = True) -> None:
        """Training or evaluation mode; a frozen backbone stays in the latter."""
        self.perception.train(mode)
        self.act.train(mode)
        if self.config.freeze_backbone:
            self.perception.encoder.backbone.eval()

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses by name, with their weighted sum `total`; in evaluation mode with a latent of zeros."""
        config = self.config
        features = self.perception.features(batch["image"])
        logits = self.perception.pixel_logits(features)
        found = {"mask": F.cross_entropy(logits, batch["mask"])}
        if config.training_stage == "stage1":
            return found | {"total": found["mask"]}
        latent = torch.zeros(len(features), config.latent_dim, device=features.device)
        if config.use_vae and self.act.training:
            mean, log_variance = self.act.vae(batch["state"], batch["actions"], batch["is_pad"])
            latent = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
            found["kl"] = (-0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp())).sum(dim=1).mean()
        predicted = self.act(features, self._labels(logits.detach()), batch["state"], latent)
        known = (~batch["is_pad"]).unsqueeze(-1).expand_as(predicted)
        found["action"] = (F.l1_loss(predicted, batch["actions"], reduction="none") * known).sum() / known.sum()
        action = found["action"] + config.kl_weight * found["kl"] if "kl" in found else found["action"]
        total = config.action_loss_weight * action + config.mask_loss_weight * found["mask"]
        return found | {"total": total}

    def step(self) -> float:
        """Do one step on one batch; return the loss."""
        batch = next(self.batches, None)
        if batch is None:
            self.batches = iter(self.loader)
            batch = next(self.batches)
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        total = self.losses(batch)["total"]
        self.optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM)
        self.optimizer.step()
        return total.item()

    def _labels(self, logits: Tensor) -> Tensor:
        """(B, C, S, S) to (B, N): the pixels of a patch vote."""
        probability = torch.softmax(logits, dim=1)
        batch, classes, _, _ = probability.shape
        side = self.config.patches_per_side
        patches = probability.reshape(batch, classes, side, PATCH_SIZE, side, PATCH_SIZE).mean(dim=(3, 5))
        weights = torch.tensor(self.config.mask_importance_weights or [1.0] * classes, device=logits.device)
        return torch.argmax(patches * weights.clamp(0.01, 10.0).view(1, -1, 1, 1), dim=1).reshape(batch, -1)
