"""The stages put together. Page, terminal and mail call these and compute nothing themselves."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from optimizer.analysis.assemble import Estate, build
from optimizer.analysis.case import Assumptions
from optimizer.analysis.detectors import load_detectors
from optimizer.analysis.features import NODE_DAY_COLUMNS, Frames, resources_of
from optimizer.analysis.find import Exclusions, judge
from optimizer.analysis.result import Analysis
from optimizer.azure.connect import Connection, connect
from optimizer.azure.doctor import Check, check
from optimizer.catalogue import snapshot
from optimizer.collectors import collect as collecting
from optimizer.collectors import imports as importing
from optimizer.collectors.collect import CollectReport
from optimizer.collectors.exports import Metric
from optimizer.collectors.imports import ImportReport
from optimizer.collectors.inventory import collect_inventory, resource_rows, subscription_of
from optimizer.collectors.prices import PriceReport, freshness
from optimizer.collectors.prices import refresh_prices as refreshing
from optimizer.collectors.unverified import turned_out
from optimizer.config import Settings
from optimizer.errors import ConfigError, NoDataError
from optimizer.maintenance import MAINTENANCE_TAG, Calendar
from optimizer.model import Estimate, Finding, Kind, Window
from optimizer.remediation import apply as applying
from optimizer.remediation import approvals as approving
from optimizer.remediation import plan as planning
from optimizer.remediation import rollback as rolling_back
from optimizer.remediation import verify as verifying
from optimizer.remediation.baseline import MAX_BASELINE_DAYS, freeze
from optimizer.remediation.events import Event
from optimizer.remediation.gone import gone
from optimizer.remediation.history import applied_changes, applied_with_baselines, runs
from optimizer.remediation.outcomes import Outcome, Run, Verification
from optimizer.remediation.plan import Plan
from optimizer.scenarios import Scenario
from optimizer.scenarios import compare as comparing
from optimizer.scenarios.best import BEST, Front, best, front
from optimizer.scenarios.compare import Comparison
from optimizer.scenarios.limits import Limits
from optimizer.scenarios.presets import chosen, preset
from optimizer.store import tables
from optimizer.store.chain import Checked
from optimizer.store.lake import Lake, start_of
from optimizer.store.ledger import Approval, Ledger, Snooze
from optimizer.store.memory import recall, remember
from optimizer.store.weeks import read_use
from optimizer.units import floor_to_minute

Progress = Callable[[str, int, int | None], None]
"""Called with a stage, how much of it is done and how much there is (None: not known)."""


def collect(
    settings: Settings,
    *,
    days: int | None = None,
    subscriptions: Sequence[str] = (),
    progress: Progress,
) -> CollectReport:
    """Bring the lake up to date, from where it stands.

    Raises:
        AzureError: nothing at all could be read; what one subscription refuses is a Problem.
        NoDataError: there is no Azure Machine Learning compute to see.
    """
    report = collecting.collect(
        connect(settings.azure),
        Lake(settings.lake),
        lookback_days=days or settings.analysis.lookback_days,
        subscriptions=subscriptions,
        analysis=settings.analysis,
        progress=progress,
    )
    if not report.rows.get(tables.RESOURCES.name):
        raise NoDataError(
            "No cluster, instance or managed deployment was found in "
            f"{len(report.subscriptions)} subscription(s); name others with --subscription or ask "
            "for the Reader role on them."
        )
    return report


def import_costs(
    settings: Settings,
    paths: Sequence[Path],
    *,
    metric: str | None = None,
    currency: str | None = None,
    progress: Progress,
) -> ImportReport:
    """Read exported costs into the lake, in place of what it held of the same days.

    Raises:
        ImportRefusedError: a file cannot be understood; nothing was imported.
        LakeError: a file of the lake is damaged.
    """
    lake = Lake(settings.lake)
    known = resources_of(lake.read(tables.RESOURCES))
    return importing.import_costs(
        paths,
        lake,
        metric=Metric(metric) if metric else None,
        currency=currency.upper() if currency else None,
        computes=[r for r in known.values() if r.kind in {Kind.CLUSTER, Kind.INSTANCE}],
        progress=progress,
    )


def refresh_prices(
    settings: Settings, *, regions: Sequence[str] = (), skus: Sequence[str] = ()
) -> PriceReport:
    """Read the list prices of what is in use and of what could replace it, whatever their age.

    Raises:
        NoDataError: no region was named and nothing was collected yet.
        PriceNotFoundError: the list has none of what was asked.
        AzureError: the price list cannot be read.
    """
    return refreshing(connect(settings.azure), Lake(settings.lake), regions=regions, skus=skus)


def analyse(
    settings: Settings,
    *,
    detectors: Sequence[str] = (),
    owner: str | None = None,
    min_saving: float = 0.0,
) -> Analysis:
    """Find, price and rank everything in the last window collected.

    Args:
        settings: where the lake is, and the assumptions.
        detectors: names of those to show; all where there are none.
        owner: only findings of this owner; `unowned` for those without.
        min_saving: per month at P50; findings of an unknown saving are kept.

    Raises:
        NoDataError: nothing was collected yet.
        ConfigError: there is no such detector.
    """
    every = load_detectors()
    names = {detector.name for detector in every}
    if unknown := set(detectors) - names:
        raise ConfigError(
            f"There is no detector {min(unknown)!r}; `optimizer detectors` lists them all."
        )
    # All are asked whatever is shown: what one is worth depends on what the others propose.
    estate = read_estate(settings)
    analysis = judge(
        estate,
        every,
        assumptions=_assumptions(settings),
        exclusions=_exclusions(settings),
    )
    analysis = _with_gone(settings, analysis, estate)
    return _narrowed(analysis, detectors=detectors or names, owner=owner, min_saving=min_saving)


def _with_gone(settings: Settings, analysis: Analysis, estate: Estate) -> Analysis:
    """Return an analysis with what has gone since the collection before it or the last mail."""
    known = recall(settings.memory)
    memory = known.found(analysis.findings, analysis.window.end_utc)
    if memory != known:
        remember(settings.memory, memory)
    applied = applied_changes(Ledger(settings.ledger_url))
    return replace(analysis, gone=gone(memory.known(), analysis, estate, applied))


def mailed_before(settings: Settings) -> frozenset[str] | None:
    """Return the ids of the findings that the last mail told; None: there was no mail.

    Raises:
        LakeError: the memory is damaged.
    """
    mailed = recall(settings.memory).mailed
    return None if mailed is None else frozenset(mailed)


def remember_mailed(settings: Settings, analysis: Analysis) -> None:
    """Keep what a mail told, for the next one to say what is new and what has gone.

    Raises:
        LakeError: the memory cannot be written.
    """
    remember(settings.memory, recall(settings.memory).sent(analysis.findings))


def read_estate(settings: Settings, *, reach_back: timedelta | None = None) -> Estate:
    """Read the tables of the last window and build its cases.

    Args:
        settings: where the lake is, and how late bills come.
        reach_back: length of the window; None: `analysis.lookback_days`.

    Raises:
        NoDataError: nothing was collected yet.
        LakeError: a file is damaged.
    """
    lake = Lake(settings.lake)
    window = last_window(settings, reach_back=reach_back)
    frames = Frames(
        window=window,
        resources=lake.read(tables.RESOURCES),
        node_minutes=lake.read(tables.NODE_MINUTES, window),
        node_days=lake.read(tables.NODE_DAYS, window, NODE_DAY_COLUMNS),
        uses=read_use(lake, window),
        intervals=lake.read(tables.INTERVALS, window),
        instance_events=lake.read(tables.INSTANCE_EVENTS, window),
        jobs=lake.read(tables.JOBS),
        requests=lake.read(tables.REQUESTS, window),
        costs=lake.read(tables.COSTS, window),
        prices=lake.read(tables.PRICES),
        commitments=lake.read(tables.COMMITMENTS),
    )
    lag = timedelta(hours=settings.analysis.billing_lag_hours)
    return build(frames, billed_through=window.end_utc - lag, snapshot=snapshot())


def last_window(settings: Settings, *, reach_back: timedelta | None = None) -> Window:
    """Return the window that ends with the last look at the inventory, from a midnight UTC on.

    Raises:
        NoDataError: nothing was collected yet.
    """
    seen = Lake(settings.lake).read(tables.RESOURCES, columns=["collected_at_utc"])
    if seen.empty:
        raise NoDataError(
            f"Nothing was collected into {settings.home} yet; run `optimizer collect` first."
        )
    last: pd.Timestamp = seen["collected_at_utc"].max()
    end = floor_to_minute(last.to_pydatetime())
    length = reach_back or timedelta(days=settings.analysis.lookback_days)
    return Window(start_utc=start_of((end - length).date()), end_utc=end)


def _assumptions(settings: Settings) -> Assumptions:
    chosen_values = settings.analysis
    return Assumptions(
        cluster_interactive_share=chosen_values.cluster_interactive_share,
        instance_interactive_share=chosen_values.instance_interactive_share,
        waiting_value_per_hour=chosen_values.waiting_value_per_hour,
        min_saving_per_month=chosen_values.min_saving_per_month,
        min_saving_share=chosen_values.min_saving_share,
        time_zone=chosen_values.time_zone,
    )


def _exclusions(settings: Settings) -> Exclusions:
    at = last_window(settings).end_utc
    return Exclusions(
        configured=settings.analysis.ignore,
        snoozed={
            snooze.finding_id: (
                f"Snoozed until {snooze.until_utc:%Y-%m-%d} by {snooze.author}: {snooze.reason}"
            )
            for snooze in Ledger(settings.ledger_url).snoozes(at)
        },
    )


def _narrowed(
    analysis: Analysis, *, detectors: Collection[str], owner: str | None, min_saving: float
) -> Analysis:
    """Leave out findings and total the others anew."""
    silent = tuple(each for each in analysis.not_assessed if each.detector in detectors)
    left = tuple(each for each in analysis.gone if each.detector in detectors)
    analysis = replace(analysis, not_assessed=silent, gone=left)

    def wanted(finding: Finding) -> bool:
        mine = owner is None or (finding.owner or "unowned").lower() == owner.lower()
        saving = finding.saving_per_month
        wide = saving is None or saving.p50 >= min_saving
        return mine and wide and finding.detector in detectors

    kept = tuple(finding for finding in analysis.findings if wanted(finding))
    if len(kept) == len(analysis.findings) or analysis.joint is None:
        return analysis
    together = analysis.joint.together([finding.id for finding in kept])
    return replace(
        analysis,
        findings=kept,
        saving_per_month=together.total,
        by_detector=together.by_detector,
    )


def make_scenario(
    analysis: Analysis,
    *,
    scenario: str = "balanced",
    finding_ids: Sequence[str] = (),
    limits: Limits | None = None,
) -> Scenario:
    """Return findings picked by id, or else a preset or the best within limits.

    Raises:
        ConfigError: there is no such scenario or finding, or limits are given to a preset.
        InfeasibleError: a least saving cannot be had within the limits.
    """
    if scenario == BEST and not finding_ids:
        return best(analysis, limits or Limits())
    if limits is not None and limits != Limits():
        raise ConfigError(f"Limits go with `--scenario {BEST}`: a preset has its own.")
    return chosen(analysis, finding_ids) if finding_ids else preset(analysis, scenario)


def compare(settings: Settings, limits: Limits) -> tuple[Analysis, Comparison]:
    """Return the analysis, and its presets beside what the solver chooses within limits.

    Raises:
        NoDataError: nothing was collected yet.
        InfeasibleError: a least saving cannot be had within the limits.
    """
    analysis = analyse(settings)
    return analysis, comparing.compare(analysis, limits)


def front_of(analysis: Analysis, limits: Limits) -> Front:
    """Return the most that can be saved at each amount of extra waiting, within limits.

    Raises:
        InfeasibleError: a least saving cannot be had within the limits.
    """
    return front(analysis, limits)


def make_plan(
    settings: Settings,
    *,
    scenario: str = "balanced",
    finding_ids: Sequence[str] = (),
    limits: Limits | None = None,
) -> Plan:
    """Return the plan of a scenario or of findings picked by id. Touches nothing in Azure.

    Raises:
        NoDataError: nothing was collected yet.
        ConfigError: there is no such scenario or finding, or limits are given to a preset.
        InfeasibleError: a least saving cannot be had within the limits.
    """
    return plan_of(
        analyse(settings),
        scenario=scenario,
        finding_ids=finding_ids,
        limits=limits,
        put_instances=settings.azure.put_instances,
    )


def plan_of(
    analysis: Analysis,
    *,
    scenario: str = "balanced",
    finding_ids: Sequence[str] = (),
    limits: Limits | None = None,
    put_instances: bool = False,
) -> Plan:
    """Return the plan of a scenario or of findings picked by id, from an analysis already made.

    `put_instances` is the setting `azure.put_instances`.

    Raises:
        ConfigError: there is no such scenario or finding, or limits are given to a preset.
        InfeasibleError: a least saving cannot be had within the limits.
    """
    return planning.make_plan(
        make_scenario(analysis, scenario=scenario, finding_ids=finding_ids, limits=limits),
        window=analysis.window,
        currency=analysis.currency,
        made_at_utc=analysis.window.end_utc,
        resources=analysis.resources,
        put_instances=put_instances,
    )


def apply(
    settings: Settings,
    plan: Plan,
    *,
    max_steps: int = applying.MAX_STEPS,
    confirmed: Collection[str] = (),
    require_approval: bool = False,
    parallel: int | None = None,
    who: str,
    on_outcome: Callable[[Outcome], None],
) -> Run:
    """Carry out a plan, then look at the inventory again so that the lake knows the new settings.

    Args:
        settings: where Azure, lake and ledger are, and what the team asks of every change.
        plan: what to do.
        max_steps: the fuse.
        confirmed: the ids of the steps that may delete something.
        require_approval: ask for a second person's approval even if the settings do not.
        parallel: resources changed at once; None: `apply.parallel`.
        who: the person or pipeline that answers for it.
        on_outcome: called with each outcome once the ledger holds it.

    Raises:
        PlanError: the plan cannot be used; nothing was changed.
        AzureError: Azure gave no answer; the same command carries on.
    """
    estate = read_estate(settings, reach_back=timedelta(days=MAX_BASELINE_DAYS))
    connection = connect(settings.azure)
    run = applying.apply(
        plan,
        door=connection.arm,
        ledger=Ledger(settings.ledger_url),
        who=who,
        known_resources=estate.resources.keys(),
        baseline=freeze(estate, plan.steps, code_version=_code_version()),
        on_outcome=on_outcome,
        confirmed=confirmed,
        rules=applying.Rules(
            max_steps=max_steps,
            approval_required=require_approval or settings.apply.require_approval,
            calendar=_calendar(settings, estate),
            parallel=parallel or settings.apply.parallel,
        ),
    )
    _look_again(settings, connection, estate)
    return run


def _calendar(settings: Settings, estate: Estate) -> Calendar:
    tags = {
        resource_id: resource.tags[MAINTENANCE_TAG]
        for resource_id, resource in estate.resources.items()
        if resource.kind is Kind.WORKSPACE and MAINTENANCE_TAG in resource.tags
    }
    return Calendar(windows=settings.apply.maintenance, tags=tags)


def approve(settings: Settings, plan: Plan, *, who: str, hours: float, comment: str) -> Approval:
    """Keep that somebody agrees to a plan, by the service's clock.

    Raises:
        PlanError: the plan was edited.
        AzureError: Azure gave no answer.
    """
    return approving.approve(
        plan,
        Ledger(settings.ledger_url),
        who=who,
        at_utc=connect(settings.azure).arm.now_utc(),
        hours=hours,
        comment=comment,
    )


def approvals(settings: Settings, plan: Plan) -> tuple[Approval, ...]:
    """Return every approval of a plan, oldest first, whether it still holds or not."""
    return Ledger(settings.ledger_url).approvals(plan.digest)


def why_not_approved(settings: Settings, plan: Plan, *, who: str) -> str | None:
    """Return why `who` may not apply a plan for want of an approval; None where that is no hurdle.

    Raises:
        AzureError: Azure gave no answer.
    """
    if not settings.apply.require_approval:
        return None
    at = connect(settings.azure).arm.now_utc()
    return approving.why_not_approved(plan, approvals(settings, plan), who=who, at_utc=at)


def rollback(
    settings: Settings, run_id: str, *, who: str, on_outcome: Callable[[Outcome], None]
) -> Run:
    """Put back what a run changed, then look at the inventory again.

    Raises:
        PlanError: there is no such run, or it was rolled back already.
        AzureError: Azure gave no answer; the same command carries on.
    """
    connection = connect(settings.azure)
    run = rolling_back.rollback(
        run_id,
        door=connection.arm,
        ledger=Ledger(settings.ledger_url),
        who=who,
        on_outcome=on_outcome,
        parallel=settings.apply.parallel,
    )
    _look_again(settings, connection, read_estate(settings))
    return run


def _look_again(settings: Settings, connection: Connection, estate: Estate) -> None:
    """Take a snapshot of the settings, so that the next plan starts from what stands now."""
    subscriptions = sorted({subscription_of(resource_id) for resource_id in estate.resources})
    inventory = collect_inventory(connection, subscriptions)
    lake = Lake(settings.lake)
    lake.write(tables.RESOURCES, resource_rows(inventory, lake, connection.arm.now_utc()))


def verify(settings: Settings) -> Verification:
    """Measure every applied change against the bill.

    Raises:
        NoDataError: nothing was collected yet.
    """
    applied = applied_with_baselines(Ledger(settings.ledger_url))
    if not applied:
        return Verification(
            currency="",
            claims=(),
            promised_per_month=Estimate(p10=0.0, p50=0.0, p90=0.0),
            measured_per_month=None,
        )
    end = last_window(settings).end_utc
    first = min(change.applied_utc for change, _ in applied)
    before = timedelta(days=settings.analysis.lookback_days)
    estate = read_estate(settings, reach_back=end - first + before)
    return verifying.verify(
        estate,
        applied,
        currency=estate.bill.currency,
        events=[
            Event(start=event.start, until=event.until, where=event.where, reason=event.reason)
            for event in settings.verify.events
        ],
    )


def _code_version() -> str:
    """Return the version of this program; empty where this copy is not installed."""
    try:
        return version("optimizer")
    except PackageNotFoundError:
        return ""


def history(settings: Settings) -> tuple[Run, ...]:
    """Return every apply and rollback of this home, newest first."""
    return runs(Ledger(settings.ledger_url))


def check_history(settings: Settings, *, noted_head: str = "") -> Checked:
    """Follow the ledger's chain; what it misses is in the answer.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    return Ledger(settings.ledger_url).check(noted_head=noted_head)


