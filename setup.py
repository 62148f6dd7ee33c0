"""How colcon and pip install maskact_ros; what a ROS distribution supplies by apt is in package.xml, not here."""

import os
import re
import sys
from pathlib import Path

from setuptools import find_packages, setup

NAME = "maskact_ros"
SHARE = Path("share") / NAME
VERSION = re.search(r'__version__ = "(.+)"', Path(NAME, "__init__.py").read_text(encoding="utf-8")).group(1)
# With colcon all scripts are in lib/maskact_ros (setup.cfg), and this one in bin/, which is on the PATH of a workspace.
# pip makes bin/maskact itself, from the entry point.
ON_PATH = Path("scripts/maskact")
MADE_BY_PIP = "bdist_wheel" in sys.argv
if not os.access(ON_PATH, os.X_OK):  # a copy that lost it; what is installed has the mode of its source
    ON_PATH.chmod(0o755)


def shared(folder: str) -> list[tuple[str, list[str]]]:
    """Every file below `folder`, to be installed under the same path in share/maskact_ros."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [(str(SHARE / path.parent), [str(path)]) for path in files]


setup(
    name=NAME,
    version=VERSION,
    description="MaskACT policies on a robot in real time: three ROS 2 nodes, and the tools to train what they run",
    license="Apache-2.0",
    maintainer="maskact_ros maintainers",
    maintainer_email="maintainers@maskact-ros.example",
    python_requires=">=3.11",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["py.typed"]},
    zip_safe=True,
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (str(SHARE), ["package.xml"]),
        *shared("launch"),
        *shared("config"),
        *shared("models"),
        *([] if MADE_BY_PIP else [("bin", [str(ON_PATH)])]),
    ],
    # Ranges wide enough for what a ROS distribution brings by apt. OpenCV is missing on purpose: apt's cv2 is unknown
    # to pip, which would install a second one over it; machines without a distribution take it from the extra `ros`.
    install_requires=[
        "numpy>=1.26",
        "peft>=0.17",
        "PyYAML>=6.0",
        "ruckig>=0.14",
        "safetensors>=0.4",
        "torch>=2.7",
        "transformers>=4.56",  # the first with DINOv3
    ],
    extras_require={
        # What a ROS distribution would supply, from the package index.
        "ros": ["ros-rclpy[fastrtps]==9.1.2", "ros-common-interfaces", "opencv-python-headless>=4.6,<5"],  # Kilted
        "ros-jazzy": ["ros-rclpy[fastrtps]==7.1.6", "ros-jazzy-common-interfaces", "opencv-python-headless>=4.6,<5"],
        "sim": ["av>=14", "matplotlib>=3.6", "mujoco>=3.2", "rich>=13"],
        "train": [
            "accelerate>=1.0",
            "av>=14",
            "h5py>=3.10",
            "matplotlib>=3.6",
            "pyarrow>=15",
            "rich>=13",
            "rosbags>=0.11",
            "tensorboard>=2.17",
        ],
        # The onnxruntime backend and `maskact export`. Both bring the same module: `onnx-gpu` where there is an NVIDIA
        # card, `onnx` elsewhere.
        "onnx": ["onnx>=1.17", "onnxruntime>=1.20", "onnxscript>=0.5"],
        "onnx-gpu": ["onnx>=1.17", "onnxruntime-gpu>=1.20", "onnxscript>=0.5"],
        # --cluster: work that is shared out to several machines.
        "cluster": ["distributed>=2024.8"],
        # The index's cv-bridge is ROS 1's of 2020, which knows neither NumPy 2.3 nor OpenCV 5; colcon builds
        # ament_python packages with the setup.py commands that setuptools 80 removed.
        "test": [
            "colcon-core",
            "colcon-python-setup-py",
            "colcon-recursive-crawl",
            "colcon-ros",
            "cv-bridge",
            "distributed>=2024.8",
            "mypy",
            "numpy<2.3",
            "pytest",
            "pytest-cov",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "setuptools<80",
            "types-PyYAML",
        ],
    },
    entry_points={
        "console_scripts": [
            f"camera_encoder = {NAME}.nodes.camera_encoder:run",
            f"inference = {NAME}.nodes.inference:run",
            f"action_publisher = {NAME}.nodes.action_publisher:run",
            f"sim_robot = {NAME}.nodes.sim_robot:run",
            f"expert = {NAME}.nodes.expert:run",
            f"maskact = {NAME}.cli:main",
        ],
    },
)
