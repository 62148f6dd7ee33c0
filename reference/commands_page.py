"""docs/reference/commands.md: the `--help` of each `maskact` command, in the groups of `maskact --help`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from unittest.mock import patch

from maskact_ros.cli import GROUPS, _parser

_COLUMNS = "100"  # argparse wraps at the width of the terminal
_HEAD = """\
# Commands

`make reference` writes this page: it is what `maskact COMMAND --help` prints.
"""


def commands_page() -> str:
    """The page's text."""
    commands = _commands(_parser())
    with patch.dict(os.environ, {"COLUMNS": _COLUMNS}):
        parts = [_HEAD]
        for title, names in GROUPS.items():
            parts.append(f"\n## {title[0].upper()}{title[1:]}\n")
            parts += [text for name in names for text in _sections(commands[name])]
    return "".join(parts)


def _sections(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"\n### {parser.prog}\n\n```text\n{parser.format_help().rstrip()}\n```\n"
    for command in _commands(parser).values():
        yield from _sections(command)


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found
