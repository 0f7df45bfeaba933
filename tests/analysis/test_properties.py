"""The core properties of methods §10: 2, 12 here; 4, 5 and 6 stand beside the replay."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizer.analysis.case import Assumptions
from optimizer.analysis.clusters import ClusterCase
from optimizer.analysis.joint import overlaid
from optimizer.analysis.rates import Rate
from optimizer.model import Basis
from tests.analysis.builders import cluster, judged

COUNTED = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

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
def test_parts_sum_to_the_whole_and_the_whole_to_less_than_the_spend(case: ClusterCase) -> None:
    analysis = judged(case)
    total = analysis.saving_per_month
    assert sum(part.p50 for part in analysis.by_detector.values()) == pytest.approx(total.p50)
    paid = case.hours(case.settings).sum() * case.rate.per_hour
    assert total.p50 <= case.window.per_month(float(paid)) + 1e-6
    assert total.p10 <= total.p50 <= total.p90
