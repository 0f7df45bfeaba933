"""The properties of methods §10 that are about cases and their totals.

4, 5 and 6 stand beside the replay, splitting of exports (8) beside the import, 17 and 18 beside
commitments and forecast.
"""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.analysis.case import Assumptions
from optimizer.analysis.clusters import ClusterCase, levels_of
from optimizer.analysis.confidence import next_month
from optimizer.analysis.features import Bools, CostLine, cut_into_gaps
from optimizer.analysis.instances import RESTART_SECONDS, InstanceCase
from optimizer.analysis.joint import overlaid
from optimizer.analysis.rates import Rate, attribute
from optimizer.model import Basis, Estimate, InstanceSettings, Window
from optimizer.units import SECONDS_PER_HOUR
from tests.analysis.builders import WORKSPACE, cluster, instance, judged

COUNTED = settings(max_examples=25)

days = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 300)), min_size=1, max_size=8)


@st.composite
def clusters(draw: st.DrawFn) -> ClusterCase:
    """A fortnight in which every day is one of two, under any settings."""
    two = [
        np.resize([nodes for nodes, minutes in draw(days) for _ in range(minutes)], 1440)
        for _ in range(2)
    ]
    order = draw(st.lists(st.integers(0, 1), min_size=14, max_size=14))
    return cluster(
        np.concatenate([two[index] for index in order]).tolist(),
        min_nodes=draw(st.integers(0, 3)),
        idle_minutes=draw(st.sampled_from([0, 1, 5, 10, 60, 240, 1440])),
    )


@COUNTED
@given(clusters(), st.sampled_from([0.5, 2.0, 10.0]))
def test_property_2_prices_times_c_make_savings_times_c(case: ClusterCase, factor: float) -> None:
    dearer = replace(case, rate=Rate(per_hour=3.0 * factor, basis=Basis.EFFECTIVE))
    one, other = (
        judged(case),
        judged(
            dearer,
            assumptions=Assumptions(min_saving_per_month=20.0 * factor),
        ),
    )
    assert [f.change for f in one.findings] == [f.change for f in other.findings]
    assert other.saving_per_month.p50 == pytest.approx(one.saving_per_month.p50 * factor)


@COUNTED
@given(clusters())
def test_property_12_applying_everything_leaves_nothing_to_find(case: ClusterCase) -> None:
    first = judged(case)
    after = case.settings
    for finding in first.findings:
        assert first.joint is not None
        (move,) = [m for m in first.joint.moves if m.finding_id == finding.id]  # type: ignore[attr-defined]
        after = overlaid(after, move.overlay)
    since = case.features.policies[0][0]
    applied = replace(case, features=replace(case.features, policies=((since, after),)))
    assert judged(applied).findings == ()


@COUNTED
@given(clusters())
def test_properties_1_and_15_parts_sum_to_the_whole_and_the_whole_to_less_than_the_spend(
    case: ClusterCase,
) -> None:
    analysis = judged(case)
    total = analysis.saving_per_month
    assert sum(part.p50 for part in analysis.by_detector.values()) == pytest.approx(total.p50)
    paid = case.hours(case.settings).sum() * case.rate.per_hour
    assert total.p50 <= case.window.per_month(float(paid)) + 1e-6
    assert total.p10 <= total.p50 <= total.p90


@COUNTED
@given(clusters())
def test_property_3_there_is_a_node_paid_for_whatever_works(case: ClusterCase) -> None:
    assert (case.hours(case.settings, 60) * 60 >= case.features.demand - 1e-9).all()
    assert case.hours(case.settings).min() >= 0


@COUNTED
@given(clusters(), st.sampled_from([60, 600, 3600]))
def test_property_11_minutes_hours_and_days_add_up_alike(case: ClusterCase, step: int) -> None:
    fine = case.hours(case.settings, step).reshape(round(case.window.days), -1).sum(axis=1)
    assert fine == pytest.approx(case.hours(case.settings))


@st.composite
def instances(draw: st.DrawFn) -> InstanceCase:
    """A fortnight of an instance: used, idle or off by stretches, every day one of two."""
    stretches = st.lists(
        st.tuples(st.sampled_from([1, 0, 0, -1]), st.integers(20, 600)), min_size=1, max_size=6
    )
    two = [
        np.resize([use for use, minutes in draw(stretches) for _ in range(minutes)], 1440)
        for _ in range(2)
    ]
    order = draw(st.lists(st.integers(0, 1), min_size=14, max_size=14))
    return instance(np.concatenate([two[index] for index in order]).tolist())


def named(case: ClusterCase, name: str) -> ClusterCase:
    other = replace(case.resource, resource_id=f"{case.resource.resource_id}-{name}", name=name)
    return replace(case, features=replace(case.features, resource=other))


@COUNTED
@given(clusters(), clusters(), clusters())
def test_property_7_order_does_not_matter(
    one: ClusterCase, two: ClusterCase, three: ClusterCase
) -> None:
    cases = [named(one, "a"), named(two, "b"), named(three, "c")]
    first, other = judged(*cases), judged(*reversed(cases))
    assert [f.id for f in first.findings] == [f.id for f in other.findings]
    assert first.saving_per_month.p50 == pytest.approx(other.saving_per_month.p50)


