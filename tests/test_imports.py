"""Exported costs in the lake: the same as collected ones, each dollar once."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from optimizer import cli
from optimizer.azure.connect import connect
from optimizer.collectors.collect import collect
from optimizer.collectors.exports import Metric
from optimizer.collectors.imports import ImportReport, import_costs
from optimizer.collectors.inventory import compute_resource, workspace_resource
from optimizer.config import AnalysisSettings, AzureSettings
from optimizer.errors import ImportRefusedError
from optimizer.model import Resource
from optimizer.store.lake import Lake
from optimizer.store.tables import COSTS
from tests.conftest import Emulator
from tests.estates import SUBSCRIPTION, instance, workspace
from tests.test_exports import ELSEWHERE, focus, line, written

HOME = workspace()
SCOPE = HOME["id"].lower()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def put(
    lake: Lake,
    *paths: Path,
    metric: Metric | None = None,
    currency: str | None = None,
    computes: Sequence[Resource] = (),
) -> ImportReport:
    return import_costs(
        paths,
        lake,
        metric=metric,
        currency=currency,
        computes=computes,
        progress=lambda *_: None,
    )


def manifest(
    folder: Path, *names: str, kind: str = "AmortizedCost", submitted: str = "2026-02-01"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "manifest.json"
    file.write_text(
        json.dumps(
            {
                "manifestVersion": "2024-04-01",
                "exportConfig": {"exportName": "daily", "type": kind, "dataVersion": "2021-10-01"},
                "runInfo": {
                    "submittedTime": f"{submitted}T03:00:00Z",
                    "runId": submitted,
                    "startDate": "2026-01-01T00:00:00",
                    "endDate": "2026-01-31T00:00:00",
                },
                "blobs": [{"blobName": f"exports/daily/x/{n}", "byteCount": 1} for n in names],
            }
        ),
        encoding="utf-8",
    )
    return file


def test_imported_reports_give_the_rows_that_a_collection_gives(
    small: Emulator, tmp_path: Path
) -> None:
    connection = connect(
        AzureSettings(endpoint=small.url, ca_file=small.ca_file, credential="emulator")
    )
    collected, imported = Lake(tmp_path / "collected"), Lake(tmp_path / "imported")
    report = collect(
        connection,
        collected,
        lookback_days=21,
        subscriptions=(),
        analysis=AnalysisSettings(),
        progress=lambda *_: None,
    )
    first, last = report.window.start_utc.date(), report.window.end_utc.date()
    files = []
    for metric in ("ActualCost", "AmortizedCost"):
        for subscription in report.subscriptions:
            folder = tmp_path / metric / subscription
            manifest(folder, "part.csv", kind=metric)
            links = connection.costs.report(
                f"/subscriptions/{subscription}", first, last, metric=metric
            )
            with (folder / "part.csv").open("wb") as file:
                connection.costs.download(links[0], file)
            files.append(folder)
    put(imported, *files)
    want, got = collected.read(COSTS), imported.read(COSTS)
    assert len(want) > 100
    pd.testing.assert_frame_equal(want, got, rtol=1e-12)


def test_importing_again_changes_nothing(lake: Lake, tmp_path: Path) -> None:
    file = written(tmp_path, [focus(), focus(ChargePeriodStart="2026-01-30")])
    put(lake, file)
    before = lake.read(COSTS)
    put(lake, file)
    assert len(before) == 2
    pd.testing.assert_frame_equal(before, lake.read(COSTS))


def test_an_import_replaces_what_was_known_of_its_days(lake: Lake, tmp_path: Path) -> None:
    put(lake, written(tmp_path, [focus(ChargePeriodStart=f"2026-01-{d}") for d in (29, 30, 31)]))
    other = [
        focus(ChargePeriodStart="2026-01-30", BilledCost="7", x_SkuDetails=""),
        focus(ChargePeriodStart="2026-01-31", ResourceId=ELSEWHERE),
    ]
    put(lake, written(tmp_path, other))
    rows = lake.read(COSTS)
    found = zip(rows["charge_date"].dt.day, rows["billed_cost"], strict=True)
    assert sorted(found) == [(29, 2.5), (30, 7.0)]


def test_the_partitions_of_a_folder_are_one_bill(lake: Lake, tmp_path: Path) -> None:
    for number in (1, 2):
        row = focus(ChargePeriodStart=f"2026-01-0{number}")
        part = written(tmp_path, [row], name=f"part-{number}.csv")
        part.with_suffix(".csv.gz").write_bytes(gzip.compress(part.read_bytes()))
        part.unlink()
    put(lake, tmp_path)
    assert lake.read(COSTS)["billed_cost"].tolist() == [2.5, 2.5]


def test_a_manifest_tells_the_metric_and_only_the_last_run_counts(
    lake: Lake, tmp_path: Path
) -> None:
    for day, cost in (("2026-02-02", "9"), ("2026-02-01", "1")):
        folder = tmp_path / "export" / day
        manifest(folder, "part.csv", submitted=day)
        written(folder, [line(Cost=cost)])
    put(lake, tmp_path / "export")
    (row,) = lake.read(COSTS).astype(object).to_dict("records")
    assert row["effective_cost"] == 9.0
    assert pd.isna(row["billed_cost"])


def test_a_missing_partition_is_no_import(lake: Lake, tmp_path: Path) -> None:
    manifest(tmp_path / "export", "part.csv", "gone.csv")
    written(tmp_path / "export", [line()])
    with pytest.raises(ImportRefusedError, match=r"gone\.csv is missing"):
        put(lake, tmp_path / "export")
    assert lake.read(COSTS).empty


def test_a_bad_file_among_good_ones_leaves_the_lake_alone(lake: Lake, tmp_path: Path) -> None:
    good = written(tmp_path, [focus()], name="good.csv")
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ImportRefusedError, match=r"bad\.csv"):
        put(lake, good, bad)
    assert lake.read(COSTS).empty


def test_the_same_content_twice_is_left_out_and_said(lake: Lake, tmp_path: Path) -> None:
    first = written(tmp_path, [focus()], name="a.csv")
    second = written(tmp_path, [focus()], name="b.csv")
    report = put(lake, first, second)
    assert report.same == (second,)
    assert lake.read(COSTS)["billed_cost"].tolist() == [2.5]


def test_two_exports_of_the_same_costs_are_refused(lake: Lake, tmp_path: Path) -> None:
    first = written(tmp_path, [focus()], name="a.csv")
    wider = written(tmp_path, [focus(), focus(ResourceId=ELSEWHERE)], name="b.csv")
    with pytest.raises(ImportRefusedError, match="hold the same costs"):
        put(lake, first, wider)


def test_focus_beside_cost_details_is_refused(lake: Lake, tmp_path: Path) -> None:
    files = [written(tmp_path, [row()], name=f"{row.__name__}.csv") for row in (focus, line)]
    with pytest.raises(ImportRefusedError, match="twice, as FOCUS and as cost details"):
        put(lake, *files)


def test_amounts_of_two_currencies_are_never_added(lake: Lake, tmp_path: Path) -> None:
    file = written(tmp_path, [focus(), focus(BillingCurrency="USD", BilledCost="3")])
    with pytest.raises(ImportRefusedError, match=r"EUR and USD.*--currency"):
        put(lake, file)
    report = put(lake, file, currency="USD")
    assert lake.read(COSTS)["billed_cost"].tolist() == [3.0]
    assert [(a.reason, a.currency, a.rows) for e in report.exports for a in e.set_aside] == [
        ("another currency", "EUR", 1)
    ]


def test_a_tag_tells_whose_a_cost_is_where_no_pool_does(lake: Lake, tmp_path: Path) -> None:
    home = workspace_resource(HOME)
    computes = [
        found
        for name in ("ci-ana", "ci-bob")
        if (found := compute_resource(instance(HOME, name, tags={"who": name}), home, {}))
    ]
    rows = [focus(x_SkuDetails="", Tags=f'{{"Who": "{w}"}}') for w in ("CI-Ana", "nobody")]
    put(lake, written(tmp_path, rows), computes=computes)
    costs = lake.read(COSTS).astype(object)
    whose = dict(zip(costs["resource_id"], costs["attribution"], strict=True))
    assert whose[f"{SCOPE}/computes/ci-ana"] == "tag"
    assert pd.isna(whose[SCOPE])


def test_the_command_accounts_for_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, [focus(), focus(ResourceId=ELSEWHERE, BilledCost="4")])

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main(["import", "cost", str(file), "--home", str(tmp_path), *arguments])
        assert not ended.value.code
        return capsys.readouterr().out

    text, document = run(), json.loads(run("--json"))
    assert "1  kept: Azure Machine Learning" in text
    assert "1  set aside: another service, 4.00 EUR" in text
    assert "billed 2.50 EUR, effective 2.00 EUR; 100% of it names a compute" in text
    (read,) = document["files"]
    (aside,) = read["set_aside"]
    assert (read["rows"], read["kept_rows"], aside["billed_cost"]) == (2, 1, 4.0)
    assert list(document["replaced"]) == [SUBSCRIPTION]
