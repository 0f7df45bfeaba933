"""What a deployment was asked and needs for it: replay of instance counts and of autoscale."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from optimizer.analysis.queueing import mean_wait, p95_wait
from optimizer.model import AutoscaleRules, Json

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

WINDOW_MINUTES = 5
"""Latency is judged in the busiest of these (methods §3.2c)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one request takes of an instance."""

    service_seconds: float
    """How long it takes that nobody is before."""
    servers_per_instance: int
    """Requests at once: `maxConcurrentRequestsPerInstance`."""
    cpu_at_rest: float | None
    """Share of an instance's CPUs without any request; None: use was not told."""
    cpu_per_request: float | None
    """Share of an instance's CPUs that one request a minute takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an instance count must keep (methods §3.2c, §12)."""

    max_cpu_p95: float = 0.4
    max_wait_share: float = 0.5
    """P95 of waiting ÷ time of a request itself, in the busiest five minutes."""


def said(rules: AutoscaleRules) -> dict[str, Json]:
    """Return rules as a finding says them, in percent and minutes."""
    return {
        "minimum": rules.least,
        "maximum": rules.most,
        "scale_out_above_percent": round(rules.out_above * 100),
        "scale_out_by": rules.out_by,
        "scale_out_cooldown_minutes": rules.out_cooldown_minutes,
        "scale_in_below_percent": round(rules.in_below * 100),
        "scale_in_by": rules.in_by,
        "scale_in_cooldown_minutes": rules.in_cooldown_minutes,
    }


def windows(per_minute: Floats) -> Floats:
    """Return the mean requests a minute of each five minutes, of those told; NaN: none was."""
    parts = per_minute.reshape(-1, WINDOW_MINUTES)
    told = ~np.isnan(parts)
    count = told.sum(axis=1)
    mean: Floats = np.divide(
        np.where(told, parts, 0.0).sum(axis=1),
        count,
        out=np.full(count.size, np.nan),
        where=count > 0,
    )
    return mean


def told(per_minute: Floats) -> Floats:
    """Return the five minutes of which requests were told: of the others nobody knows anything."""
    asked = windows(per_minute)
    known: Floats = asked[~np.isnan(asked)]
    return known


def smallest_count(
    per_minute: Floats, demand: Demand, limits: Limits, *, most: int, least: int = 1
) -> int:
    """Return the fewest instances that keep the limits at all times that were told.

    `most` where none does.
    """
    asked = told(per_minute)
    load = float(asked.max()) / 60 * demand.service_seconds
    for count in range(least, most):
        servers = count * demand.servers_per_instance
        wait = p95_wait(servers, np.array([load]), demand.service_seconds)[0]
        cpu = cpu_of(asked, demand, count)
        calm = cpu is None or float(np.quantile(cpu, 0.95)) <= limits.max_cpu_p95
        if calm and wait <= limits.max_wait_share * demand.service_seconds:
            return count
    return most


def cpu_of(per_minute: Floats, demand: Demand, instances: Floats | float) -> Floats | None:
    """Return the share of CPUs in use had the requests been spread over so many instances."""
    if demand.cpu_at_rest is None or demand.cpu_per_request is None:
        return None
    cpu: Floats = demand.cpu_at_rest + demand.cpu_per_request * per_minute / instances
    return cpu


def fitted_cpu(cpu: Floats, requests_per_instance: Floats) -> tuple[float, float] | None:
    """Return CPU at rest and CPU for one request a minute, by least squares over hours.

    Where hours are too alike to tell the two apart all of it is put down to requests: on fewer
    instances, each with more of them, CPU is then rather less than that. None: too few hours.
    """
    known = ~np.isnan(cpu) & ~np.isnan(requests_per_instance)
    cpu, asked = cpu[known], requests_per_instance[known]
    if cpu.size < 24 or asked.max() <= 0:  # noqa: PLR2004
        return None
    if np.ptp(asked) <= 0.1 * asked.max():
        return 0.0, float(cpu.mean() / asked.mean())
    slope, rest = np.polyfit(asked, cpu, 1)
    return max(float(rest), 0.0), max(float(slope), 0.0)


