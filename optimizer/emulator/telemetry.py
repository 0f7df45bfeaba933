"""What Azure Monitor would have measured: minute samples of a played world, and their buckets.

A node metric follows the step function of node states exactly, time-weighted within a minute.
Utilisation exists while a job runs on a node and while an instance is on. Between jobs a node
emits none, as in Azure, where those metrics belong to runs.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np

from optimizer.emulator.estate import Price
from optimizer.emulator.records import Floats, Ints
from optimizer.emulator.wire import Json
from optimizer.emulator.world import World

COMPUTES = "Microsoft.MachineLearningServices/workspaces/computes"
RETENTION_DAYS = 93

_NODE_DIMENSIONS = ("Scenario", "ClusterName")
_RUN_DIMENSIONS = ("RunId", "InstanceId", "ComputeName")
_COMPUTE_DIMENSIONS = ("ClusterName", "ComputeName")
_DEVICE_DIMENSIONS = ("RunId", "InstanceId", "DeviceId", "ComputeName")

JITTER = 0.05
"""Standard deviation of utilisation from minute to minute, as a share of its level."""
PEAK = 0.10
"""How far the extremes within a minute typically lie from its mean, as a share of the level."""
_RESTING_CPU = (2.0, 1.0)
"""Mean and standard deviation, in percent, of an instance that is on with nobody at work."""
_RESTING_MEMORY = (10.0, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Measurements of whole minutes in long form: one row for each series and minute."""

    labels: tuple[Mapping[str, str], ...]
    """The dimension values of each series."""
    series: Ints
    minute: Ints
    """Minutes since the epoch."""
    seconds: Floats
    """How much of the minute was observed."""
    mean: Floats
    low: Floats
    high: Floats

    def rows(self, keep: np.ndarray[Any, np.dtype[np.bool_]]) -> "Samples":
        """Return the samples whose row is kept."""
        return Samples(
            labels=self.labels,
            series=self.series[keep],
            minute=self.minute[keep],
            seconds=self.seconds[keep],
            mean=self.mean[keep],
            low=self.low[keep],
            high=self.high[keep],
        )

    def of_series(self, wanted: Sequence[bool]) -> "Samples":
        """Return the samples of the wanted series only."""
        keep = np.array(wanted, dtype=np.bool_)
        place = np.cumsum(keep) - 1
        rows = self.rows(keep[self.series])
        labels = tuple(label for label, kept in zip(self.labels, wanted, strict=True) if kept)
        return replace(rows, labels=labels, series=place[rows.series])


@dataclass(frozen=True, slots=True)
class Minutes:
    """Whole minutes since the epoch, the last one excluded."""

    first: int
    end: int


Names = frozenset[str] | None
"""Names of computes, in lower case; None = every one."""
Measure = Callable[[World, str, Minutes, Names], Samples]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric of a workspace or a deployment."""

    name: str
    category: str
    dimensions: tuple[str, ...]
    compute_dimension: str | None
    """The one of its dimensions that names a compute; None where the resource is all there is."""
    measure: Measure
    unit: str = "Count"
    """As Azure says: Count for every metric of a workspace, percentages too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """One series in buckets of equal length. `minutes` 0 = nothing was measured."""

    labels: Mapping[str, str]
    minutes: Ints
    average: Floats
    minimum: Floats
    maximum: Floats


def measured(
    metric: Metric, world: World, resource_id: str, window: Minutes, only: Names
) -> Samples:
    """Return a metric's samples, of some computes only, that did not get lost."""
    samples = metric.measure(world, resource_id, window, only)
    lost = world.estate.telemetry.missing_fraction
    if lost == 0 or not len(samples.minute):
        return samples
    keys = series_keys(world.estate.seed, "lost", metric.name, samples.labels)
    return samples.rows(uniform(keys[samples.series], samples.minute) >= lost)


def bucketed(
    samples: Samples,
    *,
    split_by: Sequence[str],
    start_minute: int,
    bucket_minutes: int,
    buckets: int,
    top: int,
) -> list[Buckets]:
    """Return the first `top` series, by dimension values, after splitting by some dimensions.

    Averages weigh every sample by the seconds it saw. Without a split there is one series.
    """
    names = [tuple(label[name] for name in split_by) for label in samples.labels]
    shown = sorted(set(names))[:top]
    place = {name: index for index, name in enumerate(shown)}
    group_of_series = np.array([place.get(name, -1) for name in names], dtype=np.int64)
    group = group_of_series[samples.series] if names else samples.series
    seen = samples.rows(group >= 0)
    cell = group[group >= 0] * buckets + (seen.minute - start_minute) // bucket_minutes
    size = len(shown) * buckets
    seconds = np.bincount(cell, weights=seen.seconds, minlength=size)
    weighted = np.bincount(cell, weights=seen.seconds * seen.mean, minlength=size)
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(low, cell, seen.low)
    np.maximum.at(high, cell, seen.high)
    average = np.divide(weighted, seconds, out=np.zeros(size), where=seconds > 0)
    counted = np.bincount(cell, minlength=size)
    return [
        Buckets(
            labels=dict(zip(split_by, name, strict=True)),
            minutes=counted[part],
            average=average[part],
            minimum=low[part],
            maximum=high[part],
        )
        for index, name in enumerate(shown)
        for part in [slice(index * buckets, (index + 1) * buckets)]
    ]


