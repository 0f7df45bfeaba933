"""Azure Resource Graph: workspaces and endpoints by a few shapes of KQL.

Computes are left out: whether Azure's graph holds them is not documented, and it is safer to
build on the list that is.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode

from optimizer.emulator import kql
from optimizer.emulator.telemetry import COMPUTES
from optimizer.emulator.wire import (
    TENANT,
    Answer,
    Call,
    Endpoint,
    Json,
    Refusal,
    same,
)

GRAPH_PAGE = 1000


def _resources(call: Call) -> Answer:
    body = call.json()
    query = str(body.get("query", ""))
    options = body.get("options") or {}
    asked = {each.lower() for each in body.get("subscriptions") or call.service.subscriptions()}
    if not same(kql.table_of(query), "resources"):
        raise _invalid(f"The table '{kql.table_of(query)}' is not known")
    rows = [
        _row(document)
        for document in call.world.documents()
        if document["id"].split("/")[2].lower() in asked and not same(document["type"], COMPUTES)
    ]
    try:
        found = kql.run(query, rows, call.world.now_utc)
    except kql.QueryError as error:
        raise _invalid(str(error)) from error
    size = min(int(options.get("$top") or GRAPH_PAGE), GRAPH_PAGE)
    start = _start(options.get("$skipToken")) or int(options.get("$skip") or 0)
    page = found[start : start + size]
    answer: Json = {
        "totalRecords": len(found),
        "count": len(page),
        "resultTruncated": "false",
        "facets": [],
        "data": _table(page) if options.get("resultFormat") == "table" else page,
    }
    if start + size < len(found):
        answer["$skipToken"] = urlsafe_b64encode(str(start + size).encode()).decode()
    return Answer(body=answer)


def _row(document: Json) -> Json:
    parts = document["id"].split("/")
    kept = ("id", "name", "location", "kind", "sku", "tags", "identity", "properties")
    return {
        **{name: document.get(name) for name in kept},
        "type": document["type"].lower(),
        "tenantId": TENANT,
        "subscriptionId": parts[2],
        "resourceGroup": parts[4].lower(),
    }


def _table(rows: list[kql.Row]) -> Json:
    names = list(rows[0]) if rows else []
    return {
        "columns": [{"name": name, "type": "object"} for name in names],
        "rows": [[row[name] for name in names] for row in rows],
    }


def _start(token: str | None) -> int:
    if not token:
        return 0
    try:
        return int(urlsafe_b64decode(token))
    except ValueError as error:
        raise _invalid("The skip token is not valid") from error


def _invalid(why: str) -> Refusal:
    return Refusal(400, "BadRequest", f"Please provide below info: the query is invalid. {why}.")


ENDPOINTS = (
    Endpoint(
        api="resource_graph",
        method="POST",
        template="/providers/Microsoft.ResourceGraph/resources",
        handle=_resources,
    ),
)
