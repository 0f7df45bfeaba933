"""Utilisation of nodes: by the minute on instances, by five minutes or the hour on clusters."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby, product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from optimizer.azure.connect import Connection
from optimizer.azure.monitor import BATCH_LIMIT, SERIES_LIMIT, MetricQuestion, MetricSeries
from optimizer.collectors.inventory import subscription_of
from optimizer.config import AnalysisSettings
from optimizer.errors import TruncatedError
from optimizer.model import Kind, Resource, Window
from optimizer.store.tables import SAMPLES

INSTANCE_GRAIN = timedelta(minutes=1)
"""Idleness is asked at the finest grain there is."""
CLUSTER_GRAIN = timedelta(minutes=5)
"""Node states tell a cluster's idleness; utilisation is for right-sizing, of 5-minute maxima."""
LARGE_CLUSTER_GRAIN = timedelta(hours=1)
"""Of an hour the maximum is the highest of its 5-minute maxima: no headroom is made up."""
LARGE_CLUSTER_SERIES = 400
"""From so many nodes × devices on: five minutes of them would be 100 MB a day."""

_CPU = {"CpuUtilizationPercentage": "cpu", "CpuMemoryUtilizationPercentage": "memory"}
_GPU = {"GpuUtilizationPercentage": "gpu", "GpuMemoryUtilizationPercentage": "gpu_memory"}

