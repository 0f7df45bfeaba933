import pytest

from benchmarks.closed_loop import (
    Alone,
    Interval,
    Planted,
    Row,
    compare,
    in_place,
    table,
    table_of_each,
)


def row(**what: object) -> Row:
    plain: dict[str, object] = {
        "compute": "red",
        "detectors": ("min_nodes_kept",),
        "changes": {"minNodeCount": (2, 0)},
        "spend_observed": 5000.0,
        "predicted_observed": 1020.0,
        "true_observed": 1000.0,
        "promised_per_month": Interval(low=900, mid=1100, high=1300),
        "true_per_month": 1250.0,
        "level": "Measured",
        "measured_per_month": Interval(low=1150, mid=1188, high=1190),
        "true_settled_per_month": 1200.0,
        "why": "",
    }
    return Row(**(plain | what))  # type: ignore[arg-type]


def test_errors_are_shares_of_the_truth() -> None:
    assert row().replay_error == pytest.approx(0.02)
    assert row().promise_error == pytest.approx(-0.12)
    assert row().measured_error == pytest.approx(-0.01)


def test_nothing_measured_and_no_true_saving_have_no_error() -> None:
    assert row(measured_per_month=None).measured_error is None
    assert row(true_observed=0.0).replay_error is None


def test_the_table_says_what_held() -> None:
    lines = table([row()]).splitlines()
    assert lines[2] == (
        "| red | 1,020 / 1,000 | +2.0% | 900 / 1,100 / 1,300 | 1,250 | yes "
        "| 1,150 / 1,188 / 1,190 | 1,200 | -1.0% | no | Measured |"
    )
    assert lines[-1].startswith("Of 1 computes the promise held for 1; of 1 measured")


def test_the_table_of_each_finding_says_what_it_does_alone() -> None:
    each = Alone(
        compute="red",
        detector="undersized_sku",
        said=95.0,
        true=100.0,
        true_to_come_per_month=0.0,
        restarts=(2.0, 3.0),
        stretch=(0.5, 1.0, 0.6),
    )
    assert table_of_each([each]).splitlines()[2] == (
        "| red | undersized_sku | 95 / 100 | -5.0% | 2 / 3 | – | 0.50 to 1.00 / 0.60 |"
    )


def test_findings_that_need_a_new_compute_are_not_applied() -> None:
    steps = [
        {"how": "patch", "finding_ids": ["least", "idle"]},
        {"how": "recreate", "finding_ids": ["low"]},
        {"how": "patch", "finding_ids": ["low"]},
        {"how": "patch", "finding_ids": ["idle"]},
    ]
    assert in_place(steps) == ["least", "idle"]


def test_findings_are_held_against_what_was_planted() -> None:
    def waste(compute: str, detector: str) -> dict[str, str]:
        return {"resource_id": f"/computes/{compute}", "detector": detector}

    both = "min_nodes_kept+slow_scale_down"
    planted = [waste("Red", "min_nodes_kept"), waste("ci", "no_idle_shutdown"), waste("Red", both)]
    findings = [
        waste("red", "min_nodes_kept"),
        waste("decoy", "min_nodes_kept"),
        waste("red", "not_planted"),
    ]
    assert compare(findings, {"planted": planted}) == Planted(
        found=("red min_nodes_kept",),
        missed=("ci no_idle_shutdown",),
        false=("decoy min_nodes_kept",),
    )
