"""One day of raw samples → what of them is kept for ever: the only code that touches raw rows.

The same pure function runs in a thread pool over day files here and could run over the same files
on a cluster. All of it is integer arithmetic, so that two engines give the same numbers.
"""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from scipy.sparse import csr_array

from optimizer.model import Window
from optimizer.store.lake import Lake, start_of
from optimizer.store.tables import INTERVALS, NODE_DAYS, SAMPLES
from optimizer.units import MINUTES_PER_DAY

BRIDGED_MINUTES = 5
"""A hole of at most this many minutes is taken to be as both its sides are."""

USED_PER_MILLE = 10
"""A GPU that is never busier than this all day was not used (methods §3.3)."""

_BINS = 1001
_HOURS = 24
_MINUTES_PER_HOUR = 60
_SECONDS_PER_MINUTE = 60

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_HISTOGRAMS = {
    "cpu_histogram": "cpu_max",
    "memory_histogram": "memory_max",
    "gpu_histogram": "gpu_max",
    "gpu_memory_histogram": "gpu_memory_max",
}
_HOUR_SUMS = {"cpu_hour_sums": "cpu_avg", "gpu_hour_sums": "gpu_avg"}
_MAXIMA = ("cpu_max", "memory_max", "gpu_max", "gpu_memory_max")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rows:
    """The samples of a day as arrays; nodes are numbered from 0."""

    node: Ints
    minute: Ints
    """Minutes since 1970."""
    grain: Ints
    busy: Bools
    known: Bools
    """Whether `busy` was observed."""
    resource_ids: pa.Array
    node_ids: pa.Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stretches:
    """Stretches of time of nodes, in order of (node, start); ends are excluded."""

    node: Ints
    start: Ints
    end: Ints
    busy: Bools


