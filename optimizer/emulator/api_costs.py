"""Cost Management: the query, and the cost details report that splits spend by compute.

A charge is rounded where it arises, on its line, so that every way of adding lines up agrees.
The resource of all Azure ML spend is the workspace; which compute it was stands in the report's
AdditionalInfo, and in the tags that the query can group by. Actual costs show a reservation where
it was bought and nothing for the hours it covers; amortised costs show those hours at their part of
it, and the hours that nothing used.
"""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeAlias

from optimizer.emulator import skus
from optimizer.emulator.records import Charge
from optimizer.emulator.telemetry import COMPUTES
from optimizer.emulator.telemetry_deployments import DEPLOYMENTS
from optimizer.emulator.wire import (
    PROVIDER,
    Answer,
    Call,
    Endpoint,
    Json,
    Refusal,
    epoch,
    iso,
    parse_moment,
    same,
    stable_id,
)

QUERY_PAGE = 1000
DAILY_LIMIT_DAYS = 31
LONGEST_DAYS = 366
OLDEST_DAYS = 37 * 31
MOST_GROUPINGS = 2
REPORT_VALID = timedelta(hours=12)

RATE_HEADERS: Mapping[str, str] = {
    "x-ms-ratelimit-remaining-microsoft.costmanagement-entity-requests": "DefaultQuota:7",
    "x-ms-ratelimit-remaining-microsoft.costmanagement-tenant-requests": "DefaultQuota:49",
}
COST_API = "cost_management"
_DAYS_A_UNIT = 31
"""A query processing unit reads a month of data."""

_METRICS = ("ActualCost", "AmortizedCost")
_SUBSCRIPTION_PART, _GROUP_PART = 2, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A charge as the bill prints it."""

    charge: Charge
    cost: float
    list_cost: float
    is_instance: bool
    tags: Mapping[str, str]


def _meter(charge: Charge) -> tuple[str, str, str, str]:
    """Return a charge's meter category, sub-category, name and unit."""
    if charge.component == "vm":
        low = " Low Priority" if charge.priority == "LowPriority" else ""
        name = f"{skus.meter(charge.vm_size)}{low}"
        return "Virtual Machines", skus.series(charge.vm_size), name, "1 Hour"
    return {
        "disk": ("Storage", "Premium SSD Managed Disks", "P10 LRS Disk", "1/Month"),
        "ip": ("Virtual Network", "IP Addresses", "Standard IPv4 Static Public IP", "1 Hour"),
        "load_balancer": (
            "Load Balancer",
            "",
            "Standard Included LB Rules and Outbound Rules",
            "1 Hour",
        ),
    }.get(charge.component, ("Bandwidth", "", charge.meter, charge.unit))


def _lines(call: Call, first: date, last: date, metric: str) -> list[Line]:
    """Return the scope's lines of some days, as far as billing has got."""
    world = call.world
    subscription, group = call.parts["subscription"], call.parts.get("group")
    billed_until = world.now_utc - timedelta(hours=world.estate.billing.lag_hours)
    start = datetime(first.year, first.month, first.day, tzinfo=UTC)
    end = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
    end = min(end, billed_until)
    if start >= end:
        return []
    kinds = (COMPUTES, DEPLOYMENTS)
    computes = {d["id"].lower(): d for kind in kinds for d in world.documents(kind)}
    tagged = world.estate.telemetry.tags_on_costs
    return [
        Line(
            charge=charge,
            cost=_rounded(cost, world.estate.billing.round_to),
            list_cost=charge.list_cost,
            is_instance=compute.get("properties", {}).get("computeType") == "ComputeInstance",
            tags=_tags(charge, compute) if tagged else {},
        )
        for charge, cost in _charged(call, epoch(start), epoch(end), metric)
        for compute in [computes.get(charge.compute_id.lower(), {})]
        if same(_part(charge, _SUBSCRIPTION_PART), subscription)
        and (group is None or same(_part(charge, _GROUP_PART), group))
    ]


