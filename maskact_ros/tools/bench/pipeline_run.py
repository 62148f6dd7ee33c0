"""Runs the three nodes between a camera and an arm, and measures the stages of each image.

In: a checkpoint, camera, rates, seconds, with or without the shared-memory profile. Out: the stages of each image.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskact_ros.core.config import MaskACTConfig
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import shared
from maskact_ros.core.robot import RobotSpec
from maskact_ros.tools.bench import children
from maskact_ros.tools.bench.load import CpuLoad
from maskact_ros.tools.bench.pipeline_stages import stages_of
from maskact_ros.tools.bringup import PROFILE_VARIABLES, BringupArguments, Process, environment, processes
from maskact_ros.tools.isolation import IsolatedDomain

TINY = "tiny"  # a fast model, for many images
CHUNK_SIZE, DIM_MODEL = 100, 512  # of both models: their messages have the same size
START_WITHIN_S, STOP_WITHIN_S = 120.0, 15.0
WARM_UP_CHUNKS = 3
_LONG_S = 60.0  # for timeouts, so that a model that takes seconds does not stop the arm
PATIENT = {
    "camera_encoder": {"max_image_age_s": _LONG_S},
    "inference": {"max_image_age_s": _LONG_S, "state_tolerance_s": 1.0, "frozen_timeout_s": 0.0},
    "action_publisher": {
        "plan_timeout_s": _LONG_S,
        "remaining_timeout_s": _LONG_S,
        "hold_timeout_s": _LONG_S,
        "engage_tolerance_s": _LONG_S,  # the plans of an untrained policy begin anywhere
        "clamp_timeout_s": _LONG_S,
        "following_tolerance_s": 0.0,
        "joint_states_timeout_s": 10.0,
    },
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The settings that all of a benchmark's runs have in common."""

    width: int
    height: int
    camera_rate_hz: float  # 0: one image after the other
    control_rate_hz: float
    image_size: int
    precision: str  # of camera_encoder and inference, on a GPU if there is one
    load: str


@dataclass(frozen=True)
class Case:
    """One of the cases to compare."""

    backbone: str  # a `vision_backbone`, or TINY
    profile: bool  # with config/fastdds.xml


def write_checkpoint(folder: Path, backbone: str, setting: Setting) -> Path:
    """A checkpoint with random weights that plans from every image; raises MaskACTError."""
    from maskact_ros.policy.commands import init_checkpoint  # loads torch

    small = backbone == TINY
    policy: dict[str, Any] = {
        "chunk_size": CHUNK_SIZE,
        "n_action_steps": 1,  # plan from every image, as with ensembling, but without the time of ensembling
        "vision_backbone": MaskACTConfig().vision_backbone if small else backbone,
        "use_lora": False,
        "use_vae": False,
        "image_size": setting.image_size,
        "dim_model": DIM_MODEL,
    }
    if small:
        policy |= {"dino_model_dir": "backbone", "mask_head_channels": 8, "n_encoder_layers": 1, "dim_feedforward": 32}
        (folder / "backbone").mkdir()
        (folder / "backbone" / "config.json").write_text(json.dumps(_TINY_BACKBONE), encoding="utf-8")
    (folder / "policy.json").write_text(json.dumps(policy), encoding="utf-8")
    robot = RobotSpec.from_yaml(shared("config/robot.yaml"))
    camera = replace(robot.only_camera, width=setting.width, height=setting.height)
    checkpoint = folder / backbone
    init_checkpoint(folder / "policy.json", checkpoint, replace(robot, cameras=(camera,)))
    return checkpoint


_TINY_BACKBONE = {
    "model_type": "dinov3_vit",
    "patch_size": 16,
    "num_channels": 3,
    "image_size": 32,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_register_tokens": 4,
}


