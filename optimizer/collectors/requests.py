"""What deployments are asked, how long they take to answer, and on how many instances."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from optimizer.azure.connect import Connection
from optimizer.azure.monitor import DEPLOYMENT_NAMESPACE, MetricQuestion, MetricSeries
from optimizer.collectors.samples import batches, cut, most_instances
from optimizer.errors import AzureError, UnauthorizedError, UnreachableError
from optimizer.model import Resource, Window
from optimizer.store.lake import conform
from optimizer.store.tables import REQUESTS

_MINUTE = timedelta(minutes=1)
_RESPONSE_CODES = 4
"""So many kinds of answers a deployment usually gives; each has a series."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestQuestion:
    """One request: a metric of some deployments of one region."""

    deployments: tuple[Resource, ...]
    question: MetricQuestion


def collect_requests(
    connection: Connection,
    deployments: Sequence[Resource],
    window: Window,
    *,
    silence_is_none: bool = False,
) -> tuple[pa.Table, dict[str, AzureError]]:
    """Return the rows of `tables.REQUESTS`, and by workspace id why some may be missing.

    What Azure has no value of is null. Whether it tells a minute without requests as none, or not
    at all, is not documented; `silence_is_none` takes a minute in which instances were there, and
    requests were not told, for one without any.

    Raises:
        UnauthorizedError: the token was refused.
        UnreachableError: the endpoint does not answer.
    """
    refused: dict[str, AzureError] = {}

    def read(asked: RequestQuestion) -> list[MetricSeries]:
        ids = [deployment.resource_id for deployment in asked.deployments]
        try:
            return connection.monitor.metrics(asked.deployments[0].region, ids, asked.question)
        except (UnauthorizedError, UnreachableError):
            raise
        except AzureError as error:
            refused.update({deployment.workspace_id: error for deployment in asked.deployments})
            return []

    answers = connection.map(read, request_questions(deployments, window))
    series = (one for answer in answers for one in answer)
    return request_rows(series, silence_is_none=silence_is_none), refused


def request_questions(deployments: Sequence[Resource], window: Window) -> Iterator[RequestQuestion]:
    """Yield the requests that together ask for everything once, none with too long an answer.

    Requests are counted by response code, so that their sum is right whatever Azure makes of
    codes that are not told apart.
    """
    for group in batches(deployments):
        kinds = (
            ("RequestsPerMinute", "envoy_response_code eq '*'", _RESPONSE_CODES * len(group)),
            ("RequestLatency_P95", "", len(group)),
            ("DeploymentCapacity", "instanceId eq '*'", sum(map(most_instances, group))),
        )
        for metric, dimensions, series in kinds:
            for part in cut(window, _MINUTE, series=series):
                yield RequestQuestion(
                    deployments=tuple(group),
                    question=MetricQuestion(
                        metrics=(metric,),
                        filter=dimensions,
                        window=part,
                        grain=_MINUTE,
                        aggregations=("Average",),
                        namespace=DEPLOYMENT_NAMESPACE,
                    ),
                )


def request_rows(series: Iterable[MetricSeries], *, silence_is_none: bool = False) -> pa.Table:
    """Turn the three metrics of deployments into rows; a minute without any value is not one.

    Capacity is documented as a number of instances with the instance as a dimension: whether each
    of them then tells 1, or the number of all, the larger of their count and of the largest value
    is the number.
    """
    found: dict[str, dict[str, list[pd.Series[Any]]]] = {}
    for one in series:
        values = pd.Series(one.average, index=pd.DatetimeIndex(one.times, tz="UTC")).dropna()
        found.setdefault(one.resource_id, {}).setdefault(one.metric, []).append(values)
    frames = [
        _minutes(metrics, silence_is_none=silence_is_none).assign(resource_id=resource_id)
        for resource_id, metrics in found.items()
    ]
    filled = [frame for frame in frames if len(frame)]
    return conform(REQUESTS, pd.concat(filled) if filled else pd.DataFrame())


def _minutes(metrics: dict[str, list["pd.Series[Any]"]], *, silence_is_none: bool) -> pd.DataFrame:
    capacity = _together(metrics.get("DeploymentCapacity", ()))
    told = capacity[capacity > 0]
    frame = pd.DataFrame(
        {
            "requests_per_minute": _together(metrics.get("RequestsPerMinute", ())).sum(
                axis=1, min_count=1
            ),
            "latency_p95_ms": _together(metrics.get("RequestLatency_P95", ())).max(axis=1),
            "instances": np.fmax(
                told.count(axis=1).where(capacity.notna().any(axis=1)), told.max(axis=1)
            ),
        }
    )
    if silence_is_none:
        silent = frame["requests_per_minute"].isna() & (frame["instances"] > 0)
        frame.loc[silent, "requests_per_minute"] = 0.0
    return frame.dropna(how="all").rename_axis("minute_utc").reset_index()


def _together(series: Sequence["pd.Series[Any]"]) -> pd.DataFrame:
    """Return series side by side, by the minute."""
    if not series:
        return pd.DataFrame(index=pd.DatetimeIndex([], tz="UTC"), dtype=np.float64)
    return pd.concat(series, axis=1)