def _charged(call: Call, start_s: int, end_s: int, metric: str) -> list[tuple[Charge, float]]:
    """Return charges and what each costs in a metric."""
    charges = call.world.charges(start_s, end_s)
    if metric == "AmortizedCost":
        return [(charge, charge.cost) for charge in charges]
    return [
        *(
            (charge, 0.0 if charge.reservation_id else charge.cost)
            for charge in charges
            if charge.charge_type != "UnusedReservation"
        ),
        *((bought, bought.cost) for bought in call.world.purchases(start_s, end_s)),
    ]


def _part(charge: Charge, place: int) -> str:
    """Return a part of the id of what is billed, counted between its slashes; "": it has none."""
    parts = charge.workspace_id.split("/")
    return parts[place] if place < len(parts) else ""


def _resource_id(charge: Charge) -> str:
    """Return what a line is billed on: the workspace; of a reservation's own, itself (a guess)."""
    return charge.workspace_id if charge.charge_type == "Usage" else charge.compute_id


def _pricing_model(charge: Charge) -> str:
    return "Reservation" if charge.reservation_id else "OnDemand"


def _tags(charge: Charge, compute: Json) -> Mapping[str, str]:
    """Return the tags of a compute, and those that Azure adds to the costs of a deployment."""
    tags: dict[str, str] = compute.get("tags") or {}
    if not _is_deployment(charge):
        return tags
    *_, endpoint, _, deployment = charge.compute_id.split("/")
    return tags | {"azuremlendpoint": endpoint, "azuremldeployment": deployment}


def _is_deployment(charge: Charge) -> bool:
    return "/onlineendpoints/" in charge.compute_id.lower()


def _rounded(amount: float, step: float | None) -> float:
    """Return an amount as a whole number of steps; no step leaves it as it is."""
    if not step:
        return amount
    return round(round(amount / step) * step, 10)


def _known_scope(call: Call) -> None:
    subscriptions = call.service.subscriptions()
    if not any(same(known, call.parts["subscription"]) for known in subscriptions):
        raise Refusal(
            404,
            "SubscriptionNotFound",
            f"The subscription '{call.parts['subscription']}' could not be found.",
        )


# The query


_Key: TypeAlias = tuple[str | int, ...]
_Column: TypeAlias = tuple[Sequence[tuple[str, str]], Callable[[Line], _Key]]
"""The name and type of each column, and their values on a line."""


def _query(call: Call) -> Answer:
    _known_scope(call)
    body = call.json()
    if body.get("type") not in {*_METRICS, "Usage"}:
        raise _bad("The type must be ActualCost, AmortizedCost or Usage.")
    dataset = body.get("dataset") or {}
    granularity = dataset.get("granularity") or "None"
    first, last = _period(call, body)
    _check_period(call, granularity, first, last)
    units = -(-((last - first).days + 1) // _DAYS_A_UNIT)
    told = call.service.admit(COST_API, "429", call.service.limits.cost_query(units))
    wanted = _condition(dataset.get("filter"))
    keys = [_date_column(granularity), *_groupings(dataset)]
    sums = _aggregations(dataset)
    totals: dict[_Key, list[float]] = defaultdict(lambda: [0.0] * len(sums))
    for line in _lines(call, first, last, body["type"]):
        if not wanted(line):
            continue
        amounts = totals[tuple(value for _, values in keys for value in values(line))]
        for place, (_, amount) in enumerate(sums):
            amounts[place] += amount(line)
    currency = call.world.estate.currency
    rows = [[*map(_settled, amounts), *key, currency] for key, amounts in sorted(totals.items())]
    columns = [
        *((name, "Number") for name, _ in sums),
        *(column for names, _ in keys for column in names),
        ("Currency", "String"),
    ]
    found = _query_answer(call, columns, rows)
    return replace(found, headers={**found.headers, **told})


def _query_answer(
    call: Call, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]]
) -> Answer:
    start = call.number("$skiptoken", 0)
    end = start + QUERY_PAGE
    name = str(stable_id(call.path, "query"))
    body = {
        "id": f"{call.path.lstrip('/')}/{name}",
        "name": name,
        "type": "Microsoft.CostManagement/query",
        "location": None,
        "sku": None,
        "eTag": None,
        "properties": {
            "nextLink": call.link(**{"$skiptoken": str(end)}) if end < len(rows) else None,
            "columns": [{"name": name, "type": kind} for name, kind in columns],
            "rows": rows[start:end],
        },
    }
    return Answer(body=body, headers=RATE_HEADERS)


