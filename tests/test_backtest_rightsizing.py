"""The back-test of sizes: the product's rule chooses, and violations are counted by hand."""

import numpy as np
import pytest

from benchmarks.backtest_rightsizing import Row, by_the_product, summed


def test_the_product_chooses_by_active_minutes() -> None:
    # Nine minutes in ten idle; active ones take 30 % of 8 CPUs, 2.4 of 0.7 × 4.
    shares = np.tile([0.3] + [0.01] * 9, 20)
    assert by_the_product(shares, 8) == 4
    assert by_the_product(np.full(100, 0.9), 8) == 8


def test_a_machine_that_was_never_active_keeps_its_size() -> None:
    assert by_the_product(np.full(100, 0.001), 8) == 8


def test_shares_are_weighed_by_minutes_of_machines_made_smaller() -> None:
    def row(chosen: int, violated: float, minutes: int) -> Row:
        return Row(
            trace="t",
            machine="m",
            rule="r",
            cores_now=8,
            cores_chosen=chosen,
            violated=violated,
            violated_as_is=0.0,
            saturated=0.0,
            minutes=minutes,
        )

    said = summed([row(4, 0.1, 100), row(2, 0.0, 300), row(8, 0.9, 100)])
    assert said["made_smaller"] == 2
    assert said["violated"] == pytest.approx(0.025)
    assert said["machines_over_5_percent"] == 1
    assert said["cores_saved"] == pytest.approx(1 - (400 + 600 + 800) / 4000)
