"""A managed online deployment: what another number of instances would have cost it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from optimizer.analysis.case import (
    SECONDS_PER_DAY,
    SERIES_STEP_SECONDS,
    CannotAssessError,
    Case,
    Saving,
)
from optimizer.analysis.confidence import Floats
from optimizer.analysis.features import DeploymentFeatures
from optimizer.analysis.result import Series
from optimizer.analysis.serving import Demand, autoscaled, waiting_minutes
from optimizer.model import AutoscaleRules, DeploymentSettings, Effects, Resource, Window


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeploymentCase(Case[DeploymentSettings]):
    """A managed online deployment."""

    features: DeploymentFeatures

    @property
    def resource(self) -> Resource:
        """The deployment."""
        return self.features.resource

    @property
    def window(self) -> Window:
        """The whole days that were seen."""
        return self.features.window

    @property
    def settings(self) -> DeploymentSettings:
        """Today's policy: its fixed count, or as many as there were where autoscale sets them."""
        told = self.resource.settings
        fixed = "autoscale" in told and not _in_force(told["autoscale"])
        return DeploymentSettings(instances=told.get("instances") if fixed else None)

    @property
    def samples(self) -> int:
        """Days on which requests were told."""
        told = ~np.isnan(self.features.requests_per_minute)
        return int(told.reshape(-1, 1440).any(axis=1).sum())

    @property
    def from_logs(self) -> bool:
        """Requests are counted, not sampled."""
        return True

    @property
    def unknown_hours(self) -> float:
        """Hours in which the number of instances was not told."""
        return float(np.isnan(self.features.instances).sum()) / 60

    @property
    def used_minutes(self) -> int:
        """Minutes from the window's start to the end of the last request; 0: there was none."""
        asked = np.flatnonzero(np.nan_to_num(self.features.requests_per_minute) > 0)
        return int(asked[-1]) + 1 if asked.size else 0

    @property
    def told_share(self) -> float:
        """The share of minutes of which the number of requests is known: silence is not zero."""
        return float((~np.isnan(self.features.requests_per_minute)).mean())

    @property
    def demand(self) -> Demand | None:
        """What a request takes; None where nothing tells it."""
        return self.features.demand

    def instances_under(self, settings: DeploymentSettings) -> Floats:
        """Return instances in each minute; minutes of which nothing was told stay as they were."""
        was = np.nan_to_num(self.features.instances)
        if settings.autoscale is not None and self.demand is not None:
            asked = ~np.isnan(self.features.requests_per_minute)
            # Minutes whose requests were not told stay as they were, so that they save nothing.
            return np.where((was > 0) & asked, self._autoscaled(settings.autoscale), was)
        if settings.instances is not None:
            return np.where(was > 0, float(settings.instances), 0.0)
        return was

    def _autoscaled(self, rules: AutoscaleRules) -> Floats:
        if self.demand is None:
            raise ValueError("autoscale needs what a request takes")
        return autoscaled(self.features.requests_per_minute, self.demand, rules)

    def hours(self, settings: DeploymentSettings, step_seconds: int = SECONDS_PER_DAY) -> Floats:
        """Return the paid instance-hours in each step of the window."""
        instances = self.instances_under(settings)
        hours: Floats = instances.reshape(-1, step_seconds // 60).sum(axis=1) / 60
        if settings.deleted:
            hours[self.after_use(step_seconds)] = 0.0
        return hours

    def as_was(self) -> Floats:
        """Return the instance-hours of each day, as they were told."""
        hours: Floats = np.nan_to_num(self.features.instances).reshape(-1, 1440).sum(axis=1) / 60
        return hours

    def saving(self, after: DeploymentSettings, before: DeploymentSettings | None = None) -> Saving:
        """Return what `after` saves against `before` (today's settings) on the days seen."""
        hours = self.hours(before or self.settings) - self.hours(after)
        return Saving(daily=hours * self.rate.per_hour * self.k)

    def effects(self, after: DeploymentSettings, before: DeploymentSettings) -> Effects:
        """Return what callers feel: all their requests together wait so much longer."""
        waits = self._waiting_minutes(after), self._waiting_minutes(before)
        known = None not in waits
        return Effects(
            extra_waiting_minutes_per_month=(
                self.window.per_month((waits[0] or 0.0) - (waits[1] or 0.0)) if known else None
            ),
            extra_restarts_per_month=0.0,
            runtime_stretch=None,
        )

    def _waiting_minutes(self, settings: DeploymentSettings) -> float | None:
        """Return what all requests wait; None where that is not known or has no end."""
        if self.demand is None or settings.deleted:
            return None
        waited = waiting_minutes(
            self.features.requests_per_minute, self.instances_under(settings), self.demand
        )
        return waited if np.isfinite(waited) else None

    def series(self, after: DeploymentSettings) -> Series:
        """Return instances needed, paid now and paid under `after` over time."""
        step = SERIES_STEP_SECONDS // 60
        start = np.datetime64(self.window.start_utc.replace(tzinfo=None), "s")
        on_now = self.hours(self.settings, SERIES_STEP_SECONDS) * 60 / step
        asked = self.features.requests_per_minute.reshape(-1, step)
        needed = np.full(on_now.size, np.nan)
        if self.demand is not None:
            needed = asked.max(axis=1) / 60 * self.demand.service_seconds
            needed = needed / self.demand.servers_per_instance
        return Series(
            times_utc=start + np.arange(on_now.size) * np.timedelta64(SERIES_STEP_SECONDS, "s"),
            needed=needed,
            on_now=on_now,
            on_changed=self.hours(after, SERIES_STEP_SECONDS) * 60 / step,
        )


def autoscale_of(case: DeploymentCase) -> dict[str, object] | None:
    """Return the deployment's enabled autoscale setting; None where it has none.

    Raises:
        CannotAssessError: it could not be read.
    """
    if "autoscale" not in case.resource.settings:
        raise CannotAssessError(
            "Its autoscale setting could not be read: it takes "
            "Microsoft.Insights/autoscaleSettings/read."
        )
    setting = case.resource.settings["autoscale"]
    return dict(setting) if _in_force(setting) else None


def _in_force(setting: Mapping[str, object] | None) -> bool:
    return bool(setting) and bool((setting or {}).get("enabled", True))


def instances_now(case: DeploymentCase) -> int:
    """Return how many instances it runs, as its document has it, else as was last told."""
    told = case.features.instances[~np.isnan(case.features.instances)]
    return int(case.resource.settings.get("instances") or told[-1])


def demand_of(case: DeploymentCase) -> Demand:
    """Return what a request takes.

    Raises:
        CannotAssessError: latency or CPU use do not tell it.
    """
    demand = case.demand
    if demand is None:
        raise CannotAssessError("Azure told too few latencies to say how long a request takes.")
    if demand.cpu_per_request is None:
        raise CannotAssessError("Its CPU use does not tell what a request takes of it.")
    return demand
