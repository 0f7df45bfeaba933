"""Utilisation of nodes: by the minute on instances, by five minutes or the hour elsewhere."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby, product
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from optimizer.azure.connect import Connection
from optimizer.azure.monitor import (
    BATCH_LIMIT,
    DEPLOYMENT_NAMESPACE,
    SERIES_LIMIT,
    MetricQuestion,
    MetricSeries,
)
from optimizer.collectors.inventory import subscription_of
from optimizer.config import AnalysisSettings
from optimizer.errors import (
    AzureError,
    ForbiddenError,
    NotFoundError,
    TruncatedError,
    UnauthorizedError,
    UnreachableError,
)
from optimizer.model import Kind, Resource, Window
from optimizer.store.lake import inside
from optimizer.store.tables import SAMPLES

INSTANCE_GRAIN = timedelta(minutes=1)
"""Idleness is asked at the finest grain there is."""
CLUSTER_GRAIN = timedelta(minutes=5)
"""Node states tell a cluster's idleness; utilisation is for right-sizing, of 5-minute maxima."""
DEPLOYMENT_GRAIN = timedelta(minutes=5)
"""As of a cluster's nodes: whether a deployment is idle its requests tell, by the minute."""
LARGE_CLUSTER_GRAIN = timedelta(hours=1)
"""Of an hour the maximum is the highest of its 5-minute maxima: no headroom is made up."""
LARGE_CLUSTER_SERIES = 400
"""From so many nodes × devices on: five minutes of them would be 100 MB a day."""

_CPU = {"CpuUtilizationPercentage": "cpu", "CpuMemoryUtilizationPercentage": "memory"}
_GPU = {"GpuUtilizationPercentage": "gpu", "GpuMemoryUtilizationPercentage": "gpu_memory"}

_STATISTICS = tuple(name for name in SAMPLES.schema.names if name.endswith(("_avg", "_max")))

