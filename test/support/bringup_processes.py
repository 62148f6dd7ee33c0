"""The processes that `maskact bringup` starts."""

import sys
from pathlib import Path

import yaml

MASKACT = [sys.executable, "-m", "maskact_ros.cli"]
NODES = ("sim_robot", "camera_encoder", "inference", "action_publisher")

# An untrained policy wants anything, and may well run the arm into the table.
PATIENT = {"action_publisher": {"engage_tolerance_s": 10.0, "following_tolerance_s": 0.0, "clamp_timeout_s": 60.0}}


def untrained(policy: Path, folder: Path) -> list[str]:
    """The arguments of a bringup in which the simulated arm follows an untrained policy."""
    params_file = folder / "untrained.yaml"
    nodes = {f"/**/{node}": {"ros__parameters": values} for node, values in PATIENT.items()}
    params_file.write_text(yaml.safe_dump(nodes))
    return ["--sim", "--policy-path", str(policy), "--params-file", str(params_file)]


def node_pids(bringup_pid: int) -> dict[str, int]:
    """The processes that a bringup has started, by node."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_text().split("\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
        if parent == bringup_pid:
            found |= {name: int(folder.name) for name in NODES if f"maskact_ros.nodes.{name}" in words}
    return found
