"""`benchmarks table`: the documentation's tables and plot, made of what `benchmarks all --out` wrote.

In: its JSON files. Out: Markdown, printed or put between a document's markers, and a picture. A place without figures
says why.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.outputs import output_path, replaced_file
from maskact_ros.tools.bench.options import PICTURES

_KEYS = {"machine", "hardware", "rows", "model"}


def add_command(benches: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare it."""
    table = benches.add_parser(
        "table",
        help="the documentation's tables and plot, of the JSON that all wrote",
        description="Print Markdown tables of what benchmarks all --out wrote. --into puts them into a document "
        "instead, each between <!-- NAME: made by python -m benchmarks table --> and <!-- end of NAME -->.",
    )
    table.set_defaults(run=_run)
    table.add_argument("file", type=Path, help="what python -m benchmarks all --out wrote")
    table.add_argument(
        "--card", type=Path, metavar="FILE", help="another such file, of a machine with a graphics card, for its table"
    )
    table.add_argument("--into", type=Path, metavar="DOC", help="a document with markers, such as docs/performance.md")
    table.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the whole (.png, .svg or .pdf); --into shows it there"
    )


def _run(a: argparse.Namespace) -> int:
    from benchmarks.table_text import tables

    if a.plot is not None and a.plot.suffix not in PICTURES:
        raise MaskACTError(f"--plot is {a.plot}; allowed: a file ending in {', '.join(PICTURES)}")
    result = read_result(a.file)
    made = tables(result, read_result(a.card) if a.card is not None else result)
    if a.into is not None and a.plot is not None:
        shown = os.path.relpath(a.plot, a.into.parent)
        made["overview"] += (
            f"\n\n![A step by its parts, its shares of a matrix product's rate, what is gained]({shown})"
        )
    if a.into is None:
        print("\n\n".join(f"{name}:\n\n{text}" for name, text in made.items()))
    else:
        text = put_into(a.into.read_text(encoding="utf-8"), made, str(a.into))
        with replaced_file(output_path(a.into), "a document", ours=True) as partial:
            partial.write_text(text, encoding="utf-8")
    if a.plot is not None:
        from benchmarks.table_plot import plot

        plot(result, a.plot)
    return 0


def read_result(file: Path) -> dict[str, Any]:
    """What `python -m benchmarks all --out` wrote; raises MaskACTError."""
    from maskact_ros.core.documents import read_json

    values = read_json(file, any_size=True)
    if not values.keys() >= _KEYS:
        raise MaskACTError(f"{file}: is not what benchmarks all --out wrote; it has no {min(_KEYS - values.keys())}")
    return values


def put_into(document: str, made: Mapping[str, str], shown: str) -> str:
    """The document with each table between its markers; raises MaskACTError on one whose markers are not there."""
    for name, text in made.items():
        begin, end = rf"<!-- {name}: [^>]*-->\n", f"<!-- end of {name} -->"
        places = list(re.finditer(f"({begin}).*?({end})", document, flags=re.DOTALL))
        if len(places) != 1:
            raise MaskACTError(f"{shown}: has {len(places)} places for the table {name}; allowed: 1")
        (place,) = places
        document = f"{document[: place.end(1)]}{text}\n{document[place.start(2) :]}"
    return document