_NAMES_A_FILTER = 100
"""Keeps the address of a request well under 8 kB: a name has 32 letters at most."""
_HOUR = timedelta(hours=1)
_EVER = timedelta(days=93)
_MOST_GROWTH = 4
_FAIR_SERIES = 0.9 * SERIES_LIMIT
_BYTES_A_POINT = 37
"""Its time stamp; Azure writes one where there is no value too."""
_BYTES_A_VALUE = 43
"""Average and maximum on top."""
_BYTES_AN_ANSWER = 50e6
"""What performance.md counts with. Parsed, it takes some ten times that, one answer at a time."""
_PER_MILLE = 10
_DEVICES_A_NODE = 8
"""No size that Azure ML offers has more."""

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
_Key: TypeAlias = tuple[str, str, str, str]
"""Workspace, compute, node and device; of a deployment, itself and no compute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is known of how much there is to read; it decides how much is asked for at once."""

    nodes: Mapping[str, float] = field(default_factory=dict)
    """How many nodes a day has, by resource id; without it as many as there may be."""
    devices: Mapping[str, int] = field(default_factory=dict)
    """GPUs by VM size."""

    def series(self, compute: Resource, *, by_device: bool) -> float:
        """Return about how many series a metric of a compute has in a day."""
        nodes = self.nodes.get(compute.resource_id, _most_nodes(compute))
        return nodes * (self.devices.get(compute.sku or "", _DEVICES_A_NODE) if by_device else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How an answer grows with the days it spans.

    Where nodes come and go, each day brings new series, and every one is as long as the answer,
    empty where its node was not there: those points grow with the square of the days.
    """

    points_a_day: float
    """Of the series of one day in that day."""
    values_a_day: float
    """Points that have a value."""
    series_a_day: float
    """Of one metric."""
    nodes_stay: bool
    seen_of: timedelta | None = None
    """How long the answer was that this was read from; None: nothing was seen yet."""

    def next(self, rest: timedelta) -> timedelta:
        """Return for how much of the time that is left to ask, in whole hours but at the end.

        An answer is not to grow beyond its size. After the first one what is left is cut evenly.
        """
        longest = self.longest()
        if self.seen_of is None or longest >= rest:
            return min(longest, rest)
        parts = math.ceil(rest / longest)
        return min(rest, math.ceil(rest / parts / _HOUR) * _HOUR)

    def longest(self) -> timedelta:
        """Return the time, in whole hours, after which an answer is as long as one should be."""
        empty, filled = self.points_a_day * _BYTES_A_POINT, self.values_a_day * _BYTES_A_VALUE
        if self.nodes_stay:
            days = _BYTES_AN_ANSWER / max(1.0, empty + filled)
        else:
            root = math.sqrt(filled**2 + 4 * max(1.0, empty) * _BYTES_AN_ANSWER)
            most = _FAIR_SERIES / max(1.0, self.series_a_day)
            days = min(most, (root - filled) / 2 / max(1.0, empty))
        hours = max(1, math.floor(24 * min(days, _EVER.days)))
        # What a quiet night shows says little of a month.
        return min(hours * _HOUR, self.seen_of * _MOST_GROWTH if self.seen_of else _EVER)

    def seen(self, series: Sequence[MetricSeries], length: timedelta) -> "Pace":
        """Return the pace that an answer of some length showed."""
        days = length / timedelta(days=1)
        points = sum(one.times.size for one in series)
        values = sum(int(np.count_nonzero(~np.isnan(one.average))) for one in series)
        metrics = len({one.metric for one in series})
        return replace(
            self,
            points_a_day=points / (days if self.nodes_stay else days**2),
            values_a_day=values / days,
            series_a_day=len(series) / max(1, metrics) / days,
            seen_of=length,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleQuestion:
    """Computes or deployments of some workspaces of one region, at one grain, over some time."""

    region: str
    workspace_ids: tuple[str, ...]
    resource_ids: tuple[str, ...]
    """What is asked: the workspaces themselves, or deployments in them."""
    question: MetricQuestion
    pace: Pace
    margin: timedelta
    """What is read beyond either end, as whether a machine works its neighbours tell too."""

    def of(self, window: Window) -> "SampleQuestion":
        """Return the same question of another time."""
        return replace(self, question=replace(self.question, window=window))

    def alone(self) -> Iterator["SampleQuestion"]:
        """Yield the same question of each workspace: what one refuses costs the others nothing."""
        for workspace_id in self.workspace_ids:
            mine = tuple(r for r in self.resource_ids if f"{r}/".startswith(f"{workspace_id}/"))
            yield replace(self, workspace_ids=(workspace_id,), resource_ids=mine)

    def halves(self) -> Iterator["SampleQuestion"]:
        """Yield the same question of the earlier and of the later half of its hours."""
        window = self.question.window
        middle = window.start_utc + max(_HOUR, window.length / 2 // _HOUR * _HOUR)
        yield self.of(replace(window, end_utc=middle))
        yield self.of(replace(window, start_utc=middle))


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Why a workspace could not be read further."""

    since_utc: datetime
    error: AzureError


def collect_samples(
    connection: Connection,
    computes: Sequence[Resource],
    window: Window,
    analysis: AnalysisSettings,
    keep: Callable[[pa.Table], object],
    expected: Expected | None = None,
) -> dict[str, Refused]:
    """Give the rows of `tables.SAMPLES` to `keep`, answer by answer.

    Return by workspace id from when on some may be missing, and why. Each answer tells how much
    there is, and so how much time the next one should span.

    A minute without any value is not a row: missing is never idle. Utilisation of a cluster's node
    exists while a run is on it, so its rows are busy; an instance or a deployment's node is busy
    while its maximum lies above the idle thresholds of `analysis`, lone small peaks left out.

    An answer that Azure cut short is asked for again in two halves of its time: nodes come and go,
    and each has a series of its own.

    Raises:
        UnauthorizedError: the token was refused.
        UnreachableError: the endpoint does not answer.
    """
    by_name = {
        (c.resource_id, "") if c.kind is Kind.DEPLOYMENT else (c.workspace_id, c.name.lower()): c
        for c in computes
    }
    refused: dict[str, Refused] = {}

    def read(asked: SampleQuestion) -> None:
        begin = asked.question.window.start_utc
        try:
            for part, series in _answers(connection, asked):
                rows = sample_rows(series, by_name, asked.question.grain, analysis)
                keep(rows.filter(inside(rows["minute_utc"], part)))
                begin = part.end_utc
        except (UnauthorizedError, UnreachableError):
            raise
        except AzureError as error:
            rest = asked.of(replace(asked.question.window, start_utc=begin))
            if isinstance(error, ForbiddenError | NotFoundError) and len(asked.workspace_ids) > 1:
                for each in rest.alone():
                    read(each)
                return
            for workspace_id in asked.workspace_ids:
                known = refused.get(workspace_id)
                if known is None or begin < known.since_utc:
                    refused[workspace_id] = Refused(since_utc=begin, error=error)

    for asked in questions_for(computes, window, expected or Expected()):
        read(asked)
    return refused


def _answers(
    connection: Connection, asked: SampleQuestion
) -> Iterator[tuple[Window, list[MetricSeries]]]:
    """Yield the time that each answer is about, one after the other, and its series."""
    pace, begin, end = asked.pace, asked.question.window.start_utc, asked.question.window.end_utc
    while begin < end:
        part = Window(start_utc=begin, end_utc=begin + pace.next(end - begin))
        series = _ask(connection, asked.of(part))
        yield part, series
        pace, begin = pace.seen(series, part.length), part.end_utc


def _ask(connection: Connection, asked: SampleQuestion) -> list[MetricSeries]:
    window = asked.question.window
    wide = Window(start_utc=window.start_utc - asked.margin, end_utc=window.end_utc + asked.margin)
    question = replace(asked.question, window=wide)
    try:
        return connection.monitor.metrics(asked.region, asked.resource_ids, question)
    except TruncatedError:
        if window.length <= _HOUR:
            raise
    return [one for half in asked.halves() for one in _ask(connection, half)]


def questions_for(
    computes: Sequence[Resource], window: Window, expected: Expected
) -> Iterator[SampleQuestion]:
    """Yield the questions that together ask for everything once."""
    yield from _of_deployments([c for c in computes if c.kind is Kind.DEPLOYMENT], window)
    computes = [c for c in computes if c.kind is not Kind.DEPLOYMENT]
    kinds = product(
        (INSTANCE_GRAIN, CLUSTER_GRAIN, LARGE_CLUSTER_GRAIN), ((_CPU, False), (_GPU, True))
    )
    for grain, (metrics, by_device) in kinds:
        wanted = [c for c in computes if grain_of(c) == grain and (has_gpus(c) or not by_device)]
        for group in _groups(wanted, expected, by_device=by_device):
            series = sum(expected.series(c, by_device=by_device) for c in group)
            names = sorted({c.name for c in group})
            dimensions = ["InstanceId eq '*'", *(["DeviceId eq '*'"] if by_device else [])]
            workspaces = tuple(dict.fromkeys(c.workspace_id for c in group))
            yield SampleQuestion(
                region=group[0].region,
                workspace_ids=workspaces,
                resource_ids=workspaces,
                question=MetricQuestion(
                    metrics=tuple(metrics),
                    filter=" and ".join([_any_of(names), *dimensions]),
                    window=window,
                    grain=grain,
                ),
                pace=_pace(series, len(metrics), grain, nodes_stay=grain == INSTANCE_GRAIN),
                margin=INSTANCE_GRAIN if grain == INSTANCE_GRAIN else timedelta(0),
            )


def _of_deployments(deployments: Sequence[Resource], window: Window) -> Iterator[SampleQuestion]:
    """Yield the questions for deployments: each is a resource of its own, by instance."""
    for with_gpus in (False, True):
        metrics = tuple(_CPU | _GPU if with_gpus else _CPU)
        for group in batches([d for d in deployments if has_gpus(d) == with_gpus]):
            series = sum(most_instances(d) for d in group)
            yield SampleQuestion(
                region=group[0].region,
                workspace_ids=tuple(dict.fromkeys(d.workspace_id for d in group)),
                resource_ids=tuple(d.resource_id for d in group),
                question=MetricQuestion(
                    metrics=metrics,
                    filter="instanceId eq '*'",
                    window=window,
                    grain=DEPLOYMENT_GRAIN,
                    namespace=DEPLOYMENT_NAMESPACE,
                ),
                pace=_pace(series, len(metrics), DEPLOYMENT_GRAIN, nodes_stay=False),
                margin=DEPLOYMENT_GRAIN,
            )


def _pace(series: float, metrics: int, grain: timedelta, *, nodes_stay: bool) -> Pace:
    points = series * metrics * (timedelta(days=1) / grain)
    return Pace(
        points_a_day=points, values_a_day=points, series_a_day=series, nodes_stay=nodes_stay
    )


def batches(resources: Sequence[Resource]) -> Iterator[list[Resource]]:
    """Yield resources that one request can ask for: one subscription, one region, not too many.

    >>> list(batches([]))
    []
    """
    for _, here in groupby(sorted(resources, key=_place), key=_place):
        mine = list(here)
        for start in range(0, len(mine), BATCH_LIMIT):
            yield mine[start : start + BATCH_LIMIT]


def most_instances(deployment: Resource) -> int:
    """Return about how many instances a deployment has at most."""
    autoscale = deployment.settings.get("autoscale") or {}
    return max(1, deployment.settings.get("instances") or 1, autoscale.get("max") or 1)


def _place(compute: Resource) -> tuple[str, str]:
    return subscription_of(compute.resource_id), compute.region


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

    Shape: `computes` by workspace id and name in lower case, deployments by their own id and no
    name; series of others are passed over.
    """
    by_key: dict[_Key, dict[str, MetricSeries]] = {}
    for one in series:
        compute = one.dimensions.get("computename", "").lower()
        if (one.resource_id, compute) in computes:
            node = one.dimensions.get("instanceid", "")
            key = (one.resource_id, compute, node, one.dimensions.get("deviceid", ""))
            by_key.setdefault(key, {})[(_CPU | _GPU)[one.metric]] = one
    keys = sorted(by_key)
    stretches = [_seen(computes[key[:2]], by_key[key], analysis) for key in keys]
    # One table of all: Arrow takes as long for a short column as for a long one.
    row = np.repeat(np.arange(len(keys)), [len(each.times) for each in stretches])
    ids = [(computes[key[:2]].resource_id, *key[2:]) for key in keys]
    known = _end_to_end([each.known for each in stretches], np.bool_)
    columns = {
        name: pa.array(values, pa.string()).take(pa.array(row))
        for name, *values in zip(("resource_id", "node_id", "device_id"), *ids, strict=True)
    } | {
        "minute_utc": pa.array(_end_to_end([each.times for each in stretches], "datetime64[s]")),
        "grain_minutes": pa.repeat(round(grain / timedelta(minutes=1)), len(row)),
        "busy": pa.array(_end_to_end([each.busy for each in stretches], np.bool_), mask=~known),
    }
    for name in _STATISTICS:
        columns[name] = _per_mille(_end_to_end([e.values[name] for e in stretches], np.float64))
    return pa.table(
        [columns[name].cast(SAMPLES.schema.field(name).type) for name in SAMPLES.schema.names],
        schema=SAMPLES.schema,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stretch:
    """What was seen of one node, or of one device of it."""

    times: npt.NDArray[np.datetime64]
    values: Mapping[str, Floats]
    """Percent by statistic; NaN = not observed."""
    busy: Bools
    known: Bools
    """Whether `busy` was observed."""


def _seen(
    compute: Resource, metrics: Mapping[str, MetricSeries], analysis: AnalysisSettings
) -> _Stretch:
    times = _union([one.times for one in metrics.values()])
    values = {name: np.full(len(times), np.nan) for name in _STATISTICS}
    for name, one in metrics.items():
        place = np.searchsorted(times, one.times)
        for statistic, numbers in (("avg", one.average), ("max", one.maximum)):
            if (column := values.get(f"{name}_{statistic}")) is not None:
                column[place] = numbers
    busy, known = _busy(compute, values, analysis)
    seen = ~np.logical_and.reduce([np.isnan(numbers) for numbers in values.values()])
    return _Stretch(
        times=times[seen],
        values={name: numbers[seen] for name, numbers in values.items()},
        busy=busy[seen],
        known=known[seen],
    )


def _end_to_end(parts: Sequence[npt.NDArray[Any]], kind: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0, kind), *parts])


def _busy(
    compute: Resource, values: Mapping[str, Floats], analysis: AnalysisSettings
) -> tuple[Bools, Bools]:
    """Return whether the node was at work at each time, and whether that is known."""
    cpu, gpu = values["cpu_max"], values["gpu_max"]
    if compute.kind is Kind.CLUSTER:
        always = np.ones(cpu.size, np.bool_)
        return always, always
    busy = _works(cpu, analysis.idle_cpu_percent) | _works(gpu, analysis.idle_gpu_percent)
    return busy, ~np.isnan(cpu) | ~np.isnan(gpu)


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


def _groups(
    computes: Sequence[Resource], expected: Expected, *, by_device: bool
) -> Iterator[list[Resource]]:
    """Yield computes that one request can ask for: one subscription, one region, not too many."""
    ordered = sorted(computes, key=lambda c: (_place(c), c.workspace_id))
    for _, here in groupby(ordered, key=_place):
        group: list[Resource] = []
        for compute in here:
            together = [*group, compute]
            workspaces = {c.workspace_id for c in together}
            names = {c.name for c in together}
            series = sum(expected.series(c, by_device=by_device) for c in together)
            full = len(workspaces) > BATCH_LIMIT or len(names) > _NAMES_A_FILTER
            if group and (full or series >= SERIES_LIMIT):
                yield group
                group = []
            group.append(compute)
        yield group


def _series(compute: Resource, *, by_device: bool) -> int:
    """Return about how many series a metric has in a day at most; nodes come and go."""
    return _most_nodes(compute) * (_DEVICES_A_NODE if by_device else 1)


def _most_nodes(compute: Resource) -> int:
    return int(compute.settings.get("max_nodes") or 1) if compute.kind is Kind.CLUSTER else 1


def cut(
    window: Window, grain: timedelta, *, series: int, nodes_stay: bool = False
) -> Iterator[Window]:
    """Yield a window in pieces of whole hours whose answers have a fair size."""
    step = _pace(series, 1, grain, nodes_stay=nodes_stay).longest()
    start = window.start_utc
    while start < window.end_utc:
        end = min(start + step, window.end_utc)
        yield Window(start_utc=start, end_utc=end)
        start = end


def _any_of(names: Sequence[str]) -> str:
    either = " or ".join(f"ComputeName eq '{name}'" for name in names)
    return f"({either})" if len(names) > 1 else either
