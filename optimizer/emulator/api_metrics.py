"""Azure Monitor metrics: of one resource, in batches, and their definitions."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import numpy as np
import orjson

from optimizer.emulator import arm
from optimizer.emulator.odata import Comparison, Filter, comparisons, parse_filter
from optimizer.emulator.records import Ints
from optimizer.emulator.telemetry import (
    RETENTION_DAYS,
    Buckets,
    Metric,
    Minutes,
    bucketed,
    measured,
    metrics,
)
from optimizer.emulator.telemetry_deployments import DEPLOYMENTS, deployment_metrics
from optimizer.emulator.wire import (
    PROVIDER,
    Answer,
    Call,
    Endpoint,
    Json,
    Refusal,
    days_back,
    epoch,
    iso,
    isos,
    parse_moment,
    same,
)

_METRICS: Mapping[str, Callable[[], Mapping[str, Metric]]] = {
    f"{PROVIDER}/workspaces".lower(): metrics,
    DEPLOYMENTS.lower(): deployment_metrics,
}
"""By type of resource, in lower case."""
MAX_IDS = 50
DEFAULT_TOP = 10
"""Azure's own default; what lies beyond is left out without a word."""

_GRAINS = {
    "PT1M": 1,
    "PT5M": 5,
    "PT15M": 15,
    "PT30M": 30,
    "PT1H": 60,
    "PT6H": 360,
    "PT12H": 720,
    "P1D": 1440,
}
_AGGREGATIONS = ("Average", "Maximum", "Minimum", "Total", "Count")
_DEFAULT_SPAN = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """A request for metrics, understood."""

    metrics: tuple[Metric, ...]
    start_minute: int
    end_minute: int
    grain_minutes: int
    interval: str
    aggregations: tuple[str, ...]
    dimensions: Mapping[str, frozenset[str] | None]
    """By name: the values asked for, in lower case; None = every value, a series each."""
    top: int


def _single(call: Call) -> Answer:
    resource = _resource(call, f"/{call.parts['resource']}")
    start, end = _timespan(call)
    question = _question(call, resource["type"], start, end, "$filter")
    body = {
        "cost": 0,
        "timespan": f"{iso(question.start_minute * 60)}/{iso(question.end_minute * 60)}",
        "interval": question.interval,
        "value": _values(call, resource, question),
        "namespace": resource["type"],
        "resourceregion": resource["location"],
    }
    return Answer(body=body)


def _batch(call: Call) -> Answer:
    ids = call.json().get("resourceids") or []
    if not 1 <= len(ids) <= MAX_IDS:
        raise Refusal(400, "BadRequest", f"Between 1 and {MAX_IDS} resource ids can be asked for.")
    namespace = call.parameter("metricnamespace")
    resources = [_resource(call, resource_id) for resource_id in ids]
    if wrong := [each for each in resources if not same(each["type"], namespace)]:
        raise Refusal(400, "BadRequest", f"'{wrong[0]['id']}' is not of type {namespace}.")
    start = _moment_or_none(call, "starttime")
    end = _moment_or_none(call, "endtime")
    question = _question(call, namespace, start, end, "filter")
    places = {(r["id"].split("/")[2].lower(), r["location"]) for r in resources}
    if places != {(call.parts["subscription"].lower(), resources[0]["location"])}:
        raise Refusal(
            400, "BadRequest", "All resources must be of the given subscription and of one region."
        )
    values = [
        {
            "cost": 0,
            "starttime": iso(question.start_minute * 60),
            "endtime": iso(question.end_minute * 60),
            "interval": question.interval,
            "namespace": namespace,
            "resourceregion": resource["location"],
            "resourceid": resource_id,
            "value": _values(call, resource, question),
        }
        for resource_id, resource in zip(ids, resources, strict=True)
    ]
    return Answer(body={"values": values})


def _definitions(call: Call) -> Answer:
    resource = _resource(call, f"/{call.parts['resource']}")
    value = [
        {
            "id": f"{resource['id']}/providers/Microsoft.Insights/metricdefinitions/{metric.name}",
            "resourceId": resource["id"],
            "namespace": resource["type"],
            "category": metric.category,
            "name": {"value": metric.name, "localizedValue": metric.name},
            "isDimensionRequired": False,
            "unit": metric.unit,
            "primaryAggregationType": "Average",
            "supportedAggregationTypes": list(_AGGREGATIONS),
            "metricAvailabilities": [
                {"timeGrain": grain, "retention": f"P{RETENTION_DAYS}D"} for grain in _GRAINS
            ],
            "dimensions": [{"value": name, "localizedValue": name} for name in metric.dimensions],
        }
        for metric in _METRICS[resource["type"].lower()]().values()
    ]
    return Answer(body={"value": value})


