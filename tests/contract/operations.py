"""What may be sent to Azure and come back, operation by operation.

The derived schemas know paths, query parameters and models, but not which operation takes and gives
which model; that stands here. What they do not know at all stands in `OUTSIDE`, with the reason.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from tests.contract.recorder import Exchange
from tests.emulator.schemas import paths, wrongs

COMPUTE = "derived-machinelearningservices-compute-2025-12-01.json"
WORKSPACE = "derived-machinelearningservices-workspaces-onlinedeployments-jobs-2025-12-01.json"
COSTS = "derived-costmanagement-2025-03-01.json"
METRICS = "derived-insights-metrics-2024-02-01.json"
BATCH = "derived-metricsbatch-2024-02-01.json"
LOGS = "derived-loganalytics-v1.json"
GRAPH = "derived-resourcegraph-2021-03-01.json"
FILES = (COMPUTE, WORKSPACE, COSTS, METRICS, BATCH, LOGS, GRAPH)

_LAST_LINE = "/workspaces/{workspaceName}"
_SDK_COMPUTE = ("2023-08-01-preview",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation that a derived schema knows."""

    file: str
    method: str
    path: str
    """How its template ends."""
    sent: str | None = None
    """The model of the body; None = no body."""
    answered: str | None = None
    """The model of a good answer; None = no body, or one of no model."""
    page: str | None = None
    """Where the answer is a list of the model: its name, beside `nextLink`."""
    versions: Sequence[str] = ()
    """What the SDKs send beside the version of the schema (facts §2.6)."""
    needs: Sequence[str] = ()
    """Query parameters that it cannot do without."""

    @property
    def versioned(self) -> bool:
        """Whether it wants an `api-version`."""
        return self.file != LOGS


def _compute(method: str, path: str, **fields: Any) -> Operation:
    return Operation(file=COMPUTE, method=method, path=path, versions=_SDK_COMPUTE, **fields)


def _workspace(path: str, *versions: str, **fields: Any) -> Operation:
    plain: dict[str, Any] = {"method": "GET", "page": "value"}
    return Operation(file=WORKSPACE, path=path, versions=versions, **(plain | fields))