def _settled(amount: float) -> float:
    """Return a sum without the dust that adding binary fractions leaves."""
    return round(amount, 10)


def _bad(message: str) -> Refusal:
    return Refusal(400, "BadRequest", message, headers=RATE_HEADERS)


def _period(call: Call, body: Json) -> tuple[date, date]:
    """Return the first and the last day asked about; Azure counts both."""
    timeframe = body.get("timeframe")
    today = call.world.now_utc.date()
    month_start = today.replace(day=1)
    last_month_end = month_start - timedelta(days=1)
    if timeframe == "Custom":
        period = body.get("timePeriod") or {}
        if not {"from", "to"} <= set(period):
            raise _bad("timePeriod.from and timePeriod.to are required with a Custom timeframe.")
        first = parse_moment(period["from"], "timePeriod.from").date()
        return first, parse_moment(period["to"], "timePeriod.to").date()
    known = {
        "MonthToDate": (month_start, today),
        "BillingMonthToDate": (month_start, today),
        "TheCurrentMonth": (month_start, today),
        "TheLastMonth": (last_month_end.replace(day=1), last_month_end),
        "TheLastBillingMonth": (last_month_end.replace(day=1), last_month_end),
        "WeekToDate": (today - timedelta(days=(today.weekday() + 1) % 7), today),
    }
    if timeframe not in known:
        raise _bad(f"Invalid timeframe '{timeframe}'.")
    return known[timeframe]


def _check_period(call: Call, granularity: str, first: date, last: date) -> None:
    days = (last - first).days + 1
    if days < 1:
        raise _bad("timePeriod.from must not be after timePeriod.to.")
    if granularity == "Daily" and days > DAILY_LIMIT_DAYS:
        raise _bad(f"A Daily query spans at most {DAILY_LIMIT_DAYS} days; this one spans {days}.")
    if days > LONGEST_DAYS:
        raise _bad("A query spans at most 12 months.")
    if (call.world.now_utc.date() - first).days > OLDEST_DAYS:
        raise _bad("A query reaches back at most 37 months.")


def _date_column(granularity: str) -> _Column:
    columns: Mapping[str, _Column] = {
        "None": ((), lambda _: ()),
        "Daily": (
            (("UsageDate", "Number"),),
            lambda line: (int(f"{line.charge.day:%Y%m%d}"),),
        ),
        "Monthly": (
            (("BillingMonth", "Datetime"),),
            lambda line: (f"{line.charge.day:%Y-%m}-01T00:00:00",),
        ),
    }
    if granularity not in columns:
        raise _bad(f"Invalid granularity '{granularity}': Daily, Monthly or None.")
    return columns[granularity]


def _groupings(dataset: Json) -> list[_Column]:
    asked = dataset.get("grouping") or []
    if len(asked) > MOST_GROUPINGS:
        raise _bad(f"A query groups by at most {MOST_GROUPINGS} columns.")
    return [_grouping(each) for each in asked]


def _grouping(asked: Json) -> _Column:
    name = asked.get("name", "")
    if asked.get("type") in {"TagKey", "Tag"}:
        return (
            (("TagKey", "String"), ("TagValue", "String")),
            lambda line: (name.lower(), _tag(line, name)),
        )
    value = _dimension(name)
    return ((name, "String"),), lambda line: (value(line.charge),)


def _dimension(name: str) -> Callable[[Charge], str]:
    if name not in _DIMENSIONS:
        raise _bad(f"Invalid dimension '{name}'; valid ones are {', '.join(_DIMENSIONS)}.")
    return _DIMENSIONS[name]


def _tag(line: Line, key: str) -> str:
    return next((value for name, value in line.tags.items() if same(name, key)), "")


def _aggregations(dataset: Json) -> list[tuple[str, Callable[[Line], float]]]:
    known: Mapping[str, Callable[[Line], float]] = {
        "Cost": lambda line: line.cost,
        "PreTaxCost": lambda line: line.cost,
        "UsageQuantity": lambda line: line.charge.quantity,
    }
    asked = (dataset.get("aggregation") or {}).values()
    for each in asked:
        if each.get("name") not in known or each.get("function") != "Sum":
            raise _bad(f"Only sums of {', '.join(known)} can be asked for.")
    return [(each["name"], known[each["name"]]) for each in asked]