def _resource(call: Call, resource_id: str) -> Json:
    document = call.world.document(resource_id.rstrip("/"))
    if document is None:
        raise Refusal(404, "ResourceNotFound", f"The Resource '{resource_id}' was not found.")
    is_kubernetes = same(document["type"], DEPLOYMENTS) and not arm.is_deployment(document)
    if document["type"].lower() not in _METRICS or is_kubernetes:
        raise Refusal(400, "BadRequest", f"'{document['type']}' has no metrics here.")
    return document


def _timespan(call: Call) -> tuple[float | None, float | None]:
    text = call.query.get("timespan")
    if text is None:
        return None, None
    start, slash, end = text.partition("/")
    if not slash:
        raise Refusal(400, "BadRequest", f"The timespan '{text}' is not start/end.")
    return parse_moment(start, "timespan").timestamp(), parse_moment(end, "timespan").timestamp()


def _moment_or_none(call: Call, name: str) -> float | None:
    text = call.query.get(name)
    return parse_moment(text, name).timestamp() if text else None


def _question(
    call: Call, namespace: str, start_s: float | None, end_s: float | None, filter_name: str
) -> _Question:
    now_s = call.world.now_utc.timestamp()
    end_s = now_s if end_s is None else end_s
    start_s = end_s - _DEFAULT_SPAN.total_seconds() if start_s is None else start_s
    if start_s >= end_s:
        raise Refusal(400, "BadRequest", "The start time must be before the end time.")
    interval = call.query.get("interval", "PT1M").upper()
    if interval not in _GRAINS:
        raise Refusal(
            400, "BadRequest", f"Detected invalid time grain {interval}: use one of {[*_GRAINS]}."
        )
    wanted = tuple(_metric(namespace, name) for name in call.parameter("metricnames").split(","))
    return _Question(
        metrics=wanted,
        start_minute=int(start_s // 60),
        end_minute=int(-(-end_s // 60)),
        grain_minutes=_GRAINS[interval],
        interval=interval,
        aggregations=_aggregations(call.query.get("aggregation", "Average")),
        dimensions=_dimensions(call.query.get(filter_name), wanted),
        top=call.number("top", DEFAULT_TOP),
    )


def _metric(namespace: str, name: str) -> Metric:
    known = _METRICS[namespace.lower()]()
    if found := known.get(name.strip().lower()):
        return found
    valid = ",".join(metric.name for metric in known.values())
    raise Refusal(
        400,
        "BadRequest",
        f"Failed to find metric configuration for provider: {PROVIDER}, resource Type: "
        f"{namespace.partition('/')[2]}, metric: {name}, Valid metrics: {valid}",
    )


def _aggregations(text: str) -> tuple[str, ...]:
    asked = [word.strip().lower() for word in text.split(",")]
    known = {name.lower() for name in _AGGREGATIONS}
    if wrong := [word for word in asked if word not in known]:
        raise Refusal(400, "BadRequest", f"Invalid aggregation type: {wrong[0]}.")
    return tuple(asked)


def _dimensions(text: str | None, wanted: Sequence[Metric]) -> Mapping[str, frozenset[str] | None]:
    if not text:
        return {}
    found = parse_filter(text)
    values: dict[str, set[str]] = defaultdict(set)
    for comparison in _checked(found):
        values[_dimension(comparison, wanted)].add(comparison.value.lower())
    return {name: None if "*" in chosen else frozenset(chosen) for name, chosen in values.items()}


def _checked(found: Filter) -> list[Comparison]:
    """Return a filter's comparisons; `or` may only join values of one dimension."""
    if not isinstance(found, Comparison):
        inner = [comparison for part in found.parts for comparison in _checked(part)]
        if found.word == "or" and len({comparison.name.lower() for comparison in inner}) > 1:
            raise Refusal(400, "BadRequest", "'or' cannot join different dimensions.")
    return comparisons(found)


def _dimension(comparison: Comparison, wanted: Sequence[Metric]) -> str:
    for metric in wanted:
        names = {name.lower(): name for name in metric.dimensions}
        if comparison.name.lower() not in names:
            raise Refusal(
                400,
                "BadRequest",
                f"Metric: {metric.name} does not support requested dimension combination: "
                f"{comparison.name}, supported ones are: {','.join(metric.dimensions)}",
            )
    if comparison.operator != "eq":
        raise Refusal(400, "BadRequest", f"The operator '{comparison.operator}' is not supported.")
    return next(n for n in wanted[0].dimensions if n.lower() == comparison.name.lower())


def _values(call: Call, resource: Json, question: _Question) -> list[Json]:
    minutes = np.arange(question.start_minute, question.end_minute, question.grain_minutes)
    blank = _Blank(isos(minutes * 60))
    return [
        {
            "id": f"{resource['id']}/providers/Microsoft.Insights/metrics/{metric.name}",
            "type": "Microsoft.Insights/metrics",
            "name": {"value": metric.name, "localizedValue": metric.name},
            "displayDescription": metric.name,
            "unit": metric.unit,
            "timeseries": [
                {
                    "metadatavalues": [
                        {
                            "name": {"value": name.lower(), "localizedValue": name.lower()},
                            "value": value,
                        }
                        for name, value in series.labels.items()
                    ],
                    "data": _points(series, blank, question.aggregations),
                }
                for series in _series(call, resource, metric, question, len(minutes))
            ],
            "errorCode": "Success",
        }
        for metric in question.metrics
    ]


def _series(
    call: Call, resource: Json, metric: Metric, question: _Question, buckets: int
) -> list[Buckets]:
    world = call.world
    oldest = epoch(days_back(world.now_utc, RETENTION_DAYS))
    # A minute is told once it is over, so a value never changes.
    window = Minutes(
        max(question.start_minute, -(-oldest // 60)),
        min(question.end_minute, epoch(world.now_utc) // 60),
    )
    computes = metric.compute_dimension
    only = question.dimensions.get(computes) if computes else None
    samples = measured(metric, world, resource["id"], window, only)
    wanted = [
        all(
            values is None or label[name].lower() in values
            for name, values in question.dimensions.items()
        )
        for label in samples.labels
    ]
    chosen = samples.of_series(wanted)
    return bucketed(
        chosen,
        split_by=list(question.dimensions),
        start_minute=question.start_minute,
        bucket_minutes=question.grain_minutes,
        buckets=buckets,
        top=question.top,
    )


def _points(series: Buckets, blank: "_Blank", asked: Sequence[str]) -> orjson.Fragment:
    """Return the points as JSON text, written at once: a month of minutes is 40,000 of them."""
    seen = series.minutes.nonzero()[0]
    columns = {
        "average": series.average,
        "minimum": series.minimum,
        "maximum": series.maximum,
        "total": series.average * series.minutes,
        "count": series.minutes,
    }
    form = ",".join([f'"{name}":%r' for name in asked])
    rows = zip(*(columns[name][seen].tolist() for name in asked), strict=True)
    places = seen.tolist()
    told = [
        f'{{"timeStamp":"{blank.stamps[place]}",{form % row}}}'
        for place, row in zip(places, rows, strict=True)
    ]
    pieces, at = [], 0
    for start, end in _runs(seen):
        pieces += [blank.between(at, places[start]), *told[start:end]]
        at = places[end - 1] + 1
    pieces.append(blank.between(at, len(blank.stamps)))
    return orjson.Fragment(f"[{','.join(piece for piece in pieces if piece)}]")


def _runs(places: Ints) -> list[tuple[int, int]]:
    """Return where places that follow one another begin and end.

    >>> _runs(np.array([3, 4, 9]))
    [(0, 2), (2, 3)]
    """
    if not len(places):
        return []
    breaks = np.flatnonzero(np.diff(places) > 1) + 1
    return list(pairwise([0, *breaks.tolist(), len(places)]))


class _Blank:
    """Points of buckets without a measurement, which Azure answers without a value."""

    def __init__(self, stamps: Sequence[str]) -> None:
        self.stamps = stamps
        points = [f'{{"timeStamp":"{stamp}"}}' for stamp in stamps]
        self._text = ",".join(points)
        self._width = len(points[0]) + 1 if points else 0

    def between(self, first: int, end: int) -> str:
        """Return the points of some buckets in a row, cut from the text of all."""
        return self._text[first * self._width : end * self._width - 1] if end > first else ""


ENDPOINTS = (
    Endpoint(
        api="metrics",
        method="GET",
        template="/{resource:path}/providers/Microsoft.Insights/metrics",
        handle=_single,
    ),
    Endpoint(
        api="metrics",
        method="GET",
        template="/{resource:path}/providers/Microsoft.Insights/metricDefinitions",
        handle=_definitions,
    ),
    Endpoint(
        api="metrics_batch",
        method="POST",
        template="/subscriptions/{subscription}/metrics:getBatch",
        handle=_batch,
    ),
)
