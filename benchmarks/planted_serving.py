"""Deployments with planted faults, and decoys among them. What they are asked is drawn apart."""

import math

import numpy as np
import numpy.typing as npt

from benchmarks.estate_files import autoscale_document, cpu_rule
from benchmarks.planted_maker import Arm, Maker

Floats = npt.NDArray[np.float64]

_MINUTES_PER_DAY = 1440
_FIRST, _LAST = 6, 20
"""Hours between which an office asks."""
_SATURDAY = 5

OUT = cpu_rule("GreaterThan", 70, "Increase", by=2, cooldown_minutes=60)
IN = cpu_rule("LessThan", 30, "Decrease", by=1, cooldown_minutes=60)
_WRONG_WAY = cpu_rule("LessThan", 30, "Increase", by=1, cooldown_minutes=60)


class Serving(Maker):
    """Deployments, each asked by somebody or by nobody."""

    def unasked(self, name: str) -> None:
        """Plant a deployment that nobody asks anything."""
        made = self.deployment(name, instances=int(self.rng.integers(1, 4)), at_once=2)
        self.plant(made, ("idle_deployment",), {"deleted": True})

    def too_many(self, name: str) -> None:
        """Plant more instances than an even load needs."""
        at_once = int(self.rng.integers(4, 9))
        made = self.deployment(name, instances=int(self.rng.integers(4, 8)), at_once=at_once)
        load = float(self.rng.uniform(0.3, 0.7)) * at_once
        self.asked(made, self._even(load), service_ms=float(self.rng.uniform(150, 500)))
        self.plant(made, ("oversized_deployment",), {"capacity": math.ceil(2 * load / at_once)})

    def fixed_for_peak(self, name: str) -> None:
        """Plant as many instances at night as the day's peak needs."""
        count, at_once = int(self.rng.integers(4, 8)), int(self.rng.integers(12, 25))
        made = self.deployment(name, instances=count, at_once=at_once)
        peak = float(self.rng.uniform(0.55, 0.65)) * count * at_once
        self.asked(made, self._office_hours(0.05 * peak, peak), service_ms=300.0)
        self.plant(made, ("no_autoscale",), {"autoscale": (1, count)})

    def scales_the_wrong_way(self, name: str) -> None:
        """Plant Microsoft's sample as it was once published: more instances when load falls."""
        self._scaled(name, [OUT, _WRONG_WAY], ("inverted_autoscale",))

    def never_scales_in(self, name: str) -> None:
        """Plant an autoscale that only ever adds instances."""
        self._scaled(name, [OUT], ("inverted_autoscale",))

    def scales_well(self, name: str) -> None:
        """Make a deployment whose autoscale goes both ways."""
        self._scaled(name, [OUT, IN], (), why="Its autoscale works.")

    def two_for_production(self, name: str) -> None:
        """Make two instances of which one could do, where customers depend on them."""
        made = self.deployment(name, instances=2, at_once=4, tags={"environment": "production"})
        self.asked(made, self._even(0.4), service_ms=200.0)
        self.plant(made, (), why="Production keeps two.")

    def stands_by_for_another(self, name: str) -> None:
        """Make a deployment that is asked only when another one fails."""
        made = self.deployment(name, instances=1, at_once=4, tags={"role": "dr-standby"})
        self.plant(made, (), why="It stands by for a disaster.")

    def busy_minutes(self, name: str) -> None:
        """Make a deployment with a low mean that needs all it has for five minutes an hour."""
        count, at_once = 4, int(self.rng.integers(12, 25))
        made = self.deployment(name, instances=count, at_once=at_once)
        load = np.full(self.days * _MINUTES_PER_DAY, 0.05 * at_once)
        begin = 5 * int(self.rng.integers(0, 12))
        minute = np.arange(load.size) % 60
        load[(minute >= begin) & (minute < begin + 5)] = 0.8 * count * at_once
        self.asked(made, load, service_ms=250.0)
        self.plant(made, (), why="It is asked in bursts.")

    def _scaled(
        self, name: str, rules: list[Arm], detectors: tuple[str, ...], why: str = ""
    ) -> None:
        """A deployment with room for five times its usual peak, steered by these rules."""
        most, at_once = int(self.rng.integers(4, 7)), int(self.rng.integers(12, 25))
        made = self.deployment(name, instances=1, at_once=at_once)
        self.resources.append(autoscale_document(made, least=1, most=most, rules=rules))
        peak = float(self.rng.uniform(1.2, 1.8)) * at_once
        self.asked(made, self._office_hours(0.05 * peak, peak), service_ms=300.0)
        self.plant(made, detectors, {"autoscale": (1, most)} if detectors else {}, why=why)

    def _even(self, load: float) -> Floats:
        return np.full(self.days * _MINUTES_PER_DAY, load)

    def _office_hours(self, low: float, high: float) -> Floats:
        """Rise and fall once on each workday, as far as its dice say; low at all other times."""
        hour = np.arange(_MINUTES_PER_DAY) / 60
        wave = np.sin(np.pi * (hour - _FIRST) / (_LAST - _FIRST)) ** 2
        wave[(hour < _FIRST) | (hour > _LAST)] = 0.0
        tops = self.rng.uniform(0.85, 1.0, self.days)
        tops[np.arange(self.days) % 7 >= _SATURDAY] = 0.0
        load: Floats = (low + (high - low) * tops[:, None] * wave).ravel()
        return load
