"""Parquet files of anybody: what they say of themselves is held against their size before a column is read.

In: a file's path. Out: its rows, names and columns; what cannot be read is a DatasetError that names the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from maskact_ros.core.foreign_file import check_claim, reading
from maskact_ros.core.paths import regular_size
from maskact_ros.data.datasets.lerobot_layout import DatasetError

_READ_BYTES = 1 << 20  # at a time, of a column of pictures that may be larger than memory
_NUMBER_BYTES = 8
_ROW_BYTES = 4  # of an index, a stamp and joints that move, however well they are compressed


def reading_parquet(path: Path) -> Any:
    """A block in which pyarrow reads the file; whatever it raises is a DatasetError."""
    return reading(path, "parquet", DatasetError)


@contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """The file, whose number of rows is possible; raises DatasetError."""
    with reading_parquet(path), pq.ParquetFile(path, buffer_size=_READ_BYTES) as table:
        about = table.metadata
        groups = sum(about.row_group(group).num_rows for group in range(about.num_row_groups))
        if not 0 <= about.num_rows * _ROW_BYTES <= regular_size(path):
            raise DatasetError(f"{path}: claims {about.num_rows} rows in {regular_size(path)} bytes")
        if groups != about.num_rows:
            raise DatasetError(f"{path}: claims {about.num_rows} rows, its row groups {groups}")
        yield table


def names_of(path: Path) -> tuple[str, ...]:
    """The names of its columns; raises DatasetError."""
    with opened(path) as table:
        return tuple(table.schema_arrow.names)


def read_columns(path: Path, names: Sequence[str]) -> dict[str, pa.Array]:
    """Columns of small values by name, each as long as the file has rows; raises DatasetError."""
    with opened(path) as table:
        present = table.schema_arrow.names
        if missing := [name for name in names if present.count(name) != 1]:
            raise DatasetError(f"{path}: no column {', '.join(missing)}; it has {', '.join(sorted(present))}")
        columns = {}
        for name in names:
            _check_column(path, table.metadata, name)
            read = table.read(columns=[name]).column(name).combine_chunks()
            if len(read) != table.metadata.num_rows:
                raise DatasetError(f"{path}: column {name} has {len(read)} rows; allowed: {table.metadata.num_rows}")
            columns[name] = read
    return columns


def _check_column(path: Path, about: Any, name: str) -> None:
    """Raise DatasetError when a column claims to hold more than the file can."""
    claimed = 0
    for group in range(about.num_row_groups):
        for index in range(about.num_columns):
            column = about.row_group(group).column(index)
            if column.path_in_schema == name or column.path_in_schema.startswith(f"{name}."):
                claimed += max(column.total_uncompressed_size, _NUMBER_BYTES * column.num_values)
    check_claim(path, claimed, f"column {name}", DatasetError)


def numbers(column: pa.Array, shown: str) -> NDArray[Any]:
    """Scalars (N,), or lists of one length (N, D); raises DatasetError."""
    if column.null_count:
        raise DatasetError(f"{shown}: {column.null_count} of {len(column)} rows are empty")
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type):
        values = numbers(column.flatten(), shown)
        widths = (
            np.unique(pc.list_value_length(column).to_numpy(zero_copy_only=False)) if len(column) else np.zeros(1, int)
        )
        if len(widths) > 1 or not values.size:
            raise DatasetError(f"{shown}: rows have {widths.min()} to {widths.max()} numbers; allowed: as many, some")
        return values.reshape(len(column), -1)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        raise DatasetError(f"{shown} is of type {column.type}; allowed: numbers")
    return np.asarray(column.to_numpy(zero_copy_only=False))


def whole_numbers(column: pa.Array, shown: str) -> NDArray[np.int64]:
    """Integers (N,) from 0 to 2**53, beyond which no index is; raises DatasetError."""
    values = numbers(column, shown)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise DatasetError(f"{shown} is of type {column.type}; allowed: integers")
    if len(wrong := np.flatnonzero((values < 0) | (values > 2**53))):
        raise DatasetError(f"{shown}: row {wrong[0]} is {values[wrong[0]]}; allowed: 0 to 2^53")
    return values.astype(np.int64)