def measure(case: Case, checkpoint: Path, setting: Setting, seconds: float) -> list[dict[str, float]]:
    """Start all processes, wait for chunks, measure; return the stages of each image, as `stages_of` gives them.

    Raises:
        MaskACTError: a process ended by itself, or no chunk came.
    """
    with tempfile.TemporaryDirectory(prefix="maskact_bench_") as name, ExitStack() as stack:
        folder = Path(name)
        for variable in PROFILE_VARIABLES:
            os.environ.pop(variable, None)  # the case decides, not the user's environment
        domain = IsolatedDomain()
        stack.callback(domain.close)
        load = stack.enter_context(CpuLoad(setting.load))
        variables = domain.environment | environment(shared_memory=case.profile) | {"PYTHONUNBUFFERED": "1"}
        arguments = BringupArguments(
            policy_path=str(checkpoint), publisher_parameters={"control_rate_hz": setting.control_rate_hz}
        )
        described = processes(arguments)
        running = {
            process.name: stack.enter_context(
                _running(_command(process, setting, folder), folder / process.name, variables)
            )
            for process in described
        }
        peer = stack.enter_context(_running(_peer_command(setting, folder), folder / "peer", variables))
        chunks = _Chunks(peer, running, folder)
        chunks.wait_for(WARM_UP_CHUNKS)
        load.resume()
        began_ns = time.time_ns()
        chunks.watch(seconds)
        load.pause()
        for process in (peer, *running.values()):
            children.stop(process, STOP_WITHIN_S)
        return _stages(folder, began_ns)


def _stages(folder: Path, began_ns: int) -> list[dict[str, float]]:
    def noted(name: str) -> dict[int, dict[str, float]]:
        notes = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        return {int(stamp): values for stamp, values in notes.items() if int(stamp) >= began_ns}

    commands = json.loads((folder / "peer.json").read_text(encoding="utf-8"))
    return stages_of(noted("camera_encoder"), noted("inference"), noted("action_publisher"), commands)


def _command(process: Process, setting: Setting, folder: Path) -> list[str]:
    """The command that starts a process as bringup does, but as a recording node."""
    engine = {"precision": setting.precision} if process.name in ("camera_encoder", "inference") else {}
    process = replace(process, parameters=process.parameters | PATIENT[process.name] | engine)
    python, option, _, *arguments = process.command(folder)
    notes = str(folder / f"{process.name}.json")
    return [python, option, "maskact_ros.tools.bench.pipeline_nodes", process.name, notes, *arguments]


def _peer_command(setting: Setting, folder: Path) -> list[str]:
    numbers = [f"{n:g}" for n in (setting.width, setting.height, setting.camera_rate_hz)]
    return [sys.executable, "-m", "maskact_ros.tools.bench.pipeline_peer", *numbers, str(folder / "peer.json")]


@contextmanager
def _running(command: list[str], log: Path, variables: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = children.start(command, log, environment=variables)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class _Chunks:
    """Counts the received chunks by the peer's log, and checks that all processes run."""

    def __init__(self, peer: subprocess.Popen[str], nodes: dict[str, subprocess.Popen[str]], folder: Path) -> None:
        self._processes = {"peer": peer} | nodes
        self._folder = folder

    def wait_for(self, count: int) -> None:
        """Wait until `count` chunks have come; raises MaskACTError."""
        until_s = time.monotonic() + START_WITHIN_S
        while self._count() < count:
            self._check()
            if time.monotonic() > until_s:
                raise MaskACTError(
                    f"no chunk came within {START_WITHIN_S:g} s; its last lines:", lines=self._lines("inference")[-8:]
                )
            time.sleep(0.1)

    def watch(self, seconds: float) -> None:
        """Wait for `seconds`; raises MaskACTError when a process ends."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self._check()
            time.sleep(min(0.5, max(0.0, until_s - time.monotonic())))

    def _count(self) -> int:
        return self._lines("peer").count("chunk")

    def _check(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise MaskACTError(f"{name} ended by itself; its last lines:", lines=self._lines(name)[-8:])

    def _lines(self, name: str) -> list[str]:
        return (self._folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
