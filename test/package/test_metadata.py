"""package.xml, setup.py and the code say the same."""

import ast
import re
import runpy
import sys
from unittest.mock import patch

import pytest
from catkin_pkg.package import parse_package
from support.source_tree import PACKAGE, ROOT, imports

import maskact_ros

# Where a library comes from: its rosdep key, None when rosdep has none, and its name on the package index.
SUPPLIERS = {
    "accelerate": (None, "accelerate"),
    "av": (None, "av"),
    "cv2": ("python3-opencv", "opencv-python-headless"),
    "distributed": (None, "distributed"),
    "h5py": ("python3-h5py", "h5py"),
    "matplotlib": ("python3-matplotlib", "matplotlib"),
    "mujoco": ("python3-mujoco-pip", "mujoco"),
    "numpy": ("python3-numpy", "numpy"),
    "onnx": (None, "onnx"),
    "onnxruntime": (None, "onnxruntime"),
    "peft": (None, "peft"),
    "pyarrow": (None, "pyarrow"),
    "rich": ("python3-rich", "rich"),
    "rosbags": ("python3-rosbags-pip", "rosbags"),
    "ruckig": (None, "ruckig"),
    "safetensors": (None, "safetensors"),
    "tensorboard": (None, "tensorboard"),
    "torch": ("python3-pytorch-pip", "torch"),
    "transformers": ("python3-transformers-pip", "transformers"),
    "yaml": ("python3-yaml", "PyYAML"),
}


@pytest.fixture(scope="module")
def manifest():
    return parse_package(str(ROOT / "package.xml"))  # raises where package.xml is not valid


@pytest.fixture
def setup_arguments(monkeypatch):
    monkeypatch.chdir(ROOT)
    with patch("setuptools.setup") as setup:
        runpy.run_path("setup.py")
    return setup.call_args.kwargs


@pytest.fixture(scope="module")
def libraries():
    modules = [*PACKAGE.rglob("*.py"), *(ROOT / "launch").rglob("*.py")]
    names = {name.split(".")[0] for module in modules for name in imports(module)}
    return names - sys.stdlib_module_names - {"maskact_ros"}


def test_the_version_is_the_same_everywhere(manifest, setup_arguments):
    assert manifest.version == setup_arguments["version"] == maskact_ros.__version__


def test_name_license_and_maintainer_are_the_same_everywhere(manifest, setup_arguments):
    assert manifest.name == setup_arguments["name"]
    assert [str(text) for text in manifest.licenses] == [setup_arguments["license"]]
    (maintainer,) = manifest.maintainers
    assert (maintainer.name, maintainer.email) == (setup_arguments["maintainer"], setup_arguments["maintainer_email"])


def test_every_import_has_its_rosdep_key_in_package_xml(manifest, libraries):
    keys = {dependency.name for dependency in manifest.exec_depends}
    # A name without a supplier in the table is a ROS package, whose key is its name.
    needed = {SUPPLIERS.get(library, (library, ""))[0] for library in libraries} - {None}
    assert needed - keys == set()


def test_every_library_is_required_by_setup_py(setup_arguments, libraries):
    extras = setup_arguments["extras_require"]
    runtime = [
        *setup_arguments["install_requires"],
        *extras["ros"],
        *extras["sim"],
        *extras["train"],
        *extras["onnx"],
        *extras["onnx-gpu"],
        *extras["cluster"],
    ]
    required = {re.match(r"[\w.-]+", requirement).group() for requirement in runtime}
    assert {SUPPLIERS[library][1] for library in libraries if library in SUPPLIERS} - required == set()


def test_every_executable_has_its_main(setup_arguments):
    for script in setup_arguments["entry_points"]["console_scripts"]:
        module, function = script.split(" = ")[1].split(":")
        path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        assert path.is_file(), script
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert function in {node.name for node in body if isinstance(node, ast.FunctionDef)}, script


def test_every_direct_dependency_of_make_setup_is_pinned(setup_arguments):
    pins = "\n".join((ROOT / "requirements" / name).read_text() for name in ("python.txt", "kilted.txt"))
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in re.findall(r"^([\w.-]+)==", pins, re.MULTILINE)}
    extras = setup_arguments["extras_require"]
    for requirement in [
        *setup_arguments["install_requires"],
        *(r for name in ("ros", "sim", "train", "onnx", "test") for r in extras[name]),
    ]:
        name = re.match(r"[\w.-]+", requirement).group()
        assert re.sub(r"[-_.]+", "-", name).lower() in pinned, f"{name} has no pin in requirements/"
