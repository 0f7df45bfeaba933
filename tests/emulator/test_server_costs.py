"""Cost Management and Retail Prices, read with the SDK, against costs worked out by hand."""

import csv
import io
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from azure.core.exceptions import HttpResponseError
from azure.core.rest import HttpRequest

from tests.conftest import Emulator
from tests.emulator.schemas import validate
from tests.emulator.sdk import WORKSPACE_ID, Sdk
from tests.estates import CPU_SKU, SUBSCRIPTION, cluster, workspace, write_estate

SCOPE = f"/subscriptions/{SUBSCRIPTION}"
CLUSTER_COST = (4200 + 2 * 690) / 3600 * 3.0  # 70 min of one node, 11.5 of two
INSTANCE_COST = 2 * 0.25


def question(**dataset: Any) -> dict[str, Any]:
    sums = {"total": {"name": "Cost", "function": "Sum"}}
    return {
        "type": "ActualCost",
        "timeframe": "Custom",
        "timePeriod": {"from": "2026-01-05T00:00:00Z", "to": "2026-01-06T00:00:00Z"},
        "dataset": {"granularity": "None", "aggregation": sums, **dataset},
    }


def dimension(name: str) -> dict[str, str]:
    return {"type": "Dimension", "name": name}


def test_spend_stops_at_the_workspace(sdk: Sdk) -> None:
    answer = sdk.costs().query.usage(SCOPE, question(grouping=[dimension("ResourceId")]))
    assert [column.name for column in answer.columns] == ["Cost", "ResourceId", "Currency"]
    ((cost, resource, currency),) = answer.rows
    assert cost == pytest.approx(CLUSTER_COST + INSTANCE_COST)
    assert (resource, currency) == (WORKSPACE_ID.lower(), "USD")


def test_days_and_tags(sdk: Sdk) -> None:
    asked = question(granularity="Daily", grouping=[{"type": "TagKey", "name": "team"}])
    answer = sdk.costs().query.usage(SCOPE, asked)
    names = [column.name for column in answer.columns]
    assert names == ["Cost", "UsageDate", "TagKey", "TagValue", "Currency"]
    by_team = {(row[1], row[3]): row[0] for row in answer.rows}
    assert by_team[20260105, "vision"] == pytest.approx(CLUSTER_COST)
    assert by_team[20260105, ""] == pytest.approx(INSTANCE_COST)


def test_a_filter_and_a_quantity(sdk: Sdk) -> None:
    wanted = {"dimensions": {"name": "Meter", "operator": "In", "values": ["NC6s v3"]}}
    hours = {"hours": {"name": "UsageQuantity", "function": "Sum"}}
    answer = sdk.costs().query.usage(SCOPE, question(filter=wanted, aggregation=hours))
    assert answer.rows[0][0] == pytest.approx(5580 / 3600)


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        ({"filter": {"and": [{"tags": {"name": "a", "operator": "In"}}]}}, "at least two"),
        ({"grouping": [dimension("ResourceId")] * 3}, "at most 2"),
        ({"granularity": "Hourly"}, "granularity"),
        ({"grouping": [dimension("ComputeName")]}, "dimension"),
    ],
)
def test_what_the_query_refuses(sdk: Sdk, dataset: dict[str, Any], says: str) -> None:
    with pytest.raises(HttpResponseError, match=says):
        sdk.costs().query.usage(SCOPE, question(**dataset))


def test_a_daily_query_spans_a_month_at_most(sdk: Sdk) -> None:
    asked = question(granularity="Daily")
    asked["timePeriod"]["to"] = "2026-02-05T00:00:00Z"
    with pytest.raises(HttpResponseError, match="at most 31 days"):
        sdk.costs().query.usage(SCOPE, asked)