def _condition(asked: Json | None) -> Callable[[Line], bool]:
    if not asked:
        return lambda _: True
    if len(asked) != 1:
        raise _bad("A filter is one of and, or, dimensions and tags.")
    (word, inside), *_ = asked.items()
    if word in {"and", "or"}:
        if not isinstance(inside, list) or len(inside) < 2:  # noqa: PLR2004
            raise _bad(f"'{word}' in a filter needs at least two conditions.")
        parts = [_condition(part) for part in inside]
        join = all if word == "and" else any
        return lambda line: join(part(line) for part in parts)
    if word in {"dimensions", "tags", "dimension", "tag"}:
        return _comparison(word, inside)
    raise _bad(f"Invalid filter '{word}'.")


def _comparison(word: str, asked: Json) -> Callable[[Line], bool]:
    if asked.get("operator") != "In":
        raise _bad("The operator of a filter must be In.")
    name = asked.get("name", "")
    values = {str(value).lower() for value in asked.get("values") or []}
    if word.startswith("tag"):
        return lambda line: _tag(line, name).lower() in values
    value = _dimension(name)
    return lambda line: value(line.charge).lower() in values


def _workspace_part(place: int) -> Callable[[Charge], str]:
    return lambda charge: _part(charge, place).lower()


def _meter_part(place: int) -> Callable[[Charge], str]:
    return lambda charge: _meter(charge)[place]


def _always(value: str) -> Callable[[Charge], str]:
    return lambda _: value


_DIMENSIONS: Mapping[str, Callable[[Charge], str]] = {
    "ResourceId": lambda charge: _resource_id(charge).lower(),
    "ResourceType": _always(f"{PROVIDER}/workspaces".lower()),
    "ResourceGroup": _workspace_part(_GROUP_PART),
    "ResourceGroupName": _workspace_part(_GROUP_PART),
    "ResourceLocation": lambda charge: charge.region,
    "SubscriptionId": _workspace_part(_SUBSCRIPTION_PART),
    "ServiceName": _meter_part(0),
    "ServiceFamily": _always("Compute"),
    "ConsumedService": _always(PROVIDER),
    "MeterCategory": _meter_part(0),
    "MeterSubCategory": _meter_part(1),
    "MeterSubcategory": _meter_part(1),
    "Meter": _meter_part(2),
    "UnitOfMeasure": _meter_part(3),
    "ChargeType": lambda charge: charge.charge_type,
    "PricingModel": _pricing_model,
    "ReservationId": lambda charge: charge.reservation_id or "",
    "PublisherType": _always("Azure"),
    "Frequency": _always("UsageBased"),
}
"""What the query can filter and group by."""


# The cost details report


def _begin_report(call: Call) -> Answer:
    _known_scope(call)
    if not call.world.estate.telemetry.cost_details:
        raise _bad(
            "The offer of this subscription does not support the Cost Details API; "
            "use exports instead."
        )
    body = call.json()
    if body.get("metric", "ActualCost") not in _METRICS:
        raise _bad("The metric must be ActualCost or AmortizedCost.")
    period = body.get("timePeriod") or {}
    if not {"start", "end"} <= set(period):
        raise _bad("timePeriod.start and timePeriod.end are required.")
    first = parse_moment(period["start"], "timePeriod.start").date()
    last = parse_moment(period["end"], "timePeriod.end").date()
    if not 0 <= (last - first).days < DAILY_LIMIT_DAYS:
        raise _bad("A report spans at most one month.")
    operation = call.service.begin(f"/{call.path.strip('/')}", method="POST", path=call.path)
    lines = _lines(call, first, last, body.get("metric", "ActualCost"))
    content = _csv(lines, call.world.estate.currency)
    call.service.blobs[operation.id] = content
    call.service.reports[operation.id] = _manifest(call, operation.id, body, len(content))
    scope = call.path[: call.path.lower().index("/providers/microsoft.costmanagement")]
    location = (
        f"{call.base_url}{scope}/providers/Microsoft.CostManagement"
        f"/costDetailsOperationResults/{operation.id}?api-version={call.query['api-version']}"
    )
    return Answer(status=202, headers={**RATE_HEADERS, "Location": location, "Retry-After": "1"})


