"""What the benchmark of `verify` counts, on rows made by hand."""

import pytest

from benchmarks.verify_coverage import Row, drawn, scored, table


def row(**known: object) -> Row:
    plain: dict[str, object] = {
        "seed": 1,
        "resource": "it",
        "trial": "saves",
        "shape": "office",
        "level": "Verified",
        "low": 90.0,
        "mid": 100.0,
        "high": 110.0,
        "true": 105.0,
        "old": 200.0,
        "volume": 10.0,
        "policy": -100.0,
        "price": 0.0,
    }
    return Row(**plain | known)  # type: ignore[arg-type]


def test_coverage_is_the_share_of_intervals_that_hold_the_truth() -> None:
    rows = [row(), row(true=120.0), row(trial="changes nothing", low=-5.0, mid=1.0, true=0.0)]
    scores = scored(rows, [row(price=-30.0)])
    assert scores["all"]["coverage"] == pytest.approx(0.667)
    assert scores["saves"]["coverage"] == 0.5
    assert scores["saves"]["claims nothing"] == 0.0
    assert scores["changes nothing"]["claims nothing"] == 1.0
    assert scores["saves"]["bias of old cost"] == pytest.approx(-0.0625)
    assert scores["after a price cut: saves"]["price part / change"] == 0.25
    assert table(scores).splitlines()[0].startswith("| | claims | measured | verified")


def test_the_same_seed_draws_the_same_estate() -> None:
    one, asked = drawn(3)
    other, again = drawn(3)
    assert (one.jobs, one.sessions, asked) == (other.jobs, other.sessions, again)
    assert drawn(4)[0].jobs != one.jobs
    assert [each.trial for each in asked].count("changes nothing") == 2
