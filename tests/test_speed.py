"""The benchmark of speed compares things that are equal."""

from pathlib import Path

from benchmarks.speed import feature_build, many_days, row, simulated


def test_a_simulation_by_hand() -> None:
    # Level 1: busy, 2 idle, busy; then idle for 1 minute and gone. Level 2: once, then 1 minute.
    assert simulated([2, 0, 0, 1, 0, 0], least=0, idle_minutes=2) == ((2 + 2 + 2) * 60, 2)
    assert simulated([2, 0, 0, 1, 0, 0], least=0, idle_minutes=1) == ((1 + 1 + 1) * 60, 3)
    assert simulated([0, 0, 1, 0], least=1, idle_minutes=0) == (3 * 60, 0)


def test_quantiles_of_histograms_are_those_of_the_values(tmp_path: Path) -> None:
    assert len(feature_build(tmp_path, nodes=40)) == 4


def test_ten_times_the_days_need_little_more_memory(tmp_path: Path) -> None:
    memory, *_ = many_days(tmp_path, nodes=30, days=10)
    assert 0 < memory["ratio"] < 1.35


def test_a_ratio_is_the_median_of_rounds() -> None:
    assert row("a ÷ b", "≤ 2", [1.0, 9.0, 4.0], [1.0, 3.0, 2.0], 7)["ratio"] == 2.0