def _manifest(call: Call, report_id: str, body: Json, size: int) -> Json:
    scope = f"subscriptions/{call.parts['subscription']}"
    link = f"{call.base_url}/blob/costdetails/{report_id}/part0.csv?sig=emulator"
    return {
        "id": f"{scope}/providers/Microsoft.CostManagement/costDetailsOperationResults/{report_id}",
        "name": report_id,
        "status": "Completed",
        "manifest": {
            "manifestVersion": "2025-03-01",
            "dataFormat": "Csv",
            "blobCount": 1,
            "byteCount": size,
            "compressData": False,
            "requestContext": {"requestScope": scope, "requestBody": body},
            "blobs": [{"blobLink": link, "byteCount": size}],
        },
        "validTill": iso((call.world.now_utc + REPORT_VALID).timestamp()),
    }


def _report(call: Call) -> Answer:
    report = call.service.reports.get(call.parts["report"])
    operation = call.service.operations.get(call.parts["report"])
    if report is None or operation is None:
        raise Refusal(404, "NotFound", "There is no such report.", headers=RATE_HEADERS)
    if operation.look():
        again = {"Location": call.link(), "Retry-After": "1"}
        return Answer(status=202, headers={**RATE_HEADERS, **again})
    if operation.error:
        failed = {"status": "Failed", "error": operation.error}
        return Answer(body=report | failed | {"manifest": None}, headers=RATE_HEADERS)
    return Answer(body=report, headers=RATE_HEADERS)


def _blob(call: Call) -> Answer:
    content = call.service.blobs.get(call.parts["report"])
    if content is None:
        raise Refusal(404, "BlobNotFound", "The specified blob does not exist.")
    return Answer(body=content, headers={"Content-Type": "text/csv"})


def _csv(lines: Iterable[Line], currency: str) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(_csv_row(line, currency) for line in lines)
    return text.getvalue().encode()