OPERATIONS = (
    _compute("GET", "/computes", answered="ComputeResource", page="value"),
    _compute("GET", "/computes/{computeName}", answered="ComputeResource"),
    _compute("PUT", "/computes/{computeName}", sent="ComputeResource", answered="ComputeResource"),
    _compute(
        "PATCH",
        "/computes/{computeName}",
        sent="ClusterUpdateParameters",
        answered="ComputeResource",
    ),
    _compute("DELETE", "/computes/{computeName}", needs=("underlyingResourceAction",)),
    _compute("POST", "/computes/{computeName}/start"),
    _compute("POST", "/computes/{computeName}/stop"),
    _compute("POST", "/computes/{computeName}/restart"),
    _compute(
        "POST",
        "/computes/{computeName}/listNodes",
        answered="AmlComputeNodeInformation",
        page="nodes",
    ),
    _compute("GET", "/locations/{location}/vmSizes", answered="VirtualMachineSizeListResult"),
    _compute("GET", "/locations/{location}/usages", answered="Usage", page="value"),
    Operation(
        file=COMPUTE,
        method="GET",
        path="/locations/{location}/quotas",
        answered="ResourceQuota",
        page="value",
        versions=("2024-10-01-preview",),
    ),
    _workspace("/workspaces", "2024-10-01-preview", answered="Workspace"),
    _workspace(_LAST_LINE, *_SDK_COMPUTE, answered="Workspace", page=None),
    _workspace("/onlineEndpoints", "2022-02-01-preview", answered="OnlineEndpoint"),
    _workspace("/deployments", "2023-04-01-preview", answered="OnlineDeployment"),
    _workspace(
        "/deployments/{deploymentName}",
        "2023-04-01-preview",
        answered="OnlineDeployment",
        page=None,
    ),
    _workspace(
        "/deployments/{deploymentName}",
        method="PATCH",
        answered="OnlineDeployment",
        page=None,
        sent="PartialMinimalTrackedResourceWithSku",
    ),
    _workspace("/deployments/{deploymentName}", method="DELETE", page=None),
    _workspace("/jobs", "2024-01-01-preview", answered="JobBase"),
    _workspace("/schedules", "2023-06-01-preview", answered="Schedule"),
    Operation(
        file=COSTS, method="POST", path="/query", sent="QueryDefinition", answered="QueryResult"
    ),
    Operation(
        file=COSTS,
        method="POST",
        path="/generateCostDetailsReport",
        sent="GenerateCostDetailsReportRequestDefinition",
    ),
    Operation(
        file=COSTS,
        method="GET",
        path="/costDetailsOperationResults/{operationId}",
        answered="CostDetailsOperationResults",
    ),
    Operation(
        file=COSTS,
        method="GET",
        path="/billingAccounts/{billingAccountId}"
        "/providers/Microsoft.CostManagement/benefitUtilizationSummaries",
        answered="BenefitUtilizationSummary",
        page="value",
    ),
    Operation(
        file=METRICS,
        method="GET",
        path="/{resourceUri}/providers/Microsoft.Insights/metrics",
        answered="Response",
        needs=("metricnames",),
    ),
    Operation(
        file=METRICS,
        method="GET",
        path="/{resourceUri}/providers/Microsoft.Insights/metricDefinitions",
        answered="MetricDefinition",
        page="value",
    ),
    Operation(
        file=BATCH,
        method="POST",
        path="/metrics:getBatch",
        sent="ResourceIdList",
        answered="MetricResultsResponse",
        needs=("metricnames", "metricnamespace"),
    ),
    # The schema of Log Analytics has paths only; `_TABLES` checks the answer.
    Operation(file=LOGS, method="POST", path="/workspaces/{workspaceId}/query"),
    Operation(file=LOGS, method="POST", path="/{resourceId}/query"),
    Operation(
        file=GRAPH, method="POST", path="/resources", sent="QueryRequest", answered="QueryResponse"
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """An operation that no derived schema knows."""

    method: str
    pattern: str
    """Of the path, whatever its case."""
    why: str
    versions: Sequence[str] = ()
    """() = it takes none."""
    query: Sequence[str] = ()
    sent: Sequence[str] = ()
    """The names that its body may have."""
    answered: Sequence[str] = ()
    """The names that a good answer has."""


_SUBSCRIPTION = "/subscriptions/[^/]+"
_LOCATION = f"{_SUBSCRIPTION}/providers/Microsoft.MachineLearningServices/locations/[^/]+"

OUTSIDE = (
    Outside(
        method="GET",
        pattern="/subscriptions",
        why="Of Microsoft.Resources, whose SDK is not among the installed.",
        versions=["2022-12-01"],
        answered=["value"],
    ),
    Outside(
        method="GET",
        pattern=f"{_LOCATION}/computeOperationsStatus/[^/]+",
        why="Its address comes from a header; polling is azure-core's.",
        versions=["2025-12-01", "2023-08-01-preview"],
        query=["service"],
        answered=["status"],
    ),
    Outside(
        method="GET",
        pattern=".+/providers/Microsoft.Authorization/permissions",
        why="Of Microsoft.Authorization, whose SDK is not among the installed.",
        versions=["2022-04-01"],
        answered=["value"],
    ),
    Outside(
        method="POST",
        pattern=".+/computes/[^/]+/updateIdleShutdownSetting",
        why="In preview versions only (facts §4.1), and the schema is of the stable one.",
        versions=["2025-01-01-preview"],
        sent=["idleTimeBeforeShutdown"],
    ),
    Outside(
        method="GET",
        pattern=f"{_SUBSCRIPTION}/providers/Microsoft.Insights/eventtypes/management/values",
        why="The activity log; the schema of Monitor that we have holds metrics only.",
        versions=["2015-04-01"],
        query=["$filter", "$select"],
        answered=["value"],
    ),
    Outside(
        method="GET",
        pattern=".+/providers/Microsoft.Insights/diagnosticSettings",
        why="The schema of Monitor that we have holds metrics only.",
        versions=["2021-05-01-preview"],
        answered=["value"],
    ),
    Outside(
        method="GET",
        pattern=".+/providers/Microsoft.Insights/autoscaleSettings",
        why="The schema of Monitor that we have holds metrics only.",
        versions=["2022-10-01"],
        answered=["value"],
    ),
    *(
        Outside(
            method=method,
            pattern=".+/providers/Microsoft.Insights/autoscaleSettings/[^/]+",
            why="The same; what is sent is held to the models of azure-mgmt-monitor.",
            versions=["2022-10-01"],
            sent=["location", "properties", "tags"] if method == "PUT" else [],
            answered=[] if method == "DELETE" else ["properties"],
        )
        for method in ("GET", "PUT", "DELETE")
    ),
    Outside(
        method="GET",
        pattern="/api/retail/prices",
        why="Azure Retail Prices has no SDK; its rows are held to the recorded ones.",
        versions=["2023-01-01-preview"],
        query=["currencyCode", "$filter"],
        answered=["Items", "NextPageLink", "Count"],
    ),
    Outside(
        method="GET",
        pattern="/blob/.+",
        why="A file of cost details: its address is its key, and it is CSV.",
        query=["sv", "sr", "sig", "se", "sp"],
    ),
)

_TABLE_NAMES = {"name", "columns", "rows"}


def check(found: Sequence[Exchange]) -> Iterator[str]:
    """Yield what is wrong with a conversation: its requests, then its answers, one by one."""
    links: set[str] = set()
    for each in found:
        links |= {_address(link) for link in _links(each)}
        followed = each.address in links
        yield from (
            f"{each.method} {each.path}: {wrong}" for wrong in _wrong(each, followed=followed)
        )


def known(exchange: Exchange) -> Operation | Outside | None:
    """Return which operation a request is for."""
    for operation in OPERATIONS:
        if exchange.method == operation.method and _template(operation, _path(exchange)):
            return operation
    for outside in OUTSIDE:
        pattern = re.compile(outside.pattern, re.IGNORECASE)
        if exchange.method == outside.method and pattern.fullmatch(_path(exchange)):
            return outside
    return None


def thinned(value: Any) -> Any:
    """Return a document with one item of each shape in its lists; some have 40,000 of one.

    >>> thinned({"data": [{"at": "a"}, {"at": "b"}, {"at": "c", "average": 1}, {"at": 2}]})
    {'data': [{'at': 'a'}, {'at': 'c', 'average': 1}, {'at': 2}]}
    """
    if isinstance(value, dict):
        return {name: thinned(each) for name, each in value.items()}
    if isinstance(value, list):
        return list({_shape(each): thinned(each) for each in reversed(value)}.values())[::-1]
    return value


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return frozenset((name, _shape(each)) for name, each in value.items())
    if isinstance(value, list):
        return frozenset(_shape(each) for each in value)
    return type(value).__name__


def _wrong(exchange: Exchange, *, followed: bool) -> Iterator[str]:
    operation = known(exchange)
    match operation:
        case None:
            yield "is in no schema, and not among those that are known to be in none"
            return
        case Operation():
            yield from _wrong_inside(exchange, operation, followed=followed)
        case Outside():
            yield from _wrong_outside(exchange, operation, followed=followed)
    if exchange.status >= 400:
        yield from _wrong_refusal(exchange.answer)


def _wrong_inside(exchange: Exchange, operation: Operation, *, followed: bool) -> Iterator[str]:
    template = _template(operation, _path(exchange)) or ""
    of_template = paths(operation.file)[template][operation.method]
    version = [of_template["apiVersionDefault"]] if operation.versioned else []
    if not followed:
        yield from _wrong_query(
            exchange, of_template["queryParams"], [*version, *operation.versions], operation.needs
        )
    if operation.file == LOGS:
        yield from _wrong_names("body", exchange.body, {"query", "timespan", "workspaces"})
    elif operation.sent:
        yield from _named("body", wrongs(exchange.body, operation.sent, operation.file, sent=True))
    elif exchange.body is not None:
        yield "has a body, and takes none"
    if exchange.status >= 400:
        return
    if operation.file == LOGS:
        yield from _wrong_tables(exchange.answer)
    elif operation.answered and exchange.status < 300:
        for document in _documents(thinned(exchange.answer), operation.page):
            yield from _named("answer", wrongs(document, operation.answered, operation.file))


def _wrong_outside(exchange: Exchange, operation: Outside, *, followed: bool) -> Iterator[str]:
    if not followed:
        yield from _wrong_query(exchange, operation.query, operation.versions, ())
    yield from _wrong_names("body", exchange.body or {}, set(operation.sent))
    if operation.answered and exchange.status < 400:
        missing = set(operation.answered) - set(exchange.answer)
        yield from (f"answer has no {name}" for name in sorted(missing))


def _wrong_query(
    exchange: Exchange, known_names: Sequence[str], versions: Sequence[str], needs: Sequence[str]
) -> Iterator[str]:
    query = dict(exchange.query)
    version = query.pop("api-version", None)
    if version is None and versions:
        yield "has no api-version"
    elif version is not None and version not in versions:
        yield f"has the api-version {version}, and takes {', '.join(versions) or 'none'}"
    yield from (f"has an unknown query parameter {n}" for n in query if n not in known_names)
    yield from (f"lacks the query parameter {n}" for n in needs if not query.get(n))


def _wrong_names(what: str, document: Any, names: set[str]) -> Iterator[str]:
    yield from (f"{what} has an unknown name {name}" for name in document if name not in names)


def _wrong_tables(answer: Any) -> Iterator[str]:
    yield from _wrong_names("answer", answer, {"tables", "error", "statistics", "render"})
    for table in answer.get("tables", []):
        yield from _wrong_names("table", table, _TABLE_NAMES)
        width = len(table["columns"])
        if any(len(row) != width for row in table["rows"]):
            yield f"table {table['name']} has rows that are not as wide as its {width} columns"


def _wrong_refusal(answer: Any) -> Iterator[str]:
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict) or not {"code", "message"} <= set(error):
        yield "refusal has not Azure's shape: error with code and message"


def _named(what: str, found: Sequence[str]) -> Iterator[str]:
    return (f"{what} {each}" for each in found)


def _documents(answer: Any, page: str | None) -> Iterator[Any]:
    if page is None:
        yield answer
        return
    if extra := set(answer) - {page, "nextLink"}:
        yield {f"a page has {name}": None for name in extra}
    yield from answer[page]


def _links(exchange: Exchange) -> Iterator[str]:
    yield from exchange.links
    answer: Mapping[str, Any] = exchange.answer if isinstance(exchange.answer, dict) else {}
    properties = answer.get("properties")
    for place in (answer, properties if isinstance(properties, dict) else {}):
        yield from (place[n] for n in ("nextLink", "NextPageLink") if place.get(n))


def _address(link: str) -> str:
    parts = urlsplit(link)
    return f"{parts.path}?{parts.query}"


def _path(exchange: Exchange) -> str:
    # Some clients join addresses with one slash too many.
    path = re.sub("/{2,}", "/", exchange.path)
    return path.removeprefix("/v1") if path.endswith("/query") else path


def _template(operation: Operation, path: str) -> str | None:
    """Return the template of an operation that a path has."""
    return next(
        (t for t, pattern in _templates(operation).items() if pattern.fullmatch(path)), None
    )


@cache
def _templates(operation: Operation) -> Mapping[str, re.Pattern[str]]:
    found = {
        path: _pattern(path)
        for path, methods in paths(operation.file).items()
        if path.endswith(operation.path) and operation.method in methods
    }
    assert found, f"{operation.file} has no {operation.method} {operation.path}"
    return found


def _pattern(template: str) -> re.Pattern[str]:
    several = {"scope", "resourceUri", "resourceId", "billingScope"}
    pieces = re.split(r"\{(\w+)\}", template)
    text = "".join(
        re.escape(piece) if at % 2 == 0 else (".+" if piece in several else "[^/]+")
        for at, piece in enumerate(pieces)
    )
    return re.compile(text, re.IGNORECASE)
