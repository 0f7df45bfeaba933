"""Azure Monitor: metrics in bulk, the activity log, and resource logs.

Metrics go through the pipeline of MetricsClient but not through its models: those parse at 9 MB a
CPU second, and a month of one-minute utilisation is hundreds of megabytes. Raw JSON straight into
arrays is some thirty times cheaper.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from azure.core.rest import HttpRequest
from azure.mgmt.monitor import MonitorManagementClient
from azure.monitor.query import LogsQueryClient
from azure.monitor.querymetrics import MetricsClient

from optimizer.azure.access import ARM_SCOPE, Access, azure_errors, check, url
from optimizer.errors import AzureError, ForbiddenError, NotFoundError, TruncatedError
from optimizer.model import Window
from optimizer.units import iso_utc, utc

WORKSPACE_NAMESPACE = "Microsoft.MachineLearningServices/workspaces"
DEPLOYMENT_NAMESPACE = f"{WORKSPACE_NAMESPACE}/onlineEndpoints/deployments"
METRICS_API = "2024-02-01"
BATCH_LIMIT = 50
"""Resources in one batch call; all of one subscription, region and type."""

SERIES_LIMIT = 5000
"""Series asked for in one call. Azure's own default is 10, the rest left out without a word."""

_GRAINS = {
    timedelta(minutes=1): "PT1M",
    timedelta(minutes=5): "PT5M",
    timedelta(hours=1): "PT1H",
}
"""As Azure spells them: it refuses PT60M."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MetricSeries:
    """One metric of one resource for one set of dimension values, at even steps."""

    resource_id: str
    """Lower case."""
    metric: str
    dimensions: Mapping[str, str]
    """By name in lower case."""
    times: npt.NDArray[np.datetime64]
    """The start of each step, in whole seconds, UTC."""
    average: Floats
    """NaN = Azure has no value there."""
    maximum: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricQuestion:
    """Which metrics, split by which dimensions, over which time and grain."""

    metrics: Sequence[str]
    filter: str
    """Empty: every series together."""
    window: Window
    grain: timedelta
    aggregations: Sequence[str] = ("Average", "Maximum")
    namespace: str = WORKSPACE_NAMESPACE

    def query(self) -> dict[str, str]:
        """Return the parts that the batch and the single API share."""
        return {
            "interval": _GRAINS[self.grain],
            "metricnames": ",".join(self.metrics),
            "aggregation": ",".join(self.aggregations),
            "top": str(SERIES_LIMIT),
        }


class Monitor:
    """Reads metrics, events and logs. Every method raises the AzureError that fits."""

    def __init__(self, access: Access) -> None:
        """Use `access`; nothing is sent yet."""
        self._access = access
        # A parsed answer is ten times as large; two at once would be no faster.
        self._parsing = Lock()
        # One client each, whichever thread asks first: they hold the connections.
        self._metrics = cache(self._new_metrics)
        self._management = cache(self._new_management)
        self._logs = cache(self._new_logs)

    def metrics(
        self, region: str, resource_ids: Sequence[str], question: MetricQuestion
    ) -> list[MetricSeries]:
        """Return the series of up to `BATCH_LIMIT` resources of one subscription and region.

        Where the region has no batch API, or the account may not read metrics of the whole
        subscription as that one asks, each resource is asked for on its own.

        Raises:
            TruncatedError: Azure has more series than one answer may hold.
            AzureError: the metrics cannot be read.
        """
        try:
            return self._batch(region, resource_ids, question)
        except (ForbiddenError, NotFoundError):
            return [s for each in resource_ids for s in self._single(each, question)]

    def _batch(
        self, region: str, resource_ids: Sequence[str], question: MetricQuestion
    ) -> list[MetricSeries]:
        subscription = resource_ids[0].split("/")[2]
        address = url(
            f"/subscriptions/{subscription}/metrics:getBatch",
            **{"api-version": METRICS_API},
            **({"filter": question.filter} if question.filter else {}),
            starttime=iso_utc(question.window.start_utc),
            endtime=iso_utc(question.window.end_utc),
            metricnamespace=question.namespace,
            **question.query(),
        )
        request = HttpRequest(
            "POST", address, json={"resourceids": [each.lower() for each in resource_ids]}
        )
        what = f"the metrics of subscription {subscription} in {region}"
        with azure_errors(what):
            # A streamed answer is not parsed a second time by the pipeline itself.
            response = self._metrics(region).send_request(request, stream=True)
            content = response.read()
        check(response, what)
        with self._parsing:
            return list(parse_batch(content))

    def _single(self, resource_id: str, question: MetricQuestion) -> Iterator[MetricSeries]:
        window = question.window
        with azure_errors(f"the metrics of {resource_id}"):
            answer = self._management(resource_id.split("/")[2]).metrics.list(
                resource_id,
                timespan=f"{iso_utc(window.start_utc)}/{iso_utc(window.end_utc)}",
                filter=question.filter or None,
                metricnamespace=question.namespace,
                **(question.query() | {"top": SERIES_LIMIT}),
            )
        for metric in answer.serialize(keep_readonly=True).get("value", []):
            yield from _series(resource_id, metric)

    def activity(
        self, subscription: str, window: Window, *, provider: str
    ) -> Iterator[dict[str, Any]]:
        """Yield the events of one resource provider in the activity log, as Azure writes them."""
        text = (
            f"eventTimestamp ge '{iso_utc(window.start_utc)}' and "
            f"eventTimestamp le '{iso_utc(window.end_utc)}' and resourceProvider eq '{provider}'"
        )
        with azure_errors(f"the activity log of subscription {subscription}"):
            for event in self._management(subscription).activity_logs.list(filter=text):
                yield event.serialize(keep_readonly=True)

    def logs(self, resource_id: str, kql: str, window: Window) -> list[dict[str, Any]]:
        """Return the rows of a query over the logs of one resource, cells as Azure writes them.

        A table that nothing was ever written to does not exist and has no rows.

        Raises:
            TruncatedError: Azure has more rows than one answer may hold.
            AzureError: the logs cannot be read.
        """
        span = f"{iso_utc(window.start_utc)}/{iso_utc(window.end_utc)}"
        request = HttpRequest("POST", f"{resource_id}/query", json={"query": kql, "timespan": span})
        what = f"the logs of {resource_id}"
        with azure_errors(what):
            response = self._logs().send_request(request, stream=True)
            content = response.read()
        if b"Failed to resolve table" in content:
            return []
        check(response, what)
        document = orjson.loads(content)
        if error := document.get("error"):
            raise TruncatedError(f"Log Analytics cut {what} short: {error.get('message')}")
        return list(parse_table(document["tables"][0]))

    def _new_metrics(self, region: str) -> MetricsClient:
        return MetricsClient(
            self._access.metrics_url(region),
            self._access.credential,
            **self._access.bulk_options,
        )

    def _new_management(self, subscription: str) -> MonitorManagementClient:
        return MonitorManagementClient(
            self._access.credential,
            subscription,
            base_url=self._access.arm_url,
            credential_scopes=[ARM_SCOPE],
            **self._access.reading_options,
        )

    def _new_logs(self) -> LogsQueryClient:
        return LogsQueryClient(
            self._access.credential,
            endpoint=self._access.logs_url,
            **self._access.bulk_options,
        )


def parse_batch(content: bytes) -> Iterator[MetricSeries]:
    """Yield each series of an answer of the batch API.

    Raises:
        TruncatedError: the answer is full, and so may have been cut short.
        AzureError: one metric failed.
    """
    for resource in orjson.loads(content)["values"]:
        for metric in resource["value"]:
            # The metric's own id names the resource too; older answers have only that.
            owner = resource.get("resourceid") or metric["id"].split("/providers/Microsoft.Ins")[0]
            yield from _series(owner, metric)


def parse_table(table: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each row of a table of Log Analytics as a dictionary."""
    names = [column["name"] for column in table["columns"]]
    return (dict(zip(names, row, strict=True)) for row in table["rows"])


