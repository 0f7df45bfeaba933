"""Files of costs: every layout, every rule, and every row accounted for."""

import csv
import gzip
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from optimizer.collectors.costs import both_metrics
from optimizer.collectors.exports import Export, Metric, read_export
from optimizer.errors import ImportRefusedError
from tests.estates import workspace
from tests.recorded import SHARED, recorded

HOME = workspace()
SCOPE = HOME["id"].lower()
BILLING = SHARED / "data" / "billing"
REAL_FILES = sorted(
    file for folder in ("azure_exports", "focus") for file in (BILLING / folder).glob("*.csv")
)
ELSEWHERE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Sql/servers/x"


def written(folder: Path, rows: list[dict[str, str]], name: str = "part.csv") -> Path:
    file = folder / name
    with file.open("w", encoding="utf-8-sig", newline="") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def line(**columns: str) -> dict[str, str]:
    return {
        "Date": "01/31/2026",
        "ResourceId": HOME["id"],
        "MeterCategory": "Virtual Machines",
        "MeterName": "D3 v2",
        "Cost": "2.5",
        "Quantity": "10",
        "UnitPrice": "0.25",
        "PayGPrice": "0.3",
        "BillingCurrency": "EUR",
        "ChargeType": "Usage",
        "PricingModel": "OnDemand",
        "AdditionalInfo": '{"PoolName":"cpu_84f29f84-4ac2-4286-9879-731da9be5607"}',
        "Tags": '"team": "vision"',
    } | columns


def focus(**columns: str) -> dict[str, str]:
    return {
        "BilledCost": "2.5",
        "EffectiveCost": "2.0",
        "ListCost": "4.0",
        "ContractedCost": "3.0",
        "BillingCurrency": "EUR",
        "ChargeCategory": "Usage",
        "ChargePeriodStart": "2026-01-31T00:00:00Z",
        "CommitmentDiscountStatus": "",
        "CommitmentDiscountType": "",
        "ConsumedQuantity": "10",
        "ConsumedUnit": "Hours",
        "PricingCategory": "Standard",
        "ResourceId": HOME["id"],
        "x_SkuMeterCategory": "Virtual Machines",
        "x_SkuDetails": '{"PoolName":"cpu_84f29f84-4ac2-4286-9879-731da9be5607"}',
        "Tags": '{"team": "vision"}',
    } | columns


def one(export: Export) -> dict[str, Any]:
    (row,) = export.kept
    return row


def asides(export: Export) -> dict[str, tuple[int, float | None]]:
    return {aside.reason: (aside.rows, aside.billed_cost) for aside in export.set_aside}


# Layouts


def test_a_line_of_cost_details_goes_to_its_compute(tmp_path: Path) -> None:
    row = one(read_export(written(tmp_path, [line()]), metric=Metric.AMORTIZED))
    assert row["resource_id"] == f"{SCOPE}/computes/cpu"
    assert (row["attribution"], row["component"]) == ("exact", "vm")
    assert row["charge_date"] == datetime(2026, 1, 31, tzinfo=UTC)
    assert (row["effective_cost"], row["contracted_cost"], row["list_cost"]) == (2.5, 2.5, 3.0)
    assert (row["currency"], row["tags"], row["billed_cost"]) == ("EUR", '{"team": "vision"}', None)


def test_another_agreement_spells_columns_otherwise(tmp_path: Path) -> None:
    modern = {
        "date": "2026-01-31",
        "ResourceId": HOME["id"],
        "costInBillingCurrency": "-1",
        "billingCurrency": "EUR",
        "additionalInfo": "",
    }
    row = one(read_export(written(tmp_path, [modern])))
    assert (row["billed_cost"], row["quantity"], row["attribution"]) == (-1.0, None, None)
    assert row["resource_id"] == SCOPE


def test_focus_tells_all_four_costs(tmp_path: Path) -> None:
    export = read_export(written(tmp_path, [focus()]))
    row = one(export)
    assert export.layout == "FOCUS"
    assert [row[f"{n}_cost"] for n in ("billed", "effective", "list", "contracted")] == [
        *(2.5, 2.0, 4.0, 3.0)
    ]
    assert (row["compute_name"], row["pricing_model"], row["quantity"]) == ("cpu", "OnDemand", 10)


