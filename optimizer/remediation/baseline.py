"""What a compute was like before its change, frozen when a plan is applied (methods §9)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date, timedelta
from typing import Any

import numpy as np

from optimizer.analysis.assemble import MIN_CALIBRATION_DAYS, Bill, Estate
from optimizer.analysis.case import CannotAssessError, Case
from optimizer.analysis.clusters import ClusterCase
from optimizer.analysis.confidence import Floats, calibrate
from optimizer.analysis.deployments import DeploymentCase
from optimizer.analysis.instances import InstanceCase
from optimizer.analysis.joint import overlaid
from optimizer.analysis.replay import Physics
from optimizer.errors import PriceNotFoundError
from optimizer.model import Attribution, AutoscaleRules, Json, StopTime
from optimizer.remediation.overlays import overlay_of
from optimizer.remediation.plan import Step
from optimizer.remediation.scaling import replayable
from optimizer.units import MINUTES_PER_DAY

MAX_BASELINE_DAYS = 84
"""Older days say little of today (methods §9)."""

MAX_UNKNOWN_MINUTES = 72
"""Of a day, one in twenty. Unknown minutes are replayed as if all nodes had worked, so a day with
more of them proves nothing of the old settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What was known of one compute when its change was applied."""

    k: float | None
    """Σ bill / Σ replay; None where there was nothing to replay, as on a stopped instance."""
    nmbe: float | None
    cv_rmse: float | None
    settings: Mapping[str, Any]
    physics: Mapping[str, float] | None
    """Of a cluster."""
    first_day: date
    days: tuple[int, ...]
    """The billed days it rests on, counted from `first_day`."""
    billed_hours: tuple[float, ...]
    """Of each of these days."""
    billed_cost: tuple[float, ...]
    """Of its machines, on each of these days."""
    replayed_hours: tuple[float, ...]
    """Of each of these days under the settings of that day."""
    work_hours: tuple[float, ...]
    """Machine-hours of work on each of these days: the volume of its activity."""
    standing_per_day: float
    """Paid beside its machines."""
    rate_per_hour: float
    rate_after_per_hour: float
    """Of the machine that the plan leads to, at the prices of the day; mostly the same one."""
    stretch: tuple[float, float] = (1.0, 1.0)
    """How much longer its work was expected to take on that machine: likely and at worst."""
    recalibrated: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Billed and replayed hours of the days since a lasting event, in place of those before."""
    sku: str | None = None
    experiments: tuple[str, ...] = ()
    """Whose runs it had."""
    code_version: str = ""
    """Of the replay that `k` belongs to."""

    def within(self, keep: Iterable[date]) -> "Baseline":
        """Return it with only the days among `keep`."""
        wanted = set(keep)
        at = [i for i, day in enumerate(self.dates) if day in wanted]
        cut = {
            name: tuple(getattr(self, name)[i] for i in at)
            for name in ("days", "billed_hours", "billed_cost", "replayed_hours", "work_hours")
        }
        return Baseline(**{f.name: getattr(self, f.name) for f in fields(self)} | cut)

    @property
    def dates(self) -> tuple[date, ...]:
        """The days it rests on."""
        return tuple(self.first_day + timedelta(days=number) for number in self.days)

    @property
    def pairs(self) -> tuple[Floats, Floats]:
        """Billed and replayed hours of the days that the replay is calibrated on."""
        billed, replayed = self.recalibrated or (self.billed_hours, self.replayed_hours)
        return np.asarray(billed), np.asarray(replayed)

    @property
    def unused_per_day(self) -> Floats:
        """What its machines cost on each day without work."""
        cost, work = np.asarray(self.billed_cost), np.asarray(self.work_hours)
        unused: Floats = cost[work <= 0]
        return unused


