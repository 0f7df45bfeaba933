"""Files of costs as Azure writes them: FOCUS, and the actual and amortised costs of EA and MCA.

Columns are known by their names, in whatever case, order and language the portal wrote them. One
scan of a file tells every row apart: what is Azure ML's is kept, and what is not is counted and
summed under the reason it was set aside for, so that kept and set aside add up to the file. The
rules and their reasons stand in docs/importing-costs.md.
"""

import csv
import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb

from optimizer.errors import ImportRefusedError
from optimizer.model import Attribution

MARK = "/providers/microsoft.machinelearningservices/workspaces/"

OTHER_CURRENCY = "another currency"
"""The reason why rows of a currency that was not chosen are set aside."""

_POOL = re.compile(r"^(?P<compute>.+)_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
_LOCALISED = re.compile(r".*\(([^()]+)\)\s*$")
"""The portal writes its own language first: Kategorie der Verbrauchseinheit (MeterCategory)."""
_BAD_LINE = re.compile(r"CSV Error on Line: (\d+)")
_BAD_NUMBER = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")
_DAY_FIRST_FROM = 13
_MEMORY = "300MB"
_ROWS_A_BATCH = 50_000
_DISTINCT = 20_000
"""The same labels come back day after day: each is read once."""

_USAGE_TYPES = {
    "computehr": "vm",
    "virtualmachines": "vm",
    "virtualmachinescalesets": "vm",
    "disks": "disk",
    "publicipaddresses": "ip",
    "loadbalancers": "load_balancer",
}
CATEGORIES = {
    "virtual machines": "vm",
    "storage": "disk",
    "virtual network": "ip",
    "load balancer": "load_balancer",
    "bandwidth": "bandwidth",
}
# The start of FOCUS' ChargeDescription, where a file has no column for the meter's category.
_DESCRIPTIONS = {
    "virtual machines": "vm",
    "load balancer": "load_balancer",
    "ip addresses": "ip",
    "bandwidth": "bandwidth",
    "rtn preference": "bandwidth",
    "premium ssd": "disk",
    "standard ssd": "disk",
    "standard hdd": "disk",
    "ultra disks": "disk",
}

# The same column has a name for each kind of agreement and version; the first that is there counts.
_DETAILS: Mapping[str, tuple[str, ...]] = {
    "resource_id": ("resourceid", "instanceid", "instancename"),
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
    "charge": ("chargetype",),
}
_FOCUS: Mapping[str, tuple[str, ...]] = {
    "resource_id": ("resourceid",),
    "date": ("chargeperiodstart",),
    "billed": ("billedcost",),
    "effective": ("effectivecost",),
    "list": ("listcost",),
    "contracted": ("contractedcost",),
    "currency": ("billingcurrency",),
    "quantity": ("consumedquantity", "pricingquantity"),
    "unit": ("consumedunit", "pricingunit"),
    "category": ("x_skumetercategory",),
    "meter": ("skumeter", "x_skumetername", "chargedescription"),
    "description": ("chargedescription",),
    "pricing_model": ("pricingcategory",),
    "commitment": ("commitmentdiscounttype",),
    "status": ("commitmentdiscountstatus",),
    "info": ("x_skudetails", "skupricedetails"),
    "tags": ("tags",),
    "charge": ("chargecategory",),
}
_DETAILS_NEED = ("resource_id", "date", "cost", "currency")
_FOCUS_NEEDS = ("resource_id", "date", "billed", "effective", "currency", "charge")

_TEXTS = ("unit", "category", "meter", "description", "pricing_model", "commitment", "info", "tags")
_AMOUNTS = ("billed", "effective", "list", "contracted", "quantity")

Row = dict[str, Any]


class Metric(StrEnum):
    """What the cost of a file of cost details means."""

    ACTUAL = "actual"
    """What was invoiced: `billed_cost`."""
    AMORTIZED = "amortized"
    """Commitments spread over what they cover: `effective_cost`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """Rows of a file that are no use of an Azure ML workspace, and why."""

    reason: str
    currency: str | None
    rows: int
    billed_cost: float | None
    effective_cost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What one file holds."""

    file: Path
    layout: str
    """FOCUS, or actual or amortised cost details."""
    days: tuple[date, date] | None
    """The first and the last; None: it has no row."""
    rows: int
    kept: tuple[Row, ...]
    """As `tables.COSTS`; rows that agree in everything but their amounts are one."""
    kept_rows: int
    set_aside: tuple[SetAside, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """How a file's columns say what we ask."""

    is_focus: bool
    columns: Mapping[str, str]
    """The column of the file for each name of ours that it has."""
    types: Mapping[str, str]
    source: str
    """What follows FROM."""


def read_export(
    file: Path,
    *,
    metric: Metric | None = None,
    currency: str | None = None,
    name: str | None = None,
    threads: int = 0,
) -> Export:
    """Read a file of costs, in one scan and little memory.

    Args:
        file: CSV, CSV.gz or Parquet.
        metric: of cost details; None: amortised where the file shows commitments spread over their
            use, else actual.
        currency: the billing currency to keep; None: any.
        name: what messages call the file; None: its path.
        threads: how many may read; 0: as many as there are processors. With one, sums do not depend
            on who was faster.

    Raises:
        ImportRefusedError: a column is missing, or the file cannot be read; it names them.
    """
    called = name or str(file)
    with duckdb.connect(config={"memory_limit": _MEMORY, "preserve_insertion_order": False}) as db:
        # It would go to stdout. A notebook that cannot draw it has none, and may not be told so.
        if db.execute("SELECT current_setting('enable_progress_bar')").fetchone() == (True,):
            db.execute("SET enable_progress_bar = false")
        if threads:
            db.execute(f"SET threads = {threads}")
        try:
            layout = _layout(db, file, called)
            day_first = _day_first(db, layout)
            groups = list(_records(db.execute(_question(layout, day_first, currency))))
        except duckdb.Error as error:
            raise ImportRefusedError(_unreadable(called, error)) from error
    return _export(file, called, layout, groups, metric)


def compute_of(pool: str) -> str | None:
    """Return the compute that a Batch pool belongs to.

    >>> compute_of("azurepc_84f29f84-4ac2-4286-9879-731da9be5607")
    'azurepc'
    """
    found = _POOL.match(pool)
    return found["compute"] if found else (pool or None)


def workspace_of(resource_id: str) -> str:
    """Return the workspace's part of an id, in lower case."""
    return "/".join(resource_id.lower().split("/")[:9])


def _export(
    file: Path, called: str, layout: _Layout, groups: list[Row], metric: Metric | None
) -> Export:
    readable = [group for group in groups if group["reason"] != "unreadable"]
    if groups and not readable:
        names = ", ".join(layout.columns[n] for n in _needed(layout.is_focus) if n != "resource_id")
        raise ImportRefusedError(
            f"{called} cannot be imported: no row has values that can be read in all of {names}."
        )
    if metric is None and not layout.is_focus:
        spread = any(group["spread"] for group in groups)
        metric = Metric.AMORTIZED if spread else Metric.ACTUAL
    kept = [_row(group, layout, metric) for group in groups if group["reason"] is None]
    billed, effective = layout.is_focus or metric is Metric.ACTUAL, metric is not Metric.ACTUAL
    return Export(
        file=file,
        layout="FOCUS" if layout.is_focus else f"{metric} cost details",
        days=(min(g["first"] for g in readable), max(g["last"] for g in readable))
        if readable
        else None,
        rows=sum(group["rows"] for group in groups),
        kept=tuple(kept),
        kept_rows=sum(group["rows"] for group in groups if group["reason"] is None),
        set_aside=tuple(
            SetAside(
                reason=group["reason"],
                currency=group["currency"],
                rows=group["rows"],
                billed_cost=group["billed"] if billed else None,
                effective_cost=group["effective"] if effective else None,
            )
            for group in groups
            if group["reason"] is not None
        ),
    )


def _row(group: Row, layout: _Layout, metric: Metric | None) -> Row:
    pool, usage, vm_size = _machine(group["info"])
    workspace_id = workspace_of(group["resource_id"])
    compute = compute_of(pool)
    deployment = None if compute else _deployment(group["tags"])
    below = f"/computes/{compute.lower()}" if compute else f"/{deployment}" if deployment else ""
    # A file of one metric says nothing of the other; the two of a period add up (see `merged`).
    actual, amortized = (metric is not other for other in (Metric.AMORTIZED, Metric.ACTUAL))
    return {
        "resource_id": f"{workspace_id}{below}",
        "workspace_id": workspace_id,
        "charge_date": datetime.combine(group["charge_day"], time(), UTC),
        "meter": group["meter"],
        "pricing_model": _pricing_model(group) if layout.is_focus else group["pricing_model"],
        "billed_cost": group["billed"] if actual else None,
        "effective_cost": group["effective"] if amortized else None,
        "list_cost": group["list"],
        "contracted_cost": group["contracted"],
        "quantity": group["quantity"],
        "unit": group["unit"],
        "currency": group["currency"],
        "compute_name": compute or (deployment and deployment.rpartition("/")[2]),
        "vm_size": vm_size,
        "component": _component(group, usage),
        "attribution": _attribution(compute, deployment),
        "tags": _tags(group["tags"]),
    }


def _attribution(compute: str | None, deployment: str | None) -> str | None:
    if compute:
        return Attribution.EXACT.value
    return Attribution.TAG.value if deployment else None


@lru_cache(_DISTINCT)
def _deployment(tags: str | None) -> str | None:
    """Return the part of a deployment's id below its workspace, from the tags Azure gives it.

    >>> _deployment('"azuremlendpoint":"Ep","azuremldeployment":"blue"')
    'onlineendpoints/ep/deployments/blue'
    """
    known = {name.lower(): str(value).lower() for name, value in loose_json(tags).items()}
    endpoint, deployment = known.get("azuremlendpoint"), known.get("azuremldeployment")
    if not endpoint or not deployment:
        return None
    return f"onlineendpoints/{endpoint}/deployments/{deployment}"


@lru_cache(_DISTINCT)
def _machine(info: str | None) -> tuple[str, str, str | None]:
    """Return pool, usage type and VM size; FOCUS puts `x_` before what Azure adds."""
    known = {name.removeprefix("x_"): value for name, value in loose_json(info).items()}
    return (
        str(known.get("PoolName") or ""),
        str(known.get("UsageType") or ""),
        known.get("ServiceType"),
    )


@lru_cache(_DISTINCT)
def _tags(text: str | None) -> str:
    return json.dumps(loose_json(text), sort_keys=True)


def _component(group: Row, usage: str) -> str:
    # Bandwidth has the usage type of the machines that caused it, so the category goes first.
    if found := CATEGORIES.get((group["category"] or "").lower()):
        return found
    if found := _USAGE_TYPES.get(usage.lower()):
        return found
    described = (group["description"] or "").lower()
    return next((c for start, c in _DESCRIPTIONS.items() if described.startswith(start)), "other")


def _pricing_model(group: Row) -> str | None:
    """Say FOCUS' pricing category as cost details say it."""
    category = (group["pricing_model"] or "").lower()
    if category == "committed":
        return "SavingsPlan" if "saving" in (group["commitment"] or "").lower() else "Reservation"
    return {"standard": "OnDemand", "dynamic": "Spot"}.get(category)


def loose_json(text: str | None) -> dict[str, Any]:
    """Read a JSON object that exports may write without its braces; {} where it is none.

    >>> loose_json('"team": "vision"')
    {'team': 'vision'}
    """
    text = (text or "").strip()
    try:
        value = json.loads(text if text.startswith("{") else f"{{{text}}}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


# Reading


def _layout(db: duckdb.DuckDBPyConnection, file: Path, called: str) -> _Layout:
    if file.suffix == ".parquet":
        source = f"read_parquet({_quoted(str(file))})"
        described = db.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()  # noqa: S608
        types = {str(name): str(kind) for name, kind, *_ in described}
    else:
        header, separator = _header(file, called)
        types = dict.fromkeys(header, "VARCHAR")
        source = _csv_source(file, header, separator)
    known = {_plain(column): column for column in reversed(types)}
    is_focus = "billedcost" in known and "chargeperiodstart" in known
    aliases = _FOCUS if is_focus else _DETAILS
    columns = {
        ours: known[alias]
        for ours, names in aliases.items()
        for alias in [next((name for name in names if name in known), None)]
        if alias
    }
    if missing := [ours for ours in _needed(is_focus) if ours not in columns]:
        wanted = ", ".join(" or ".join(_SPOKEN.get(a, a) for a in aliases[m]) for m in missing)
        begin = ", ".join(list(types)[:5])
        raise ImportRefusedError(
            f"{called} cannot be imported: it has no column {wanted}; its columns begin with "
            f"{begin}."
        )
    return _Layout(is_focus=is_focus, columns=columns, types=types, source=source)


_SPOKEN = {
    "resourceid": "ResourceId",
    "instanceid": "InstanceId",
    "instancename": "InstanceName",
    "date": "Date",
    "usagedatetime": "UsageDateTime",
    "costinbillingcurrency": "CostInBillingCurrency",
    "cost": "Cost",
    "pretaxcost": "PreTaxCost",
    "billingcurrency": "BillingCurrency",
    "billingcurrencycode": "BillingCurrencyCode",
    "currency": "Currency",
    "billedcost": "BilledCost",
    "effectivecost": "EffectiveCost",
    "chargecategory": "ChargeCategory",
    "chargeperiodstart": "ChargePeriodStart",
}


def _needed(is_focus: bool) -> tuple[str, ...]:  # noqa: FBT001 - one question
    return _FOCUS_NEEDS if is_focus else _DETAILS_NEED


def _header(file: Path, called: str) -> tuple[list[str], str]:
    """Return the names of a CSV's columns and what separates them."""
    opened = gzip.open if file.suffix == ".gz" else open
    try:
        with opened(file, "rt", encoding="utf-8-sig", newline="") as text:
            line = text.readline()
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise ImportRefusedError(f"{called} cannot be imported: {_short(error)}.") from error
    separator = max(",;\t", key=line.count)
    names = next(csv.reader([line], delimiter=separator), [])
    # Two columns of one name are told apart by their place, and the first is the one that counts.
    return [n if n not in names[:i] else f"{n} #{i}" for i, n in enumerate(names)], separator


def _csv_source(file: Path, header: Sequence[str], separator: str) -> str:
    # Nothing is guessed: a value is text until a column is asked for as something else.
    columns = ", ".join(f"{_quoted(name)}: 'VARCHAR'" for name in header)
    return (
        f"read_csv({_quoted(str(file))}, auto_detect = false, header = true, "
        f"columns = {{{columns}}}, delim = {_quoted(separator)}, quote = '\"', escape = '\"')"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _plain(column: str) -> str:
    """Return a column's name in lower case, without the words of the portal's language.

    >>> _plain("Tags (Tags)"), _plain(" billingCurrency ")
    ('tags', 'billingcurrency')
    """
    found = _LOCALISED.match(column)
    return (found[1] if found else column).strip().replace(" ", "").lower()


def _text(layout: _Layout, ours: str) -> str:
    column = layout.columns.get(ours)
    if column is None:
        return "NULL::VARCHAR"
    quoted = '"' + column.replace('"', '""') + '"'
    kind = layout.types[column]
    if kind.startswith(("MAP", "STRUCT", "JSON")) or kind.endswith("[]"):
        return f"to_json({quoted})::VARCHAR"
    return f"nullif(nullif(trim({quoted}::VARCHAR), ''), 'NULL')"


def _number(layout: _Layout, ours: str) -> str:
    return f"TRY_CAST({_text(layout, ours)} AS DOUBLE)"


def _day(layout: _Layout, *, day_first: bool) -> str:
    text = _text(layout, "date")
    slashes = "%d/%m/%Y" if day_first else "%m/%d/%Y"
    return (
        f"coalesce(TRY_CAST({text} AS TIMESTAMP)::DATE, "
        f"try_strptime({text}, ['{slashes}', '%Y%m%d'])::DATE)"
    )


def _day_first(db: duckdb.DuckDBPyConnection, layout: _Layout) -> bool:
    """Tell whether dates with slashes put the day first; Azure writes the month first."""
    text = _text(layout, "date")
    some = db.execute(f"SELECT {text} FROM {layout.source} LIMIT 1").fetchone()  # noqa: S608
    if not some or "/" not in str(some[0]):
        return False
    largest = db.execute(
        f"SELECT max(TRY_CAST(split_part({text}, '/', 1) AS INT)) FROM {layout.source}"  # noqa: S608
    ).fetchone()
    return bool(largest and largest[0] is not None and largest[0] >= _DAY_FIRST_FROM)


def _question(layout: _Layout, day_first: bool, only: str | None) -> str:  # noqa: FBT001 - as found
    """Return the one scan: rows of use summed by everything that tells them apart, others by why.

    A group that was set aside has no labels, so there are few of them however long the file.
    """
    if layout.is_focus:
        amounts = {name: _number(layout, name) for name in _AMOUNTS}
        spread = "false"
    else:
        cost, quantity = _number(layout, "cost"), _number(layout, "quantity")
        amounts = {
            "billed": cost,
            "effective": cost,
            "list": f"{quantity} * {_number(layout, 'payg_price')}",
            "contracted": f"{quantity} * {_number(layout, 'unit_price')}",
            "quantity": quantity,
        }
        spread = (
            f"coalesce({_lower(layout, 'charge')} LIKE 'unused%' OR ("
            f"{_lower(layout, 'pricing_model')} IN ('reservation', 'savingsplan') AND "
            f"{_lower(layout, 'charge')} = 'usage' AND billed <> 0), false)"
        )
    labels = {
        "resource_id": f"lower({_text(layout, 'resource_id')})",
        **{name: _text(layout, name) for name in _TEXTS},
    }
    every = ", ".join(f"{sql} AS {name}" for name, sql in {**amounts, **labels}.items())
    kept = ", ".join(f"CASE WHEN reason IS NULL THEN {n} END AS {n}" for n in labels)
    sums = ", ".join(f"sum({name}) AS {name}" for name in _AMOUNTS)
    return f"""
        WITH read AS (
            SELECT {every}, {_day(layout, day_first=day_first)} AS day,
                {_text(layout, "currency")} AS currency, {_lower(layout, "charge")} AS charge,
                {_lower(layout, "status")} AS status, {spread} AS spread
            FROM {layout.source}
        ), judged AS (
            SELECT *, CASE
                WHEN day IS NULL OR billed IS NULL OR effective IS NULL
                    OR NOT regexp_full_match(coalesce(currency, ''), '[A-Za-z]{{3}}')
                    THEN 'unreadable'
                WHEN charge = 'purchase' THEN 'purchase'
                WHEN status = 'unused' OR charge LIKE 'unused%' THEN 'unused commitment'
                WHEN charge = 'credit' THEN 'credit'
                WHEN charge = 'tax' THEN 'tax'
                WHEN charge IN ('adjustment', 'roundingadjustment') THEN 'adjustment'
                WHEN NOT contains(coalesce(resource_id, ''), '{MARK}') THEN 'another service'
                {f"WHEN upper(currency) <> {_quoted(only)} THEN '{OTHER_CURRENCY}'" if only else ""}
            END AS reason FROM read
        )
        SELECT reason, CASE WHEN reason IS DISTINCT FROM 'unreadable' THEN upper(currency) END
            AS currency, CASE WHEN reason IS NULL THEN day END AS charge_day, {kept}, {sums},
            count(*) AS rows, min(day) AS first, max(day) AS last, bool_or(spread) AS spread
        FROM judged GROUP BY ALL ORDER BY ALL
    """  # noqa: S608 - the names are those of the file's own columns, quoted


def _lower(layout: _Layout, ours: str) -> str:
    return f"lower(replace({_text(layout, ours)}, ' ', ''))"


def _records(answer: duckdb.DuckDBPyConnection) -> Iterator[Row]:
    names = [column[0] for column in answer.description or ()]
    while rows := answer.fetchmany(_ROWS_A_BATCH):
        yield from (dict(zip(names, row, strict=True)) for row in rows)


def _unreadable(called: str, error: Exception) -> str:
    text = str(error)
    if line := _BAD_LINE.search(text):
        number = _BAD_NUMBER.search(text)
        why = f"has {number[2]} values for {number[1]} columns" if number else "leaves a quote open"
        return f"{called} cannot be imported: line {line[1]} {why}; export it again."
    return f"{called} cannot be imported: {_short(error)}; export it again."


def _short(error: Exception) -> str:
    """Return what the operating system or a library says, without its kind and full stop."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    first = str(error).strip().split("\n", maxsplit=1)[0].rstrip(".")
    return first.removeprefix("Invalid Input Error: ").removeprefix("IO Error: ")
