"""One day of raw samples → what of them is kept for ever: the only code that touches raw rows.

The same pure function runs in a thread pool over day files here and could run over the same files
on a cluster. All of it is integer arithmetic, so that two engines give the same numbers.
"""

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from optimizer.store.histograms import BINS, coded
from optimizer.store.lake import Lake
from optimizer.store.tables import INTERVALS, NODE_DAYS, SAMPLES, USE_WEEKS
from optimizer.store.weeks import drop_weeks, monday_of, refresh_weeks
from optimizer.units import MINUTES_PER_DAY

BRIDGED_MINUTES = 5
"""A hole of at most this many minutes is taken to be as both its sides are."""

USED_PER_MILLE = 10
"""A GPU that is never busier than this all day was not used (methods §3.3)."""

_UNSEEN = BINS
"""The bin of samples without a value."""
_WIDTH = BINS + 1
_HOURS = 24
_MINUTES_PER_HOUR = 60
_SECONDS_PER_MINUTE = 60
_SECONDS_PER_DAY = 86400

_SLOT = MINUTES_PER_DAY + BRIDGED_MINUTES + 1
"""Of a node's day on a timeline of all nodes, one after another: no hole between is bridged."""

BLOCK_ROWS = 1 << 18
"""About so many rows are worked on at once, whatever the size of the day."""

