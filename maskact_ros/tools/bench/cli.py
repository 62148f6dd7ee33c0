"""`maskact bench`: each module in `BENCHMARKS` declares its own subcommand; libraries are loaded when it runs."""

from __future__ import annotations

import argparse

from maskact_ros.tools.bench import control, hardware, pipeline

BENCHMARKS = (hardware, pipeline, control)


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare them."""
    bench = commands.add_parser(
        "bench",
        help="measure this machine: its limits, the way from picture to command, the command loop's lateness",
        description="Measure, and print a table, or with --json one JSON object on stdout. Progress goes to stderr; "
        "Ctrl-C prints what was measured so far.",
    )
    benches = bench.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    for benchmark in BENCHMARKS:
        benchmark.add_command(benches)
