"""What was billed, by compute where the bill tells it.

All Azure ML spend is billed on the workspace. Cost details tell the compute in
`AdditionalInfo.PoolName` (exact). The query API can group by a tag that every compute carries with
a value of its own (tag). What neither tells stays the workspace's, with no attribution.
"""

import csv
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv

from optimizer.azure.connect import Connection
from optimizer.collectors.problems import problem_of
from optimizer.errors import AzureError, ForbiddenError, UnauthorizedError, UnreachableError
from optimizer.model import Attribution, Problem, Resource, Window
from optimizer.store.lake import days_of
from optimizer.store.tables import COSTS
from optimizer.units import utc

_MARK = "/providers/microsoft.machinelearningservices/workspaces/"
_POOL = re.compile(r"^(?P<compute>.+)_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
_VM_CATEGORY = "Virtual Machines"

_USAGE_TYPES = {
    "computehr": "vm",
    "virtualmachines": "vm",
    "virtualmachinescalesets": "vm",
    "disks": "disk",
    "publicipaddresses": "ip",
    "loadbalancers": "load_balancer",
}
_CATEGORIES = {
    "virtual machines": "vm",
    "storage": "disk",
    "virtual network": "ip",
    "load balancer": "load_balancer",
    "bandwidth": "bandwidth",
}
# The same column has a name for each kind of agreement; the first that is there counts.
_COLUMNS = {
    "resource_id": ("resourceid", "instanceid"),
    "date": ("date", "usagedatetime"),
    "cost": ("costinbillingcurrency", "cost", "pretaxcost"),
    "currency": ("billingcurrency", "billingcurrencycode", "currency"),
    "quantity": ("quantity", "usagequantity"),
    "unit": ("unitofmeasure",),
    "category": ("metercategory",),
    "meter": ("metername",),
    "unit_price": ("unitprice",),
    "payg_price": ("paygprice",),
    "pricing_model": ("pricingmodel",),
    "info": ("additionalinfo",),
    "tags": ("tags",),
}
_NEEDED = ("resource_id", "date", "cost", "currency")
_SUMS = ("billed_cost", "effective_cost", "list_cost", "contracted_cost", "quantity")
_LABELS = tuple(name for name in COSTS.schema.names if name not in _SUMS)

Row = dict[str, Any]


def collect_costs(
    connection: Connection, subscription: str, computes: Sequence[Resource], window: Window
) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the rows of `tables.COSTS` of one subscription, and why they are not exact.

    Cost details are asked for first. Where the subscription's offer has none, the query API
    answers by day, with at most one tag beside the workspace.

    Raises:
        AzureError: neither can be read.
    """
    months = list(_months(window))
    try:
        parts = connection.map(lambda month: _details(connection, subscription, *month), months)
    except (UnauthorizedError, UnreachableError, ForbiddenError):
        raise
    except AzureError as error:
        problem = problem_of(f"/subscriptions/{subscription}", error)
    else:
        return pd.concat(parts), []
    tag = distinct_tag(computes)
    rows = [
        row for month in months for row in _queried(connection, subscription, computes, tag, *month)
    ]
    return merged(rows), [problem]


def detail_rows(file: Path, *, amortized: bool) -> Iterator[Row]:
    """Yield the rows of a cost details file that are Azure ML's; the file is read in pieces.

    Costs go to `effective_cost` of an amortized report and to `billed_cost` of an actual one.

    Raises:
        AzureError: a column that cannot be done without is missing.
    """
    columns = _columns_of(file)
    reader = pa_csv.open_csv(
        file,
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(columns.values(), pa.string()),
            include_columns=list(columns.values()),
        ),
    )
    names = {column: name for name, column in columns.items()}
    for batch in reader:
        frame = batch.to_pandas().rename(columns=names)
        mine = frame["resource_id"].str.lower().str.contains(_MARK, regex=False)
        for record in frame[mine].to_dict("records"):
            yield detail_row(record, amortized=amortized)


def detail_row(record: Mapping[str, str], *, amortized: bool) -> Row:
    """Return one line of cost details as a row of `tables.COSTS`."""
    info, tags = _loose_json(record.get("info")), _loose_json(record.get("tags"))
    workspace_id = _workspace(record["resource_id"])
    compute = _compute_of(str(info.get("PoolName") or ""))
    usage = str(info.get("UsageType") or "").lower()
    category = (record.get("category") or "").lower()
    cost = float(record["cost"] or 0)
    quantity = _number(record.get("quantity"))
    return {
        "resource_id": f"{workspace_id}/computes/{compute.lower()}" if compute else workspace_id,
        "workspace_id": workspace_id,
        "charge_date": _day(record["date"]),
        "meter": record.get("meter"),
        "pricing_model": record.get("pricing_model"),
        "billed_cost": 0.0 if amortized else cost,
        "effective_cost": cost if amortized else 0.0,
        "list_cost": _product(quantity, record.get("payg_price")) if amortized else None,
        "contracted_cost": _product(quantity, record.get("unit_price")) if amortized else None,
        "quantity": quantity if amortized else None,
        "unit": record.get("unit"),
        "currency": record["currency"],
        "compute_name": compute,
        "vm_size": info.get("ServiceType"),
        # Bandwidth has the usage type of the machines that caused it, so the category goes first.
        "component": _CATEGORIES.get(category) or _USAGE_TYPES.get(usage, "other"),
        "attribution": Attribution.EXACT.value if compute else None,
        "tags": _text(tags),
    }


def merged(rows: Iterable[Row]) -> pd.DataFrame:
    """Add up the rows that share every label; an amount that no row knows stays null."""
    frame = pd.DataFrame(rows, columns=COSTS.schema.names)
    if frame.empty:
        return frame
    frame[list(_SUMS)] = frame[list(_SUMS)].astype("float64")
    grouped = frame.groupby(list(_LABELS), dropna=False, sort=False)[list(_SUMS)]
    return grouped.sum(min_count=1).reset_index()


def distinct_tag(computes: Sequence[Resource]) -> str | None:
    """Return a tag that tells every compute of a workspace from the others, `compute` if it does.

    >>> distinct_tag([]) is None
    True
    """
    names = [{name.lower() for name in compute.tags} for compute in computes]
    common = set.intersection(*names) if names else set()
    for name in sorted(common, key=lambda name: (name != "compute", name)):
        values = [(c.workspace_id, _tag(c, name)) for c in computes]
        if len(set(values)) == len(values):
            return name
    return None


def spend_by_category(first: date, last: date) -> Row:
    """Return the question for a period's spend by resource and meter category, day by day."""
    return _body(first, last, [_dimension("ResourceId"), _dimension("MeterCategory")], None)


def spend_within(category: str, first: date, last: date, *, tag: str | None) -> Row:
    """Return the question for the spend of one category by resource and tag.

    Azure groups by two names at most. Where no tag tells the computes apart it is by VM series.
    """
    second = {"type": "TagKey", "name": tag} if tag else _dimension("MeterSubCategory")
    inside = {"dimensions": {"name": "MeterCategory", "operator": "In", "values": [category]}}
    return _body(first, last, [_dimension("ResourceId"), second], inside)


def query_row(record: Row, computes: Mapping[tuple[str, str], Resource]) -> Row | None:
    """Return a row of a cost query as a row of `tables.COSTS`; None where it is not Azure ML's.

    Shape: `computes` by workspace id and the value of the tag, in lower case.
    """
    resource_id = str(record["ResourceId"]).lower()
    if _MARK not in resource_id:
        return None
    workspace_id = _workspace(resource_id)
    compute = computes.get((workspace_id, str(record.get("TagValue") or "").lower()))
    category = str(record.get("MeterCategory") or _VM_CATEGORY)
    return {
        "resource_id": compute.resource_id if compute else workspace_id,
        "workspace_id": workspace_id,
        "charge_date": utc(str(record["UsageDate"])),
        "meter": record.get("MeterSubCategory") or category,
        "pricing_model": None,
        "billed_cost": record["Cost"],
        "effective_cost": None,
        "list_cost": None,
        "contracted_cost": None,
        "quantity": record.get("UsageQuantity"),
        "unit": None,
        "currency": record["Currency"],
        "compute_name": compute.name if compute else None,
        "vm_size": compute.sku if compute else None,
        "component": _CATEGORIES.get(category.lower(), "other"),
        "attribution": Attribution.TAG.value if compute else None,
        "tags": "{}",
    }


def _details(connection: Connection, subscription: str, first: date, last: date) -> pd.DataFrame:
    scope = f"/subscriptions/{subscription}"
    rows: list[Row] = []
    for metric, amortized in (("ActualCost", False), ("AmortizedCost", True)):
        for link in connection.costs.report(scope, first, last, metric=metric):
            with tempfile.NamedTemporaryFile(suffix=".csv") as file:
                connection.costs.download(link, file)
                file.flush()
                rows.extend(detail_rows(Path(file.name), amortized=amortized))
    return merged(rows)


def _queried(
    connection: Connection,
    subscription: str,
    computes: Sequence[Resource],
    tag: str | None,
    first: date,
    last: date,
) -> Iterator[Row]:
    scope = f"/subscriptions/{subscription}"
    by_tag = {(c.workspace_id, _tag(c, tag)): c for c in computes} if tag else {}
    whole = [
        (str(record["MeterCategory"]), row)
        for record in connection.costs.query(scope, spend_by_category(first, last))
        if (row := query_row(record, {}))
    ]
    # A tag tells the computes of every category apart; without one only machines have a series.
    split = {category for category, _ in whole if tag or category == _VM_CATEGORY}
    yield from (row for category, row in whole if category not in split)
    for category in sorted(split):
        question = spend_within(category, first, last, tag=tag)
        for record in connection.costs.query(scope, question):
            if row := query_row({"MeterCategory": category} | record, by_tag):
                yield row


def _dimension(name: str) -> Row:
    return {"type": "Dimension", "name": name}


def _body(first: date, last: date, grouping: Sequence[Row], condition: Row | None) -> Row:
    dataset: Row = {
        "granularity": "Daily",
        "aggregation": {
            "cost": {"name": "Cost", "function": "Sum"},
            "quantity": {"name": "UsageQuantity", "function": "Sum"},
        },
        "grouping": list(grouping),
    }
    return {
        "type": "ActualCost",
        "timeframe": "Custom",
        "timePeriod": {"from": f"{first}T00:00:00Z", "to": f"{last}T23:59:59Z"},
        "dataset": dataset | ({"filter": condition} if condition else {}),
    }


def _months(window: Window) -> Iterator[tuple[date, date]]:
    """Yield the first and last day of each calendar month's part of a window."""
    days = list(days_of(window))
    for month in dict.fromkeys((day.year, day.month) for day in days):
        inside = [day for day in days if (day.year, day.month) == month]
        yield inside[0], inside[-1]


def _columns_of(file: Path) -> Mapping[str, str]:
    """Return the column of a file for each name of ours that it has."""
    with file.open(newline="", encoding="utf-8-sig") as text:
        header = next(csv.reader(text), [])
    known = {column.lower(): column for column in reversed(header)}
    found = {
        name: known[alias]
        for name, aliases in _COLUMNS.items()
        for alias in [next((a for a in aliases if a in known), None)]
        if alias
    }
    if missing := [name for name in _NEEDED if name not in found]:
        raise AzureError(
            f"The cost details have no column for {', '.join(missing)}; they begin with "
            f"{', '.join(header[:5])}."
        )
    return found


def _workspace(resource_id: str) -> str:
    return "/".join(resource_id.lower().split("/")[:9])


def _compute_of(pool: str) -> str | None:
    """Return the compute that a Batch pool belongs to.

    >>> _compute_of("azurepc_84f29f84-4ac2-4286-9879-731da9be5607")
    'azurepc'
    """
    found = _POOL.match(pool)
    return found["compute"] if found else (pool or None)


def _loose_json(text: str | None) -> dict[str, Any]:
    """Read a JSON object that exports may write without its braces; {} where it is none."""
    text = (text or "").strip()
    try:
        value = json.loads(text if text.startswith("{") else f"{{{text}}}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)


def _day(text: str) -> datetime:
    """Read a date as agreements write it: 09/17/2023 or 2023-09-17."""
    if "/" in text:
        month, day, year = (int(part) for part in text.split("/"))
        return utc(f"{year:04}-{month:02}-{day:02}")
    return utc(text[:10])


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def _product(quantity: float | None, price: str | None) -> float | None:
    number = _number(price)
    return None if quantity is None or number is None else quantity * number


def _tag(compute: Resource, name: str) -> str:
    return next((str(v).lower() for k, v in compute.tags.items() if k.lower() == name), "")
