"""Options that benchmarks share: load, device, rounds, and the output of figures."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maskact_ros.core.documents import read_json
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.outputs import carries_mark, check_file, output_path, replaced_file

PICTURES = (".png", ".svg", ".pdf")
_FIGURES = "a file of figures"


def add_load(parser: argparse.ArgumentParser) -> None:
    """`--load`, as `load.Load` takes it."""
    parser.add_argument(
        "--load",
        choices=("none", "cpu"),
        default="none",
        help="load during the measurement; cpu: a process of matrix products for each core; default: none",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """`--device`, as `devices.chosen_device` takes it."""
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto, a GPU if there is one"
    )


def add_rounds(parser: argparse.ArgumentParser, default: int) -> None:
    """`--rounds`, of `timing.interleaved`."""
    parser.add_argument("--rounds", type=int, default=default, metavar="N", help=f"of all in turn; default: {default}")


def add_output(parser: argparse.ArgumentParser, *, plot: str = "") -> None:
    """`--json` and `--out`, and `--plot` if `plot` says what is drawn."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write that JSON object to a file, too")
    if plot:
        parser.add_argument("--plot", type=Path, metavar="FILE", help=f"draw {plot} (.png, .svg or .pdf)")


def check_output(a: argparse.Namespace) -> None:
    """Raise MaskACTError, before anything is measured, if the figures could not be written afterwards."""
    files = {
        "--out": (a.out, _FIGURES, _are_figures),
        "--plot": (getattr(a, "plot", None), "a picture", carries_mark),
    }
    for flag, (file, what, is_ours) in files.items():
        if file is not None:
            if not _can_be_written(file):
                raise MaskACTError(f"{flag} is {file}; allowed: a file in a folder that exists and can be written")
            check_file(output_path(file), what, is_ours)
    plot = files["--plot"][0]
    if plot is not None and plot.suffix not in PICTURES:
        raise MaskACTError(f"--plot is {plot}; allowed: a file ending in {', '.join(PICTURES)}")


def _are_figures(file: Path) -> bool:
    """Whether a file is what a benchmark wrote: all say of what machine they are; or has nothing in it."""
    if not file.stat().st_size:
        return True
    try:
        machine = read_json(file, any_size=True).get("machine")
    except MaskACTError:
        return False
    return isinstance(machine, dict) and {"cpu", "cores", "kernel"} <= set(machine)


def _can_be_written(file: Path) -> bool:
    return file.parent.is_dir() and not file.is_dir() and os.access(file if file.exists() else file.parent, os.W_OK)


def put_out(a: argparse.Namespace, result: Any, show: Callable[[Any], None]) -> None:
    """Print a result (a dataclass or JSON's types) as JSON or by `show`, and write it to a file, by the options."""
    values = result if isinstance(result, dict) else asdict(result)
    if a.json:
        print(json.dumps(values))
    else:
        show(result)
    if a.out is not None:
        path = output_path(a.out)
        check_file(path, _FIGURES, _are_figures)
        with replaced_file(path, _FIGURES, ours=True) as partial:
            partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def check_range(flag: str, value: float, least: float, most: float) -> None:
    """Raise MaskACTError for a number outside of this range."""
    if not least <= value <= most:
        raise MaskACTError(f"{flag} is {value:g}; allowed: {least:g} to {most:g}")


def listed(flag: str, text: str, allowed: Sequence[str]) -> tuple[str, ...]:
    """The words of a list with commas between; raises MaskACTError for a word that is not allowed."""
    words = tuple(text.split(","))
    if not set(words) <= set(allowed):
        raise MaskACTError(f"{flag} is {text}; allowed: {', '.join(allowed)}, with commas between")
    return words