@pytest.mark.parametrize(
    ("category", "kind", "said"),
    [
        ("Committed", "Reservation", "Reservation"),
        ("Committed", "Savings Plan", "SavingsPlan"),
        ("Dynamic", "", "Spot"),
    ],
)
def test_focus_names_how_an_hour_was_bought(
    category: str, kind: str, said: str, tmp_path: Path
) -> None:
    row = focus(PricingCategory=category, CommitmentDiscountType=kind)
    assert one(read_export(written(tmp_path, [row])))["pricing_model"] == said


def test_the_same_file_packed_or_as_parquet_says_the_same(tmp_path: Path) -> None:
    plain = written(tmp_path, [focus(), focus(ResourceId=ELSEWHERE)])
    packed = tmp_path / "part.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    columns = tmp_path / "part.parquet"  # with real numbers and moments
    pq.write_table(pa_csv.read_csv(plain), columns)
    first, *others = [read_export(file) for file in (plain, packed, columns)]
    for other in others:
        assert (other.kept, other.set_aside) == (first.kept, first.set_aside)


def test_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    turned = dict(reversed(line().items()))
    assert one(read_export(written(tmp_path, [turned]))) == one(
        read_export(written(tmp_path, [line()]))
    )


@pytest.mark.parametrize(
    ("dates", "first"),
    [
        (["02/01/2026", "02/28/2026"], date(2026, 2, 1)),
        (["01/02/2026", "28/02/2026"], date(2026, 2, 1)),
        (["2026-02-01", "2026-02-28"], date(2026, 2, 1)),
        (["20260201", "20260228"], date(2026, 2, 1)),
    ],
)
def test_a_file_settles_how_its_dates_are_written(
    dates: list[str], first: date, tmp_path: Path
) -> None:
    export = read_export(written(tmp_path, [line(Date=text) for text in dates]))
    assert export.days == (first, date(2026, 2, 28))


# Rules


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (line(ResourceId=ELSEWHERE), "another service"),
        (line(ResourceId=""), "another service"),
        (line(ChargeType="Purchase"), "purchase"),
        (line(ChargeType="UnusedReservation"), "unused commitment"),
        (line(ChargeType="Tax"), "tax"),
        (line(ChargeType="RoundingAdjustment"), "adjustment"),
        (line(Cost="Virtual Machines"), "unreadable"),
        (line(Date="D3 v2"), "unreadable"),
        (line(BillingCurrency="0.25"), "unreadable"),
        (focus(ChargeCategory="Purchase"), "purchase"),
        (focus(CommitmentDiscountStatus="Unused"), "unused commitment"),
        (focus(ChargeCategory="Credit"), "credit"),
        (focus(ChargeCategory="Adjustment"), "adjustment"),
    ],
)
def test_what_is_no_use_of_a_workspace_is_set_aside_with_its_amount(
    row: dict[str, str], reason: str, tmp_path: Path
) -> None:
    use = focus() if "BilledCost" in row else line()
    export = read_export(written(tmp_path, [use, row]), metric=Metric.ACTUAL)
    amount = 2.5 if row.get("Cost", "2.5") == "2.5" else None
    assert asides(export) == {reason: (1, amount)}
    assert (export.rows, export.kept_rows) == (2, 1)


@pytest.mark.parametrize(
    "row",
    [
        line(Cost="-2.5", Quantity="-10"),
        line(Cost="-2.5", ChargeType="Refund"),
        focus(BilledCost="-2.5", ConsumedQuantity="-10"),
        focus(BilledCost="-2.5", ChargeClass="Correction"),
    ],
)
def test_a_refund_of_use_lowers_what_use_cost(row: dict[str, str], tmp_path: Path) -> None:
    use = dict.fromkeys(row, "") | (focus() if "BilledCost" in row else line(Cost="10"))
    export = read_export(written(tmp_path, [use, row]))
    wanted = 0.0 if "BilledCost" in row else 7.5
    assert sum(kept["billed_cost"] for kept in export.kept) == pytest.approx(wanted)


def test_commitments_spread_over_use_are_what_an_amortised_file_shows(tmp_path: Path) -> None:
    covered = line(PricingModel="Reservation")
    assert read_export(written(tmp_path, [covered])).layout == "amortized cost details"
    free = line(PricingModel="Reservation", Cost="0")
    assert read_export(written(tmp_path, [free])).layout == "actual cost details"


def test_an_unknown_amount_stays_unknown(tmp_path: Path) -> None:
    file = written(tmp_path, [line(PayGPrice="", Quantity="")])
    actual, amortized = (read_export(file, metric=metric).kept for metric in Metric)
    (row,) = both_metrics(actual, amortized).astype(object).to_dict("records")
    assert (row["billed_cost"], row["effective_cost"]) == (2.5, 2.5)
    assert row["list_cost"] != row["list_cost"]  # NaN
    assert row["quantity"] != row["quantity"]