Ints = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_HISTOGRAMS = {
    "cpu_histogram": "cpu_max",
    "memory_histogram": "memory_max",
    "gpu_histogram": "gpu_max",
    "gpu_memory_histogram": "gpu_memory_max",
}
_HOUR_SUMS = {"cpu_hour_sums": "cpu_avg", "gpu_hour_sums": "gpu_avg"}
_MAXIMA = ("cpu_max", "memory_max", "gpu_max", "gpu_memory_max")
COLUMNS = (
    "resource_id",
    "node_id",
    "device_id",
    "minute_utc",
    "grain_minutes",
    "busy",
    *_HOUR_SUMS.values(),
    *_MAXIMA,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rows:
    """Samples of whole nodes as arrays, node after node; nodes are numbered from 0."""

    midnight: int
    """At which their day begins, in minutes since 1970."""
    node: Ints
    moment: Ints
    """Its minute on the timeline of all nodes."""
    grain: Ints
    weight: Floats
    """The grain once more, in the type that NumPy adds up by."""
    first_bin: Ints
    """Where the histogram of its node begins among those of all nodes."""
    node_first: Ints
    """First row of each node."""
    run_first: Ints
    """First row of each run of rows of one device of a node in one hour."""
    resource_ids: pa.Array
    """Of each node."""
    node_ids: pa.Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Values:
    """A metric of each row; 0 where it was not seen."""

    value: Ints
    seen: Bools | None
    """None: everywhere."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stretches:
    """Stretches of the timeline of all nodes, in order; ends are excluded."""

    start: Ints
    end: Ints
    minutes: Ints
    """How many of its minutes were observed."""
    busy: Bools


def day_partials(samples: pa.Table, *, block_rows: int = BLOCK_ROWS) -> tuple[pa.Table, pa.Table]:
    """Reduce the samples of one UTC day to (node_days, intervals).

    Shape: `samples` has the columns of `tables.SAMPLES`, all of one day, in any order; that of the
    lake is the fast one. A node is busy while any of its devices is.

    - Histograms count minutes by per mille of the *maximum* within a sample, over all devices of
      a kind: idleness and headroom are asked of the peaks. Hour sums are the *average* × minutes.
    - An interval is a stretch of equal `busy` without a hole; a hole of up to `BRIDGED_MINUTES` is
      bridged where both sides agree. It ends at midnight at the latest.

    A metric that was never observed on a node is null, never 0. About `block_rows` rows are worked
    on at once.
    """
    node_days, intervals = [NODE_DAYS.schema.empty_table()], [INTERVALS.schema.empty_table()]
    for block in _blocks(samples, block_rows):
        rows = _rows(block)
        stretches = _joined(_merge_devices(rows, block["busy"]))
        node_days.append(_node_days(rows, stretches, block))
        intervals.append(_intervals(rows, stretches))
    return pa.concat_tables(node_days), pa.concat_tables(intervals)


def refresh_partials(lake: Lake, days: Collection[date], *, threads: int = 2) -> int:
    """Build the partials of each day anew from its samples, and what rests on them.

    Return how many days there were.

    No more than `threads` day files are in memory at once, however many days there are.

    Raises:
        LakeError: a file of samples is damaged.
    """

    def refresh(day: date) -> None:
        node_days, intervals = day_partials(lake.read_day(SAMPLES, day, COLUMNS))
        lake.replace(NODE_DAYS, day, node_days)
        lake.replace(INTERVALS, day, intervals)

    drop_weeks(lake, days)
    with ThreadPoolExecutor(threads) as pool:
        count = sum(1 for _ in pool.map(refresh, days))
    refresh_weeks(lake, days, threads=threads)
    return count


def built_days(lake: Lake) -> list[date]:
    """Return the days whose partials, and what rests on them, are there and of this version.

    Raises:
        LakeError: a file is damaged.
    """
    intervals, weeks = set(lake.days(INTERVALS)), set(lake.current_days(USE_WEEKS))
    days = lake.current_days(NODE_DAYS)
    return [day for day in days if day in intervals and monday_of(day) in weeks]


def _blocks(samples: pa.Table, block_rows: int) -> Iterator[pa.Table]:
    """Yield samples a few whole nodes at a time, node after node."""
    if not samples.num_rows:
        return
    samples = samples.unify_dictionaries()
    (resource, _), (node, names) = _codes(samples["resource_id"]), _codes(samples["node_id"])
    first = _changes(resource, node)
    pairs = resource[first].astype(np.int64) * len(names) + node[first]
    if pd.unique(pairs).size < pairs.size:  # rows of a node lie apart
        order = np.lexsort((node, resource))
        samples, first = samples.take(pa.array(order)), _changes(resource[order], node[order])
    cuts = first[np.searchsorted(first, np.arange(0, first[-1] + 1, block_rows))]
    for start, end in pairwise([*np.unique(cuts).tolist(), samples.num_rows]):
        yield samples.slice(start, end - start)


def _rows(samples: pa.Table) -> _Rows:
    (resource, resource_ids), (node, node_ids), (device, _) = (
        _codes(samples[name]) for name in ("resource_id", "node_id", "device_id")
    )
    seconds = samples["minute_utc"].cast(pa.int64()).to_numpy()
    midnight = int(seconds[0]) // _SECONDS_PER_DAY * _SECONDS_PER_DAY
    # Small integers are divided several times as fast.
    minute = (seconds - midnight).astype(np.int32) // _SECONDS_PER_MINUTE
    grain = samples["grain_minutes"].to_numpy()
    first = _changes(resource, node)
    count = np.diff(first, append=node.size)
    number = np.repeat(np.arange(first.size, dtype=np.int32), count)
    return _Rows(
        midnight=midnight // _SECONDS_PER_MINUTE,
        node=number,
        moment=number * _SLOT + minute,
        grain=grain,
        weight=grain.astype(np.float64),
        first_bin=np.repeat(np.arange(first.size) * _WIDTH, count),
        node_first=first,
        run_first=_changes(number, device, minute // _MINUTES_PER_HOUR),
        resource_ids=resource_ids.take(pa.array(resource[first])),
        node_ids=node_ids.take(pa.array(node[first])),
    )


def _merge_devices(rows: _Rows, busy: pa.ChunkedArray) -> _Stretches:
    """Return one stretch for each node and sample time, cut where the next one starts."""
    start, grain, working = rows.moment, rows.grain, _filled(busy, False)
    if busy.null_count:
        known = np.flatnonzero(busy.is_valid().to_numpy())
        start, grain, working = start[known], grain[known], working[known]
    if (start[1:] <= start[:-1]).any():  # several devices
        order = np.argsort(start, kind="stable")
        first = _changes(start[order])
        start = start[order][first]
        grain = np.maximum.reduceat(grain[order], first)
        working = np.logical_or.reduceat(working[order], first)
    end = np.minimum(start + grain, start // _SLOT * _SLOT + MINUTES_PER_DAY)
    end[:-1] = np.minimum(end[:-1], start[1:])
    return _Stretches(start=start, end=end, minutes=end - start, busy=working)


def _joined(observed: _Stretches) -> _Stretches:
    """Join neighbours of equal `busy` whose hole is short."""
    start, end, busy = observed.start, observed.end, observed.busy
    if not start.size:
        return observed
    far = (busy[1:] != busy[:-1]) | (start[1:] - end[:-1] > BRIDGED_MINUTES)
    first = np.append(0, np.flatnonzero(far) + 1)
    return _Stretches(
        start=start[first],
        end=end[np.append(first[1:], start.size) - 1],
        minutes=np.add.reduceat(observed.minutes, first),
        busy=busy[first],
    )


def _node_days(rows: _Rows, stretches: _Stretches, samples: pa.Table) -> pa.Table:
    values = {metric: _values(samples[metric]) for metric in (*_HOUR_SUMS.values(), *_MAXIMA)}
    node, nodes = stretches.start // _SLOT, rows.node_first.size
    columns = {
        "resource_id": rows.resource_ids,
        "node_id": rows.node_ids,
        "day": _times(np.full(nodes, rows.midnight)),
        "minutes": _sums(node, stretches.minutes, nodes),
        "busy_minutes": _sums(node, stretches.minutes * stretches.busy, nodes),
        **{name: _histograms(rows, values[metric]) for name, metric in _HISTOGRAMS.items()},
        **_cpu_totals(rows, values["cpu_max"], values["cpu_avg"]),
        **{name: _hour_sums(rows, values[metric]) for name, metric in _HOUR_SUMS.items()},
        **{metric: _maxima(rows, values[metric]) for metric in _MAXIMA},
        **_gpu_counts(rows, values["gpu_max"], samples["device_id"]),
    }
    return pa.table(columns, schema=NODE_DAYS.schema)


def _intervals(rows: _Rows, stretches: _Stretches) -> pa.Table:
    node = stretches.start // _SLOT
    midnight = rows.midnight - node * _SLOT
    columns = {
        "resource_id": rows.resource_ids.take(pa.array(node)),
        "node_id": rows.node_ids.take(pa.array(node)),
        "start_utc": _times(midnight + stretches.start),
        "end_utc": _times(midnight + stretches.end),
        "busy": stretches.busy,
    }
    return pa.table(columns, schema=INTERVALS.schema)


def _histograms(rows: _Rows, values: _Values) -> pa.Array:
    bins = np.minimum(values.value, BINS - 1)
    if values.seen is not None:
        bins[~values.seen] = _UNSEEN
    count = rows.node_first.size
    minutes = np.bincount(rows.first_bin + bins, weights=rows.weight, minlength=count * _WIDTH)
    minutes[_UNSEEN::_WIDTH] = 0
    return coded(minutes.reshape(count, _WIDTH))


def _cpu_totals(rows: _Rows, peaks: _Values, means: _Values) -> dict[str, pa.Array]:
    """Return all minutes of each node whose CPU was told, and per mille over minutes."""
    seen = rows.weight if peaks.seen is None else rows.weight * peaks.seen
    minutes, told = (np.add.reduceat(v, rows.node_first) for v in (seen, means.value * rows.weight))
    return {
        "cpu_minutes": pa.array(minutes.astype(np.int64), mask=minutes == 0),
        "cpu_sum": pa.array(told.astype(np.int64), mask=_unseen(means, rows.node_first)),
    }


def _hour_sums(rows: _Rows, values: _Values) -> pa.Array:
    nodes, first = rows.node_first.size, rows.run_first
    hour = rows.moment[first] % _SLOT // _MINUTES_PER_HOUR
    told = np.add.reduceat(values.value * rows.weight, first)
    sums = _sums(rows.node[first] * _HOURS + hour, told, nodes * _HOURS)
    return _lists(_HOURS * np.arange(nodes + 1), sums, none=_unseen(values, rows.node_first))


def _maxima(rows: _Rows, values: _Values) -> pa.Array:
    highest = np.maximum.reduceat(values.value, rows.node_first)
    return pa.array(highest, mask=_unseen(values, rows.node_first))


def _gpu_counts(rows: _Rows, values: _Values, device_ids: pa.ChunkedArray) -> dict[str, pa.Array]:
    """Return how many GPUs of each node were told of, and how many of them ever worked."""
    device, names = _codes(device_ids)
    first = rows.run_first
    gpu = rows.node[first] * len(names) + device[first]
    worked = np.maximum.reduceat(values.value, first) > USED_PER_MILLE
    seen, used = (
        _sums(pd.unique(gpu[which]) // len(names), None, rows.node_first.size)
        for which in (~_unseen(values, first), worked)
    )
    return {
        "gpus_seen": pa.array(seen, mask=seen == 0),
        "gpus_used": pa.array(used, mask=seen == 0),
    }


def _lists(offsets: Ints, values: Ints, *, none: Bools) -> pa.Array:
    """Return one list for each node; null where `none`."""
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(values, pa.uint32()), mask=pa.array(none)
    )


def _values(column: pa.ChunkedArray) -> _Values:
    return _Values(
        value=_filled(column, 0),
        seen=column.is_valid().to_numpy() if column.null_count else None,
    )


def _filled(column: pa.ChunkedArray, missing: Any) -> npt.NDArray[Any]:
    filled = column.fill_null(missing) if column.null_count else column
    return filled.to_numpy()  # type: ignore[no-any-return]


def _unseen(values: _Values, first: Ints) -> Bools:
    """Return for each stretch of rows whether none of its values was seen."""
    if values.seen is None:
        return np.zeros(first.size, np.bool_)
    return ~np.logical_or.reduceat(values.seen, first)


def _sums(group: Ints, values: Ints | Floats | None, count: int) -> Ints:
    """Add values up by group, or count them. Floats are exact: no sum of a day comes near 2**53."""
    return np.bincount(group, weights=values, minlength=count).astype(np.int64)


def _changes(*columns: Ints) -> Ints:
    """Return where a row differs from the one before it; the first row does."""
    differs = reduce(or_, [column[1:] != column[:-1] for column in columns])
    return np.append(0, np.flatnonzero(differs) + 1)[: columns[0].size]


def _codes(texts: pa.ChunkedArray) -> tuple[Ints, pa.Array]:
    """Return numbers of texts and what they stand for."""
    if not pa.types.is_dictionary(texts.type):
        texts = texts.dictionary_encode()
    codes = texts.combine_chunks()
    return codes.indices.to_numpy(), codes.dictionary


def _times(minutes: Ints) -> pa.Array:
    seconds = minutes.astype(np.int64) * _SECONDS_PER_MINUTE
    return pa.array(seconds).cast(pa.timestamp("s", tz="UTC"))
