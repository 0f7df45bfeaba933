"""Can everything be read that a collection needs? One cheap question for each API."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from optimizer.azure.arm import SUBSCRIPTIONS_API
from optimizer.azure.connect import Connection
from optimizer.azure.monitor import MetricQuestion
from optimizer.azure.roles import OPERATOR, READER, held_at, missing
from optimizer.errors import AzureError
from optimizer.model import Window

_PROVIDER = "Microsoft.MachineLearningServices"

_ASKED_FOR_LOGS = 5
"""Workspaces that stand for all: what a table holds does not differ between them."""

NOT_SEEN = "Not seen yet: Azure's documents leave it open, and the product takes it either way."


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How one question went."""

    name: str
    ok: bool | None
    """None: it works, and something is missing that would make it better."""
    detail: str


def check(connection: Connection, subscriptions: Sequence[str]) -> tuple[Check, ...]:
    """Ask every API once, and for each workspace whether its clusters are logged.

    What fails is a check that says why; nothing is raised and nothing is changed in Azure.
    """
    return tuple(_checks(connection, subscriptions))


def _checks(connection: Connection, subscriptions: Sequence[str]) -> Iterator[Check]:
    arm = connection.arm
    signed_in = _try("Sign-in", lambda: f"Azure's clock says {arm.now_utc():%Y-%m-%d %H:%M} UTC.")
    yield signed_in
    if not signed_in.ok:
        return
    listed = [
        s["subscriptionId"] for s in arm.list("/subscriptions", api_version=SUBSCRIPTIONS_API)
    ]
    asked = list(subscriptions) or listed
    if not asked:
        yield Check(
            name="Subscriptions",
            ok=False,
            detail="This account sees no subscription: ask for the role Reader on one.",
        )
    for subscription in asked:
        yield from _subscription(connection, subscription)
    yield _try("Retail prices", lambda: _prices(connection))


def _subscription(connection: Connection, subscription: str) -> Iterator[Check]:
    path = f"/subscriptions/{subscription}/providers/{_PROVIDER}/workspaces"
    found: list[dict[str, Any]] = []

    def workspaces() -> str:
        found.extend(connection.arm.list(path))
        return f"{len(found)} workspace{'s' * (len(found) != 1)} can be read."

    now = connection.arm.now_utc()
    day = Window(start_utc=now - timedelta(days=1), end_utc=now)
    yield _try(f"Workspaces of {subscription}", workspaces)
    yield _try(f"Activity log of {subscription}", lambda: _activity(connection, subscription, day))
    yield _try(f"Costs of {subscription}", lambda: _costs(connection, subscription))
    yield _open(
        f"Days of costs of {subscription}", lambda: _usage_date(connection, subscription, now)
    )
    yield _open(
        f"Resource Graph of {subscription}",
        lambda: _graph(connection, subscription, found),
    )
    yield _open(f"Log of run states of {subscription}", lambda: _run_states(connection, found, now))
    for workspace in found:
        name, of = workspace["name"], workspace["id"]
        yield from _roles(connection, name, of)
        yield _try(f"Computes of {name}", partial(_computes, connection, of))
        yield _try(
            f"Metrics of {name}",
            partial(_metrics, connection, workspace["location"], of, day),
        )
        yield _logs(connection, name, of, now)


def _roles(connection: Connection, name: str, workspace_id: str) -> Iterator[Check]:
    try:
        held = list(held_at(connection.arm, workspace_id))
    except AzureError as error:
        yield Check(name=f"Roles on {name}", ok=None, detail=str(error))
        return
    lacks = missing(READER, held)
    yield Check(
        name=f"Reader role on {name}",
        ok=not lacks,
        detail=f"It lacks {', '.join(lacks)}: docs/roles/reader.json has them all."
        if lacks
        else "Everything that a collection asks for may be read.",
    )
    lacks = missing(OPERATOR, held)
    yield Check(
        name=f"Operator role on {name}",
        # Who only looks needs none of it.
        ok=None if lacks else True,
        detail=f"Not everything can be applied there without {', '.join(lacks)}: "
        "docs/roles/operator.json has them all."
        if lacks
        else "Plans can be applied and rolled back.",
    )


def _open(name: str, ask: Callable[[], str | None]) -> Check:
    """Return which way an open question turned out; one that cannot be asked is not seen yet."""
    try:
        said = ask()
    except AzureError:
        said = None
    return Check(name=name, ok=None if said is None else True, detail=said or NOT_SEEN)


