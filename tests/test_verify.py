"""What `verify` says, where the bill and the activity are known to the minute."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.analysis.assemble import Bill, Estate
from optimizer.analysis.case import Case
from optimizer.analysis.features import CostLine
from optimizer.analysis.rate_savings import rate_savings
from optimizer.analysis.rates import Rates
from optimizer.analysis.serving import Demand
from optimizer.analysis.work import NO_RUNS, Runs
from optimizer.catalogue import Catalogue
from optimizer.config import load_settings
from optimizer.errors import ConfigError
from optimizer.model import Attribution, Claim, ClusterSettings, Estimate, How, Json
from optimizer.remediation.baseline import freeze, thaw
from optimizer.remediation.beside import REPLACES
from optimizer.remediation.causes import Signs, Standing, cause
from optimizer.remediation.drift import beyond_chance, untouched
from optimizer.remediation.events import Event
from optimizer.remediation.outcomes import AppliedChange, ClaimReport, Verification
from optimizer.remediation.overlays import overlay_of, why_not_replayed
from optimizer.remediation.plan import Step
from optimizer.remediation.verify import verify
from optimizer.units import HOURS_PER_MONTH
from tests.analysis.builders import START, WORKSPACE, cluster, deployment, instance, window

SCALE = "properties.properties.scaleSettings"
MIN_NODES = f"{SCALE}.minNodeCount"
MAX_NODES = f"{SCALE}.maxNodeCount"
IDLE_TIME = f"{SCALE}.nodeIdleTimeBeforeScaleDown"
SHUTDOWN = "properties.properties.idleTimeBeforeShutdown"

BEFORE = 28
"""Days of the baseline."""

ID = f"{WORKSPACE}/computes/it"
MONTH = HOURS_PER_MONTH / 24
PROMISED = Estimate(p10=90.0, p50=100.0, p90=110.0)
SHIFT = [0.0] * 480 + [2.0] * 480 + [0.0] * 480
"""A day on which two nodes work from eight to four."""


def change(
    setting: str,
    before: Json,
    after: Json,
    *,
    day: int = BEFORE,
    run: str = "apply-1",
    of: str = ID,
    how: How = How.PATCH,
    promised: Estimate = PROMISED,
) -> AppliedChange:
    return AppliedChange(
        run_id=run,
        finding_id=f"{run}-{setting.rpartition('.')[2]}",
        detector="any",
        resource_id=of,
        setting=setting,
        before=before,
        after=after,
        how=how,
        applied_utc=START + timedelta(days=day),
        ended_utc=None,
        promised_per_month=promised,
    )


def step(**fields: Any) -> Step:
    """Return as much of a step as a baseline asks for."""
    return Step.model_construct(**fields)


def line(day: int, hours: float, rate: float, of: str = ID, component: str = "vm") -> CostLine:
    return CostLine(
        day=START.date() + timedelta(days=day),
        workspace_id=WORKSPACE,
        resource_id=of,
        component=component,
        cost=hours * rate,
        list_cost=None,
        contracted_cost=None,
        hours=hours if component == "vm" else None,
        vm_size=None,
        attribution=Attribution.EXACT,
        currency="USD",
        pricing_model=None,
    )


def estate(
    cases: Sequence[Case[Any]], lines: Sequence[CostLine], *, days: int, gone: Sequence[str] = ()
) -> Estate:
    there = {c.resource.resource_id: c for c in cases if c.resource.name not in gone}
    return Estate(
        window=window(days),
        bill=Bill(
            lines=tuple(lines),
            start=START.date(),
            end=START.date() + timedelta(days=days),
            currency="USD",
            rate_savings=rate_savings(()),
        ),
        resources={key: case.resource for key, case in there.items()},
        cases=there,
        unassessable={},
        rates=Rates(catalogue=Catalogue(currency="USD", sizes={}, prices={}), known={}, shares={}),
    )


def with_document(case: Any, setting: str, value: Json) -> Any:
    """Return a case whose ARM document has a setting."""
    document: Any = value
    for name in reversed(setting.split(".")):
        document = {name: document}
    features = replace(case.features, resource=replace(case.resource, arm=document))
    return replace(case, features=features)


def bill_of(
    case: Case[Any], old: Mapping[str, Any], *, days: int, rates: tuple[float, float] = (3.0, 3.0)
) -> list[CostLine]:
    """Return what a case is billed: old settings and price up to the change, its own since."""
    was = case.hours(replace(case.settings, **old))
    now = case.hours(case.settings)
    return [
        line(day, float((was if day < BEFORE else now)[day]), rates[day >= BEFORE])
        for day in range(days)
    ]


def frozen(
    case: Any, lines: Sequence[CostLine], old: Mapping[str, Any], changes: Sequence[AppliedChange]
) -> Json:
    """Return the baseline as the ledger gives it back."""
    days = BEFORE
    demand = case.features.demand[: days * 1440]
    settings = replace(case.settings, **old)
    before = cluster(
        demand.tolist(),
        min_nodes=settings.min_nodes,
        max_nodes=settings.max_nodes,
        idle_minutes=settings.idle_seconds / 60,
        name=case.resource.name,
    )
    steps = [step(resource_id=c.resource_id, setting=c.setting, after=c.after) for c in changes]
    seen = estate([before], [each for each in lines if each.day < day(BEFORE)], days=days)
    kept: Json = json.loads(json.dumps(freeze(seen, steps, code_version="1")))
    return kept


def day(number: int) -> date:
    return START.date() + timedelta(days=number)


def verified(
    days: int,
    *,
    demand: Sequence[float] | None = None,
    old: Mapping[str, Any] | None = None,
    setting: str = MIN_NODES,
    values: tuple[Json, Json] = (2, 0),
    rates: tuple[float, float] = (3.0, 3.0),
    lines: Sequence[CostLine] | None = None,
    events: Sequence[Event] = (),
    **settings: Any,
) -> tuple[ClaimReport, Verification, Any]:
    """Return the claim of one change of a cluster, so many days after the baseline began."""
    old = {"min_nodes": 2} if old is None else old
    case = cluster(demand or SHIFT * days, **settings)
    case = with_document(case, setting, values[1])
    made = change(setting, *values)
    billed = bill_of(case, old, days=days, rates=rates) if lines is None else lines
    baseline = frozen(case, billed, old, [made])
    found = verify(
        estate([case], billed, days=days), [(made, baseline)], currency="USD", events=events
    )
    (claim,) = found.claims
    return claim, found, case


def test_a_planted_saving_is_measured_to_the_cent_and_verified() -> None:
    claim, found, case = verified(BEFORE + 31)
    old = case.hours(replace(case.settings, min_nodes=2))[BEFORE + 3 :]
    saved = float((old - case.hours(case.settings)[BEFORE + 3 :]).mean()) * 3 * MONTH
    assert claim.measured_per_month is not None
    assert claim.measured_per_month.mid == pytest.approx(saved)
    assert claim.measured_per_month.low == pytest.approx(saved)
    assert claim.level is Claim.VERIFIED
    assert claim.shortfall is None
    assert claim.parts_per_month is not None
    assert claim.parts_per_month.policy == pytest.approx(-saved)
    assert (claim.parts_per_month.volume, claim.parts_per_month.price) == pytest.approx((0, 0))
    assert found.is_run_rate


def test_the_parts_sum_to_the_change_of_the_bill_to_the_cent() -> None:
    busier = SHIFT * BEFORE + [1.37 * node for node in map(round, SHIFT)] * 31
    claim, found, case = verified(
        BEFORE + 31, demand=[float(round(node)) for node in busier], rates=(3.0, 2.71)
    )
    lines = bill_of(case, {"min_nodes": 2}, days=BEFORE + 31, rates=(3.0, 2.71))
    before = sum(each.cost for each in lines[:BEFORE]) / BEFORE
    since = sum(each.cost for each in lines[BEFORE + 3 :]) / 28
    assert claim.parts_per_month is not None
    cents = claim.parts_per_month.to_cents()
    change = round((since - before) * MONTH, 2)
    assert round(cents.volume + cents.policy + cents.price, 2) == change
    assert found.parts_per_month == cents


def test_twice_the_activity_with_nothing_done_is_volume_and_no_saving() -> None:
    twice = [0.0] * 480 + [4.0] * 480 + [0.0] * 480
    claim, _, case = verified(
        BEFORE + 31,
        demand=SHIFT * BEFORE + twice * 31,
        old={"max_nodes": 100},
        setting=MAX_NODES,
        values=(100, 10),
        max_nodes=10,
    )
    assert claim.measured_per_month is not None
    assert claim.parts_per_month is not None
    assert claim.measured_per_month.mid == pytest.approx(0.0, abs=0.005)
    hours = case.hours(case.settings)
    extra = float(hours[BEFORE + 3 :].mean() - hours[:BEFORE].mean()) * 3 * MONTH
    assert claim.parts_per_month.volume == pytest.approx(extra, rel=1e-6)
    assert claim.level is Claim.MEASURED


def test_usage_that_disappears_by_itself_is_not_claimed() -> None:
    claim, _, _ = verified(
        BEFORE + 31,
        demand=SHIFT * BEFORE + [0.0] * 1440 * 31,
        old={"max_nodes": 100},
        setting=MAX_NODES,
        values=(100, 10),
        max_nodes=10,
    )
    assert claim.measured_per_month is not None
    assert claim.measured_per_month.mid == pytest.approx(0.0, abs=0.005)
    assert claim.parts_per_month is not None
    assert claim.parts_per_month.volume < -1000


def test_a_price_cut_is_price_and_no_saving() -> None:
    claim, _, _ = verified(
        BEFORE + 31,
        old={"max_nodes": 100},
        setting=MAX_NODES,
        values=(100, 10),
        rates=(3.0, 2.4),
        max_nodes=10,
    )
    assert claim.measured_per_month is not None
    assert claim.measured_per_month.mid == pytest.approx(0.0, abs=0.005)
    assert claim.parts_per_month is not None
    assert claim.parts_per_month.policy == pytest.approx(0.0, abs=0.005)
    assert claim.parts_per_month.price == pytest.approx(claim.parts_per_month.change, abs=0.005)
    assert claim.parts_per_month.price < -100


@pytest.mark.parametrize("told", [True, False])
def test_a_price_cut_of_addresses_is_no_saving_where_amounts_are_told(told: bool) -> None:  # noqa: FBT001
    # One load balancer day and night, as two nodes are kept before and since; from the change on
    # everything costs a fifth less.
    days, old = BEFORE + 31, {"max_nodes": 100}
    case = with_document(cluster(SHIFT * days, min_nodes=2, max_nodes=10), MAX_NODES, 10)
    billed = bill_of(case, old, days=days, rates=(3.0, 2.4)) + [
        replace(
            line(number, 24.0, (0.5, 0.4)[number >= BEFORE], component="load_balancer"),
            units=24.0 if told else None,
        )
        for number in range(days)
    ]
    made = change(MAX_NODES, 100, 10)
    baseline: Any = frozen(case, billed, old, [made])
    baseline[made.resource_id.lower()]["standing_per_day"] = 12.0
    (claim,) = verify(estate([case], billed, days=days), [(made, baseline)], currency="USD").claims
    assert claim.measured_per_month is not None
    # 24 h × 0.1 a day, at machine prices a fifth lower, pass for a saving where nothing tells.
    mistaken = 0.0 if told else 24 * 0.1 * MONTH * 0.8
    assert claim.measured_per_month.mid == pytest.approx(mistaken, abs=0.005)


def test_days_until_it_settles_count_for_neither_side() -> None:
    _, _, case = verified(BEFORE + 31)
    lines = bill_of(case, {"min_nodes": 2}, days=BEFORE + 31)
    strange = [
        replace(each, cost=9e6, hours=3e6) if day(BEFORE) <= each.day < day(BEFORE + 3) else each
        for each in lines
    ]
    claim, _, _ = verified(BEFORE + 31, lines=strange)
    undisturbed, _, _ = verified(BEFORE + 31)
    assert claim.measured_per_month == undisturbed.measured_per_month


@pytest.mark.parametrize(
    ("counted", "name", "days", "following"),
    [
        (7, "interim", 7, 21),
        (28, "28 days", 28, 56),
        (40, "28 days", 28, 44),
        (90, "84 days", 84, 0),
    ],
)
def test_there_are_two_reports_and_the_next_is_dated(
    counted: int, name: str, days: int, following: int
) -> None:
    claim, found, _ = verified(BEFORE + 3 + counted)
    assert claim.report is not None
    assert (claim.report.name, claim.report.days) == (name, days)
    assert claim.report.start == day(BEFORE + 3)
    last = day(BEFORE + 3 + counted)
    due = last + timedelta(days=following) if following else None
    assert claim.report.next_on == due
    assert found.is_run_rate is (days < 84)
    assert claim.level is (Claim.VERIFIED if days >= 28 else Claim.MEASURED)


def test_too_few_days_are_said() -> None:
    claim, _, _ = verified(BEFORE + 9)
    assert claim.level is Claim.APPLIED
    assert claim.measured_per_month is None
    assert claim.why.startswith("6 billed days since it settled on 2026-07-02; 7 are needed")


def test_two_changes_of_one_run_share_what_was_measured() -> None:
    days = BEFORE + 31
    case = cluster(SHIFT * days, min_nodes=0, idle_minutes=2)
    case = with_document(case, SCALE, {"minNodeCount": 0, "nodeIdleTimeBeforeScaleDown": "PT2M"})
    old = {"min_nodes": 1, "idle_seconds": 7200}
    lines = bill_of(case, old, days=days)
    made = [change(MIN_NODES, 1, 0), change(IDLE_TIME, "PT2H", "PT2M")]
    known = frozen(case, lines, old, made)
    found = verify(
        estate([case], lines, days=days), [(each, known) for each in made], currency="USD"
    )
    settings = [replace(case.settings, **old)]
    settings += [replace(settings[0], min_nodes=0), case.settings]
    hours = [float(case.hours(each)[BEFORE + 3 :].mean()) for each in settings]
    saved = {
        claim.finding_id: claim.measured_per_month.mid
        for claim in found.claims
        if claim.measured_per_month
    }
    assert saved == pytest.approx(
        {
            "apply-1-minNodeCount": (hours[0] - hours[1]) * 3 * MONTH,
            "apply-1-nodeIdleTimeBeforeScaleDown": (hours[1] - hours[2]) * 3 * MONTH,
        }
    )
    assert {claim.level for claim in found.claims} == {Claim.VERIFIED}


def test_a_report_ends_where_the_next_run_changed_it_again() -> None:
    days = BEFORE + 60
    case = with_document(cluster(SHIFT * days), SCALE, {"minNodeCount": 0, "maxNodeCount": 10})
    lines = bill_of(case, {"min_nodes": 2}, days=days)
    first = change(MIN_NODES, 2, 0)
    second = change(MAX_NODES, 100, 10, day=BEFORE + 15, run="apply-2")
    known = frozen(case, lines, {"min_nodes": 2}, [first])
    found = verify(
        estate([case], lines, days=days), [(first, known), (second, known)], currency="USD"
    )
    claims = {claim.finding_id: claim for claim in found.claims}
    report = claims["apply-1-minNodeCount"].report
    assert report is not None
    assert (report.start, report.end, report.next_on) == (day(BEFORE + 3), day(BEFORE + 15), None)
    following = claims["apply-2-maxNodeCount"].report
    assert following is not None
    assert following.start == day(BEFORE + 18)


def test_a_setting_that_was_put_back_is_told_with_the_day_and_comes_first() -> None:
    days = BEFORE + 45
    case = cluster(SHIFT * days, min_nodes=2)
    back = START + timedelta(days=BEFORE + 20, hours=9)
    policies = (
        (START, case.settings),
        (START + timedelta(days=BEFORE), replace(case.settings, min_nodes=0)),
        (back, case.settings),
    )
    case = with_document(
        replace(case, features=replace(case.features, policies=policies)),
        SCALE,
        {"minNodeCount": 2, "maxNodeCount": 100},
    )
    lines = [line(n, float(h), 3.0) for n, h in enumerate(case.hours(case.settings))]
    made = change(MIN_NODES, 2, 0)
    fine = change(MAX_NODES, 100, 100, run="apply-0", promised=Estimate(p10=0, p50=0, p90=0))
    known = frozen(case, lines, {"min_nodes": 2}, [made])
    found = verify(estate([case], lines, days=days), [(fine, known), (made, known)], currency="USD")
    claim = found.claims[0]
    assert claim.finding_id == "apply-1-minNodeCount"
    assert claim.shortfall == f"minNodeCount was put back to 2, first seen on {back:%Y-%m-%d}."
    assert claim.report is not None
    assert (claim.report.name, claim.report.days) == ("to date", 42)
    assert claim.level is Claim.MEASURED


def test_days_of_an_event_that_passed_count_for_neither_side() -> None:
    event = Event(start=day(20), until=day(36), where="it", reason="a migration")
    claim, _, _ = verified(BEFORE + 50, events=[event])
    assert claim.report is not None
    assert claim.report.start == day(37)
    assert claim.level is Claim.VERIFIED
    elsewhere = replace(event, where="another")
    assert verified(BEFORE + 50, events=[elsewhere])[0].report != claim.report


def test_a_lasting_event_calibrates_anew() -> None:
    days = BEFORE + 34
    _, _, case = verified(days)
    # From the event on all hours are billed a tenth more, whatever the settings.
    lines = [
        replace(each, hours=1.1 * (each.hours or 0.0), cost=1.1 * each.cost)
        if each.day >= day(BEFORE + 3)
        else each
        for each in bill_of(case, {"min_nodes": 2}, days=days)
    ]
    said, _, _ = verified(days, lines=lines)
    event = Event(start=day(BEFORE + 3), until=None, where="", reason="nodes of another kind")
    told, _, _ = verified(days, lines=lines, events=[event])
    old = case.hours(replace(case.settings, min_nodes=2))[BEFORE + 3 : BEFORE + 31]
    new = case.hours(case.settings)[BEFORE + 3 : BEFORE + 31]
    assert said.measured_per_month is not None
    assert told.measured_per_month is not None
    saved = 1.1 * float((old - new).mean()) * 3 * MONTH
    assert told.measured_per_month.mid == pytest.approx(saved)
    assert said.measured_per_month.mid < saved


def test_a_day_of_which_little_was_seen_counts_for_nothing() -> None:
    days = BEFORE + 31
    case = with_document(cluster(SHIFT * days), MIN_NODES, 0)
    lines = bill_of(case, {"min_nodes": 2}, days=days)
    made = change(MIN_NODES, 2, 0)
    known = frozen(case, lines, {"min_nodes": 2}, [made])
    unknown = case.features.unknown.copy()
    unknown[(BEFORE + 10) * 1440 : (BEFORE + 12) * 1440] = True
    blind = replace(case, features=replace(case.features, unknown=unknown))
    (claim,) = verify(estate([blind], lines, days=days), [(made, known)], currency="USD").claims
    assert claim.report is not None
    assert (claim.report.name, claim.report.days) == ("interim", 26)


def test_what_was_deleted_saves_what_it_cost_unused() -> None:
    days = BEFORE + 31
    used = cluster(SHIFT * 10 + [0.0] * 1440 * (BEFORE - 10), min_nodes=1, name="it")
    hours = used.hours(used.settings)
    lines = [line(n, float(h), 3.0) for n, h in enumerate(hours)]
    made = change("resource", "present", "deleted", how=How.ACTION)
    steps = [step(resource_id=ID, setting="resource", after="deleted")]
    known: Json = json.loads(json.dumps(freeze(estate([used], lines, days=BEFORE), steps)))
    (claim,) = verify(
        estate([used], lines, days=days, gone=["it"]), [(made, known)], currency="USD"
    ).claims
    assert claim.measured_per_month is not None
    # One node stood idle; what the work of the first days had cost went with the work.
    assert claim.measured_per_month.mid == pytest.approx(24 * 3 * MONTH)
    assert claim.parts_per_month is not None
    assert claim.parts_per_month.volume < 0
    assert claim.level is Claim.VERIFIED


def test_a_cluster_made_beside_the_old_one_is_counted_with_it() -> None:
    days = BEFORE + 31
    old = cluster(SHIFT * BEFORE + [0.0] * 1440 * 31, name="it")
    new = cluster([0.0] * 1440 * BEFORE + SHIFT * 31, name="it-low")
    tagged = replace(new.resource, tags={REPLACES: "it"})
    new = replace(new, features=replace(new.features, resource=tagged))
    hours = old.hours(old.settings) + new.hours(new.settings)
    lines = [line(n, float(h), 3.0) for n, h in enumerate(hours) if n < BEFORE]
    lines += [
        line(n, float(h), 1.2, of=tagged.resource_id) for n, h in enumerate(hours) if n >= BEFORE
    ]
    made = change("properties.properties.vmPriority", "Dedicated", "LowPriority", how=How.RECREATE)
    known: Any = frozen(old, lines, {}, [])
    steps = [step(resource_id=ID, setting=MAX_NODES, after=100)]
    before = cluster(SHIFT * BEFORE, name="it")
    known = json.loads(json.dumps(freeze(estate([before], lines[:BEFORE], days=BEFORE), steps)))
    known[ID]["rate_after_per_hour"] = 1.2
    (claim,) = verify(estate([old, new], lines, days=days), [(made, known)], currency="USD").claims
    assert claim.measured_per_month is not None
    saved = float(hours[BEFORE + 3 :].mean()) * (3.0 - 1.2) * MONTH
    assert claim.measured_per_month.mid == pytest.approx(saved)
    assert claim.parts_per_month is not None
    assert claim.parts_per_month.price == pytest.approx(0.0, abs=0.01)

    (alone,) = verify(estate([old], lines, days=days), [(made, known)], currency="USD").claims
    assert alone.level is Claim.APPLIED
    assert (
        alone.why
        == "No cluster with the tag optimizer:replaces=it was seen in the last collection."
    )


KINDS: tuple[tuple[str, Json, Json], ...] = (
    (MIN_NODES, 2, 0),
    (MAX_NODES, 100, 10),
    (IDLE_TIME, "PT2H", "PT2M"),
    (SHUTDOWN, None, "PT60M"),
    (SHUTDOWN, "PT60M", None),
    ("properties.properties.vmSize", "Standard_A", "Standard_B"),
    ("properties.properties.vmPriority", "Dedicated", "LowPriority"),
    ("properties.properties.schedules.computeStartStop", [], [{"action": "Stop"}]),
    ("properties.properties.state", "Running", "Stopped"),
    ("resource", "present", "deleted"),
    ("sku.capacity", 4, 2),
    ("autoscaleSettings", None, {"minimum": 1, "maximum": 4}),
    ("autoscaleSettings.rules", [{"a": 1}], [{"b": 2}]),
    ("limits.timeout", None, {"train": "PT60M"}),
    ("earlyTermination", None, {"policyType": "MedianStopping"}),
    ("jobs", None, None),
    ("Microsoft.Capacity/reservationOrders", None, {"quantity": 2}),
    ("properties.appliedScopeType", None, "Shared"),
    ("tags.team", None, "vision"),
    (MIN_NODES, 2, "many"),
)


@pytest.mark.parametrize(("setting", "before", "after"), KINDS)
@pytest.mark.parametrize("how", [How.PATCH, How.ACTION, How.RECREATE, How.ADVICE])
@pytest.mark.parametrize("kind", ["cluster", "instance", "deployment", "gone"])
def test_every_kind_of_change_gets_an_answer(
    kind: str, how: How, setting: str, before: Json, after: Json
) -> None:
    days = BEFORE + 31
    made: dict[str, Case[Any]] = {
        "cluster": cluster(SHIFT * days),
        "instance": instance([1.0] * 480 + [0.0] * 960 + ([-1.0] * 1440) * (days - 1)),
        "deployment": deployment([10.0] * 1440 * days),
    }
    case = made.get(kind, made["cluster"])
    of = case.resource.resource_id
    lines = [line(n, float(h), 3.0, of=of) for n, h in enumerate(case.as_was())]
    asked = change(setting, before, after, of=of, how=how)
    steps = [step(resource_id=of, setting=setting, after=after)]
    known: Json = json.loads(json.dumps(freeze(estate([case], lines, days=days), steps)))
    gone = [case.resource.name] if kind == "gone" else []
    found = verify(estate([case], lines, days=days, gone=gone), [(asked, known)], currency="USD")
    (claim,) = found.claims
    assert claim.level in {Claim.APPLIED, Claim.MEASURED, Claim.VERIFIED}
    assert claim.why.endswith(".")
    assert (claim.measured_per_month is None) == (claim.level is Claim.APPLIED)


def test_a_baseline_comes_back_from_json_as_it_was_and_an_older_one_is_none() -> None:
    case = cluster(SHIFT * BEFORE)
    lines = [line(n, float(h), 3.0) for n, h in enumerate(case.hours(case.settings))]
    lines += [line(n, 1.0, 0.5, component="disk") for n in range(BEFORE)]
    case = replace(case, standing_per_day=0.5)
    steps = [step(resource_id=ID, setting=MIN_NODES, after=0)]
    kept = json.loads(
        json.dumps(freeze(estate([case], lines, days=BEFORE), steps, code_version="9"))
    )
    known = thaw(kept, ID)
    assert known is not None
    assert (known.code_version, known.standing_per_day) == ("9", 0.5)
    assert known.rate_per_hour == pytest.approx(3.0)
    assert known.dates == tuple(day(n) for n in range(BEFORE))
    assert sum(known.work_hours) == pytest.approx(16.0 * BEFORE)
    assert sum(known.billed_cost) == pytest.approx(float(case.hours(case.settings).sum()) * 3)
    assert ClusterSettings(**known.settings) == case.settings
    del kept[ID]["billed_cost"]
    assert thaw(kept, ID) is None
    assert thaw({}, ID) is None


def test_a_compute_that_drifts_by_itself_widens_the_interval_of_others() -> None:
    days = BEFORE + 31
    case = cluster(SHIFT * days, name="other")
    hours = case.hours(case.settings)
    of = case.resource.resource_id
    steady = [line(n, float(h), 3.0, of=of) for n, h in enumerate(hours)]
    strayed = [
        line(n, float(h) * (1.05 if n >= BEFORE else 1.0), 3.0, of=of) for n, h in enumerate(hours)
    ]
    before, since = [day(n) for n in range(BEFORE)], [day(n) for n in range(BEFORE + 3, days)]

    def width(lines: list[CostLine], changed: Sequence[str] = ()) -> float:
        seen = estate([case], lines, days=days)
        found = untouched(seen, changed=changed, before=before, since=since)
        return beyond_chance([*found]).half_width

    assert width(steady) == 0.0
    # One compute alone: Student's quantile of one degree of freedom, 6.31, times a twentieth.
    assert width(strayed) == pytest.approx(0.05 * 6.314, rel=1e-3)
    assert width(strayed, [of]) == 0.0


UP: dict[str, Json] = {
    "metric": "CpuUtilizationPercentage",
    "aggregation": "Average",
    "operator": "GreaterThan",
    "threshold": 70.0,
    "direction": "Increase",
    "type": "ChangeCount",
    "value": 2,
    "cooldown_minutes": 60,
}
USUAL: dict[str, Json] = {"min": 2, "max": 6, "recurrence": None, "fixed_date": None}
BOTH_WAYS: dict[str, Json] = {"minimum": 2, "maximum": 6, "scale_out_by": 2, "scale_in_by": 1}
SERVED = Demand(
    service_seconds=0.2, servers_per_instance=4, cpu_at_rest=0.02, cpu_per_request=0.001
)


def scaled(rules: Sequence[Json]) -> tuple[ClaimReport, float]:
    """Return the claim of rules that never scaled in and now do, and what they saved a month."""
    days = BEFORE + 31
    profile: Json = {**USUAL, "rules": [*rules]}
    told: Json = {"enabled": True, "profiles": [profile], "min": 2, "max": 6}
    case = deployment(
        ([200.0] * 960 + [1500.0] * 480) * days, demand=SERVED, settings={"autoscale": told}
    )
    after = overlay_of("autoscaleSettings.rules", BOTH_WAYS) or {}
    instances = case.instances_under(replace(case.settings, **after)).copy()
    instances[: BEFORE * 1440] = 6.0
    case = replace(case, features=replace(case.features, instances=instances))
    of = case.resource.resource_id
    lines = [line(n, float(h), 3.0, of=of) for n, h in enumerate(case.as_was())]
    made = change("autoscaleSettings.rules", [*rules], BOTH_WAYS, of=of)
    steps = [step(resource_id=of, setting=made.setting, after=BOTH_WAYS)]
    kept: Json = json.loads(json.dumps(freeze(estate([case], lines, days=BEFORE), steps)))
    (claim,) = verify(estate([case], lines, days=days), [(made, kept)], currency="USD").claims
    left = float(case.as_was()[BEFORE + 3 : BEFORE + 31].mean())
    return claim, (6 * 24 - left) * 3 * MONTH


def test_rules_that_took_the_place_of_others_are_measured_by_replay_of_those() -> None:
    claim, saved = scaled([UP])
    assert saved > 0
    assert claim.measured_per_month is not None
    assert claim.measured_per_month.mid == pytest.approx(saved)
    assert claim.level is Claim.VERIFIED


def test_rules_that_no_replay_knows_are_said_to_be_so() -> None:
    claim, _ = scaled([UP | {"metric": "RequestsPerMinute"}])
    assert (claim.level, claim.measured_per_month) == (Claim.APPLIED, None)
    assert claim.why.endswith("others than one rule out and one in, on CPU, for all times.")


def test_nodes_that_are_always_there_do_not_stray() -> None:
    days = BEFORE + 31
    drifting = cluster(SHIFT * days, name="other")
    of = drifting.resource.resource_id
    strayed = [
        line(n, float(h) * (1.05 if n >= BEFORE else 1.0), 3.0, of=of)
        for n, h in enumerate(drifting.hours(drifting.settings))
    ]

    def width(kept: int) -> float:
        old = {"min_nodes": kept}
        case = with_document(cluster(SHIFT * days), MIN_NODES, 0)
        made = change(MIN_NODES, kept, 0)
        billed = bill_of(case, old, days=days)
        baseline = frozen(case, billed, old, [made])
        seen = estate([case, drifting], [*billed, *strayed], days=days)
        (claim,) = verify(seen, [(made, baseline)], currency="USD").claims
        assert claim.measured_per_month is not None
        return claim.measured_per_month.high - claim.measured_per_month.low

    # The shift of 16 node-hours a day moves where none are kept; twice 24 hold it all.
    assert width(0) > 1.0
    assert width(2) == pytest.approx(0.0, abs=0.01)


def signs(**known: Any) -> Signs:
    plain: dict[str, Any] = {
        "standing": Standing.STANDS,
        "setting": "minNodeCount",
        "now": "2",
        "seen_on": None,
        "seen_by": None,
        "days": 28,
        "needed_days": 28,
        "nmbe": 0.0,
        "cv_rmse": 0.0,
        "volume": 1.0,
        "price": 1.0,
    }
    return Signs(**plain | known)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (
            {"standing": Standing.REVERTED, "seen_on": date(2026, 7, 1), "seen_by": "bo"},
            "minNodeCount was put back to 2, first seen on 2026-07-01, by bo.",
        ),
        ({"standing": Standing.DRIFTED, "now": "1"}, "minNodeCount was changed again, to 1."),
        (
            {"standing": Standing.GONE},
            "The resource is no longer there, so nothing is left to save on.",
        ),
        ({"nmbe": -0.08}, "The replay missed the bill by -8.0% even before the change."),
        (
            {"cv_rmse": 0.3},
            "The replay missed the bill by 30% from day to day even before the change.",
        ),
        ({"days": 9}, "Only 9 of 28 days are billed, so it may yet come."),
        (
            {"volume": 0.4},
            (
                "Demand moved: under the old settings the activity since would have cost 40% of "
                "what it cost before."
            ),
        ),
        (
            {"price": 0.7, "volume": 1.2},
            "The price of an hour changed by -30%, and with it what one saves.",
        ),
        (
            {},
            (
                "No cause is seen: the setting stands, activity and prices are as they were, so "
                "too much was promised."
            ),
        ),
        # What was seen comes before what was reckoned.
        (
            {"standing": Standing.DRIFTED, "nmbe": 0.5, "volume": 0.1},
            "minNodeCount was changed again, to 2.",
        ),
    ],
)
def test_each_cause_has_its_sentence(known: dict[str, Any], said: str) -> None:
    assert cause(signs(**known)) == said


def test_settings_that_mean_the_same_to_a_case_are_read_alike() -> None:
    assert overlay_of(IDLE_TIME, "PT2H") == {"idle_seconds": 7200}
    assert overlay_of(SHUTDOWN, None) == {"idle_shutdown_minutes": None}
    assert overlay_of("properties.properties.vmPriority", "lowPriority") == {
        "vm_priority": "low_priority"
    }
    assert overlay_of(MIN_NODES, "many") is None
    assert why_not_replayed(MIN_NODES, 0) is None
    assert why_not_replayed("autoscaleSettings", {"minimum": 1, "maximum": 2}) is None
    assert "No replay knows the setting team" in str(why_not_replayed("tags.team", "a"))


def test_where_an_event_is_meant() -> None:
    resource = cluster(SHIFT).resource
    event = Event(start=date(2026, 6, 1), until=None, where="", reason="x")
    for where in ("", "it", "IT", "ws", ID.upper(), WORKSPACE):
        assert replace(event, where=where).touches(resource)
    assert not replace(event, where="other").touches(resource)


def test_events_come_from_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "optimizer.toml"
    file.write_text(
        "[[verify.events]]\nstart = 2026-05-01\nuntil = 2026-05-03\nwhere = 'it'\n"
        "reason = 'migration'\n[[verify.events]]\nstart = 2026-06-01\nreason = 'new team'\n"
    )
    passed, lasting = load_settings({}, file=file).verify.events
    assert (passed.start, passed.until, passed.where) == (date(2026, 5, 1), date(2026, 5, 3), "it")
    assert (lasting.until, lasting.where, lasting.reason) == (None, "", "new team")
    file.write_text(
        "[[verify.events]]\nstart = 2026-05-01\nuntil = 2026-04-03\nreason = 'migration'\n"
    )
    with pytest.raises(ConfigError, match="until 2026-04-03 lies before start 2026-05-01"):
        load_settings({}, file=file)


def runs(*each: tuple[int, str]) -> Runs:
    """Return runs of eight hours on two nodes, by day and experiment."""
    start = np.array([n * 86_400 + 8 * 3600 for n, _ in each], dtype=np.int64)
    words = np.full(len(each), "command")
    return replace(
        NO_RUNS,
        start=start,
        end=start + 8 * 3600,
        nodes=np.full(len(each), 2, dtype=np.int64),
        experiment=np.array([name for _, name in each]),
        kind=words,
        status=words,
        limit_minutes=np.full(len(each), np.nan),
        unended_sweep=np.full(len(each), ""),
    )


def test_new_work_and_another_size_are_suggested_as_events_until_they_are_dated() -> None:
    days = BEFORE + 31
    worked = [(n, "train") for n in range(BEFORE)] + [(n, "score") for n in range(BEFORE, days)]
    case = cluster(SHIFT * days, runs=runs(*worked), sku="Standard_D4s_v5")
    case = with_document(case, MIN_NODES, 0)
    lines = bill_of(case, {"min_nodes": 2}, days=days)
    before = cluster(SHIFT * BEFORE, runs=runs(*worked[:BEFORE]), min_nodes=2)
    steps = [step(resource_id=ID, setting=MIN_NODES, after=0)]
    known: Json = json.loads(json.dumps(freeze(estate([before], lines[:BEFORE], days=28), steps)))
    made = (change(MIN_NODES, 2, 0), known)
    seen = estate([case], lines, days=days)
    assert verify(seen, [made], currency="USD").suggested_events == (
        "it was Standard_D2_v3 and is Standard_D4s_v5.",
        "it runs experiments that it did not have, from 2026-06-29 on: score.",
    )
    event = Event(start=day(BEFORE), until=None, where="it", reason="a new team")
    assert verify(seen, [made], currency="USD", events=[event]).suggested_events == ()
