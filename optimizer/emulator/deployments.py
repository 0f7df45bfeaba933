"""One managed online deployment: it runs `sku.capacity` instances, or what its autoscale says."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from optimizer.emulator.autoscale import Autoscale, decide, may_decide
from optimizer.emulator.physics import Physics
from optimizer.emulator.records import DeploymentMinutes, Floats, Ints
from optimizer.emulator.serving import latency_ms, offered_load

QUANTILES: Mapping[str, float] = {
    f"RequestLatency_P{percent}": percent / 100 for percent in (50, 90, 95, 99)
}
_QUANTILES = {name.lower(): part for name, part in QUANTILES.items()}
_SECONDS_PER_MINUTE = 60
_MINUTES_AT_A_TIME = 1440
_NOTHING: Floats = np.zeros(0)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What some minutes ask of a deployment."""

    per_minute: Floats
    service_ms: Floats
    load: Floats


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
        self._history: dict[str, Floats] = {}

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
        minutes = np.arange(self.now_s // _SECONDS_PER_MINUTE, end_s // _SECONDS_PER_MINUTE)
        per_minute, service_ms = self._requests.during(minutes)
        at = 0
        while at < len(minutes):
            stretch = slice(at, self._alike(autoscale, minutes, at))
            asked = _Asked(
                per_minute=per_minute[stretch],
                service_ms=service_ms[stretch],
                load=offered_load(per_minute[stretch], service_ms[stretch]),
            )
            at += self._scale_within(autoscale, minutes[stretch], asked)

    def _alike(self, autoscale: Autoscale, minutes: Ints, at: int) -> int:
        """Return up to where the instances that serve, and the profile, stay as they are at `at`.

        Unless autoscale changes them there.
        """
        end = min(len(minutes), at + _MINUTES_AT_A_TIME)
        second = int(minutes[at]) * _SECONDS_PER_MINUTE
        for changed_s, _ in reversed(self.steps):
            if changed_s + self._delay_s <= second:
                break
            end = min(end, -(-(changed_s + self._delay_s) // _SECONDS_PER_MINUTE) - int(minutes[0]))
        if not autoscale.is_steady:
            seconds = ((minutes[at:end] + 1) * _SECONDS_PER_MINUTE).tolist()
            first = autoscale.profile_at(seconds[0])
            others = (n for n, each in enumerate(seconds) if autoscale.profile_at(each) != first)
            end = at + next(others, end - at)
        return max(end, at + 1)

    def _scale_within(self, autoscale: Autoscale, minutes: Ints, asked: "_Asked") -> int:
        """Play minutes that are alike, up to the first that changes the instances; return how many.

        A minute is measured as it began, and looked at when it is over.
        """
        ready = self._ready_at(int(minutes[0]) * _SECONDS_PER_MINUTE)
        before = {name: self._history.get(name, _NOTHING) for name in autoscale.metrics}
        known = {
            name: np.concatenate([told, self._metric(name, ready, asked)])
            for name, told in before.items()
        }
        past = len(next(iter(before.values()), _NOTHING))
        profile = autoscale.profile_at((int(minutes[0]) + 1) * _SECONDS_PER_MINUTE)
        ends_s = (minutes + 1) * _SECONDS_PER_MINUTE
        may = may_decide(profile, self.instances, known, past + len(minutes))[past:]
        may &= ends_s >= self._rests_until_s
        for place in np.flatnonzero(may).tolist():
            seen = past + place + 1
            start = max(0, seen - autoscale.longest_minutes)
            history = {name: told[start:seen].tolist() for name, told in known.items()}
            decision = decide(profile, self.instances, history)
            if decision.instances != self.instances:
                self.now_s = max(self.now_s, int(ends_s[place]))
                self._run(decision.instances)
                self._rests_until_s = self.now_s + decision.cooldown_seconds
                self._remember(known, seen, autoscale.longest_minutes)
                return int(place) + 1
        self.now_s = max(self.now_s, int(ends_s[-1]))
        self._remember(known, past + len(minutes), autoscale.longest_minutes)
        return len(minutes)

    def _remember(self, known: Mapping[str, Floats], seen: int, minutes: int) -> None:
        self._history = {name: told[max(0, seen - minutes) : seen] for name, told in known.items()}

    def _metric(self, name: str, ready: int, asked: "_Asked") -> Floats:
        """Return what a rule sees of each minute; whatever instance it asks, all are alike."""
        physics, servers = self._physics, ready * self.settings.servers_per_instance
        unknown = np.full(len(asked.load), np.nan)
        if name == "requestsperminute":
            return asked.per_minute
        if not servers:
            return unknown
        if name in _QUANTILES:
            longest = self.settings.longest_ms
            every = np.full(len(asked.load), servers)
            return latency_ms(_QUANTILES[name], asked.load, asked.service_ms, every, longest)
        busy = np.minimum(1.0, asked.load / servers)
        values: Mapping[str, Floats | float] = {
            "cpuutilizationpercentage": cpu_percent(physics, busy),
            "gpuutilizationpercentage": 100.0 * physics.request_gpu_share * busy,
            "cpumemoryutilizationpercentage": physics.deployment_memory,
            "gpumemoryutilizationpercentage": physics.deployment_gpu_memory,
            "deploymentcapacity": float(self.instances),
        }
        return unknown if name not in values else np.zeros(len(busy)) + values[name]

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


def cpu_percent(physics: Physics, busy: Floats) -> Floats:
    """Return the CPU percentage of an instance of whose places the share `busy` is taken."""
    rest = physics.deployment_cpu_at_rest
    return rest + max(0.0, 100.0 * physics.request_cpu_share - rest) * busy