def freeze(estate: Estate, steps: Sequence[Step], *, code_version: str = "") -> dict[str, Json]:
    """Return the baseline of every compute that a plan changes and the bill tells, as JSON by id.

    Args:
        estate: of the days before, 84 of them at most.
        steps: of the plan.
        code_version: of this program.
    """
    overlays: dict[str, dict[str, Any]] = {}
    for step in steps:
        overlays.setdefault(step.resource_id.lower(), {}).update(
            overlay_of(step.setting, step.after) or {}
        )
    frozen = {
        key: _baseline(estate.cases[key], estate.bill, overlay, code_version)
        for key, overlay in overlays.items()
        if key in estate.cases
    }
    return {
        key: asdict(baseline) | {"first_day": baseline.first_day.isoformat()}
        for key, baseline in frozen.items()
        if baseline is not None
    }


def thaw(baselines: Json, resource_id: str) -> Baseline | None:
    """Return a compute's baseline as the ledger kept it; None: it has none, or an older shape."""
    known = baselines.get(resource_id.lower()) if isinstance(baselines, dict) else None
    if known is None or "billed_cost" not in known:
        return None
    values: dict[str, Any] = {
        field.name: _thawed(known[field.name]) for field in fields(Baseline) if field.name in known
    }
    values["first_day"] = date.fromisoformat(values["first_day"])
    values["settings"] = {name: _thawed(value) for name, value in known["settings"].items()}
    return Baseline(**values)


def baseline_since(frozen: Baseline, case: Case[Any], bill: Bill, *, since: date) -> Baseline:
    """Return a baseline whose replay is calibrated anew on the days from a lasting event on.

    What it cost before stays what it was: only how replay and bill compare has changed.

    Raises:
        CannotAssessError: too few days are billed since.
    """
    if isinstance(case, ClusterCase) and frozen.physics is not None:
        case = replace(case, physics=Physics(**frozen.physics))
    first = case.window.start_utc.date()
    replayed, billed = case.as_was(), billed_hours(case, bill, frozen.rate_per_hour)
    known = np.flatnonzero(~np.isnan(replayed) & ~np.isnan(billed))
    at = known[known >= (since - first).days]
    if at.size < MIN_CALIBRATION_DAYS:
        raise CannotAssessError(
            f"Since the event of {since} {at.size} days are billed; {MIN_CALIBRATION_DAYS} are "
            "needed to calibrate the replay anew."
        )
    calibration = calibrate(billed[at], replayed[at], basis=case.rate.basis)
    return replace(
        frozen,
        k=calibration.k if calibration else None,
        nmbe=calibration.nmbe if calibration else None,
        cv_rmse=calibration.cv_rmse if calibration else None,
        recalibrated=(_kept(billed[at]), _kept(replayed[at])),
    )


def billed_hours(case: Case[Any], bill: Bill, per_hour: float) -> Floats:
    """Return the billed machine-hours of each day; from money where no hours are billed."""
    hours = bill.daily(case.resource.resource_id, case.window, hours=True)
    if np.nansum(hours) > 0:
        return hours
    return bill.daily(case.resource.resource_id, case.window, hours=False) / per_hour


def work_hours(case: Case[Any]) -> Floats:
    """Return the machine-hours of work of each day of the window."""
    match case:
        case ClusterCase():
            minutes = case.features.demand
        case InstanceCase():
            minutes = case.features.active.astype(np.float64)
        case DeploymentCase():
            minutes = (np.nan_to_num(case.features.requests_per_minute) > 0).astype(np.float64)
        case _:
            return np.zeros(round(case.window.days))
    hours: Floats = minutes.reshape(-1, MINUTES_PER_DAY).sum(axis=1) / 60
    return hours


def unknown_minutes(case: Case[Any]) -> Floats:
    """Return the minutes of each day of the window of whose activity nothing is known."""
    match case:
        case ClusterCase():
            unknown = case.features.unknown
        case InstanceCase() if case.features.unknown is not None:
            unknown = case.features.unknown
        case DeploymentCase():
            unknown = np.isnan(case.features.instances)
        case _:
            return np.zeros(round(case.window.days))
    minutes: Floats = unknown.reshape(-1, MINUTES_PER_DAY).sum(axis=1).astype(np.float64)
    return minutes


def is_told(bill: Bill, resource_id: str) -> bool:
    """Tell whether the bill itself says what a compute cost; an estimate proves nothing."""
    return any(
        line.resource_id == resource_id and line.attribution in {Attribution.EXACT, Attribution.TAG}
        for line in bill.lines
    )


