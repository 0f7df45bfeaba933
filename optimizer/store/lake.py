"""The Parquet lake: one file for each table and UTC day, the later collection wins.

Each file also remembers what it holds everything of: scopes (a workspace, a subscription) and the
moment up to which they were collected. That memory travels with the rows, so a file that is deleted
is collected again, and a collection that was interrupted goes on where it stopped.

What comes by groups of resources over many days is set aside first, a file for each answer, and
laid over the day files once, a day at a time: else every group would write every day anew.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from optimizer.errors import LakeError
from optimizer.model import Window
from optimizer.store.tables import Table
from optimizer.units import iso_utc, utc

_ROW_GROUP_ROWS = 1 << 20
_COLLECTED = b"collected"
_ASIDE = "aside"
_PART = b"part"
_DAY = timedelta(days=1)
_EPOCH = date(1970, 1, 1)
_SECONDS_PER_DAY = 86400

# Integers and booleans keep their null: as NumPy types a null would turn them into floats.
_PANDAS_TYPES = {
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.string(): pd.StringDtype(na_value=np.nan),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """A claim: these rows are all there is of `scopes` in `window`.

    A scope is an id in lower case, of a workspace or a subscription, and holds all ids below it. Of
    a table without days a coverage only says when the scopes were last read.
    """

    scopes: Sequence[str]
    window: Window


class Lake:
    """Reads and writes the tables under one folder; one writer at a time for each table."""

    def __init__(self, root: Path) -> None:
        """Use the folder `root`; it is made on the first write."""
        self._root = root
        self._naming = Lock()

    def write(
        self, table: Table, frame: pd.DataFrame | pa.Table, *, coverage: Coverage | None = None
    ) -> int:
        """Lay rows over what the lake holds and return how many there were.

        A row replaces the one with the same key. With `coverage`, the rows of its scopes and window
        that are not among `frame` go as well, and the files remember what was collected; without
        it nothing is ever dropped. A column that `frame` lacks is null. Each file is replaced as a
        whole, so that a crash leaves the old one or the new one.

        Raises:
            LakeError: a file that is to be overlaid is damaged, or a column is unknown.
        """
        rows = conform(table, frame)
        if table.day_column is None:
            file = self._folder(table) / "all.parquet"
            self._overlay(table, file, [rows], [coverage] if coverage else [])
        else:
            for day, part in _by_day(table, rows, coverage):
                file = self._day_file(table, day)
                self._overlay(table, file, [part], [coverage] if coverage else [])
        return int(rows.num_rows)

    def set_aside(
        self, table: Table, frame: pd.DataFrame | pa.Table, *, coverage: Coverage | None = None
    ) -> int:
        """Keep rows of a table with days until `settle`, and return how many; threads may.

        Nobody reads them before. A coverage speaks of all that is set aside, not of `frame` alone.

        Raises:
            LakeError: a column is unknown, or its values do not fit.
        """
        rows = conform(table, frame)
        days = list(_by_day(table, rows, coverage))
        if not days:
            return 0
        memory = {
            "days": [day.isoformat() for day, _ in days],
            "groups": [day.isoformat() for day, part in days if part.num_rows],
            "scopes": list(coverage.scopes) if coverage else None,
            "window": [iso_utc(t) for t in (coverage.window.start_utc, coverage.window.end_utc)]
            if coverage
            else None,
        }
        schema = table.schema.with_metadata({_PART: orjson.dumps(memory)})
        folder = self._folder(table) / _ASIDE
        folder.mkdir(parents=True, exist_ok=True)
        with self._naming:
            taken = [int(file.stem) for file in folder.iterdir()]
            temporary = folder / f"{max(taken, default=0) + 1:08}.tmp"
            temporary.touch()
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for _, part in days:
                if part.num_rows:  # a day is a row group
                    writer.write_table(part.cast(schema), row_group_size=part.num_rows)
        temporary.replace(temporary.with_suffix(".parquet"))
        return int(rows.num_rows)

    def settle(self, table: Table) -> list[date]:
        """Lay all that was set aside over the day files; return the days, oldest first.

        It is as if one `write` had brought it all. Where it is cut short, the next call does it
        once more, to the same end.

        Raises:
            LakeError: a file is damaged.
        """
        folder = self._folder(table) / _ASIDE
        parts = [_Part.of(file) for file in sorted(folder.glob("*.parquet"))]
        days = sorted({day for part in parts for day in part.days})
        for day in days:
            mine = [part for part in parts if day in part.days]
            self._overlay(
                table,
                self._day_file(table, day),
                [part.rows(table, day) for part in mine if day in part.groups],
                [part.coverage for part in mine if part.coverage],
            )
        shutil.rmtree(folder, ignore_errors=True)
        return days

    def replace(self, table: Table, day: date, frame: pa.Table) -> int:
        """Make `frame` all that the lake holds of a table on one day; return its rows."""
        rows = conform(table, frame)
        self._save(table, self._day_file(table, day), rows, {})
        return int(rows.num_rows)

    def drop(self, table: Table, day: date) -> None:
        """Forget all that the lake holds of a table on one day."""
        self._day_file(table, day).unlink(missing_ok=True)

    def read(
        self,
        table: Table,
        window: Window | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Return a table, sorted by its key, or the part of it inside `window`.

        Times are aware and in UTC. Integers and booleans have pandas' nullable types whether or not
        a null is among them; where nothing was collected the frame is empty and typed the same.

        Raises:
            LakeError: a file is damaged.
        """
        return _to_pandas(self.read_arrow(table, window, columns))

    def read_arrow(
        self,
        table: Table,
        window: Window | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Return what `read` returns, as Arrow. Raises LakeError."""
        names = list(columns) if columns is not None else table.schema.names
        wanted = names + [c for c in (table.day_column,) if c and window and c not in names]
        schema = pa.schema([table.schema.field(name) for name in wanted])
        files = self._within(table, window)
        with ThreadPoolExecutor(2) as threads:
            parts = list(threads.map(lambda file: _load(file, schema), files))
        rows = pa.concat_tables([schema.empty_table(), *parts])
        if window is not None and table.day_column is not None:
            rows = rows.filter(inside(rows[table.day_column], window))
        return rows.select(names)

    def read_day(self, table: Table, day: date, columns: Sequence[str]) -> pa.Table:
        """Return columns of a UTC day in the order of the key, each text kept once.

        Raises:
            LakeError: the file is damaged.
        """
        schema = _texts_once(pa.schema([table.schema.field(name) for name in columns]))
        file = self._day_file(table, day)
        return _load(file, schema) if file.exists() else schema.empty_table()

    def days(self, table: Table) -> list[date]:
        """Return the UTC days that have a file, oldest first; none for a table of one file."""
        if table.day_column is None:
            return []
        return sorted(date.fromisoformat(f.stem) for f in self._folder(table).glob("*.parquet"))

    def current_days(self, table: Table) -> list[date]:
        """Return those of `days` whose file has the columns of now: an earlier version had others.

        Raises:
            LakeError: a file is damaged.
        """
        names = table.schema.names
        return [d for d in self.days(table) if _schema(self._day_file(table, d)).names == names]

    def missing_from(self, table: Table, scope: str, window: Window) -> datetime:
        """Return the moment in `window` from which `scope` has yet to be collected.

        It is the window's end where nothing is missing. Raises LakeError.
        """
        if table.day_column is None:
            known = self._collected(self._folder(table) / "all.parquet").get(scope)
            return min(max(known or window.start_utc, window.start_utc), window.end_utc)
        for day in days_of(window):
            wanted = min(start_of(day) + _DAY, window.end_utc)
            known = self._collected(self._day_file(table, day)).get(scope, start_of(day))
            if known < wanted:
                return max(known, window.start_utc)
        return window.end_utc

    def _folder(self, table: Table) -> Path:
        return self._root / table.name

    def _day_file(self, table: Table, day: date) -> Path:
        return self._folder(table) / f"{day.isoformat()}.parquet"

    def _within(self, table: Table, window: Window | None) -> list[Path]:
        if table.day_column is None:
            file = self._folder(table) / "all.parquet"
            return [file] if file.exists() else []
        wanted = set(days_of(window)) if window else None
        return [
            self._day_file(table, day)
            for day in self.days(table)
            if wanted is None or day in wanted
        ]

    def _overlay(
        self,
        table: Table,
        file: Path,
        layers: Sequence[pa.Table],
        coverages: Sequence[Coverage],
    ) -> None:
        collected = dict(self._collected(file))
        if file.exists():
            old = _load(file, _texts_once(table.schema))
            if table.day_column is not None:
                for coverage in coverages:
                    old = old.filter(pc.invert(_covered(table, old, coverage)))
            layers = [old, *layers]
        for coverage in coverages:
            until = coverage.window.end_utc
            if table.day_column is not None:
                until = min(until, start_of(date.fromisoformat(file.stem)) + _DAY)
            for scope in coverage.scopes:
                collected[scope] = max(until, collected.get(scope, until))
        schema = _texts_once(table.schema)
        rows = pa.concat_tables([schema.empty_table(), *(layer.cast(schema) for layer in layers)])
        self._save(table, file, rows, collected)

    def _save(
        self, table: Table, file: Path, rows: pa.Table, collected: Mapping[str, datetime]
    ) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        memory = orjson.dumps({scope: iso_utc(until) for scope, until in collected.items()})
        temporary = file.with_suffix(".tmp")
        schema = table.schema.with_metadata({_COLLECTED: memory})
        ordered = _in_order(table, rows)
        with pq.ParquetWriter(temporary, schema, **_encodings(schema)) as writer:
            for start in range(0, max(1, ordered.num_rows), _ROW_GROUP_ROWS):
                group = ordered.slice(start, _ROW_GROUP_ROWS)
                writer.write_table(group.cast(schema), row_group_size=_ROW_GROUP_ROWS)
        temporary.replace(file)

    def _collected(self, file: Path) -> Mapping[str, datetime]:
        if not file.exists():
            return {}
        metadata = _schema(file).metadata or {}
        return {k: utc(v) for k, v in orjson.loads(metadata.get(_COLLECTED, b"{}")).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A file of rows that were set aside: a row group for each day that has any."""

    file: Path
    days: Sequence[date]
    """Those that it speaks of, with rows or without."""
    groups: Sequence[date]
    coverage: Coverage | None

    @classmethod
    def of(cls, file: Path) -> "_Part":
        """Read what a file says of itself. Raises LakeError."""
        try:
            memory = orjson.loads((pq.read_schema(file).metadata or {})[_PART])
        except (pa.ArrowInvalid, OSError, KeyError) as error:
            raise _damaged(file) from error
        coverage = None
        if memory["window"]:
            start, end = map(utc, memory["window"])
            window = Window(start_utc=start, end_utc=end)
            coverage = Coverage(scopes=memory["scopes"], window=window)
        days, groups = ([date.fromisoformat(d) for d in memory[n]] for n in ("days", "groups"))
        return cls(file=file, days=days, groups=groups, coverage=coverage)

    def rows(self, table: Table, day: date) -> pa.Table:
        """Return the rows of one of its days. Raises LakeError."""
        try:
            file = pq.ParquetFile(self.file, read_dictionary=_texts(table.schema))
            group = file.read_row_group(self.groups.index(day))
        except (pa.ArrowInvalid, OSError) as error:
            raise _damaged(self.file) from error
        return group.replace_schema_metadata(None)


def conform(table: Table, frame: pd.DataFrame | pa.Table) -> pa.Table:
    """Return `frame` with the columns and types of a table; a column that is not there is null.

    Raises:
        LakeError: a column is unknown, or its values do not fit.
    """
    if unknown := set(frame.schema.names if isinstance(frame, pa.Table) else frame.columns) - set(
        table.schema.names
    ):
        raise LakeError(f"The table {table.name} has no column {', '.join(sorted(unknown))}.")
    if not len(frame):  # nothing has no types to convert from
        return table.schema.empty_table()
    try:
        if isinstance(frame, pd.DataFrame):
            present = pa.schema([f for f in table.schema if f.name in frame.columns])
            frame = pa.Table.from_pandas(frame, schema=present, preserve_index=False)
        columns = [
            frame[f.name].cast(f.type)
            if f.name in frame.schema.names
            else pa.nulls(frame.num_rows, f.type)
            for f in table.schema
        ]
    except pa.ArrowException as error:
        raise LakeError(f"Rows do not fit the table {table.name}: {error}.") from error
    return pa.table(columns, schema=table.schema)


def _by_day(
    table: Table, rows: pa.Table, coverage: Coverage | None
) -> Iterator[tuple[date, pa.Table]]:
    """Yield the rows of each UTC day, oldest first; a covered day without rows is one too."""
    seconds = rows[table.day_column].cast(pa.timestamp("s", tz="UTC")).cast(pa.int64())
    numbers = seconds.to_numpy() // _SECONDS_PER_DAY
    order = np.argsort(numbers, kind="stable")
    by_day = rows.take(pa.array(order))
    covered = [(day - _EPOCH).days for day in days_of(coverage.window)] if coverage else []
    days = np.union1d(numbers, np.array(covered, np.int64))
    bounds = np.searchsorted(numbers[order], np.append(days, days[-1:] + 1))
    for day, start, end in zip(days.tolist(), bounds[:-1], bounds[1:], strict=True):
        yield _EPOCH + timedelta(days=day), by_day.slice(start, end - start)


def days_of(window: Window) -> Iterator[date]:
    """Yield each UTC day that a window touches, oldest first."""
    day = window.start_utc.astimezone(UTC).date()
    while start_of(day) < window.end_utc:
        yield day
        day += _DAY


def start_of(day: date) -> datetime:
    """Return midnight UTC of a day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _texts(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if pa.types.is_string(field.type)]


def _texts_once(schema: pa.Schema) -> pa.Schema:
    """Return a schema whose texts are kept once each: ids are most of what a day's rows take."""
    once = pa.dictionary(pa.int32(), pa.string())
    texts = set(_texts(schema))
    return pa.schema([f.with_type(once) if f.name in texts else f for f in schema])


def _load(file: Path, schema: pa.Schema) -> pa.Table:
    """Return the columns of a file; one that it was written without is null throughout."""
    once = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    try:
        rows = pq.ParquetFile(file, read_dictionary=once).read(columns=schema.names)
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(file) from error
    try:
        columns = [
            rows[field.name].cast(field.type)
            if field.name in rows.schema.names
            else pa.nulls(rows.num_rows, field.type)
            for field in schema
        ]
    except pa.ArrowException as error:
        raise LakeError(
            f"{file} was written by an earlier version: run `optimizer collect`, which builds it "
            "anew."
        ) from error
    return pa.table(columns, schema=schema)


def _schema(file: Path) -> pa.Schema:
    try:
        return pq.read_schema(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(file) from error


def _encodings(schema: pa.Schema) -> dict[str, Any]:
    """Return how Parquet is to write columns.

    The numbers of lists hardly repeat as wholes, but their upper bytes do.
    """
    lists = [field for field in schema if pa.types.is_list(field.type)]
    leaves = [f"{field.name}.list.element{leaf}" for field in lists for leaf in _leaves(field.type)]
    others = [field.name for field in schema if not pa.types.is_list(field.type)]
    return {
        "compression": "zstd",
        "use_dictionary": others,
        "use_byte_stream_split": leaves or False,
    }


def _leaves(of: pa.ListType) -> list[str]:
    inner = of.value_type
    return [f".{field.name}" for field in inner] if pa.types.is_struct(inner) else [""]


def _damaged(file: Path) -> LakeError:
    return LakeError(
        f"{file} is damaged, perhaps cut short while it was copied: delete it and run "
        "`optimizer collect`, which collects that day again."
    )


def inside(times: pa.ChunkedArray, window: Window) -> pa.ChunkedArray:
    """Return which times lie in a window, as a mask."""
    start, end = (pa.scalar(t, times.type) for t in (window.start_utc, window.end_utc))
    return pc.and_(pc.greater_equal(times, start), pc.less(times, end))


def _covered(table: Table, rows: pa.Table, coverage: Coverage) -> pa.ChunkedArray:
    """Return which rows belong to a coverage, as a mask."""
    ids = rows[table.key[0]].unify_dictionaries()
    below = tuple(f"{scope}/" for scope in coverage.scopes)
    known = ids.chunk(0).dictionary.to_pylist() if ids.num_chunks else []
    mine = pa.array([each for each in known if f"{each}/".startswith(below)], pa.string())
    return pc.and_(pc.is_in(ids, mine), inside(rows[table.day_column], coverage.window))


def _in_order(table: Table, rows: pa.Table) -> pa.Table:
    """Return rows sorted by their key; of those with the same key, the last one only."""
    ranks = [_ranks(rows[name]) for name in table.key]
    order = np.lexsort(ranks[::-1])
    repeated = np.logical_and.reduce([r[order][1:] == r[order][:-1] for r in ranks])
    kept = order[np.append(~repeated, True)[: order.size]]
    if np.array_equal(kept, np.arange(rows.num_rows)):
        return rows
    return rows.take(pa.array(kept))


def _ranks(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return a column as whole numbers in the same order; null is one of them."""
    if not pa.types.is_dictionary(column.type):
        if not pa.types.is_string(column.type):
            return column.cast(pa.int64()).fill_null(-1).to_numpy()  # type: ignore[no-any-return]
        column = column.dictionary_encode()
    encoded = column.unify_dictionaries().combine_chunks()
    last = len(encoded.dictionary)
    ranks = np.append(pc.rank(encoded.dictionary).to_numpy().astype(np.int64), last + 1)
    return ranks[encoded.indices.fill_null(last).to_numpy()]  # type: ignore[no-any-return]


def _to_pandas(rows: pa.Table) -> pd.DataFrame:
    return rows.to_pandas(types_mapper=_PANDAS_TYPES.get)  # type: ignore[no-any-return]