def ledger_head(settings: Settings) -> str:
    """Return what changes with every entry of the ledger."""
    return Ledger(settings.ledger_url).head()


def snooze(
    settings: Settings, finding_id: str, *, until: datetime, reason: str, author: str
) -> None:
    """Keep a finding silent until a day, and keep who wanted that and why.

    Raises:
        ConfigError: there is no such finding.
    """
    if analyse(settings).finding(finding_id) is None:
        raise ConfigError(
            f"There is no finding {finding_id}; `optimizer findings` lists what there is."
        )
    Ledger(settings.ledger_url).snooze(
        Snooze(finding_id=finding_id, author=author, reason=reason, until_utc=until),
        datetime.now(UTC),
    )


def snoozes(settings: Settings) -> tuple[Snooze, ...]:
    """Return the snoozes in force at the last collection."""
    return Ledger(settings.ledger_url).snoozes(last_window(settings).end_utc)


def doctor(settings: Settings, *, subscriptions: Sequence[str] = ()) -> tuple[Check, ...]:
    """Check credential, permissions, limits and freshness; raises nothing that Azure may say."""
    lake = Lake(settings.lake)
    asked = check(connect(settings.azure), subscriptions)
    return (*asked, freshness(lake), *turned_out(lake))


def detectors() -> tuple[Any, ...]:
    """Return every detector with its thresholds, in the order of the waterfall."""
    return load_detectors()
