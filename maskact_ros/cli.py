"""The `maskact` command; each layer declares its subcommands, and each subcommand loads only its own modules."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any

from maskact_ros import __version__
from maskact_ros.core.errors import MaskACTError, printable
from maskact_ros.data import cli as data
from maskact_ros.policy import cli as policy
from maskact_ros.tools import cli as tools
from maskact_ros.tools.bench import cli as bench
from maskact_ros.training import cli as training

# The groups of commands in `maskact --help`; each command is in one group.
GROUPS = {
    "run a robot": ("demo", "bringup", "enable", "disable", "reset", "monitor"),
    "make data": ("record", "record-demos", "convert", "import", "validate", "inspect"),
    "train": ("train", "init-checkpoint", "import-checkpoint", "shrink", "export", "predict"),
    "measure": ("evaluate", "report", "bench"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; after an error it prints one sentence to stderr, and exits with 1."""
    arguments = _parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
    run_command(arguments, f"maskact {arguments.command}")


def run_command(arguments: argparse.Namespace, name: str) -> None:
    """Run a parsed command and exit; a user's mistake is one sentence on stderr, which begins with `name`."""
    try:
        code: int = arguments.run(arguments) or 0
    except MaskACTError as error:
        print(f"{name}: {error}", file=sys.stderr)
        code = 1
    except OSError as error:  # a file cannot be read or written
        print(f"{name}: {printable(f'{error.filename}: {error.strerror}')}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _joined(argv: Sequence[str]) -> list[str]:
    """Join `--state -0.1,0.2` to one word: argparse takes a word that begins with - for an option."""
    words = list(argv)
    if "--state" in words[:-1]:
        at = words.index("--state")
        words[at : at + 2] = [f"--state={words[at + 1]}"]
    return words


class Parser(argparse.ArgumentParser):
    """Refuses abbreviated options, which may be misspelt; for an unknown option it names the closest one."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but an unknown option is an error at once, while the command's other options are known."""
        known, left = super().parse_known_args(args, namespace)
        for word in left:
            if word.startswith("--"):
                close = difflib.get_close_matches(word.partition("=")[0], self._option_string_actions, n=1)
                self.error(f"unrecognized arguments: {word}" + (f"; did you mean {close[0]}?" if close else ""))
        return known, left


class _GroupedHelp(argparse.HelpFormatter):
    """Lists the commands by GROUPS, each on one line."""

    def _format_action(self, action: argparse.Action) -> str:
        if not isinstance(action, argparse._SubParsersAction):
            return super()._format_action(action)
        known = {choice.dest: choice for choice in action._choices_actions}
        parts = []
        self._action_max_length += self._indent_increment  # names are indented under their group's title
        for title, names in GROUPS.items():
            parts.append(f"{'':{self._current_indent}}{title}:\n")
            self._indent()
            parts += [super(_GroupedHelp, self)._format_action(known[name]) for name in names]
            self._dedent()
        return "".join(parts)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="maskact",
        description="Run and make MaskACT policies. A first look: maskact demo --expert, then maskact demo.",
        epilog="maskact COMMAND --help explains a command and its options.",
        formatter_class=_GroupedHelp,
    )
    parser.add_argument("--version", action="version", version=f"maskact {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for layer in (tools, data, training, policy, bench):
        layer.add_commands(commands)
    return parser


if __name__ == "__main__":
    main()