def day_partials(samples: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Reduce the samples of one UTC day to (node_days, intervals).

    Shape: `samples` has the columns of `tables.SAMPLES`, all of one day, in any order. A node is
    busy while any of its devices is.

    - Histograms count minutes by per mille of the *maximum* within a sample, over all devices of
      a kind: idleness and headroom are asked of the peaks. Hour sums are the *average* × minutes.
    - An interval is a stretch of equal `busy` without a hole; a hole of up to `BRIDGED_MINUTES` is
      bridged where both sides agree. It ends at midnight at the latest.

    A metric that was never observed on a node is null, never 0.
    """
    rows = _rows(samples)
    observed = _merge_devices(rows)
    node_days = {
        "resource_id": rows.resource_ids,
        "node_id": rows.node_ids,
        "day": _day_of(rows),
        "minutes": _sums(observed.node, observed.end - observed.start, len(rows.node_ids)),
        "busy_minutes": _sums(
            observed.node, (observed.end - observed.start) * observed.busy, len(rows.node_ids)
        ),
        **{name: _histograms(rows, samples[metric]) for name, metric in _HISTOGRAMS.items()},
        **{name: _hour_sums(rows, samples[metric]) for name, metric in _HOUR_SUMS.items()},
        **{metric: _maxima(rows, samples[metric]) for metric in _MAXIMA},
        **_gpu_counts(rows, samples),
    }
    stretches = _stretches(observed)
    intervals = {
        "resource_id": rows.resource_ids.take(pa.array(stretches.node)),
        "node_id": rows.node_ids.take(pa.array(stretches.node)),
        "start_utc": _times(stretches.start),
        "end_utc": _times(stretches.end),
        "busy": stretches.busy,
    }
    return pa.table(node_days, schema=NODE_DAYS.schema), pa.table(
        intervals, schema=INTERVALS.schema
    )


def refresh_partials(lake: Lake, days: Collection[date], *, threads: int = 2) -> int:
    """Build the partials of each day anew from its samples; return how many days there were.

    No more than `threads` day files are in memory at once, however many days there are.

    Raises:
        LakeError: a file of samples is damaged.
    """

    def refresh(day: date) -> None:
        start = start_of(day)
        window = Window(start_utc=start, end_utc=start + timedelta(days=1))
        node_days, intervals = day_partials(lake.read_arrow(SAMPLES, window))
        lake.replace(NODE_DAYS, day, node_days)
        lake.replace(INTERVALS, day, intervals)

    with ThreadPoolExecutor(threads) as pool:
        return sum(1 for _ in pool.map(refresh, days))


def _rows(samples: pa.Table) -> _Rows:
    resources, nodes = (
        samples[name].combine_chunks().dictionary_encode() for name in ("resource_id", "node_id")
    )
    pairs = _ints(resources.indices) * max(1, len(nodes.dictionary)) + _ints(nodes.indices)
    # Hashing is several times as fast as sorting all rows.
    node, unique = pd.factorize(pairs, sort=True)
    which_resource, which_node = np.divmod(unique, max(1, len(nodes.dictionary)))
    return _Rows(
        node=node.astype(np.int64),
        minute=_ints(samples["minute_utc"].cast(pa.int64())) // _SECONDS_PER_MINUTE,
        grain=_ints(samples["grain_minutes"]),
        busy=samples["busy"].fill_null(False).to_numpy().astype(np.bool_),
        known=samples["busy"].is_valid().to_numpy().astype(np.bool_),
        resource_ids=resources.dictionary.take(pa.array(which_resource)),
        node_ids=nodes.dictionary.take(pa.array(which_node)),
    )


def _merge_devices(rows: _Rows) -> _Stretches:
    """Return one stretch for each node and sample time, cut where the next one starts."""
    minute = rows.minute - rows.minute.min(initial=0)
    # Collectors write in this order, and a stable sort of what is in order is one look at it.
    order = np.argsort(rows.node * (minute.max(initial=0) + 1) + minute, kind="stable")
    order = order[rows.known[order]]
    node, start = rows.node[order], rows.minute[order]
    first = _changes(node, start)
    if not first.size:
        nothing = np.empty(0, np.int64)
        return _Stretches(node=nothing, start=nothing, end=nothing, busy=np.empty(0, np.bool_))
    end = start[first] + np.maximum.reduceat(rows.grain[order], first)
    node, start = node[first], start[first]
    same_node = node[1:] == node[:-1]
    end[:-1] = np.where(same_node, np.minimum(end[:-1], start[1:]), end[:-1])
    midnight = (start // MINUTES_PER_DAY + 1) * MINUTES_PER_DAY
    return _Stretches(
        node=node,
        start=start,
        end=np.minimum(end, midnight),
        busy=np.logical_or.reduceat(rows.busy[order], first),
    )


def _stretches(observed: _Stretches) -> _Stretches:
    """Join neighbours of equal `busy` whose hole is short."""
    if not observed.node.size:
        return observed
    far = np.empty(observed.node.size, np.bool_)
    far[0] = True
    far[1:] = (
        (observed.node[1:] != observed.node[:-1])
        | (observed.busy[1:] != observed.busy[:-1])
        | (observed.start[1:] - observed.end[:-1] > BRIDGED_MINUTES)
    )
    first = np.flatnonzero(far)
    last = np.append(first[1:], observed.node.size) - 1
    return _Stretches(
        node=observed.node[first],
        start=observed.start[first],
        end=observed.end[last],
        busy=observed.busy[first],
    )


def _histograms(rows: _Rows, values: pa.ChunkedArray) -> pa.Array:
    """Return for each node [bin, minutes, bin, minutes, …] of the bins that hold something."""
    seen, value = _observed(values)
    cells = rows.grain[seen], (rows.node[seen], np.minimum(value, _BINS - 1))
    filled = csr_array(cells, shape=(len(rows.node_ids), _BINS))
    filled.sum_duplicates()
    pairs = np.stack([filled.indices, filled.data], axis=1).ravel()
    return _lists(2 * filled.indptr, pairs, none=np.diff(filled.indptr) == 0)


def _hour_sums(rows: _Rows, values: pa.ChunkedArray) -> pa.Array:
    seen, value = _observed(values)
    hour = rows.minute[seen] // _MINUTES_PER_HOUR % _HOURS
    count = len(rows.node_ids)
    sums = _sums(rows.node[seen] * _HOURS + hour, value * rows.grain[seen], count * _HOURS)
    present = np.zeros(count, np.bool_)
    present[rows.node[seen]] = True
    return _lists(_HOURS * np.arange(count + 1), sums, none=~present)


def _maxima(rows: _Rows, values: pa.ChunkedArray) -> list[int | None]:
    seen, value = _observed(values)
    highest = np.full(len(rows.node_ids), -1, np.int64)
    np.maximum.at(highest, rows.node[seen], value)
    return [None if v < 0 else v for v in highest.tolist()]


def _gpu_counts(rows: _Rows, samples: pa.Table) -> dict[str, list[int | None]]:
    """Return how many GPUs of each node were told of, and how many of them ever worked."""
    seen, value = _observed(samples["gpu_max"])
    devices = samples["device_id"].combine_chunks().dictionary_encode()
    count = max(1, len(devices.dictionary))
    cells = rows.node[seen] * count + _ints(devices.indices)[seen]
    cell, unique = pd.factorize(cells)
    highest = np.zeros(unique.size, np.int64)
    np.maximum.at(highest, cell, value)
    told = _sums(unique // count, np.ones_like(unique), len(rows.node_ids)).tolist()
    used = _sums(
        unique // count, (highest > USED_PER_MILLE).astype(np.int64), len(rows.node_ids)
    ).tolist()
    return {
        "gpus_seen": [n or None for n in told],
        "gpus_used": [u if n else None for n, u in zip(told, used, strict=True)],
    }


def _lists(
    offsets: npt.NDArray[np.integer[Any]], values: npt.NDArray[np.integer[Any]], *, none: Bools
) -> pa.Array:
    """Return one list for each node; null where `none`."""
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(values, pa.uint32()), mask=pa.array(none)
    )


def _observed(values: pa.ChunkedArray) -> tuple[Bools, Ints]:
    """Return where a value is and the values that are."""
    seen = values.is_valid().to_numpy().astype(np.bool_)
    return seen, _ints(values.drop_null())


def _sums(group: Ints, values: Ints, count: int) -> Ints:
    """Add values up by group. Floats are exact here: no sum of a day comes near 2**53."""
    return np.bincount(group, weights=values, minlength=count).astype(np.int64)


def _changes(*columns: Ints) -> Ints:
    """Return where a row differs from the one before it; the first row does."""
    if not columns[0].size:
        return np.empty(0, np.int64)
    differs = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return np.flatnonzero(np.concatenate(([True], differs)))


def _day_of(rows: _Rows) -> pa.Array:
    first = rows.minute.min() if rows.minute.size else 0
    return _times(np.full(len(rows.node_ids), first // MINUTES_PER_DAY * MINUTES_PER_DAY))


def _times(minutes: Ints) -> pa.Array:
    return pa.array(minutes * _SECONDS_PER_MINUTE, pa.int64()).cast(pa.timestamp("s", tz="UTC"))


def _ints(values: pa.Array | pa.ChunkedArray) -> Ints:
    return values.to_numpy(zero_copy_only=False).astype(np.int64)  # type: ignore[no-any-return]