def computes_of(world: World, workspace_id: str, kind: str, only: Names = None) -> list[Json]:
    """Return the computes of one kind in a workspace that tell of themselves, or only some."""
    return [
        document
        for document in world.documents(COMPUTES, within=workspace_id)
        if document["properties"]["computeType"] == kind
        and (only is None or document["name"].lower() in only)
        and document["name"] not in world.estate.telemetry.silent_computes
    ]


def price_of(world: World, document: Json) -> Price | None:
    """Return what a compute's size holds and costs, or None where the estate does not say."""
    sku = document["properties"]["properties"]["vmSize"]
    return world.estate.prices.get((document["location"], sku.lower()))


# Nodes


def _node_measure(states: tuple[str, ...], *, cores: bool) -> Measure:
    def measure(world: World, workspace_id: str, window: Minutes, only: Names) -> Samples:
        parts = [
            _node_samples(world, document, states, window, cores=cores)
            for document in computes_of(world, workspace_id, "AmlCompute", only)
        ]
        return joined(parts)

    return measure


def _node_samples(
    world: World, document: Json, states: tuple[str, ...], window: Minutes, *, cores: bool
) -> Samples:
    counts = world.node_counts(document["id"])
    price = price_of(world, document)
    factor = (price.vcpus if price else None) if cores else 1.0
    labels = ({"Scenario": "AmlCompute", "ClusterName": document["name"]},)
    if factor is None or not len(counts.at_s):
        return nothing(labels)
    value = np.sum([getattr(counts, state) for state in states], axis=0)
    first = max(window.first, -(-int(counts.at_s[0]) // 60))
    if first >= window.end:
        return nothing(labels)
    edges = np.arange(first, window.end + 1, dtype=np.int64) * 60
    mean = np.diff(_integral(counts.at_s, value, edges)) / 60.0
    inside = counts.at_s[(counts.at_s > edges[0]) & (counts.at_s < edges[-1])]
    points = np.union1d(edges[:-1], inside)
    held = value[np.searchsorted(counts.at_s, points, side="right") - 1]
    starts = np.searchsorted(points, edges[:-1])
    return Samples(
        labels=labels,
        series=np.zeros(len(mean), dtype=np.int64),
        minute=edges[:-1] // 60,
        seconds=np.full(len(mean), 60.0),
        mean=mean * factor,
        low=np.minimum.reduceat(held, starts) * factor,
        high=np.maximum.reduceat(held, starts) * factor,
    )


def _integral(at_s: Ints, value: Ints, until_s: Ints) -> Ints:
    """Return the integral of a step function up to each moment; whole numbers, so exact."""
    before = np.concatenate([[0], np.cumsum(np.diff(at_s) * value[:-1])])
    step = np.searchsorted(at_s, until_s, side="right") - 1
    return before[step] + value[step] * (until_s - at_s[step])


# Utilisation


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """A stretch of time over which one device of one node works at one level."""

    labels: Mapping[str, str]
    start_s: int
    end_s: int
    level: float
    spread: float
    """Standard deviation from minute to minute, in percent."""


def _utilisation_measure(quantity: str, *, by_device: bool) -> Measure:
    def measure(world: World, workspace_id: str, window: Minutes, only: Names) -> Samples:
        jobs = world.job_rows
        works = [
            work
            for document in computes_of(world, workspace_id, "AmlCompute", only)
            for work in _cluster_works(world, document, quantity, window, jobs, by_device=by_device)
        ]
        if world.estate.telemetry.instance_metrics:
            works += [
                work
                for document in computes_of(world, workspace_id, "ComputeInstance", only)
                for work in _instance_works(world, document, quantity, window, by_device=by_device)
            ]
        return _sampled(works, window, world.estate.seed, quantity)

    return measure


def _cluster_works(
    world: World,
    document: Json,
    quantity: str,
    window: Minutes,
    jobs: Sequence[Mapping[str, Any]],
    *,
    by_device: bool,
) -> list[_Work]:
    price = price_of(world, document)
    devices = int(price.gpus or 0) if price and by_device else 1
    if price is None or devices == 0:
        return []
    spans = world.occupancy(document["id"])
    seen = np.flatnonzero((spans.start_s < window.end * 60) & (spans.end_s > window.first * 60))
    works = []
    for row in seen.tolist():
        job = jobs[int(spans.job_index[row])]
        for device in range(devices):
            level = _level(quantity, job, price, device)
            if level is None:
                continue
            labels = _labels(
                document["name"],
                str(spans.node_id[row]),
                str(job["job_id"]),
                device if by_device else None,
            )
            works.append(
                _Work(
                    labels=labels,
                    start_s=int(spans.start_s[row]),
                    end_s=int(spans.end_s[row]),
                    level=level,
                    spread=level * JITTER,
                )
            )
    return works


def _level(quantity: str, job: Mapping[str, Any], price: Price, device: int) -> float | None:
    """Return the percentage at which a job uses one device of its node; None = not known."""
    if quantity == "cpu":
        return _percent(job["cpu_cores_needed"], price.vcpus)
    if quantity == "memory":
        return _percent(job["memory_gib_needed"], price.memory_gib)
    if device >= (job["gpus_needed"] or 0):
        return 0.0
    if quantity == "gpu":
        return _percent(job["gpu_busy_fraction"], 1.0)
    return _percent(job["gpu_memory_gib_needed"], price.gpu_memory_gib)


def _percent(part: float | None, whole: float | None) -> float | None:
    if part is None or not whole or math.isnan(part):
        return None
    return 100.0 * min(1.0, part / whole)


def _instance_works(
    world: World, document: Json, quantity: str, window: Minutes, *, by_device: bool
) -> list[_Work]:
    """Return how an instance works while it is on: at its sessions' pace, else at rest.

    Whether Azure emits these metrics for an instance without a job is not documented; the
    estate's `telemetry.instance_metrics` says whether this one does.
    """
    price = price_of(world, document)
    devices = int(price.gpus or 0) if price and by_device else 1
    played = world.sessions_played(document["id"])
    use = {
        "cpu": played.cpu_pct,
        "memory": played.memory_pct,
        "gpu": played.gpu_pct,
        "gpu_memory": played.gpu_pct,
    }[quantity]
    rest = {"cpu": _RESTING_CPU, "memory": _RESTING_MEMORY}.get(quantity, (0.0, 0.0))
    first_s, end_of_window_s = window.first * 60, window.end * 60
    near = (played.start_s < end_of_window_s) & (played.end_s > first_s)
    sessions = (played.start_s[near], played.end_s[near], use[near])
    levels = _levels(
        [
            (start, end)
            for start, end in world.instance_on(document["id"])
            if start < end_of_window_s and end > first_s
        ],
        list(zip(*(column.tolist() for column in sessions), strict=True)),
    )
    works = []
    for device in range(devices):
        labels = _labels(document["name"], document["name"], "", device if by_device else None)
        for start_s, end_s, level in levels:
            mean, spread = rest if level is None else (level, level * JITTER)
            works.append(
                _Work(labels=labels, start_s=start_s, end_s=end_s, level=mean, spread=spread)
            )
    return works


def _levels(
    on: Sequence[tuple[int, int]], used: Sequence[tuple[int, int, float]]
) -> list[tuple[int, int, float | None]]:
    """Return the stretches of being on, with the highest use in each; None = nobody works.

    >>> _levels([(0, 100)], [(20, 50, 40.0), (30, 40, 70.0)])
    [(0, 20, None), (20, 30, 40.0), (30, 40, 70.0), (40, 50, 40.0), (50, 100, None)]
    """
    edges = np.unique([at for start, end, *_ in (*on, *used) for at in (start, end)])
    level = np.full(edges.size, np.nan)
    inside = np.zeros(edges.size, dtype=np.bool_)
    for on_from, on_until in on:
        inside[slice(*np.searchsorted(edges, (on_from, on_until)))] = True
    for start, end, use in used:
        stretch = slice(*np.searchsorted(edges, (start, end)))
        level[stretch] = np.fmax(level[stretch], use)
    return [
        (start, end, None if np.isnan(use) else use)
        for (start, end), use, on_then in zip(
            pairwise(edges.tolist()), level.tolist(), inside.tolist(), strict=False
        )
        if on_then
    ]


def _labels(compute: str, node: str, run: str, device: int | None) -> Mapping[str, str]:
    labels = {"ComputeName": compute, "InstanceId": node, "RunId": run}
    return labels if device is None else labels | {"DeviceId": str(device)}


def _sampled(everything: Sequence[_Work], window: Minutes, seed: int, quantity: str) -> Samples:
    works = [
        work
        for work in everything
        if work.start_s < window.end * 60 and work.end_s > window.first * 60
    ]
    places: dict[tuple[str, ...], int] = {}
    series = np.array(
        [places.setdefault(tuple(work.labels.values()), len(places)) for work in works],
        dtype=np.int64,
    )
    by_place = {place: work.labels for place, work in zip(series.tolist(), works, strict=True)}
    labels = tuple(by_place[place] for place in range(len(places)))
    start = np.array([max(work.start_s, window.first * 60) for work in works], dtype=np.int64)
    end = np.array([min(work.end_s, window.end * 60) for work in works], dtype=np.int64)
    first = start // 60
    length = np.maximum(-(-end // 60) - first, 0)
    row = np.repeat(np.arange(len(works)), length)
    minute = np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length) + first[row]
    seconds = np.minimum(end[row], minute * 60 + 60) - np.maximum(start[row], minute * 60)
    level = np.array([work.level for work in works])[row]
    spread = np.array([work.spread for work in works])[row]
    keys = series_keys(seed, "noise", quantity, labels)[series[row]] if labels else series[row]
    mean = np.clip(level + spread * normal(keys, minute), 0.0, 100.0).round(3)
    swing = level * PEAK * np.abs(normal(keys + 1, minute))
    return Samples(
        labels=labels,
        series=series[row],
        minute=minute,
        seconds=seconds.astype(float),
        mean=mean,
        low=np.clip(mean - swing, 0.0, 100.0).round(3),
        high=np.clip(mean + swing, 0.0, 100.0).round(3),
    )


# Dice: what a series shows in a minute depends on nothing but the seed, the series and the minute


def series_keys(
    seed: int, purpose: str, name: str, labels: Sequence[Mapping[str, str]]
) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return a key for each series, from which all its draws for one purpose follow."""
    texts = ("/".join((str(seed), purpose, name, *label.values())) for label in labels)
    digests = (blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.array([int.from_bytes(digest) for digest in digests], dtype=np.uint64)


def uniform(keys: np.ndarray[Any, np.dtype[Any]], minute: Ints) -> Floats:
    """Return draws from (0, 1) by the mixing function of splitmix64."""
    mixed = keys.astype(np.uint64) + minute.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    draws: Floats = ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    return draws


def normal(keys: np.ndarray[Any, np.dtype[Any]], minute: Ints) -> Floats:
    """Return draws from the standard normal distribution by Box and Muller."""
    radius = np.sqrt(-2.0 * np.log(uniform(keys, 2 * minute)))
    draws: Floats = radius * np.cos(2.0 * np.pi * uniform(keys, 2 * minute + 1))
    return draws


def nothing(labels: tuple[Mapping[str, str], ...]) -> Samples:
    """Return series in which nothing was measured."""
    whole, real = np.zeros(0, dtype=np.int64), np.zeros(0)
    return Samples(
        labels=labels, series=whole, minute=whole, seconds=real, mean=real, low=real, high=real
    )


def joined(parts: Sequence[Samples]) -> Samples:
    """Return the series of several parts as one."""
    if not parts:
        return nothing(())
    offsets = np.cumsum([0, *(len(part.labels) for part in parts)])
    return Samples(
        labels=tuple(label for part in parts for label in part.labels),
        series=np.concatenate([p.series + o for p, o in zip(parts, offsets, strict=False)]),
        minute=np.concatenate([part.minute for part in parts]),
        seconds=np.concatenate([part.seconds for part in parts]),
        mean=np.concatenate([part.mean for part in parts]),
        low=np.concatenate([part.low for part in parts]),
        high=np.concatenate([part.high for part in parts]),
    )


def _metric(name: str, category: str, dimensions: tuple[str, ...], measure: Measure) -> Metric:
    return Metric(
        name=name,
        category=category,
        dimensions=dimensions,
        compute_dimension=next(each for each in dimensions if each in _COMPUTE_DIMENSIONS),
        measure=measure,
    )


def metrics() -> Mapping[str, Metric]:
    """Return every metric of a workspace by its name in lower case.

    Azure has none for preparing nodes, and its total leaves them out.
    """
    states = {
        "Active": ("active",),
        "Idle": ("idle",),
        "Leaving": ("leaving",),
        "Preempted": ("preempted",),
        "Unusable": ("unusable",),
        "Total": ("active", "idle", "unusable", "preempted", "leaving"),
    }
    nodes = [
        _metric(f"{word} {noun}", "Quota", _NODE_DIMENSIONS, _node_measure(names, cores=cores))
        for noun, cores in (("Nodes", False), ("Cores", True))
        for word, names in states.items()
    ]
    use = [
        _metric(
            f"{name}Percentage",
            "Resource",
            _DEVICE_DIMENSIONS if by_device else _RUN_DIMENSIONS,
            _utilisation_measure(quantity, by_device=by_device),
        )
        for name, quantity, by_device in (
            ("CpuUtilization", "cpu", False),
            ("CpuMemoryUtilization", "memory", False),
            ("GpuUtilization", "gpu", True),
            ("GpuMemoryUtilization", "gpu_memory", True),
        )
    ]
    return {metric.name.lower(): metric for metric in [*nodes, *use]}