def _series(resource_id: str, metric: Mapping[str, Any]) -> Iterator[MetricSeries]:
    name = metric["name"]["value"]
    if metric.get("errorCode", "Success") != "Success":
        raise AzureError(
            f"Azure Monitor could not read {name} of {resource_id}: {metric.get('errorMessage')}"
        )
    if len(metric["timeseries"]) >= SERIES_LIMIT:
        raise TruncatedError(
            f"Azure Monitor has more series of {name} for {resource_id} than the {SERIES_LIMIT} "
            "that one answer holds."
        )
    for series in metric["timeseries"]:
        points = series.get("data") or []
        values = _values(points, ("average", "maximum"))
        yield MetricSeries(
            resource_id=resource_id.lower(),
            metric=name,
            dimensions={
                value["name"]["value"].lower(): value["value"]
                for value in series.get("metadatavalues") or []
            },
            times=_times(points),
            average=values["average"],
            maximum=values["maximum"],
        )


def _values(
    points: Sequence[Mapping[str, Any]], aggregations: Sequence[str]
) -> Mapping[str, Floats]:
    """Read the aggregations of points; most points have none, and are passed over quickly."""
    filled = [i for i, point in enumerate(points) if len(point) > 1]
    values = {name: np.full(len(points), np.nan) for name in aggregations}
    for name, numbers in values.items():
        numbers[filled] = np.array([points[i].get(name) for i in filled], np.float64)
    return values


def _times(points: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.datetime64]:
    """Read time stamps; where first, last and number fit an even grid, only those are read."""
    if len(points) >= 3:  # noqa: PLR2004 - fewer make no grid
        first, second, last = (_second(points[i]["timeStamp"]) for i in (0, 1, -1))
        if last - first == (second - first) * (len(points) - 1):
            return np.arange(first, last + 1, second - first)
    return np.array([_second(point["timeStamp"]) for point in points], "datetime64[s]")


def _second(stamp: str) -> np.datetime64:
    return np.datetime64(utc(stamp).replace(tzinfo=None), "s")
