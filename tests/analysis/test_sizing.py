"""Another machine for the same work: methods §3."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.analysis.sizing import hidden, memory_fits, similar, stretch
from optimizer.analysis.use import Histogram
from optimizer.catalogue import Size, snapshot
from tests.analysis.builders import use


def size(sku: str, vcpus: int = 8, memory: float = 32.0, **gpu: object) -> Size:
    values = {"gpus": 0.0, "gpu_model": None, "gpu_memory_gib": None} | gpu
    return Size(sku=sku, vcpus=vcpus, memory_gib=memory, **values)  # type: ignore[arg-type]


BIG, HALF = size("Standard_D8s_v5"), size("Standard_D4s_v5", 4, 16.0)


def test_work_that_fits_takes_no_longer() -> None:
    # 0.4 of 8 CPUs are 3.2 of 4 × 0.9 = 3.6.
    found = stretch(use(cpu=0.4), BIG, HALF)
    assert found is not None
    assert (found.likely, found.worst) == (1.0, 1.0)


def test_work_that_does_not_fit_takes_as_much_longer_as_it_lacks() -> None:
    found = stretch(use(cpu=0.54), BIG, HALF)
    assert found is not None
    assert found.worst == pytest.approx(0.54 / (0.5 * 0.9))


def test_spikes_slow_only_themselves() -> None:
    # A tenth of the minutes at all CPUs, 1/0.45 times as long; the rest as before.
    found = stretch(use(cpu=0.2, cpu_spikes=0.1), BIG, HALF)
    assert found is not None
    assert found.worst == pytest.approx(0.9 + 0.1 / 0.45)


def test_at_best_all_cpus_can_be_used_and_pegged_ones_give_way() -> None:
    # 0.54 of 8 CPUs are 4.32 of 4; CPUs in full use may be twice as fast on twice as many.
    smaller = stretch(use(cpu=0.54), BIG, HALF)
    assert smaller is not None
    assert smaller.best == pytest.approx(1.08)
    assert smaller.best < smaller.likely <= smaller.worst
    larger = stretch(use(cpu=1.0), HALF, BIG)
    assert larger is not None
    assert (larger.best, larger.worst) == (0.5, 1.0)
    # Between twice as fast and as fast as now: 0.5 / ln 24 + (1 − ln 2 / ln 24) / 2.
    assert larger.likely == pytest.approx(0.5483, abs=1e-4)


@pytest.mark.parametrize(("ratio", "most"), [(2.0, 24.0), (4.0, 12.0), (1.5, 1.5), (3.0, 2.0)])
def test_what_pegged_cpus_hide_is_the_mean_over_needs_of_every_scale(
    ratio: float, most: float
) -> None:
    # No need is beyond `most`, unless the machine that is asked for is.
    needs = np.exp(np.linspace(0, np.log(max(ratio, most)), 200_001))
    assert hidden(ratio, most=most) == pytest.approx(
        np.maximum(1 / needs, 1 / ratio).mean(), abs=1e-5
    )


def test_a_full_sample_was_full_for_what_its_average_has_beyond_the_level_between() -> None:
    # 0.8 with full bursts: (0.8 − 0.5) / 0.5 of the time; at 0.5 nothing says that it was for long.
    for mean, pegged in ((0.8, 0.6), (0.5, 0.0), (0.3, 0.0)):
        found = stretch(replace(use(cpu=1.0), cpu_mean=mean), HALF, BIG)
        assert found is not None
        assert found.likely == pytest.approx(1 - pegged * (1 - hidden(2, most=24)))
        assert (found.best, found.worst) == (0.5, 1.0)


def test_bursts_of_work_that_has_room_are_no_need_for_more() -> None:
    # Of five maxima three are 0.9 and two are full: nothing tells that those lasted.
    minutes = np.zeros(1001)
    minutes[[900, 1000]] = 120.0, 80.0
    at_work = replace(use(), cpu=Histogram(minutes=minutes), cpu_mean=0.846, busy_minutes=200)
    found = stretch(at_work, HALF, BIG)
    assert found is not None
    assert (found.likely, found.worst) == (1.0, 1.0)
    assert found.best == pytest.approx(1 - 0.4 / 2)


def test_a_few_samples_just_below_the_cap_tell_no_level_between() -> None:
    minutes = np.zeros(1001)
    minutes[[970, 1000]] = 1.0, 999.0
    at_work = replace(use(), cpu=Histogram(minutes=minutes), cpu_mean=0.98, busy_minutes=1000)
    found = stretch(at_work, HALF, BIG)
    assert found is not None
    # (0.98 − 0.5) / 0.5 of all time: 1 − 0.96 × 0.4517
    assert found.likely == pytest.approx(0.566, abs=1e-3)


def test_at_best_only_what_does_not_fit_is_made_up_for() -> None:
    # 0.2 in half of the minutes and 0.9 in the other half; half the CPUs hold 0.2 and 0.5 of them.
    minutes = np.zeros(1001)
    minutes[[200, 900]] = 100.0
    at_work = replace(use(), cpu=Histogram(minutes=minutes), cpu_mean=0.55, busy_minutes=200)
    found = stretch(at_work, BIG, HALF)
    assert found is not None
    assert found.best == pytest.approx(1 + (0.55 - 0.35) / 0.5)
    # Averages below their maxima leave room: 0.45 are 0.10 more than what fits for sure.
    lower = stretch(replace(at_work, cpu_mean=0.45), BIG, HALF)
    assert lower is not None
    assert lower.best == pytest.approx(1 + (0.45 - 0.35) / 0.5)


def test_likely_work_uses_between_nine_tenths_and_all_of_a_machine() -> None:
    # 0.54 of 8 CPUs are 1.08 of 4; the mean of 1/θ from 0.9 to 1 is ln(1/0.9) / 0.1 = 1.0536.
    found = stretch(use(cpu=0.54), BIG, HALF)
    assert found is not None
    assert found.likely == pytest.approx(1.08 * 1.0536, abs=1e-4)


@given(st.floats(0, 1000), st.floats(0, 1))
def test_idle_hours_hide_nothing_of_how_long_work_takes(idle_hours: float, cpu: float) -> None:
    alone = stretch(use(cpu=cpu), BIG, HALF)
    found = stretch(use(cpu=cpu, idle_hours=idle_hours), BIG, HALF)
    assert alone is not None
    assert found is not None
    assert found.worst == pytest.approx(alone.worst)
    assert found.likely == pytest.approx(alone.likely, abs=2e-3)  # bins of a per mille


@given(st.lists(st.integers(0, 1000), min_size=5, max_size=60).filter(lambda x: not len(x) % 5))
def test_coarser_sampling_never_makes_a_smaller_machine_look_better(maxima: list[int]) -> None:
    fine = np.array(maxima)
    coarse = fine.reshape(-1, 5).max(axis=1).repeat(5)
    found = [
        stretch(
            replace(use(), cpu=Histogram(minutes=np.bincount(seen, minlength=1001).astype(float))),
            BIG,
            HALF,
        )
        for seen in (fine, coarse)
    ]
    assert found[0] is not None
    assert found[1] is not None
    assert found[1].worst >= found[0].worst


def test_where_nothing_tells_when_it_worked_all_minutes_count() -> None:
    # 70 % of half the minutes, nothing in the other half: (1 + 0.7 / 0.45) / 2.
    untold = replace(use(cpu=0.7, idle_hours=280), busy_minutes=0)
    found = stretch(untold, BIG, HALF)
    assert found is not None
    assert found.worst == pytest.approx((1 + 0.7 / 0.45) / 2)


def test_what_was_not_observed_is_no_reason() -> None:
    assert stretch(use(cpu=None), BIG, HALF) is None
    assert not memory_fits(use(memory=None), BIG, HALF)
    assert memory_fits(use(memory=None), HALF, BIG)


def test_another_gpu_is_another_question() -> None:
    v100 = size("Standard_NC6s_v3", 6, 112.0, gpus=1.0, gpu_model="V100", gpu_memory_gib=16.0)
    t4 = size("Standard_NC8as_T4_v3", 8, 56.0, gpus=1.0, gpu_model="T4", gpu_memory_gib=16.0)
    assert stretch(use(gpu=0.4), v100, t4) is None


@given(st.floats(0, 1), st.floats(1, 2000), st.floats(1, 2000))
def test_memory_is_never_violated(peak: float, now_gib: float, then_gib: float) -> None:
    now, then = size("Standard_D8s_v5", 8, now_gib), size("Standard_D4s_v5", 4, then_gib)
    if memory_fits(use(memory=peak), now, then):
        assert round(peak, 3) * now_gib <= max(then_gib, now_gib if then_gib >= now_gib else 0)


@given(st.integers(1, 128), st.integers(1, 128), st.floats(0, 1))
def test_more_cpus_never_take_longer(few: int, more: int, cpu: float) -> None:
    few, more = sorted((few, more))
    found = [stretch(use(cpu=cpu), size("Standard_D64s_v5", 64), size("x", n)) for n in (few, more)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].worst >= found[1].worst
    assert all(each is not None and each.likely <= each.worst for each in found)


@pytest.mark.parametrize(
    ("now", "then", "stands_in"),
    [
        ("Standard_D8s_v5", "Standard_D4s_v5", True),
        ("Standard_DS3_v2", "Standard_D4_v3", False),  # no premium storage
        ("Standard_D4_v3", "Standard_D4s_v5", True),
        ("Standard_NC24rs_v3", "Standard_NC12s_v3", False),  # no InfiniBand
        ("Standard_NC24s_v3", "Standard_NC12s_v3", True),
        ("Standard_D4s_v5", "Standard_B4ms", False),  # burstable
    ],
)
def test_nothing_is_lost_but_capacity(now: str, then: str, *, stands_in: bool) -> None:
    assert similar(size(now), size(then)) is stands_in


def test_quantiles_are_those_of_the_minutes() -> None:
    minutes = np.zeros(1001)
    minutes[[100, 500, 900]] = [90, 9, 1]
    histogram = Histogram(minutes=minutes)
    assert [histogram.quantile(q) for q in (0.5, 0.9, 0.95, 0.99, 1.0)] == [0.1, 0.1, 0.5, 0.5, 0.9]
    assert histogram.peak == 0.9
    assert histogram.mean == pytest.approx((90 * 0.1 + 9 * 0.5 + 0.9) / 100)
    assert histogram.busiest(5).minutes[[100, 500, 900]].tolist() == [0, 4, 1]
    assert histogram.scaled_mean(histogram.mean / 2).mean == pytest.approx(histogram.mean / 2)


def test_every_size_that_comes_with_the_product_has_a_family() -> None:
    assert all(each.family for each in snapshot().sizes.values())
