"""`python -m reference`, or `make reference`: writes every generated file of the repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from reference.commands_page import commands_page
from reference.maskact_yaml import maskact_yaml
from reference.parameters_page import parameters_page

ROOT = Path(__file__).resolve().parents[1]
GENERATED: Mapping[str, Callable[[], str]] = {
    "config/maskact.yaml": maskact_yaml,
    "docs/reference/parameters.md": parameters_page,
    "docs/reference/commands.md": commands_page,
}


def main() -> None:
    """Write the files that differ, and name them."""
    for name, text in GENERATED.items():
        file, wanted = ROOT / name, text()
        if not file.exists() or file.read_text(encoding="utf-8") != wanted:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(wanted, encoding="utf-8")
            print(name)


if __name__ == "__main__":
    main()