def autoscaled(per_minute: Floats, demand: Demand, rules: AutoscaleRules) -> Floats:
    """Return instances in each minute under `rules`, which are looked at every minute.

    A rule compares the mean of the last five minutes. A step in is not taken where it would at once
    be followed by one out: for that Azure documents to take the CPU in use, that of rest included,
    as shared among the fewer. Where requests were not told the number stays, as without a metric no
    rule holds.

    Raises:
        ValueError: what a request takes of the CPUs is not known.
    """
    if demand.cpu_at_rest is None or demand.cpu_per_request is None:
        raise ValueError("autoscale on CPU needs the CPU that a request takes")
    rest, asked = demand.cpu_at_rest, demand.cpu_per_request * _recent(per_minute)

    @cache
    def steps(count: int) -> tuple[Ints, Bools]:
        """Return the minutes that would end with another number, and which of them with more."""
        cpu = rest + asked / count
        fewer = max(rules.least, count - rules.in_by)
        calm = (cpu < rules.in_below) & (cpu * count <= rules.out_above * fewer)
        out = (cpu > rules.out_above) & (count < rules.most)
        due = np.flatnonzero(out | (calm & (fewer < count)))
        return due, out[due]

    counts = np.empty(per_minute.size)
    count, since, rests_until = rules.most, 0, 0
    while since < counts.size:
        counts[since:] = count
        due, out = steps(count)
        at = int(np.searchsorted(due, rests_until))
        if at == due.size:
            break
        since = int(due[at]) + 1
        if out[at]:
            count = min(rules.most, count + rules.out_by)
            cooldown = rules.out_cooldown_minutes
        else:
            count = max(rules.least, count - rules.in_by)
            cooldown = rules.in_cooldown_minutes
        # What is due at the end of a minute may be done once the cooldown is over by then.
        rests_until = since - 1 + max(cooldown, 1)
    return counts


def _recent(per_minute: Floats) -> Floats:
    """Return the mean of each minute and the four before it, of those told; NaN: none was."""
    known = ~np.isnan(per_minute)
    total, count = (
        np.convolve(each, np.ones(WINDOW_MINUTES))[: per_minute.size]
        for each in (np.where(known, per_minute, 0.0), known.astype(np.float64))
    )
    mean: Floats = np.divide(
        total,
        count,
        out=np.full(per_minute.size, np.nan),
        where=count > 0.5,  # noqa: PLR2004
    )
    return mean


def serving(counts: Floats) -> Floats:
    """Return the instances that take requests in each minute, of those that are paid.

    One that is added is paid from then on, and begins to serve five minutes later.
    """
    before = np.concatenate((np.repeat(counts[:1], WINDOW_MINUTES), counts))
    ready: Floats = sliding_window_view(before, WINDOW_MINUTES + 1).min(axis=1)
    return ready


def late_share(per_minute: Floats, counts: Floats, demand: Demand, limits: Limits) -> float:
    """Return the share of five minutes with requests in which P95 of waiting is over the limit."""
    asked = windows(per_minute)
    load = asked / 60 * demand.service_seconds
    steps = serving(counts).reshape(-1, WINDOW_MINUTES).min(axis=1)
    late = np.zeros(asked.size, np.bool_)
    for count in np.unique(steps):
        mine = steps == count
        servers = max(1, round(float(count) * demand.servers_per_instance))
        wait = p95_wait(servers, load[mine], demand.service_seconds)
        late[mine] = wait > limits.max_wait_share * demand.service_seconds
    busy = asked > 0
    return float(late[busy].mean()) if busy.any() else 0.0


def in_time(
    per_minute: Floats, demand: Demand, lowest: AutoscaleRules, *, max_late_share: float
) -> AutoscaleRules | None:
    """Return the rules with the lowest minimum that keep requests in time; None: none does."""
    for least in range(lowest.least, lowest.most + 1):
        rules = replace(lowest, least=least)
        counts = autoscaled(per_minute, demand, rules)
        if late_share(per_minute, counts, demand, Limits()) <= max_late_share:
            return rules
    return None


def waiting_minutes(per_minute: Floats, counts: Floats, demand: Demand) -> float:
    """Return what all requests wait together; infinite where they are too many at any time.

    By the minute: waiting grows faster than load, so that of a mean is less than the mean's.
    """
    ready = serving(counts)
    total = 0.0
    for count in np.unique(ready[per_minute > 0]):
        mine = per_minute[(ready == count) & (per_minute > 0)]
        servers = max(1, round(float(count) * demand.servers_per_instance))
        wait = mean_wait(servers, mine / 60 * demand.service_seconds, demand.service_seconds)
        total += float((wait / 60 * mine).sum())
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What is wrong with the rules of an autoscale setting, in words."""

    inverted: tuple[str, ...]
    """Rules whose direction goes against their condition."""
    one_sided: bool
    """It scales out and never in."""


_BELOW = {"lessthan", "lessthanorequal"}
_ABOVE = {"greaterthan", "greaterthanorequal"}


def faults_of(rules: Sequence[Mapping[str, object]]) -> Faults:
    """Return what is wrong with rules on load: more of it must bring more instances.

    Microsoft's own sample once had `direction="Increase"` under `LessThan 30` (methods §3.2c).
    """
    inverted = []
    outs = ins = 0
    for rule in rules:
        operator, direction = (str(rule.get(k) or "").lower() for k in ("operator", "direction"))
        words = f"{rule.get('metric')} {rule.get('operator')} {rule.get('threshold')}"
        if (operator in _BELOW and direction == "increase") or (
            operator in _ABOVE and direction == "decrease"
        ):
            inverted.append(f"{words} → {rule.get('direction')}")
        outs += direction == "increase"
        ins += direction == "decrease"
    return Faults(inverted=tuple(inverted), one_sided=outs > 0 and ins == 0)
