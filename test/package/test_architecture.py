"""docs/architecture.md shows the tree as it is: its folders, and the files and classes that it names."""

import ast
import re

import pytest
from support.source_tree import PACKAGE, ROOT

TEXT = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `([^`]+)` \| (.*?) \|", TEXT, re.MULTILINE))  # folder or file: what lives there
NAMES = set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)))
PACKAGES = {f"{path.parent.relative_to(PACKAGE)}/" for path in PACKAGE.glob("*/**/__init__.py")}


def defined() -> set[str]:
    """The classes and functions of the package."""
    kinds = (ast.ClassDef, ast.FunctionDef)
    trees = [ast.parse(module.read_text(encoding="utf-8")) for module in PACKAGE.rglob("*.py")]
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, kinds)}


def test_every_folder_of_the_package_has_its_row():
    assert PACKAGES - ROWS.keys() == set()


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_of_a_folder_or_file_that_exists(row):
    assert (PACKAGE / row).exists() or (ROOT / row).exists()


@pytest.mark.parametrize("row", ROWS)
def test_a_row_names_modules_that_are_in_its_folder(row):
    folder = PACKAGE / row
    if folder.is_dir():
        named = set(re.findall(r"`([a-z_]+)`", ROWS[row]))
        assert named - {path.stem for path in folder.glob("*.py")} == set()


def test_the_files_that_it_names_exist():
    paths = {name for name in NAMES if re.fullmatch(r"\w[\w/]*(/|\.(py|md|json|yaml))", name)}
    roots = (ROOT, PACKAGE, ROOT / "docs")
    assert [path for path in paths if not any((root / path).exists() for root in roots)] == []


def test_the_classes_that_it_names_exist():
    classes = {name.rpartition(".")[2] for name in NAMES if re.fullmatch(r"([a-z_]+\.)*[A-Z]\w+", name)}
    assert {"PlanFollower", "MaskACT"} <= classes
    assert classes - defined() == set()
