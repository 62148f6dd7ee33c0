"""`benchmarks convert`: the speed of converting a bag to a dataset, compared with a plain script and with the limits.

In: seconds of a 640x480 bag at 30 Hz, video or PNG. Out: rows of the conversion, the script, reading and encoding,
measured in turn, and the conversion's peak memory.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.convert_rows import ConvertResult
from maskact_ros.tools.bench.options import add_output, add_rounds, check_output, check_range, put_out

IMAGES = ("video", "png")


def add_command(benches: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare it."""
    convert = benches.add_parser(
        "convert",
        help="how fast a bag becomes a dataset",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""Record a bag as the simulated robot's, with raw 640x480 pictures, and measure in turn:

  convert   maskact convert, one process
  baseline  a plain script in benchmarks/ of the source tree: messages in lists, a PNG for each picture, then a video
  read      reading and decoding the messages, and nothing more
  encode    encoding the pictures and masks, and nothing more

No conversion is faster than the slower of the last two, unless it does them side by side.""",
    )
    convert.set_defaults(run=_run)
    convert.add_argument("--seconds", type=float, default=20.0, help="of the recording; default: 20")
    convert.add_argument("--images", choices=IMAGES, default="video", help="default: video")
    convert.add_argument("--no-baseline", action="store_true", help="leave it out, since it takes longest")
    add_rounds(convert, 3)
    add_output(convert)


def _run(a: argparse.Namespace) -> int:
    check_output(a)
    check_range("--seconds", a.seconds, 2.0, 3600.0)
    check_range("--rounds", a.rounds, 1, 1000)
    from benchmarks.convert_run import measure

    result = measure(a.seconds, a.images, a.rounds, with_baseline=not a.no_baseline)
    put_out(a, result, _print_table)
    if not result.complete:
        print(f"interrupted; these are {result.rounds} of {a.rounds} rounds", file=sys.stderr)
    return 0 if result.complete else 130


def _print_table(result: ConvertResult) -> None:
    print(result.machine.text)
    print(f"{result.seconds:g} s of raw 640x480 pictures at 30 Hz; median of {result.rounds} rounds\n")
    print(f"{'part':<10}{'images':<8}{'s':>8}{'spread':>9}{'x real time':>13}{'of limit':>10}{'x baseline':>12}")
    for row in result.rows:
        speedup = "" if row.speedup_over_baseline is None else f"{row.speedup_over_baseline:.2f}"
        print(
            f"{row.part:<10}{row.images:<8}{row.median_ms / 1e3:>8.2f}{row.spread:>9.0%}{row.times_real_time:>13.1f}"
            f"{row.share_of_limit:>10.0%}{speedup:>12}"
        )
    print(f"peak memory of a conversion: {result.peak_memory_mib:.0f} MiB")
