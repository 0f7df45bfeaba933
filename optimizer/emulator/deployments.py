"""One managed online deployment: it runs `sku.capacity` instances, or what its autoscale says."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from optimizer.emulator.autoscale import Autoscale, Values, decide
from optimizer.emulator.physics import Physics
from optimizer.emulator.records import DeploymentMinutes, Floats, Ints
from optimizer.emulator.serving import latency_ms, offered_load

QUANTILES: Mapping[str, float] = {
    f"RequestLatency_P{percent}": percent / 100 for percent in (50, 90, 95, 99)
}
_QUANTILES = {name.lower(): part for name, part in QUANTILES.items()}
_SECONDS_PER_MINUTE = 60
_MANY = 1 << 62
"""More instances than there can be: sorts behind every step of the same second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSettings:
    """What its document says of how it runs."""

    capacity: int
    servers_per_instance: int
    """`maxConcurrentRequestsPerInstance`."""
    longest_ms: float
    """How long a request may wait and take before it is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What a deployment is asked, by the minute, in order; a minute without a row has none."""

    minute: Ints
    """Minutes since the epoch."""
    per_minute: Floats
    service_ms: Floats
    """How long a request takes that nobody is before."""

    def during(self, minutes: Ints) -> tuple[Floats, Floats]:
        """Return the requests of some minutes, and how long each takes on its own."""
        if not len(self.minute):
            return np.zeros(len(minutes)), np.zeros(len(minutes))
        inside = np.minimum(np.searchsorted(self.minute, minutes), len(self.minute) - 1)
        met = self.minute[inside] == minutes
        per_minute = np.where(met, self.per_minute[inside], 0.0)
        return per_minute, np.where(met, self.service_ms[inside], 0.0)


class Deployment:
    """A deployment in motion; its instances are a step function of time."""

    def __init__(
        self,
        settings: DeploymentSettings,
        requests: Requests,
        *,
        physics: Physics,
        start_s: int,
        is_new: bool,
    ) -> None:
        """Begin at `start_s`; the instances of one that is not new serve at once."""
        self.now_s = start_s
        self.settings = settings
        self.autoscale: Autoscale | None = None
        self.steps = [(start_s, settings.capacity)]
        """(second, instances from then on)."""
        self._before = 0 if is_new else settings.capacity
        self._requests = requests
        self._physics = physics
        self._rests_until_s = start_s
        self._history: dict[str, list[float | None]] = {}

    @property
    def instances(self) -> int:
        """How many it runs now."""
        return self.steps[-1][1]

    def run_until(self, end_s: int) -> None:
        """Let time pass; its autoscale looks once a minute."""
        if self.autoscale is not None:
            self._scale_until(self.autoscale, end_s)
        self.now_s = max(self.now_s, end_s)

    def configure(self, settings: DeploymentSettings) -> None:
        """Put other settings in force now."""
        self.settings = settings
        self._run(settings.capacity)

    def follow(self, autoscale: Autoscale | None) -> None:
        """Follow an autoscale setting from now on, or none."""
        self.autoscale = autoscale
        self._rests_until_s = self.now_s
        self._history = {}

    def delete(self) -> None:
        """Delete it now."""
        self.autoscale = None
        self._run(0)

    def minutes(self, first: int, end: int) -> DeploymentMinutes:
        """Return what each minute of [first, end) saw, as far as the deployment has lived."""
        minute = np.arange(max(first, -(-self.steps[0][0] // _SECONDS_PER_MINUTE)), end)
        at_s = minute * _SECONDS_PER_MINUTE
        seconds, level = np.array(self.steps, dtype=np.int64).T
        place = np.searchsorted(seconds, at_s, side="right") - 1
        changes = np.unique(np.concatenate([seconds, seconds + self._delay_s]))
        ready = np.array([self._ready_at(second) for second in changes.tolist()], dtype=np.int64)
        served = np.searchsorted(changes, at_s, side="right") - 1
        per_minute, service_ms = self._requests.during(minute)
        return DeploymentMinutes(
            minute=minute,
            instances=level[place],
            ready=ready[served],
            requests_per_minute=per_minute,
            service_ms=service_ms,
        )

    # -- autoscale -------------------------------------------------------------------------------

    def _scale_until(self, autoscale: Autoscale, end_s: int) -> None:
        first = self.now_s // _SECONDS_PER_MINUTE
        minutes = np.arange(first, end_s // _SECONDS_PER_MINUTE)
        per_minute, service_ms = self._requests.during(minutes)
        load = offered_load(per_minute, service_ms)
        keep = autoscale.longest_minutes
        rows = zip(
            minutes.tolist(), per_minute.tolist(), service_ms.tolist(), load.tolist(), strict=True
        )
        for minute, requests, service, offered in rows:
            ready = self._ready_at(minute * _SECONDS_PER_MINUTE)
            for name in autoscale.metrics:
                told = self._history.setdefault(name, [])
                told.append(self._metric(name, ready, requests, service, offered))
                del told[:-keep]
            self.now_s = max(self.now_s, (minute + 1) * _SECONDS_PER_MINUTE)
            if self.now_s >= self._rests_until_s:
                self._decide(autoscale, self._history)

    def _decide(self, autoscale: Autoscale, history: Mapping[str, Values]) -> None:
        decision = decide(autoscale.profile_at(self.now_s), self.instances, history)
        if decision.instances != self.instances:
            self._run(decision.instances)
            self._rests_until_s = self.now_s + decision.cooldown_seconds

    def _metric(
        self, name: str, ready: int, requests: float, service_ms: float, load: float
    ) -> float | None:
        """Return what a rule sees of one minute; whatever instance it asks, all are alike."""
        servers = ready * self.settings.servers_per_instance
        if name == "requestsperminute":
            return requests
        if not servers:
            return None
        physics, busy = self._physics, min(1.0, load / servers)
        steady = {
            "cpuutilizationpercentage": cpu_percent(physics, busy),
            "gpuutilizationpercentage": 100.0 * physics.request_gpu_share * busy,
            "cpumemoryutilizationpercentage": physics.deployment_memory,
            "gpumemoryutilizationpercentage": physics.deployment_gpu_memory,
            "deploymentcapacity": float(self.instances),
        }
        if name in steady:
            return steady[name]
        quantile = _QUANTILES.get(name)
        if quantile is None or not requests:
            return None
        offered, service = np.array([load]), np.array([service_ms])
        longest = self.settings.longest_ms
        return float(latency_ms(quantile, offered, service, np.array([servers]), longest)[0])

    # -- instances -------------------------------------------------------------------------------

    @property
    def _delay_s(self) -> int:
        return self._physics.deployment_start_seconds

    def _ready_at(self, second: int) -> int:
        """Return how many instances take requests: those that have been there for long enough."""
        first = bisect_right(self.steps, (second - self._delay_s, _MANY)) - 1
        last = bisect_right(self.steps, (second, _MANY))
        levels = [count for _, count in self.steps[max(first, 0) : last]]
        return min([self._before, *levels] if first < 0 else levels, default=0)

    def _run(self, instances: int) -> None:
        if self.steps[-1][0] == self.now_s:
            self.steps.pop()
        self.steps.append((self.now_s, instances))


def cpu_percent(physics: Physics, busy: float) -> float:
    """Return the CPU percentage of an instance of whose places the share `busy` is taken."""
    rest = physics.deployment_cpu_at_rest
    return rest + max(0.0, 100.0 * physics.request_cpu_share - rest) * busy
