"""What was billed, by compute where the bill tells it.

All Azure ML spend is billed on the workspace. Cost details tell the compute in
`AdditionalInfo.PoolName` (exact). The query API can group by a tag that every compute carries with
a value of its own (tag). What neither tells stays the workspace's, with no attribution.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from optimizer.azure.connect import Connection
from optimizer.collectors.exports import (
    CATEGORIES,
    MARK,
    Metric,
    Row,
    read_export,
    workspace_of,
)
from optimizer.collectors.problems import problem_of
from optimizer.errors import (
    AzureError,
    ImportRefusedError,
    NotOfferedError,
)
from optimizer.model import Attribution, Problem, Resource, Window
from optimizer.store.lake import days_of
from optimizer.store.tables import COSTS
from optimizer.units import utc

_VM_CATEGORY = "Virtual Machines"
_DEPLOYMENT_TAG = "azuremldeployment"
"""What Azure itself puts on the costs of a deployment."""
_USE = ("list_cost", "contracted_cost", "quantity")
_SUMS = ("billed_cost", "effective_cost", "list_cost", "contracted_cost", "quantity")
_LABELS = tuple(name for name in COSTS.schema.names if name not in _SUMS)


def collect_costs(
    connection: Connection,
    subscription: str,
    computes: Sequence[Resource],
    window: Window,
    deployments: Sequence[Resource] = (),
) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the rows of `tables.COSTS` of one subscription, and why they are not exact.

    Cost details are asked for first. Where the subscription's offer has none, the query API
    answers by day, with at most one tag beside the workspace: one that tells the computes apart,
    and for machines also the one by which Azure tells deployments apart.

    Raises:
        AzureError: they cannot be read now; another time they may, so nothing lesser stands in.
    """
    months = list(_months(window))
    try:
        parts = connection.map(lambda month: _details(connection, subscription, *month), months)
    except NotOfferedError as error:
        problem = problem_of(f"/subscriptions/{subscription}", error)
    else:
        return pd.concat(parts), []
    tag = distinct_tag(computes)
    tagged = [d for d in deployments if tag and tag_of(d.tags, tag)]
    owners = [*tagged, *computes]
    question = _Question(
        tag=tag,
        by_tag={(c.workspace_id, tag_of(c.tags, tag)): c for c in owners} if tag else {},
        deployments=by_name([d for d in deployments if d not in tagged]),
    )
    rows = [row for month in months for row in _queried(connection, subscription, question, *month)]
    return merged(rows), [problem]


def by_name(deployments: Sequence[Resource]) -> dict[tuple[str, str], Resource]:
    """Return deployments by workspace and name, without those that share theirs with another.

    Azure tags a cost with the names of endpoint and deployment, and a query groups by one of them.
    """
    names = Counter((d.workspace_id, d.name.lower()) for d in deployments)
    keys = {d.resource_id: (d.workspace_id, d.name.lower()) for d in deployments}
    return {keys[d.resource_id]: d for d in deployments if names[keys[d.resource_id]] == 1}


def both_metrics(actual: Sequence[Row], amortized: Sequence[Row]) -> pd.DataFrame:
    """Join the rows of the same days' actual and amortised costs; each tells one of two amounts.

    Both tell quantity and prices, which count once. Where both were read, what one of them lacks
    cost nothing by its count; where one was, the other amount is unknown.
    """
    if not actual or not amortized:
        return merged([*actual, *amortized])
    unknown = dict.fromkeys(_USE)
    frame = merged([*(row | unknown for row in actual), *amortized])
    costs = ["billed_cost", "effective_cost"]
    frame[costs] = frame[costs].fillna(0.0)
    return frame


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
        values = [(c.workspace_id, tag_of(c.tags, name)) for c in computes]
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
    if MARK not in resource_id:
        return None
    workspace_id = workspace_of(resource_id)
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
        "component": CATEGORIES.get(category.lower(), "other"),
        "attribution": Attribution.TAG.value if compute else None,
        "tags": "{}",
    }


def _details(connection: Connection, subscription: str, first: date, last: date) -> pd.DataFrame:
    scope = f"/subscriptions/{subscription}"
    rows: dict[Metric, list[Row]] = {}
    for metric, asked in ((Metric.ACTUAL, "ActualCost"), (Metric.AMORTIZED, "AmortizedCost")):
        rows[metric] = []
        for link in connection.costs.report(scope, first, last, metric=asked):
            with tempfile.NamedTemporaryFile(suffix=".csv") as file:
                connection.costs.download(link, file)
                file.flush()
                rows[metric].extend(_detail_rows(Path(file.name), metric))
    return both_metrics(rows[Metric.ACTUAL], rows[Metric.AMORTIZED])


def _detail_rows(file: Path, metric: Metric) -> Sequence[Row]:
    # One thread: collecting the same days again must give the same rows to the last digit.
    try:
        return read_export(file, metric=metric, name="Azure's file of cost details", threads=1).kept
    except ImportRefusedError as error:
        raise AzureError(str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """How computes and deployments are told apart by tags."""

    tag: str | None
    by_tag: Mapping[tuple[str, str], Resource]
    deployments: Mapping[tuple[str, str], Resource]


def _queried(
    connection: Connection, subscription: str, asked: _Question, first: date, last: date
) -> Iterator[Row]:
    scope = f"/subscriptions/{subscription}"
    whole = [
        (str(record["MeterCategory"]), row)
        for record in connection.costs.query(scope, spend_by_category(first, last))
        if (row := query_row(record, {}))
    ]
    # A tag tells the computes of every category apart; without one only machines have a series.
    split = {category for category, _ in whole if asked.tag or category == _VM_CATEGORY}
    yield from (row for category, row in whole if category not in split)

    def within(
        category: str, tag: str | None, owners: Mapping[tuple[str, str], Resource]
    ) -> list[tuple[bool, Row]]:
        """Return whether each row has a value of the tag, and the row."""
        question = spend_within(category, first, last, tag=tag)
        records = ({"MeterCategory": category} | r for r in connection.costs.query(scope, question))
        return [(bool(r.get("TagValue")), row) for r in records if (row := query_row(r, owners))]

    for category in sorted(split):
        has_deployments = category == _VM_CATEGORY and asked.deployments
        if has_deployments and not asked.tag:
            yield from (row for _, row in within(category, _DEPLOYMENT_TAG, asked.deployments))
            continue
        rows = within(category, asked.tag, asked.by_tag)
        if has_deployments:
            found = within(category, _DEPLOYMENT_TAG, asked.deployments)
            served = [row for _, row in found if row["attribution"]]
            yield from served
            rows = [(tagged, row if tagged else _less(row, served)) for tagged, row in rows]
        yield from (row for _, row in rows)


def _less(row: Row, served: Sequence[Row]) -> Row:
    """Return what a workspace's untagged spend of a day leaves once its deployments are told."""
    place = ("workspace_id", "charge_date")
    mine = [each for each in served if all(each[name] == row[name] for name in place)]
    return row | {
        name: None if row[name] is None else row[name] - sum(each[name] or 0.0 for each in mine)
        for name in ("billed_cost", "quantity")
    }


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


def tag_of(tags: Mapping[str, Any], name: str) -> str:
    """Return the value of a tag in lower case, "" where there is none; names have no case."""
    return next((str(v).lower() for k, v in tags.items() if k.strip().lower() == name), "")
