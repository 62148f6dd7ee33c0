"""What the tables of `python -m benchmarks table` are made of: rows of the JSON, and cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from benchmarks.model_rows import Row

Result = Mapping[str, Any]
NOT_MEASURED = "not measured"  # begins what stands where a result is missing; the reason follows
MAIN = ("vits16", 480)  # the policy of the aims
NAMES = {"vits16": "ViT-S/16", "vitb16": "ViT-B/16", "vitl16": "ViT-L/16"}


def rows_of(result: Result) -> list[Row]:
    """The model's rows."""
    return [Row(**row) for row in result["rows"]]


def setting_of(row: Row) -> tuple[str, int]:
    """Backbone and size."""
    return row.backbone, row.image_size


def engine_of(row: Row) -> tuple[str, str]:
    """Backend and precision."""
    return row.backend, row.precision


def why(result: Result, name: str) -> str:
    """Why a benchmark has no result, in the words that it said."""
    found = result.get(name, NOT_MEASURED)
    return found if isinstance(found, str) else NOT_MEASURED


def percent(row: Row | None, field: str, otherwise: str) -> str:
    """A field of a row, as a share; `otherwise` where there is none."""
    return _shown(row, field, lambda value: f"{value:.1%}".replace("%", " %"), otherwise)


def times(row: Row | None, otherwise: str) -> str:
    """A row's speed-up over the baseline."""
    return _shown(row, "speedup_over_baseline", lambda value: f"{value:.2f} ×", otherwise)


def _shown(row: Row | None, field: str, show: Callable[[float], str], otherwise: str) -> str:
    value = None if row is None else getattr(row, field)
    return otherwise if value is None else show(value)


def markdown(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    """A table."""
    rule = "|" + "---|" * len(head)
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)])
