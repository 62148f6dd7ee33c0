"""The repository as these tests see it: its files, its modules and what they import."""

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "maskact_ros"


def committed_files() -> list[Path]:
    """Every file that is, or would be with `git add .`, committed."""
    if not (ROOT / ".git").exists():
        pytest.skip("this copy of the repository is not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def imports(module: Path) -> set[str]:
    """The dotted names that a module imports, anywhere in it; `from a import b` counts as a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def copy_source(folder: Path) -> None:
    """The committed files, as a fresh checkout has them."""
    for file in committed_files():
        copy = folder / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
