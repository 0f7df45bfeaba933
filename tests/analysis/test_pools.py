"""Pools: what their members use of them once changed, and what commitments cover already."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from optimizer.analysis.features import CostLine
from optimizer.analysis.pools import PoolCase, pools_of
from optimizer.model import Attribution
from tests.analysis.builders import WORKSPACE, cluster, judged, rates, window

STEADY, BY_DAY = [2.0] * 1440, [0.0] * 720 + [4.0] * 720


def pool_of(*cases: Any, chosen: Any = None, lines: Any = ()) -> PoolCase:
    every = pools_of(cases, chosen or {}, lines, rates(), window(60))
    (pool,) = every.cases.values()
    return pool


def test_sizes_of_a_family_count_by_their_cores() -> None:
    pool = pool_of(
        cluster(STEADY * 60, name="a", sku="Standard_D4s_v5", start_minutes=0, idle_minutes=0),
        cluster(STEADY * 60, name="b", sku="Standard_D16s_v5", start_minutes=0, idle_minutes=0),
    )
    assert pool.unit.sku == "Standard_D4s_v5"
    assert pool.demand[1:] == pytest.approx(2 + 2 * 4)


def test_members_are_counted_as_their_changes_leave_them() -> None:
    kept = cluster(BY_DAY * 60, name="kept", min_nodes=4, start_minutes=0, idle_minutes=0)
    pool = pool_of(kept)
    assert pool.demand.sum() == pytest.approx(4 * 24 * 60)
    scaled = {kept.resource.resource_id: replace(kept.settings, min_nodes=0)}
    assert pool.under(scaled).demand.sum() == pytest.approx(4 * 12 * 60, rel=0.01)
    cheaper = {kept.resource.resource_id: replace(kept.settings, vm_priority="low_priority")}
    assert pool.under(cheaper).demand.sum() == 0
    resized = {kept.resource.resource_id: replace(kept.settings, sku="Standard_D8s_v5")}
    assert pool.under(resized).about_to_change_size == ("kept",)
    assert pool.under(resized).demand.sum() == 0


def line(it: Any, day: int, model: str, hours: float, cost: float) -> CostLine:
    return CostLine(
        day=window(60).start_utc.date() + timedelta(days=day),
        workspace_id=WORKSPACE,
        resource_id=it.resource.resource_id,
        component="vm",
        cost=cost,
        list_cost=None,
        contracted_cost=None,
        hours=hours,
        vm_size=it.resource.sku,
        attribution=Attribution.EXACT,
        currency="USD",
        pricing_model=model,
    )


def test_what_a_reservation_covers_already_is_no_ground_to_buy() -> None:
    it = cluster(STEADY * 60, start_minutes=0, idle_minutes=0)
    lines = [
        line(it, day, model, hours, cost)
        for day in range(30)
        for model, hours, cost in (("Reservation", 24.0, 1.44), ("OnDemand", 24.0, 2.64))
    ]
    every = pools_of([it], {}, lines, rates(), replace(window(60), end_utc=window(30).end_utc))
    (pool,) = every.cases.values()
    assert pool.held == pytest.approx(1.0)
    assert pool.uncovered[1:] == pytest.approx(1.0)
    # By the hour 2.64 / 24; what the reserved hours cost says nothing of it.
    assert pool.rate.per_hour == pytest.approx(0.11)


def test_what_was_reserved_lately_is_held_in_full() -> None:
    it = cluster(STEADY * 60, start_minutes=0, idle_minutes=0)
    # Both machines have been reserved for a week of the sixty days.
    lines = [line(it, day, "OnDemand", 48.0, 5.28) for day in range(53)]
    lines += [line(it, day, "Reservation", 48.0, 2.88) for day in range(53, 60)]
    assert pool_of(it, lines=lines).uncovered.max() == pytest.approx(0.0)
    # What covered it until a week ago counts by what it covered, spread over all days.
    turned = [
        replace(each, day=window(60).start_utc.date() + timedelta(days=59 - day))
        for day, each in enumerate(lines)
    ]
    assert pool_of(it, lines=turned).held == pytest.approx(2 * 7 / 60, rel=0.01)


def test_a_purchase_counts_only_what_the_other_changes_leave() -> None:
    kept = cluster(
        [0.0] * 1440 * 3 + ([0.0] * 700 + [4.0] * 740) * 57, name="kept", min_nodes=4, rate=0.10
    )
    steady = cluster(STEADY * 60, name="steady", rate=0.10)
    analysis = judged(kept, steady, paying=rates())
    found = {finding.detector: finding for finding in analysis.findings}
    bought, usage = found["uncovered_steady_use"], found["min_nodes_kept"]
    assert bought.change.resource_id.startswith("/subscriptions/s/providers/")
    assert analysis.joint is not None
    both = analysis.joint.together([bought.id, usage.id])
    alone = analysis.joint.together([usage.id])
    assert both.marginal[usage.id].p50 == pytest.approx(alone.total.p50)
    assert both.total.p50 == pytest.approx(alone.total.p50 + both.marginal[bought.id].p50)
    # What is bought is no more than steady use after the change: the nodes kept are no demand.
    assert bought.evidence["machines_best_in_hindsight"] == 2
    assert np.isfinite(both.total.p10)
