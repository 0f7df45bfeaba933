"""The app without a browser: how it is started, what it caches, what it says of errors."""

import tomllib
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest
from streamlit.testing.v1 import AppTest

from optimizer.app import data, launch
from optimizer.app.data import changed_ns, followed
from optimizer.app.words import dateline, diff_text, literal
from optimizer.config import Settings
from optimizer.errors import LedgerError
from optimizer.model import Effects, Estimate, How
from optimizer.remediation.outcomes import Outcome, Run, Status
from optimizer.remediation.plan import Step
from optimizer.store.ledger import Ledger
from tests.browser.example_analysis import CLUSTER_ID, example_analysis
from tests.ledgers import RUN

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def outcome(step_id: str) -> Outcome:
    return Outcome(
        step_id=step_id,
        resource_id=CLUSTER_ID,
        setting="a.b",
        before=2,
        after=0,
        status=Status.DONE,
        detail="",
        at_utc=NOON,
    )


def run_of(*outcomes: Outcome) -> Run:
    return Run(
        id="run-1",
        kind="apply",
        plan_id="plan-1",
        scenario="balanced",
        who="ann",
        started_utc=NOON,
        ended_utc=NOON,
        outcomes=outcomes,
    )


def test_outcomes_come_as_they_are_told_and_the_run_last() -> None:
    def work(tell: Callable[[Outcome], None]) -> Run:
        tell(outcome("a"))
        tell(outcome("b"))
        return run_of(outcome("a"), outcome("b"))

    assert [type(news) for news in followed(work)] == [Outcome, Outcome, Run]


def test_a_run_ends_its_steps_though_the_page_is_left() -> None:
    finished = Event()

    def work(tell: Callable[[Outcome], None]) -> Run:
        tell(outcome("a"))
        tell(outcome("b"))
        finished.set()
        return run_of()

    with closing(followed(work)) as told:
        assert next(told) == outcome("a")
    assert finished.is_set()


def test_what_stops_a_run_reaches_the_page() -> None:
    def work(tell: Callable[[Outcome], None]) -> Run:
        tell(outcome("a"))
        raise LedgerError("The ledger is locked.")

    told = followed(work)
    assert next(told) == outcome("a")
    with pytest.raises(LedgerError, match="locked"):
        next(told)


def test_an_empty_home_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIMIZER_HOME", str(tmp_path))
    shown = AppTest.from_file(str(launch.SCRIPT), default_timeout=60).run()
    assert not shown.exception
    (error,) = shown.error
    assert error.value.replace("\\", "") == (
        f"Nothing was collected into {tmp_path} yet; run `optimizer collect` first."
    )


def test_a_file_that_goes_while_it_is_looked_at_is_no_error(tmp_path: Path) -> None:
    gone, there = tmp_path / "ledger.sqlite-wal", tmp_path / "ledger.sqlite"
    gone.symlink_to(tmp_path / "nowhere")  # listed in its folder, and not to be found
    there.touch()
    assert gone in set(tmp_path.glob("ledger.sqlite*"))
    assert changed_ns(gone) == 0
    assert changed_ns(there) == there.stat().st_mtime_ns


def test_what_is_kept_for_pages_is_kept_until_an_entry_or_a_file_comes(tmp_path: Path) -> None:
    used = Settings(home=tmp_path)
    before = data._version(used)
    assert data._version(used) == before
    ledger = Ledger(used.ledger_url)
    ledger.start_run(RUN, plan={}, baseline=None)
    after = data._version(used)
    assert after != before
    used.lake.mkdir()
    (used.lake / "day.parquet").touch()
    assert data._version(used) not in {before, after}


def test_looks_are_for_light_and_dark_and_nothing_is_reported_home() -> None:
    config = tomllib.loads((launch.SCRIPT.parent / ".streamlit" / "config.toml").read_text())
    assert config["browser"]["gatherUsageStats"] is False
    assert config["server"]["address"] == "127.0.0.1"
    assert config["theme"]["light"].keys() == config["theme"]["dark"].keys()


def test_the_app_is_told_where_the_home_is_wherever_it_runs(tmp_path: Path) -> None:
    assert launch.streamlit_environment(tmp_path / "a" / "..") == {"OPTIMIZER_HOME": str(tmp_path)}
    assert launch.streamlit_arguments(8600)[1:] == [
        "-m",
        "streamlit",
        "run",
        str(launch.SCRIPT),
        "--server.port=8600",
    ]


def test_every_amount_says_its_window_currency_and_month() -> None:
    assert dateline(example_analysis()) == (
        "Collected 2026-11-23 00:00 UTC · seen from 2026-10-26 to 2026-11-23 (28 days) · "
        "amounts in EUR · a month is 730 h"
    )


def test_a_diff_names_the_whole_setting_and_both_values() -> None:
    step = Step(
        id="step-1",
        finding_ids=("f-1",),
        detector="slow_scale_down",
        title="",
        resource_id=CLUSTER_ID,
        setting="properties.scaleSettings.idle",
        before="PT2H",
        after="PT10M",
        how=How.PATCH,
        requires=(),
        reversible=True,
        note="",
        effects=Effects(
            extra_waiting_minutes_per_month=None,
            extra_restarts_per_month=None,
            runtime_stretch=None,
        ),
        pillar_notes=(),
        saving_per_month=Estimate(p10=1.0, p50=2.0, p90=3.0),
        az_cli="",
    )
    assert diff_text([step]) == (
        "train-gpu\n"
        "- properties.scaleSettings.idle: PT2H (2 h)\n"
        "+ properties.scaleSettings.idle: PT10M (10 min)"
    )


def test_what_has_gone_is_told_with_its_reason_as_it_was_written() -> None:
    def page() -> None:  # runs by itself, as a script
        from optimizer.app.app_pages.overview import gone  # noqa: PLC0415
        from optimizer.model import Gone  # noqa: PLC0415

        one = Gone(
            finding_id="f-1",
            detector="min_nodes_kept",
            resource_id="/computes/it",
            title="<b>it</b> keeps [2](x) nodes",
            why="Applied on 2026-11-20.",
        )
        gone((one,))

    shown = AppTest.from_function(page, default_timeout=60).run()
    assert not shown.exception
    assert [each.label for each in shown.expander] == ["1 finding no longer there, and why"]
    assert [each.value for each in shown.text] == [
        "<b>it</b> keeps [2](x) nodes (f-1): Applied on 2026-11-20."
    ]


def test_markdown_is_shown_not_followed() -> None:
    assert literal("[a](b) $x$ :red[y] <b>") == (r"\[a\]\(b\) \$x\$ \:red\[y\] \<b\>")