def _baseline(
    case: Case[Any], bill: Bill, overlay: Mapping[str, Any], code_version: str
) -> Baseline | None:
    resource_id = case.resource.resource_id
    if not is_told(bill, resource_id):
        return None
    cost = bill.daily(resource_id, case.window, hours=False)
    billed = billed_hours(case, bill, case.rate.per_hour)
    rules = _rules_in_force(case)
    settings = case.settings if rules is None else replace(case.settings, autoscale=rules)
    replayed = case.as_was() if rules is None else case.hours(settings)
    seen = unknown_minutes(case) <= MAX_UNKNOWN_MINUTES
    both = np.flatnonzero(~np.isnan(billed) & ~np.isnan(replayed) & seen)[-MAX_BASELINE_DAYS:]
    hours = float(billed[both].sum())
    # An estate of one day may have a compute that is billed and was never seen whole.
    if not both.size:
        return None
    rate = float(cost[both].sum()) / hours if hours >= 1 else case.rate.per_hour
    calibration = (
        case.calibration
        if rules is None
        else calibrate(billed[both], replayed[both], basis=case.rate.basis)
    )
    return Baseline(
        k=calibration.k if calibration else None,
        nmbe=calibration.nmbe if calibration else None,
        cv_rmse=calibration.cv_rmse if calibration else None,
        settings=asdict(settings),
        physics=asdict(case.physics) if isinstance(case, ClusterCase) else None,
        first_day=case.window.start_utc.date(),
        days=tuple(both.tolist()),
        billed_hours=_kept(billed[both]),
        billed_cost=_kept(cost[both]),
        replayed_hours=_kept(replayed[both]),
        work_hours=_kept(work_hours(case)[both]),
        standing_per_day=case.standing_per_day,
        rate_per_hour=rate,
        code_version=code_version,
        sku=case.resource.sku,
        experiments=_experiments(case),
        **_machine_after(case, overlay, rate),
    )


def _rules_in_force(case: Case[Any]) -> AutoscaleRules | None:
    """Return the autoscale rules of a deployment if they can be replayed on what is asked of it."""
    if not isinstance(case, DeploymentCase) or case.demand is None:
        return None
    told = case.demand.cpu_at_rest is not None and case.demand.cpu_per_request is not None
    return replayable(case.resource.settings.get("autoscale")) if told else None


def _machine_after(case: Case[Any], overlay: Mapping[str, Any], rate: float) -> dict[str, Any]:
    """Return what the machine that the plan leads to costs an hour, and how long work takes on it.

    Where nobody knows, it is taken to be the same.
    """
    after = overlaid(case.settings, _fitting(case, overlay))
    try:
        factor = case.rate_of(after).per_hour / case.rate.per_hour
        stretch = case.stretch(after) if isinstance(case, ClusterCase) else None
    except (CannotAssessError, PriceNotFoundError, ZeroDivisionError):
        return {"rate_after_per_hour": rate}
    return {
        "rate_after_per_hour": rate * factor,
        "stretch": (stretch.likely, stretch.worst) if stretch else (1.0, 1.0),
    }


def _fitting(case: Case[Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    known = {field.name for field in fields(case.settings)}
    return {name: value for name, value in overlay.items() if name in known}


def _experiments(case: Case[Any]) -> tuple[str, ...]:
    if not isinstance(case, ClusterCase):
        return ()
    return tuple(sorted({str(name) for name in case.features.runs.experiment if name}))


def _kept(values: Floats) -> tuple[float, ...]:
    return tuple(np.round(values, 6).tolist())


def _thawed(value: Any) -> Any:
    """Return a setting as a case has it: JSON knows neither tuples nor stop times nor rules."""
    if isinstance(value, list):
        return tuple(map(_thawed, value))
    if isinstance(value, dict) and "hour" in value:
        return StopTime(**{name: _thawed(part) for name, part in value.items()})
    if isinstance(value, dict) and "out_above" in value:
        return AutoscaleRules(**value)
    return value
