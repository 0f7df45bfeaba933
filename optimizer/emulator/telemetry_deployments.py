"""What Azure Monitor would have measured of a managed deployment, by the minute and instance."""

from collections.abc import Callable, Mapping

import numpy as np

from optimizer.emulator import arm
from optimizer.emulator.deployments import QUANTILES, cpu_percent
from optimizer.emulator.records import DeploymentMinutes, Floats, Ints
from optimizer.emulator.serving import latency_ms, offered_load
from optimizer.emulator.telemetry import (
    JITTER,
    PEAK,
    Measure,
    Metric,
    Minutes,
    Names,
    Samples,
    joined,
    normal,
    nothing,
    series_keys,
)
from optimizer.emulator.world import World

DEPLOYMENTS = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments"
_HEALTHY = "200"
"""The one response code there is: what is refused is not played."""

_Level = Callable[[World, Floats], Floats]
"""The percentage of one instance from the share of its places that is taken."""


def deployment_metrics() -> Mapping[str, Metric]:
    """Return every metric of a deployment by its name in lower case."""
    use = {
        "CpuUtilizationPercentage": (_cpu, False),
        "CpuMemoryUtilizationPercentage": (_memory, False),
        "GpuUtilizationPercentage": (_gpu, True),
        "GpuMemoryUtilizationPercentage": (_gpu_memory, True),
    }
    found = [
        _metric(name, "Resource", ("instanceId",), _use_measure(name, *how), unit="Percent")
        for name, how in use.items()
    ]
    found += [
        _metric("DeploymentCapacity", "Resource", ("instanceId", "State"), _capacity),
        _metric("RequestsPerMinute", "Traffic", ("envoy_response_code",), _requests),
    ]
    found += [
        _metric(name, "Traffic", (), _latency_measure(quantile), unit="MilliSeconds")
        for name, quantile in QUANTILES.items()
    ]
    return {metric.name.lower(): metric for metric in found}


def _metric(
    name: str, category: str, dimensions: tuple[str, ...], measure: Measure, *, unit: str = "Count"
) -> Metric:
    return Metric(
        name=name,
        category=category,
        dimensions=dimensions,
        compute_dimension=None,
        measure=measure,
        unit=unit,
    )


# Instances


def _use_measure(name: str, level: _Level, needs_gpus: bool) -> Measure:  # noqa: FBT001
    def measure(world: World, resource_id: str, window: Minutes, _: Names) -> Samples:
        if needs_gpus and not _gpus(world, resource_id):
            return nothing(())
        seen = world.deployment_minutes(resource_id, window.first, window.end)
        per_instance = world.deployment_settings(resource_id).servers_per_instance
        servers = np.maximum(seen.ready * per_instance, 1)
        load = offered_load(seen.requests_per_minute, seen.service_ms)
        percent = level(world, np.minimum(load / servers, 1.0))
        parts = [
            _instance_samples(world, resource_id, name, number, seen, seen.ready, percent)
            for number in range(int(seen.ready.max(initial=0)))
        ]
        return joined(parts)

    return measure


def _instance_samples(
    world: World,
    resource_id: str,
    name: str,
    number: int,
    seen: DeploymentMinutes,
    there: Ints,
    percent: Floats,
) -> Samples:
    """Return one instance's samples: the deployment's level, with noise of its own."""
    labels = ({"instanceId": _instance_id(resource_id, number)},)
    keep = there > number
    minute, level = seen.minute[keep], percent[keep]
    keys = np.repeat(series_keys(world.estate.seed, "noise", name, labels), len(minute))
    mean = np.clip(level * (1.0 + JITTER * normal(keys, minute)), 0.0, 100.0).round(3)
    swing = level * PEAK * np.abs(normal(keys + np.uint64(1), minute))
    return _samples(
        labels[0],
        minute,
        mean,
        np.clip(mean - swing, 0.0, 100.0).round(3),
        np.clip(mean + swing, 0.0, 100.0).round(3),
    )


def _capacity(world: World, resource_id: str, window: Minutes, _: Names) -> Samples:
    """Return a 1 of each instance for each minute in which it was there."""
    seen = world.deployment_minutes(resource_id, window.first, window.end)
    parts = []
    for number in range(int(seen.instances.max(initial=0))):
        minute = seen.minute[seen.instances > number]
        one = np.ones(len(minute))
        labels = {"instanceId": _instance_id(resource_id, number), "State": "Running"}
        parts.append(_samples(labels, minute, one, one, one))
    return joined(parts)


def _instance_id(resource_id: str, number: int) -> str:
    return f"{resource_id.rpartition('/')[2]}-{number}"


# Requests


def _requests(world: World, resource_id: str, window: Minutes, _: Names) -> Samples:
    seen = world.deployment_minutes(resource_id, window.first, window.end)
    told = (seen.instances > 0) & (
        world.estate.telemetry.zero_requests | (seen.requests_per_minute > 0)
    )
    count = seen.requests_per_minute[told]
    return _samples({"envoy_response_code": _HEALTHY}, seen.minute[told], count, count, count)


def _latency_measure(quantile: float) -> Measure:
    def measure(world: World, resource_id: str, window: Minutes, _: Names) -> Samples:
        seen = world.deployment_minutes(resource_id, window.first, window.end)
        settings = world.deployment_settings(resource_id)
        took = latency_ms(
            quantile,
            offered_load(seen.requests_per_minute, seen.service_ms),
            seen.service_ms,
            seen.ready * settings.servers_per_instance,
            settings.longest_ms,
        )
        known = ~np.isnan(took)
        shown = took[known].round(3)
        return _samples({}, seen.minute[known], shown, shown, shown)

    return measure


# Levels


def _cpu(world: World, busy: Floats) -> Floats:
    return cpu_percent(world.estate.physics, busy)


def _gpu(world: World, busy: Floats) -> Floats:
    return 100.0 * world.estate.physics.request_gpu_share * busy


def _memory(world: World, busy: Floats) -> Floats:
    return np.full(len(busy), world.estate.physics.deployment_memory)


def _gpu_memory(world: World, busy: Floats) -> Floats:
    return np.full(len(busy), world.estate.physics.deployment_gpu_memory)


def _gpus(world: World, resource_id: str) -> float:
    document = world.document(resource_id) or {}
    price = world.estate.prices.get((arm.region(document), arm.vm_size(document).lower()))
    return (price.gpus if price else None) or 0


def _samples(
    labels: Mapping[str, str], minute: Ints, mean: Floats, low: Floats, high: Floats
) -> Samples:
    return Samples(
        labels=(labels,),
        series=np.zeros(len(minute), dtype=np.int64),
        minute=minute,
        seconds=np.full(len(minute), 60.0),
        mean=mean,
        low=low,
        high=high,
    )
