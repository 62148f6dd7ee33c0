"""Arrows between layers point one way, and a node loads no more than it needs."""

import subprocess
import sys
from collections.abc import Container
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from support.source_tree import PACKAGE, ROOT, imports

# What a layer may import of the other layers, and of libraries beside numpy and the standard library.
LAYERS = {
    "core": (set(), {"cv2", "distributed", "rich", "yaml"}),
    "policy": ({"core", "control"}, {"cv2", "onnx", "onnxruntime", "peft", "safetensors", "torch", "transformers"}),
    "control": ({"core"}, {"ruckig"}),
    "data": ({"core"}, {"av", "cv2", "h5py", "matplotlib", "pyarrow", "rich", "rosbags", "yaml"}),
    "sim": ({"core"}, {"cv2", "mujoco"}),
    "training": (
        {"core", "policy", "control", "data", "sim"},
        {"accelerate", "cv2", "matplotlib", "rich", "safetensors", "tensorboard", "torch"},
    ),
    "nodes": (
        {"core", "policy", "control", "data", "sim", "training"},
        {"cv2", "cv_bridge", "rclpy"},
    ),
    "tools": (
        {"core", "policy", "control", "data", "sim", "training", "nodes"},
        {"av", "cv2", "matplotlib", "rclpy", "rich", "torch"},
    ),
    "cli": ({"core", "policy", "control", "data", "sim", "training", "nodes", "tools"}, set()),
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def layer(dotted: str) -> str:
    """The layer of `maskact_ros.policy.model.act`, or of a name in it."""
    _, _, inside = dotted.partition(".")
    top = inside.split(".")[0]
    return "core" if top in ("", "__version__") else top  # its version is the whole package's


def dotted(module: Path) -> str:
    return ".".join(module.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("module", MODULES, ids=dotted)
def test_a_module_imports_only_what_its_layer_may(module):
    own = layer(dotted(module))
    assert own in LAYERS, f"give the new layer {own} its row in LAYERS"
    layers, libraries = LAYERS[own]
    for name in imports(module):
        top = name.split(".")[0]
        if top == "maskact_ros":
            assert layer(name) in {own, *layers}, f"{own} may not import {name}"
        elif top not in sys.stdlib_module_names and top != "numpy":
            message = own in ("nodes", "tools") and top.endswith(("_msgs", "_srvs", "_interfaces"))
            assert message or top in libraries, f"{own} may not import {name}"


def test_no_modules_import_each_other_in_a_circle():
    names = {dotted(module): module for module in [*MODULES, *(ROOT / "benchmarks").glob("*.py")]}
    graph = {
        name: {found for used in imports(module) if (found := within(used, names))} for name, module in names.items()
    }
    order = TopologicalSorter({name: used - {name} for name, used in graph.items()})
    order.prepare()  # raises CycleError, which names the circle


def within(name: str, names: Container[str]) -> str:
    """The module that `a.b.c` means: itself, or the one that holds c."""
    return name if name in names else name.rpartition(".")[0] if name.rpartition(".")[0] in names else ""


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("maskact_ros.nodes.action_publisher", {"torch", "transformers", "peft", "onnxruntime", "mujoco"}),
        ("maskact_ros.cli", {"torch", "transformers", "peft", "onnxruntime", "mujoco", "rclpy", "distributed", "rich"}),
    ],
)
def test_importing_it_does_not_load_the_heavy_libraries(module, heavy):
    script = f"import sys, {module}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