def _usage_date(connection: Connection, subscription: str, now: datetime) -> str | None:
    body: dict[str, Any] = {
        "type": "ActualCost",
        "timeframe": "Custom",
        "timePeriod": {
            "from": f"{now - timedelta(days=7):%Y-%m-%d}T00:00:00Z",
            "to": f"{now:%Y-%m-%d}T23:59:59Z",
        },
        "dataset": {
            "granularity": "Daily",
            "aggregation": {"cost": {"name": "Cost", "function": "Sum"}},
        },
    }
    for row in connection.costs.query(f"/subscriptions/{subscription}", body):
        day = row.get("UsageDate")
        kind = "a number" if isinstance(day, int | float) else "text"
        return f"UsageDate is {kind}, such as {day}."
    return None


def _graph(
    connection: Connection, subscription: str, workspaces: Sequence[Mapping[str, Any]]
) -> str | None:
    question = f"resources | where type =~ '{_PROVIDER.lower()}/workspaces/computes' | take 1"
    if any(True for _ in connection.graph.query(question, [subscription])):
        return "It lists computes; the product reads them by workspace all the same."
    for workspace in workspaces:
        for _ in connection.arm.list(f"{workspace['id']}/computes"):
            return "It lists no computes, so each workspace is asked for its own."
    return None


def _run_states(
    connection: Connection, workspaces: Sequence[Mapping[str, Any]], now: datetime
) -> str | None:
    window = Window(start_utc=now - timedelta(days=30), end_utc=now)
    for workspace in workspaces[:_ASKED_FOR_LOGS]:
        query = "AmlRunStatusChangedEvent | take 1"
        for row in connection.monitor.logs(workspace["id"], query, window):
            filled = sorted(name for name, value in row.items() if value not in (None, ""))
            return f"AmlRunStatusChangedEvent is kept; it tells {', '.join(filled)}."
    return None


def _try(name: str, ask: Callable[[], str]) -> Check:
    try:
        return Check(name=name, ok=True, detail=ask())
    except AzureError as error:
        return Check(name=name, ok=False, detail=str(error))


def _computes(connection: Connection, workspace_id: str) -> str:
    # Its import costs more than a second, which nobody but the doctor has to wait for.
    from optimizer.azure.ml import MachineLearning  # noqa: PLC0415

    seen = MachineLearning(connection.access).computes(workspace_id)
    return f"azure-ai-ml lists {len(seen)} computes."


def _activity(connection: Connection, subscription: str, day: Window) -> str:
    events = connection.monitor.activity(subscription, day, provider=_PROVIDER)
    return f"{sum(1 for _ in events)} events in the last day."


def _costs(connection: Connection, subscription: str) -> str:
    body: dict[str, Any] = {
        "type": "ActualCost",
        "timeframe": "MonthToDate",
        "dataset": {
            "granularity": "None",
            "aggregation": {"cost": {"name": "Cost", "function": "Sum"}},
        },
    }
    rows = list(connection.costs.query(f"/subscriptions/{subscription}", body))
    billed = ", ".join(f"{row['Cost']:.2f} {row['Currency']}" for row in rows)
    return f"Billed this month: {billed or 'nothing yet'}."


def _metrics(connection: Connection, region: str, workspace_id: str, day: Window) -> str:
    question = MetricQuestion(
        metrics=("Total Nodes",),
        filter="ClusterName eq '*'",
        window=day,
        grain=timedelta(hours=1),
        aggregations=("Average",),
    )
    series = connection.monitor.metrics(region, [workspace_id], question)
    return f"{len(series)} clusters reported nodes in the last day."


def _logs(connection: Connection, name: str, workspace_id: str, now: datetime) -> Check:
    label = f"Logs of {name}"
    window = Window(start_utc=now - timedelta(days=30), end_utc=now)
    try:
        rows = connection.monitor.logs(workspace_id, "AmlComputeClusterEvent | take 1", window)
    except AzureError as error:
        return Check(name=label, ok=False, detail=str(error))
    if rows:
        return Check(name=label, ok=True, detail="The events of its clusters are logged.")
    return Check(
        name=label,
        ok=None,
        detail="No event of a cluster was logged in 30 days, so start-up minutes are not seen: add "
        "a diagnostic setting that sends AmlComputeClusterEvent to a Log Analytics workspace.",
    )


def _prices(connection: Connection) -> str:
    question = (
        "serviceName eq 'Virtual Machines' and armRegionName eq 'eastus' "
        "and armSkuName eq 'Standard_DS3_v2'"
    )
    rows = sum(1 for _ in connection.prices.items(question, currency="USD"))
    return f"The price list answers ({rows} rows for one size)."