@COUNTED
@given(clusters(), st.integers(1, 5))
def test_property_8_a_shift_by_whole_weeks_changes_nothing(case: ClusterCase, weeks: int) -> None:
    by = timedelta(weeks=weeks)
    window = Window(start_utc=case.window.start_utc + by, end_utc=case.window.end_utc + by)
    policies = tuple((at + by, settings) for at, settings in case.features.policies)
    later = replace(case, features=replace(case.features, window=window, policies=policies))
    assert [(finding.change, finding.saving_per_month) for finding in judged(later).findings] == [
        (finding.change, finding.saving_per_month) for finding in judged(case).findings
    ]


@COUNTED
@given(clusters())
def test_property_9_a_busy_node_more_costs_its_hours_and_saves_nothing(case: ClusterCase) -> None:
    features = case.features
    more = replace(features, demand=features.demand + 1, on_at_start=features.on_at_start + 1)
    settings_more = replace(case.settings, min_nodes=case.settings.min_nodes + 1)
    busier = replace(case, features=more, levels=levels_of(more))
    hours = busier.hours(settings_more).sum()
    assert hours == pytest.approx(case.hours(case.settings).sum() + case.window.hours)
    busy = named(cluster([1.0] * 14 * 1440, min_nodes=1), "busy")
    assert judged(case, busy).saving_per_month.p50 == pytest.approx(
        judged(case).saving_per_month.p50
    )


@COUNTED
@given(clusters())
def test_property_10_waste_that_is_there_twice_saves_twice(case: ClusterCase) -> None:
    one, two = judged(case), judged(case, named(case, "again"))
    assert two.saving_per_month.p50 == pytest.approx(2 * one.saving_per_month.p50)


@COUNTED
@given(instances(), st.sampled_from([15, 60, 240]), st.integers(0, 14 * 24), st.integers(1, 300))
def test_property_13_what_is_not_known_never_raises_a_saving(
    case: InstanceCase, minutes: int, begin_hour: int, length: int
) -> None:
    # Minutes on of which nothing is known count as use.
    unknown = np.zeros_like(case.features.on)
    unknown[begin_hour * 60 : begin_hour * 60 + length] = True
    assert _saved(_active(case, case.features.active | (unknown & case.features.on)), minutes) <= (
        _saved(case, minutes) + 1e-9
    )


@COUNTED
@given(instances(), st.sampled_from([15, 60, 240]), st.sampled_from([5, 15, 60]))
def test_property_14_coarser_samples_never_raise_a_saving(
    case: InstanceCase, minutes: int, grain: int
) -> None:
    # A sample is busy where any minute of it was.
    coarse = case.features.active.reshape(-1, grain).any(axis=1).repeat(grain) & case.features.on
    assert _saved(_active(case, coarse), minutes) <= _saved(case, minutes) + 1e-9


def _active(case: InstanceCase, active: Bools) -> InstanceCase:
    on = case.features.on
    gaps = cut_into_gaps(on=on, active=active, kept_on=on)
    return replace(case, features=replace(case.features, active=active, gaps=gaps))


def _saved(case: InstanceCase, minutes: int) -> float:
    """Return the idle hours that a shutdown ends.

    What its restarts take is put aside: a pause that looks shorter saves less and may need none.
    """
    after = InstanceSettings(idle_shutdown_minutes=minutes)
    restarts = case.restarts(after) * RESTART_SECONDS / SECONDS_PER_HOUR
    return float(case.saving(after).daily.sum()) / case.rate.per_hour + restarts


@COUNTED
@given(st.lists(st.floats(0, 100), min_size=14, max_size=14).filter(lambda days: np.ptp(days) > 1))
def test_property_16_a_longer_history_of_the_same_pattern_narrows_the_interval(
    days: list[float],
) -> None:
    short, long = (
        next_month(np.tile(days, repeats), days_per_month=730 / 24) for repeats in (1, 6)
    )
    assert long.p50 == pytest.approx(short.p50)
    assert long.p90 - long.p10 < short.p90 - short.p10


def test_property_19_an_estate_that_nobody_uses_saves_nothing() -> None:
    off = instance([-1] * 14 * 1440)
    idle = named(cluster([0.0] * 14 * 1440), "idle")
    analysis = judged(idle, off)
    assert analysis.findings == ()
    assert analysis.saving_per_month == Estimate(p10=0.0, p50=0.0, p90=0.0)


@COUNTED
@given(
    st.lists(st.floats(-100, 100).map(lambda cost: round(cost, 4)), min_size=1, max_size=9),
    st.floats(0.1, 10),
)
def test_property_20_credits_pass_through(costs: list[float], weight: float) -> None:
    lines = [replace(unattributed(), cost=cost) for cost in costs]
    owners = {(WORKSPACE, lines[0].day): {"a": weight, "b": 1.0}}
    shared = attribute(lines, owners)
    assert sum(line.cost for line in shared) == pytest.approx(sum(costs), abs=1e-9)
    assert {line.resource_id for line in shared} == {"a", "b"}


def unattributed() -> CostLine:
    return CostLine(
        day=date(2026, 6, 1),
        workspace_id=WORKSPACE,
        resource_id=None,
        component="vm",
        cost=0.0,
        list_cost=None,
        contracted_cost=None,
        hours=None,
        vm_size=None,
        attribution=None,
        currency="USD",
        pricing_model="OnDemand",
    )
