"""A small dataset and a tiny policy, and what the tests of training do with them."""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from maskact_ros.core.robot import Camera, Joint, RobotSpec
from maskact_ros.data.datasets.lerobot_layout import Layout, Row
from maskact_ros.data.datasets.lerobot_writer import DatasetWriter
from maskact_ros.training.run import run_folder, train
from maskact_ros.training.run.augment import PRESETS
from maskact_ros.training.run.settings import TrainSettings

CLASSES = ("background", "arm", "cube")
LENGTHS = (9, 7, 8)
DYING_STEPS = {"before the first save": 1, "in a step": 7}
HEIGHT, WIDTH = 48, 64
BACKBONE = {
    "model_type": "dinov3_vit",
    "hidden_size": 24,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "num_register_tokens": 4,
}
TINY = {
    "chunk_size": 4,
    "n_action_steps": 2,
    "dim_model": 16,
    "n_heads": 2,
    "dim_feedforward": 24,
    "n_encoder_layers": 1,
    "n_vae_encoder_layers": 1,
    "latent_dim": 4,
    "num_mask": 3,
    "mask_head_channels": 16,
    "image_size": 48,
    "use_lora": False,
    "freeze_backbone": False,
    "dino_model_dir": "dino",
}
ROBOT = RobotSpec(
    name="test_arm",
    policy_rate_hz=30.0,
    joint_states_topic="joint_states",
    command_topic="command",
    joints=tuple(Joint(name=name, lower=-3.0, upper=3.0, velocity=1.0, acceleration=5.0) for name in ("lift", "turn")),
    cameras=(Camera(name="top", image_topic="image_raw", width=WIDTH, height=HEIGHT),),
)


def mask_of(row: int) -> np.ndarray:
    """An arm from the left, and a cube whose place is the row's."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:20, : 20 + row % 10] = 1
    mask[30:40, 2 * (row % 20) : 2 * (row % 20) + 12] = 2
    return mask


def picture_of(row: int) -> np.ndarray:
    """The mask in colours, with some noise."""
    noise = np.random.default_rng(row).integers(0, 10, (HEIGHT, WIDTH, 3))
    return (np.array([[40, 60, 50], [200, 180, 30], [30, 60, 220]])[mask_of(row)] + noise).astype(np.uint8)


def write_dataset(folder: Path, *, masks: bool = True) -> Path:
    """Three episodes whose row n has the state (n, -n) / 10 and the action (n + 1, -n - 1) / 10."""
    layout = Layout(robot=ROBOT, pictures="png", mask_classes=CLASSES if masks else None)
    row = 0
    with DatasetWriter(folder, layout) as writer:
        writer.documents["contract.yaml"] = f"mask_classes: [{', '.join(CLASSES)}]\n"
        for length in LENGTHS:
            for _ in range(length):
                writer.add(
                    Row(
                        stamp_ns=row * 33_333_333,
                        state=np.array([row, -row]) / 10,
                        action=np.array([row + 1, -row - 1]) / 10,
                        rgb=picture_of(row),
                        mask=mask_of(row) if masks else None,
                    )
                )
                row += 1
            writer.end_episode("made up")
    return folder


def write_policy(path: Path, **changes) -> Path:
    """A policy's JSON, and beside it the folder of its backbone's settings."""
    (path.parent / "dino").mkdir(parents=True, exist_ok=True)
    (path.parent / "dino" / "config.json").write_text(json.dumps(BACKBONE))
    path.write_text(json.dumps(TINY | changes))
    return path


def settings_of(folder: Path, dataset: Path, out: str, *, policy: dict | None = None, **changes) -> TrainSettings:
    """Ten steps of stage 2, saved every five."""
    values = {
        "datasets": (dataset,),
        "config": write_policy(folder / "policy.json", **(policy or {})),
        "out": folder / out,
        "steps": 10,
        "batch_size": 4,
        "threads": 1,
        "eval_every": 5,
        "warmup": 2,
        "val_episodes": 0.3,
        "device": "cpu",
        "augment": PRESETS["full"],
    }
    return TrainSettings(**values | changes)


def state_of(run: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors of the run's state, and how far it has come."""
    with safe_open(run / "state.safetensors", framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["progress"])  # noqa: SIM118


def assert_same_state(run: Path, other: Path) -> None:
    """Bit for bit."""
    (ours, our_progress), (theirs, their_progress) = state_of(run), state_of(other)
    assert our_progress == their_progress
    assert ours.keys() == theirs.keys()
    assert [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])] == []


def at_step(step: int, action) -> None:
    """Do something before that step of the run, counted from 0."""
    usual = train.take_step

    def disturbed(run, number, batch):
        if number == step:
            action()
        return usual(run, number, batch)

    train.take_step = disturbed


def die() -> None:
    """As by the kernel's out-of-memory killer."""
    os.kill(os.getpid(), signal.SIGKILL)


def main(mode: str, settings: str) -> None:
    """A run, in a process of its own, that dies: in its 2nd or 8th step, or while its second checkpoint is written."""
    given = TrainSettings.from_dict(json.loads(settings))
    if mode in DYING_STEPS:
        at_step(DYING_STEPS[mode], die)
    else:
        usual, calls = run_folder.save_checkpoint, []

        def dying(folder, model, *, overwrite):
            calls.append(folder)
            if len([call for call in calls if call.name == "checkpoint"]) == 2:
                (begun := folder.parent / f".checkpoint.{'0123' * 8}").mkdir()
                (begun / "config.json").write_text("{")
                folder.rename(folder.parent / f".checkpoint.{'4567' * 8}.replaced")
                die()
            return usual(folder, model, overwrite=overwrite)

        run_folder.save_checkpoint = dying
    train.train(given)


if __name__ == "__main__":
    main(*sys.argv[1:])