def _csv_row(line: Line, currency: str) -> Json:
    charge = line.charge
    category, sub_category, meter, unit = _meter(charge)
    month_end = (charge.day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    per_unit = line.cost / charge.quantity if charge.quantity else 0.0
    list_per_unit = line.list_cost / charge.quantity if charge.quantity else 0.0
    # Of an hour that is covered it is the price by the hour: what it would have cost without.
    unit_price = charge.contracted_cost / charge.quantity if charge.reservation_id else per_unit
    resource_id, is_use = _resource_id(charge), charge.charge_type == "Usage"
    subscription = _part(charge, _SUBSCRIPTION_PART)
    return {
        "BillingPeriodStartDate": f"{charge.day.replace(day=1):%m/%d/%Y}",
        "BillingPeriodEndDate": f"{month_end:%m/%d/%Y}",
        "SubscriptionId": subscription,
        "SubscriptionName": f"Subscription {subscription[:8]}",
        "Date": f"{charge.day:%m/%d/%Y}",
        "Product": f"{category} - {sub_category} - {meter}",
        "MeterId": str(stable_id("meter", charge.region, category, meter)),
        "ServiceFamily": "Compute",
        "MeterCategory": category,
        "MeterSubCategory": sub_category,
        "MeterName": meter,
        "Quantity": repr(charge.quantity),
        "EffectivePrice": repr(per_unit),
        "Cost": repr(line.cost),
        "UnitPrice": repr(unit_price),
        "BillingCurrency": currency,
        "ResourceLocation": charge.region,
        "ConsumedService": PROVIDER if is_use else "Microsoft.Capacity",
        "ResourceId": resource_id,
        "ResourceName": resource_id.split("/")[-1],
        "AdditionalInfo": json.dumps(_additional_info(line), separators=(",", ":")),
        # Exports write the tags as JSON without its braces.
        "Tags": json.dumps(_service_tags(line), separators=(",", ": "))[1:-1],
        "UnitOfMeasure": unit,
        "ResourceGroup": _part(charge, _GROUP_PART),
        "PublisherName": "Microsoft",
        "ChargeType": charge.charge_type,
        "Frequency": "OneTime" if charge.charge_type == "Purchase" else "UsageBased",
        "PublisherType": "Azure",
        "PayGPrice": repr(list_per_unit),
        "PricingModel": _pricing_model(charge),
        **_reservation(charge),
    }


def _reservation(charge: Charge) -> Json:
    if charge.reservation_id is None:
        return {}
    order, _, name = charge.reservation_id.partition("/reservations/")
    return {
        "ReservationId": charge.reservation_id,
        "ReservationName": name,
        "ProductOrderId": order.rpartition("/")[2],
    }


def _additional_info(line: Line) -> Json:
    """Return what tells the compute. DSI is on record for instances; AmlCompute is our guess."""
    charge = line.charge
    if charge.charge_type != "Usage":
        return {}
    usage = {
        "vm": "ComputeHR",
        "disk": "disks",
        "ip": "publicIPAddresses",
        "load_balancer": "loadBalancers",
    }
    info = {
        "PoolName": f"{charge.compute_name}_{stable_id('pool', charge.compute_id)}",
        "NodeType": charge.priority,
        "PoolAllocationMode": "BatchService",
        "UsageType": usage.get(charge.component, charge.component),
        "ClusterType": "DSI" if line.is_instance else "AmlCompute",
        "AmlWorkspaceId": str(stable_id("workspace", charge.workspace_id)),
        "WorkspaceLocation": charge.region,
        "AMLResourceType": "Provisioner.Batch",
        "SourceResourceProvider": "Batch",
    }
    if _is_deployment(charge):
        # No row of one is on record; what is documented is that its tags tell it.
        del info["PoolName"], info["ClusterType"]
    return info | {"ServiceType": charge.vm_size} if charge.component == "vm" else info


def _service_tags(line: Line) -> Mapping[str, str]:
    """Return the compute's own tags and the one that the service adds to instances."""
    added = {"ComputeType": "Compute Instance"} if line.is_instance else {}
    return {**line.tags, **added}


_COLUMNS = (
    "BillingAccountId",
    "BillingAccountName",
    "BillingPeriodStartDate",
    "BillingPeriodEndDate",
    "BillingProfileId",
    "BillingProfileName",
    "AccountOwnerId",
    "AccountName",
    "SubscriptionId",
    "SubscriptionName",
    "Date",
    "Product",
    "PartNumber",
    "MeterId",
    "ServiceFamily",
    "MeterCategory",
    "MeterSubCategory",
    "MeterRegion",
    "MeterName",
    "Quantity",
    "EffectivePrice",
    "Cost",
    "UnitPrice",
    "BillingCurrency",
    "ResourceLocation",
    "AvailabilityZone",
    "ConsumedService",
    "ResourceId",
    "ResourceName",
    "ServiceInfo1",
    "ServiceInfo2",
    "AdditionalInfo",
    "Tags",
    "InvoiceSectionId",
    "InvoiceSection",
    "CostCenter",
    "UnitOfMeasure",
    "ResourceGroup",
    "ReservationId",
    "ReservationName",
    "ProductOrderId",
    "ProductOrderName",
    "OfferId",
    "IsAzureCreditEligible",
    "Term",
    "PublisherName",
    "PlanName",
    "ChargeType",
    "Frequency",
    "PublisherType",
    "PayGPrice",
    "PricingModel",
    "CostAllocationRuleName",
    "benefitId",
    "benefitName",
)


def _costs(method: str, template: str, handle: Callable[[Call], Answer]) -> Endpoint:
    return Endpoint(api=COST_API, method=method, template=template, handle=handle)


_SUBSCRIPTION = "/subscriptions/{subscription}"
_GROUP = f"{_SUBSCRIPTION}/resourceGroups/{{group}}"
_COST = "providers/Microsoft.CostManagement"

ENDPOINTS = (
    _costs("POST", f"{_SUBSCRIPTION}/{_COST}/query", _query),
    _costs("POST", f"{_GROUP}/{_COST}/query", _query),
    # Only subscriptions and billing scopes have the report.
    _costs("POST", f"{_SUBSCRIPTION}/{_COST}/generateCostDetailsReport", _begin_report),
    _costs("GET", f"{_SUBSCRIPTION}/{_COST}/costDetailsOperationResults/{{report}}", _report),
    Endpoint(
        api="blob",
        method="GET",
        template="/blob/costdetails/{report}/part0.csv",
        handle=_blob,
        versioned=False,
    ),
)
