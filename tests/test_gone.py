"""What was found before and is not there now: remembered, and explained."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from optimizer import pipeline
from optimizer.analysis.assemble import Estate
from optimizer.config import AnalysisSettings, AzureSettings, Settings
from optimizer.errors import LakeError
from optimizer.model import Claim, NotAssessed
from optimizer.remediation.gone import gone
from optimizer.store.memory import Memory, Remembered, recall, remember
from tests.analysis.builders import cluster
from tests.changes import NOW_UTC, THREE
from tests.conftest import Emulator
from tests.estates import (
    START_UTC,
    diagnostics,
    job,
    workspace,
    write_estate,
)
from tests.estates import (
    cluster as cluster_document,
)
from tests.reports import analysis_of
from tests.test_verify import MIN_NODES, SHIFT, change, estate, with_document

LATER_UTC = NOW_UTC + timedelta(days=7)
DAYS = 16


# Memory


def test_two_collections_and_the_last_mail_are_remembered(tmp_path: Path) -> None:
    file = tmp_path / "memory.json"
    assert recall(file) == Memory()
    first = Memory().found(THREE[:2], NOW_UTC).sent(THREE[:1])
    second = first.found(THREE[1:], LATER_UTC)
    remember(file, second)
    assert recall(file) == second
    assert list(second.before) == [finding.id for finding in THREE[:2]]
    assert set(second.last) == {finding.id for finding in THREE[1:]}
    assert second.mailed is not None
    assert list(second.mailed) == [THREE[0].id]
    assert [each.name for each in tmp_path.iterdir()] == ["memory.json"]


def test_the_same_collection_analysed_again_forgets_nothing() -> None:
    memory = Memory().found(THREE, NOW_UTC)
    again = memory.found(THREE[:1], NOW_UTC)
    assert set(again.known()) == {finding.id for finding in THREE}
    assert again.before == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"last": 1}', '{"as_of_utc": 3}'])
def test_a_damaged_memory_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "memory.json"
    file.write_text(text)
    with pytest.raises(LakeError, match="delete it"):
        recall(file)


def test_a_memory_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "memory.json"
    file.mkdir()
    with pytest.raises(LakeError, match="cannot be written"):
        remember(file, Memory())


# Why

IT = cluster(SHIFT * 28, min_nodes=2)
KNOWN = Remembered(
    finding_id="f1",
    detector="min_nodes_kept",
    resource_id=IT.resource.resource_id,
    title="it keeps 2 nodes",
    setting=MIN_NODES,
    before=2,
    after=0,
    saving_per_month=5000.0,
    spend_per_month=None,
)


def why(known: Remembered = KNOWN, *, on: Any = None, **fields: Any) -> str:
    case = with_document(IT if on is None else on, MIN_NODES, 2)
    applied = fields.pop("applied", ())
    there: Estate = fields.pop("there", estate([case], [], days=28))
    (said,) = gone(
        {"f1": known},
        analysis_of([], not_assessed=fields.pop("silent", ())),
        there,
        applied,
    )
    assert (said.finding_id, said.title) == ("f1", known.title)
    return said.why


def silent(reason: str) -> tuple[NotAssessed, ...]:
    return (NotAssessed(resource_id=KNOWN.resource_id, detector="min_nodes_kept", reason=reason),)


def test_what_is_still_found_has_not_gone() -> None:
    found = replace(THREE[0], id="f1")
    assert gone({"f1": KNOWN}, analysis_of([found]), estate([IT], [], days=28), ()) == ()


def test_it_was_applied() -> None:
    made = change(MIN_NODES, 2, 0)
    assert why(applied=[made]) == "Applied on 2026-06-29 by apply-1."
    back = replace(made, ended_utc=datetime(2026, 6, 30, tzinfo=UTC))
    assert not why(applied=[back]).startswith("Applied")


def test_the_resource_has_gone() -> None:
    assert why(there=estate([], [], days=28)) == "The resource is no longer there."


@pytest.mark.parametrize(
    "reason",
    [
        "Excluded by its tag optimizer:ignore.",
        "Excluded by the setting analysis.ignore.",
        "Snoozed until 2026-12-31 by ana: launch",
    ],
)
def test_it_was_excluded(reason: str) -> None:
    assert why(silent=silent(reason)) == reason


def test_the_setting_was_changed_by_somebody_else() -> None:
    case = with_document(IT, MIN_NODES, 1)
    assert why(there=estate([case], [], days=28)) == (
        "minNodeCount was changed outside of this program, from 2 to 1."
    )


def test_it_is_not_assessed_any_more() -> None:
    reason = "Only 3 days were observed; 7 are needed."
    assert why(silent=silent(reason)) == f"Not assessed any more: {reason}"


def test_it_is_no_longer_true_and_the_number_that_moved_is_named() -> None:
    busy = cluster([2.0] * 1440 * 28, min_nodes=2)
    assert why(on=busy) == (
        "No longer true: the same change saved 5,000 USD a month then and is 0 now."
    )
    unknown = replace(KNOWN, setting="jobs", before=None, after=None)
    assert why(unknown) == "No longer true: what its detector asks for is no longer seen."


# End to end: every way to exclude, on an emulated estate


def kept_estate(folder: Path, **tags: str) -> Path:
    ws = workspace("ws")
    kept = cluster_document(ws, "kept", minimum=2, tags=tags)
    other = cluster_document(ws, "other", minimum=1)
    jobs = [
        job(of, START_UTC + timedelta(days=day, hours=9))
        for of in (kept, other)
        for day in range(DAYS)
    ]
    return write_estate(folder, resources=[ws, diagnostics(ws), kept, other], jobs=jobs, days=DAYS)


def settings_of(azure: Emulator, home: Path, *ignore: str) -> Settings:
    return Settings(
        home=home,
        azure=AzureSettings(endpoint=azure.url, ca_file=azure.ca_file, credential="emulator"),
        analysis=AnalysisSettings(lookback_days=14, billing_lag_hours=0, ignore=ignore),
    )


def test_config_snooze_and_apply_each_take_a_finding_away_and_say_so(
    emulator: Callable[[Path], Emulator], tmp_path: Path
) -> None:
    azure = emulator(kept_estate(tmp_path / "estate"))
    home = tmp_path / "home"
    settings = settings_of(azure, home)
    pipeline.collect(settings, progress=lambda *_: None)
    found = pipeline.analyse(settings)
    ids = {f.resource_id.rpartition("/")[2]: f.id for f in found.findings}
    assert set(ids) == {"kept", "other"}
    assert found.gone == ()

    def reasons(at: Settings) -> dict[str, str]:
        return {item.finding_id: item.why for item in pipeline.analyse(at).gone}

    for ignored in ("kept", "min_nodes_kept:kept"):
        said = reasons(settings_of(azure, home, ignored))
        assert said == {ids["kept"]: "Excluded by the setting analysis.ignore."}
    assert reasons(settings) == {}

    until = datetime(2026, 12, 31, tzinfo=UTC)
    pipeline.snooze(settings, ids["other"], until=until, reason="launch", author="ana")
    assert reasons(settings) == {ids["other"]: "Snoozed until 2026-12-31 by ana: launch"}

    plan = pipeline.make_plan(settings, finding_ids=[ids["kept"]])
    run = pipeline.apply(settings, plan, who="ana", on_outcome=lambda _: None)
    assert reasons(settings)[ids["kept"]] == f"Applied on 2026-01-21 by {run.id}."
    assert {claim.level for claim in pipeline.verify(settings).claims} == {Claim.APPLIED}

    # Somebody else sets the other one, and it is looked at again.
    (resource,) = [r for r in found.resources if r.endswith("/other")]
    scale = {"minNodeCount": 0, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT120S"}
    azure.call(
        "PATCH",
        f"{resource}?api-version=2025-12-01",
        {"properties": {"properties": {"scaleSettings": scale}}},
    )
    azure.advance(24)
    pipeline.collect(settings, progress=lambda *_: None)
    said = reasons(settings)
    assert said[ids["other"]] == "minNodeCount was changed outside of this program, from 1 to 0."


def test_a_tag_takes_a_finding_away_and_says_so(
    emulator: Callable[[Path], Emulator], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    plain = settings_of(emulator(kept_estate(tmp_path / "plain")), home)
    pipeline.collect(plain, progress=lambda *_: None)
    ids = {f.resource_id.rpartition("/")[2]: f.id for f in pipeline.analyse(plain).findings}
    tag = {"optimizer:ignore": "min_nodes_kept"}
    tagged = emulator(kept_estate(tmp_path / "tagged", **tag))
    tagged.advance(24)
    settings = settings_of(tagged, home)
    pipeline.collect(settings, progress=lambda *_: None)
    said = {item.finding_id: item.why for item in pipeline.analyse(settings).gone}
    assert said[ids["kept"]] == "Excluded by its tag optimizer:ignore."
    assert json.loads((home / "memory.json").read_text())["before"]
