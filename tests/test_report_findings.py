from dataclasses import replace

from optimizer.model import Basis, Change, Effects, Estimate, Finding, How
from optimizer.report.findings import (
    change_words,
    effect_lines,
    explain_text,
    finding_rows,
    not_assessed_text,
    totals_text,
)
from optimizer.report.words import saves_nothing
from tests.changes import THREE
from tests.reports import analysis_of


def test_a_row_holds_numbers_for_sorting_and_words_for_reading() -> None:
    row = finding_rows([THREE[1]])[0]
    assert (row["saving_p10"], row["saving_p50"], row["saving_p90"]) == (90, 100, 110)
    assert row["resource"] == "cpu-slow"
    assert row["owner"] == "unowned"
    assert row["effort"] == "one click"


def test_a_row_without_a_price_has_no_number() -> None:
    row = finding_rows([replace(THREE[0], saving_per_month=None)])[0]
    assert row["saving_p50"] is None


def test_foreign_text_cannot_steer_the_terminal() -> None:
    hostile = replace(THREE[0], title="\x1b[2J[bold]x\n", owner="\u202eevil")
    row = finding_rows([hostile])[0]
    assert row["title"] == "\ufffd[2J[bold]x "
    assert row["owner"] == "\ufffdevil"


def test_a_duration_is_said_in_words_beside_azures_spelling() -> None:
    change = Change(resource_id="/c", setting="a.idle", before=None, after="PT90M", how=How.ACTION)
    assert change_words(change) == "idle: not set → PT90M (1 h 30 min)"


def test_totals_say_currency_month_share_and_interval() -> None:
    text = totals_text(analysis_of())
    assert "Spend   1,000 USD a month of 730 h" in text
    assert "Saving  250 USD (200 to 301) a month, 25.0 % of spend, all changes" in text
    assert "  min_nodes_kept    150 USD" in text
    assert "2026-01-05 to 2026-01-26" in text


def test_totals_of_nothing_spent_divide_by_nothing() -> None:
    assert "unknown of spend" in totals_text(analysis_of([], spend_per_month=0.0, by_detector={}))


def test_silence_is_explained_once_for_each_reason() -> None:
    text = not_assessed_text(analysis_of().not_assessed)
    assert text.splitlines()[1:] == ["  slow_scale_down, a, b: no metrics"]
    assert not_assessed_text(()) == ""


def explained(finding: Finding = THREE[0]) -> list[str]:
    return explain_text(analysis_of(), finding).splitlines()


def test_an_explanation_shows_the_sum_and_what_would_change_it() -> None:
    lines = explained()
    assert lines[0] == "Change gpu-kept  [gpu-kept-minNodeCount]"
    assert "  minNodeCount: not set → 0" in lines
    assert "  100 USD a month of 500 USD spent, at your own effective rates." in lines
    assert "  80 % interval 90.00 to 110 USD (P10 to P90)." in lines
    assert "  1.02 × (500 − 400) = 102" in lines
    assert "  Below 20 a month nothing is said." in lines
    assert "  https://learn.microsoft.com/azure" in lines


def test_an_explanation_shows_how_well_the_replay_meets_the_bill() -> None:
    line = next(line for line in explained() if "NMBE" in line)
    assert "26 billed days: NMBE +2.0 %, CV(RMSE) 5.0 %; savings are scaled by k = 1.020" in line
    assert not any("NMBE" in line for line in explained(THREE[1]))


def test_evidence_is_aligned_and_not_observed_is_said() -> None:
    seen = {"idle_node_hours": 1234.5, "nodes": 3, "gpu": None, "share": 0.0341, "sku": "NC6"}
    lines = explained(replace(THREE[0], evidence=seen))
    assert "  idle node hours  1,234.5" in lines
    assert "  nodes            3" in lines
    assert "  gpu              not observed" in lines
    assert "  share            0.0341" in lines
    assert "  sku              NC6" in lines


def test_an_unknown_price_is_said_and_its_basis_is_not() -> None:
    lines = explained(replace(THREE[0], saving_per_month=None, basis=Basis.LIST))
    assert "  Unknown: no price is known for this resource." in lines


def test_empty_sections_are_left_out() -> None:
    assert "Mind" not in explained()
    assert "Mind" in explained(replace(THREE[0], pillar_notes=("Fewer warm nodes.",)))


def test_effects_tell_not_known_from_none() -> None:
    unknown = Effects(
        extra_waiting_minutes_per_month=None, extra_restarts_per_month=0, runtime_stretch=1.5
    )
    assert list(effect_lines(unknown)) == [
        "Extra waiting: not known",
        "Extra restarts: 0 a month",
        "Running time: 1.50 times today's",
    ]
    some = replace(unknown, extra_waiting_minutes_per_month=90.0, runtime_stretch=None)
    assert next(effect_lines(some)) == "Extra waiting: 1 h 30 min a month"


def test_exposure_claims_no_saving() -> None:
    assert saves_nothing(Estimate(p10=0.0, p50=0.0, p90=0.0))
    assert not saves_nothing(Estimate(p10=-1.0, p50=0.0, p90=1.0))