def test_use_counts_once_where_both_metrics_tell_it(tmp_path: Path) -> None:
    file = written(tmp_path, [line()])
    actual, amortized = (read_export(file, metric=metric).kept for metric in Metric)
    (row,) = both_metrics(actual, amortized).to_dict("records")
    assert (row["quantity"], row["list_cost"]) == (10, 3.0)


def test_a_file_without_rows_says_that_nothing_was_billed(tmp_path: Path) -> None:
    file = tmp_path / "empty.csv"
    file.write_text(",".join(line()) + "\n", encoding="utf-8")
    export = read_export(file)
    assert (export.rows, export.days, export.kept, export.set_aside) == (0, None, (), ())


# Refusals


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("Date,ResourceId\n2026-01-31,x\n", "no column CostInBillingCurrency or Cost or PreTax"),
        ("Datum;Betrag\n1;2\n", "its columns begin with Datum, Betrag"),
        ("Date,ResourceId,Cost,Currency\n2026-01-31,x,1,EUR,9\n", "line 2 has 5 values for 4 col"),
        ('Date,ResourceId,Cost,Currency\n2026-01-31,"x,1,EUR\n', "line 2 leaves a quote open"),
        ("Date,ResourceId,Cost,Currency\nx,y,z,w\n", "no row has values that can be read"),
        ("", "no column ResourceId"),
    ],
)
def test_what_cannot_be_understood_is_refused_in_one_sentence(
    content: str, sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / "bill.csv"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ImportRefusedError, match=sentence) as refused:
        read_export(file)
    assert str(refused.value).startswith(f"{file} cannot be imported: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["bill.parquet", "bill.csv.gz"])
def test_a_damaged_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"cut short")
    with pytest.raises(ImportRefusedError, match="cannot be imported"):
        read_export(tmp_path / name)


# Real files; skipped where they are not at hand

_REFUSED = {
    "opencost_MissingBrackets.csv": "no column BillingCurrency",
    "opencost_Template.csv": "no column BillingCurrency",
    "opencost_VirtualMachine.csv": "no column BillingCurrency",
    "opencost_header_BOM.csv": "no row has values",
}


@pytest.mark.skipif(not REAL_FILES, reason="the real exports are not at hand")
@pytest.mark.parametrize("file", REAL_FILES, ids=lambda file: file.name)
def test_a_real_file_is_accounted_for_or_refused(file: Path) -> None:
    if file.name in _REFUSED:
        with pytest.raises(ImportRefusedError, match=_REFUSED[file.name]):
            read_export(file)
        return
    export = read_export(file)
    with file.open(encoding="utf-8-sig", newline="") as text:
        rows = list(csv.DictReader(text))
    known = ("billedcost", "costinbillingcurrency", "pretaxcost (pretaxcost)", "pretaxcost")
    column = next(name for name in rows[0] if name.lower() in known)
    kept = sum(row["billed_cost"] for row in export.kept)
    aside = sum(each.billed_cost or 0.0 for each in export.set_aside)
    assert export.rows == len(rows)
    assert export.rows == export.kept_rows + sum(each.rows for each in export.set_aside)
    assert kept + aside == pytest.approx(sum(float(row[column]) for row in rows))


@pytest.mark.parametrize("version", ["1.0r2", "1.2", "1.2-preview"])
def test_the_columns_of_every_version_of_focus_are_known(version: str, tmp_path: Path) -> None:
    columns = recorded(f"azure/examples/export-columns-focuscost_{version}.json")
    names = [column["name"] for column in columns]
    details = "x_SkuDetails" if "x_SkuDetails" in names else "SkuPriceDetails"
    use = {name: focus().get(name, "") for name in names} | {details: '{"x_PoolName": "gpu"}'}
    row = one(read_export(written(tmp_path, [use])))
    assert (row["compute_name"], row["billed_cost"], row["component"]) == ("gpu", 2.5, "vm")


@pytest.mark.parametrize("metric", list(Metric))
def test_the_columns_of_cost_details_are_known(metric: Metric, tmp_path: Path) -> None:
    columns = recorded(f"azure/examples/export-columns-{metric}cost_c360-2025-04.json")
    use = {column["name"]: line().get(column["name"], "") for column in columns}
    row = one(read_export(written(tmp_path, [use]), metric=metric))
    assert (row["compute_name"], row["quantity"], row["component"]) == ("cpu", 10, "vm")
