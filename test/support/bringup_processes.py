"""The processes that `maskact bringup` starts."""

import sys
from pathlib import Path

MASKACT = [sys.executable, "-m", "maskact_ros.cli"]
NODES = ("sim_robot", "camera_encoder", "inference", "action_publisher")


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