_NAMES_A_FILTER = 40
"""Keeps the address of a request well under 8 kB."""
_CLUSTER_WINDOW = timedelta(days=1)
"""Nodes come and go, and each has a series as long as the window, empty where it was not there."""
_SHORTEST_WINDOW = timedelta(hours=1)
_BYTES_A_POINT = 80
_BYTES_AN_ANSWER = 16e6
"""Parsed, it takes some ten times that, as often as requests are under way at once."""
_PER_MILLE = 10
_DEVICES_A_NODE = 8
"""No size that Azure ML offers has more."""

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
_Key: TypeAlias = tuple[str, str, str, str]
"""Workspace, compute, node and device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleQuestion:
    """One request: the computes of some workspaces of one region, at one grain."""

    region: str
    workspace_ids: tuple[str, ...]
    question: MetricQuestion

    def halves(self) -> Iterator["SampleQuestion"]:
        """Yield the same question of the earlier and of the later half of its hours."""
        window, hour = self.question.window, timedelta(hours=1)
        middle = window.start_utc + max(hour, window.length / 2 // hour * hour)
        for part in (replace(window, end_utc=middle), replace(window, start_utc=middle)):
            yield replace(self, question=replace(self.question, window=part))


def collect_samples(
    connection: Connection,
    computes: Sequence[Resource],
    window: Window,
    analysis: AnalysisSettings,
) -> pa.Table:
    """Return the rows of `tables.SAMPLES` of some clusters and instances.

    A minute without any value is not a row: missing is never idle. Utilisation of a cluster's node
    exists while a run is on it, so its rows are busy; an instance is busy while its maximum lies
    above the idle thresholds of `analysis`, lone small peaks left out.

    An answer that Azure cut short is asked for again in two halves of its time: nodes come and go,
    and each has a series of its own.

    Raises:
        AzureError: the metrics of a region cannot be read, or not of a single hour at once.
    """
    by_name = {(c.workspace_id, c.name.lower()): c for c in computes}

    def rows(asked: SampleQuestion) -> pa.Table:
        try:
            series = connection.monitor.metrics(asked.region, asked.workspace_ids, asked.question)
        except TruncatedError:
            if asked.question.window.length <= _SHORTEST_WINDOW:
                raise
            return pa.concat_tables(map(rows, asked.halves()))
        return sample_rows(series, by_name, asked.question.grain, analysis)

    parts = connection.map(rows, list(questions_for(computes, window)))
    return pa.concat_tables([SAMPLES.schema.empty_table(), *parts])


def questions_for(computes: Sequence[Resource], window: Window) -> Iterator[SampleQuestion]:
    """Yield the requests that together ask for everything once, none with too long an answer."""
    kinds = product(
        (INSTANCE_GRAIN, CLUSTER_GRAIN, LARGE_CLUSTER_GRAIN), ((_CPU, False), (_GPU, True))
    )
    for grain, (metrics, by_device) in kinds:
        wanted = [c for c in computes if grain_of(c) == grain and (has_gpus(c) or not by_device)]
        for group in _groups(wanted, by_device=by_device):
            series = sum(_series(c, by_device=by_device) for c in group) * len(metrics)
            names = sorted({c.name for c in group})
            dimensions = ["InstanceId eq '*'", *(["DeviceId eq '*'"] if by_device else [])]
            most = window.length if grain == INSTANCE_GRAIN else _CLUSTER_WINDOW
            for part in _cut(window, grain, series=series, most=most):
                yield SampleQuestion(
                    region=group[0].region,
                    workspace_ids=tuple(dict.fromkeys(c.workspace_id for c in group)),
                    question=MetricQuestion(
                        metrics=tuple(metrics),
                        filter=" and ".join([_any_of(names), *dimensions]),
                        window=part,
                        grain=grain,
                    ),
                )


def grain_of(compute: Resource) -> timedelta:
    """Return at which grain the utilisation of a compute is asked for."""
    if compute.kind is Kind.INSTANCE:
        return INSTANCE_GRAIN
    large = _series(compute, by_device=has_gpus(compute)) > LARGE_CLUSTER_SERIES
    return LARGE_CLUSTER_GRAIN if large else CLUSTER_GRAIN


def has_gpus(compute: Resource) -> bool:
    """Return whether a VM size has GPUs: all of the N series have, and no other."""
    return (compute.sku or "").lower().startswith("standard_n")


def sample_rows(
    series: Iterable[MetricSeries],
    computes: Mapping[tuple[str, str], Resource],
    grain: timedelta,
    analysis: AnalysisSettings,
) -> pa.Table:
    """Turn utilisation by ComputeName, InstanceId (and DeviceId) into rows of samples.

    Shape: `computes` by workspace id and name in lower case; series of others are passed over.
    """
    by_key: dict[_Key, dict[str, MetricSeries]] = {}
    for one in series:
        compute = one.dimensions.get("computename", "").lower()
        if (one.resource_id, compute) in computes:
            node = one.dimensions.get("instanceid", "")
            key = (one.resource_id, compute, node, one.dimensions.get("deviceid", ""))
            by_key.setdefault(key, {})[(_CPU | _GPU)[one.metric]] = one
    minutes = round(grain / timedelta(minutes=1))
    parts = [
        _rows_of(computes[key[:2]], key, metrics, minutes, analysis)
        for key, metrics in sorted(by_key.items())
    ]
    return pa.concat_tables([SAMPLES.schema.empty_table(), *parts])


def _rows_of(
    compute: Resource,
    key: _Key,
    metrics: Mapping[str, MetricSeries],
    grain_minutes: int,
    analysis: AnalysisSettings,
) -> pa.Table:
    times = _union([one.times for one in metrics.values()])
    values: dict[str, Floats] = {}
    for name, one in metrics.items():
        place = np.searchsorted(times, one.times)
        for statistic, numbers in (("avg", one.average), ("max", one.maximum)):
            values[f"{name}_{statistic}"] = np.full(len(times), np.nan)
            values[f"{name}_{statistic}"][place] = numbers
    seen = np.logical_or.reduce([~np.isnan(numbers) for numbers in values.values()])
    count = int(seen.sum())
    busy, known = _busy(compute, values, analysis)
    columns = {
        "resource_id": pa.repeat(compute.resource_id, count),
        "node_id": pa.repeat(key[2], count),
        "device_id": pa.repeat(key[3], count),
        "minute_utc": pa.array(times[seen]),
        "grain_minutes": pa.repeat(pa.scalar(grain_minutes, pa.uint16()), count),
        "busy": pa.array(busy[seen], mask=~known[seen]),
    } | {
        name: _per_mille(numbers[seen])
        for name, numbers in values.items()
        if name in SAMPLES.schema.names
    }
    return pa.table(
        [
            columns[field.name].cast(field.type)
            if field.name in columns
            else pa.nulls(count, field.type)
            for field in SAMPLES.schema
        ],
        schema=SAMPLES.schema,
    )


def _busy(
    compute: Resource, values: Mapping[str, Floats], analysis: AnalysisSettings
) -> tuple[Bools, Bools]:
    """Return whether the node was at work at each time, and whether that is known."""
    limits = {"cpu_max": analysis.idle_cpu_percent, "gpu_max": analysis.idle_gpu_percent}
    peaks = [(values[name], limit) for name, limit in limits.items() if name in values]
    size = len(next(iter(values.values())))
    if compute.kind is Kind.CLUSTER:
        return np.ones(size, np.bool_), np.ones(size, np.bool_)
    busy = np.logical_or.reduce([np.zeros(size, np.bool_), *(_works(v, at) for v, at in peaks)])
    known = np.logical_or.reduce([np.zeros(size, np.bool_), *(~np.isnan(v) for v, _ in peaks)])
    return busy, known


def _works(values: Floats, limit: float) -> Bools:
    """Return where a machine works: above twice the limit, or above it for two samples running.

    Agents of a resting machine lift one minute in some hundreds a little over any fixed limit; a
    lone one of those would cut a night's idleness in two (methods §2.3).
    """
    above = values > limit
    beside = np.concatenate(([False], above[:-1])) | np.concatenate((above[1:], [False]))
    works: Bools = above & (beside | (values > 2 * limit))
    return works


def _union(times: Sequence[npt.NDArray[np.datetime64]]) -> npt.NDArray[np.datetime64]:
    first = times[0]
    if all(np.array_equal(first, other) for other in times[1:]):
        return first
    return np.unique(np.concatenate(times))


def _per_mille(percent: Floats) -> pa.Array:
    rounded = np.clip(np.rint(np.nan_to_num(percent) * _PER_MILLE), 0, 1000)
    return pa.array(rounded.astype(np.uint16), mask=np.isnan(percent))


def _groups(computes: Sequence[Resource], *, by_device: bool) -> Iterator[list[Resource]]:
    """Yield computes that one request can ask for: one subscription, one region, not too many."""

    def place(compute: Resource) -> tuple[str, str]:
        return subscription_of(compute.resource_id), compute.region

    ordered = sorted(computes, key=lambda c: (place(c), c.workspace_id))
    for _, here in groupby(ordered, key=place):
        group: list[Resource] = []
        for compute in here:
            together = [*group, compute]
            workspaces = {c.workspace_id for c in together}
            series = sum(_series(c, by_device=by_device) for c in together)
            full = len(workspaces) > BATCH_LIMIT or len(together) > _NAMES_A_FILTER
            if group and (full or series >= SERIES_LIMIT):
                yield group
                group = []
            group.append(compute)
        yield group


def _series(compute: Resource, *, by_device: bool) -> int:
    """Return about how many series a metric has in a day; a cluster's nodes come and go."""
    most = compute.settings.get("max_nodes") if compute.kind is Kind.CLUSTER else 1
    return int(most or 1) * (_DEVICES_A_NODE if by_device else 1)


def _cut(window: Window, grain: timedelta, *, series: int, most: timedelta) -> Iterator[Window]:
    """Yield a window in pieces of whole hours whose answers have a fair size, `most` long."""
    points = _BYTES_AN_ANSWER / _BYTES_A_POINT / series
    hours = timedelta(hours=points * grain // timedelta(hours=1))
    step = max(timedelta(hours=1), min(hours, most))
    start = window.start_utc
    while start < window.end_utc:
        end = min(start + step, window.end_utc)
        yield Window(start_utc=start, end_utc=end)
        start = end


def _any_of(names: Sequence[str]) -> str:
    either = " or ".join(f"ComputeName eq '{name}'" for name in names)
    return f"({either})" if len(names) > 1 else either