def test_pages_hold_a_thousand_rows(
    emulator: Callable[[Path], Emulator], tmp_path_factory: pytest.TempPathFactory
) -> None:
    ws = workspace("ws")
    clusters = [cluster(ws, f"c{i:02d}", minimum=1, tags={"n": str(i)}) for i in range(40)]
    folder = tmp_path_factory.mktemp("estates") / "many"
    client = Sdk(emulator(write_estate(folder, resources=[ws, *clusters], days=30))).costs()
    asked = question(granularity="Daily", grouping=[{"type": "TagKey", "name": "n"}])
    asked["timePeriod"]["to"] = "2026-02-04T00:00:00Z"
    first = client.query.usage(SCOPE, asked)
    following = client.send_request(HttpRequest("POST", first.next_link, json=asked)).json()
    rest = following["properties"]
    assert (len(first.rows), len(rest["rows"]), rest["nextLink"]) == (1000, 200, None)
    assert len({(row[1], row[3]) for row in [*first.rows, *rest["rows"]]}) == 1200


def report(sdk: Sdk) -> list[dict[str, str]]:
    asked = {"metric": "ActualCost", "timePeriod": {"start": "2026-01-05", "end": "2026-01-06"}}
    operations = sdk.costs().generate_cost_details_report
    found = operations.begin_create_operation(SCOPE.lstrip("/"), asked).result()
    assert found.status == "Completed"
    trust = ssl.create_default_context(cafile=sdk.emulator.ca_file)
    with urlopen(found.manifest.blobs[0].blob_link, context=trust) as answer:  # noqa: S310
        return list(csv.DictReader(io.TextIOWrapper(answer, "utf-8")))


def test_the_report_names_the_compute(sdk: Sdk) -> None:
    costs: dict[str, float] = {}
    for row in report(sdk):
        info = json.loads(row["AdditionalInfo"])
        name = info["PoolName"].rpartition("_")[0]
        costs[name] = costs.get(name, 0.0) + float(row["Cost"])
    assert costs == pytest.approx({"gpu": CLUSTER_COST, "ci": INSTANCE_COST})


def test_the_report_writes_dates_and_tags_as_azure_does(sdk: Sdk) -> None:
    rows = {json.loads(row["AdditionalInfo"]).get("ServiceType"): row for row in report(sdk)}
    row = rows["Standard_NC6s_v3"]
    assert (row["Date"], row["Tags"]) == ("01/05/2026", '"team": "vision"')
    assert row["ResourceId"] == WORKSPACE_ID
    assert rows[CPU_SKU]["Tags"] == '"owner": "ana","ComputeType": "Compute Instance"'


def test_bills_come_late_and_rounded(bare: Emulator) -> None:
    rows = Sdk(bare).costs().query.usage(SCOPE, question(granularity="Daily")).rows
    assert rows == [[5.4, 20260105, "USD"]]  # 24 h at 0.25 less a tenth; the second day is young


def test_an_offer_may_have_no_report(bare: Emulator) -> None:
    with pytest.raises(HttpResponseError, match="does not support the Cost Details API"):
        report(Sdk(bare))


def test_the_query_has_the_shape_of_the_service(tiny: Emulator) -> None:
    path = f"{SCOPE}/providers/Microsoft.CostManagement/query?api-version=2025-03-01"
    answer = tiny.call("POST", path, question(grouping=[dimension("Meter")]))
    validate(answer, "QueryResult", "derived-costmanagement-2025-03-01.json")


def test_retail_prices_keep_their_traps(tiny: Emulator) -> None:
    asked = (
        "armRegionName%20eq%20'eastus'%20and%20serviceName%20eq%20'Virtual%20Machines'%20and%20"
        f"(armSkuName%20eq%20'{CPU_SKU}'%20or%20armSkuName%20eq%20'none')"
    )
    answer = tiny.call("GET", f"/api/retail/prices?$filter={asked}")
    prices = {
        (item["productName"], item["skuName"], item.get("reservationTerm")): item["retailPrice"]
        for item in answer["Items"]
    }
    linux = "Virtual Machines DSv2 Series"
    assert prices[linux, "DS3 v2", None] == 0.25
    assert prices[linux, "DS3 v2 Low Priority", None] == 0.05
    assert prices[linux, "DS3 v2", "1 Year"] == 0.15 * 8760
    assert prices[f"{linux} Windows", "DS3 v2", None] > 0.25
    assert (answer["Count"], answer["NextPageLink"]) == (len(prices), None)


def test_retail_prices_mind_the_case(tiny: Emulator) -> None:
    path = f"/api/retail/prices?$filter=armSkuName%20eq%20'{CPU_SKU.lower()}'"
    assert tiny.call("GET", path)["Items"] == []
