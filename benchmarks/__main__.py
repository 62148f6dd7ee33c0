"""`python -m benchmarks`: all benchmarks, those of `maskact bench` included; run it in the source tree."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import all as everything
from benchmarks import convert, model, motion, soak, table, train
from maskact_ros.cli import Parser, run_command
from maskact_ros.tools.bench.cli import BENCHMARKS

_ALL = (*BENCHMARKS, model, motion, train, convert, soak, everything, table)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with 1 after an error, which is one sentence on stderr."""
    run_command(parser().parse_args(argv), "benchmarks")


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = Parser(
        prog="python -m benchmarks",
        description="Measure, and print a table, or with --json one JSON object on stdout. Progress goes to stderr; "
        "Ctrl-C prints what was measured so far.",
    )
    benches = parser.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    for benchmark in _ALL:
        benchmark.add_command(benches)
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
