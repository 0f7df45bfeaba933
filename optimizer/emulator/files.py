"""Reading the files of an estate folder; whatever is wrong with one is said in a sentence."""

import csv
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from optimizer.errors import EstateError

T = TypeVar("T")

_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        EstateError: it is missing or cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise EstateError(
            f"{path} is missing; an estate folder needs estate.json, resources.json and prices.csv"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise EstateError(f"{path} cannot be read ({error}); mend or write it again") from error


def read_json(path: Path, adapter: TypeAdapter[T]) -> T:
    """Return a JSON file as the type of `adapter`.

    Raises:
        EstateError: it is missing, or is not of that type; names the first place that is not.
    """
    try:
        return adapter.validate_json(read_text(path))
    except ValidationError as error:
        raise _bad(path, error) from error


def read_csv(path: Path) -> list[dict[str, str | None]]:
    """Return the rows of a CSV file by the names of its first line; an empty cell is None.

    Raises:
        EstateError: it is missing or cannot be read.
    """
    reader = csv.DictReader(read_text(path).splitlines())
    return [{name: cell or None for name, cell in row.items()} for row in reader]


def validate(path: Path, adapter: TypeAdapter[T], value: Any) -> T:
    """Return what was read from `path` as the type of `adapter`.

    Raises:
        EstateError: it is not of that type; names the first place that is not.
    """
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise _bad(path, error) from error


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """Return a Parquet file as `schema` has it, or an empty table where there is no file.

    Columns that the file leaves out are null.

    Raises:
        EstateError: it is no Parquet file, has a column that `schema` does not know, or one that
            cannot be read as `schema` says.
    """
    if not path.exists():
        return pa.Table.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
    try:
        # Here `pq.read_table`, and above `schema.empty_table`, would import pandas for nothing.
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (OSError, pa.ArrowInvalid) as error:
        raise EstateError(f"{path} is no Parquet file ({error}); write it again") from error
    if unknown := sorted(set(table.column_names) - set(schema.names)):
        raise EstateError(
            f"{path} has a column {unknown[0]!r} that an estate does not know; "
            f"it takes {', '.join(schema.names)}"
        )
    return pa.Table.from_arrays([_column(path, table, field) for field in schema], schema=schema)


def table_rows(table: pa.Table, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield rows as dictionaries, a column at a time: far faster than `to_pylist` of the table."""
    values = [_values(table[column]) for column in columns]
    for row in zip(*values, strict=True):
        yield dict(zip(columns, row, strict=True))


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Return a column's values; moments without pyarrow's own way, which imports pandas."""
    if not pa.types.is_timestamp(column.type):
        values: list[Any] = column.to_pylist()
        return values
    return [
        None if microseconds is None else _EPOCH_UTC + timedelta(microseconds=microseconds)
        for microseconds in column.cast(pa.int64()).to_pylist()
    ]


def _column(path: Path, table: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    column = (
        table.column(field.name)
        if field.name in table.column_names
        else pa.chunked_array([pa.nulls(len(table), field.type)])
    )
    is_moment = pa.types.is_timestamp(field.type)
    if is_moment and pa.types.is_timestamp(column.type) and column.type.tz is None:
        raise EstateError(
            f"{path}: column {field.name!r} has times without a zone; write them as UTC"
        )
    try:
        column = column.cast(field.type, safe=not is_moment)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise EstateError(
            f"{path}: column {field.name!r} is {column.type}, not {field.type}; write it as that"
        ) from error
    if column.null_count and not field.nullable:
        raise EstateError(f"{path}: column {field.name!r} is missing or has empty cells; fill it")
    return column


def _bad(path: Path, error: ValidationError) -> EstateError:
    first = error.errors(include_url=False, include_context=False)[0]
    # Rows count from 0 in pydantic's place, and people see them numbered from 1.
    steps = [f"entry {step + 1}" if isinstance(step, int) else step for step in first["loc"]]
    place = " ".join(map(str, steps)) or "the file"
    return EstateError(f"{path}: {place} cannot be used: {first['msg']}; correct it there")
