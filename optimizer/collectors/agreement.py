"""Two sources of one thing: the finer one is believed, and where they disagree that is said."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.azure.connect import Connection
from optimizer.azure.monitor import MetricQuestion, MetricSeries
from optimizer.collectors.samples import batches
from optimizer.model import Problem, Resource, Window

MOST_DISAGREEMENT = 0.10
"""Of the node-hours of a cluster, what log and metrics may differ by, hour by hour."""
LEAST_NODE_HOURS = 1.0
"""Below this a difference is not worth a word."""
LEAST_MINUTES = 15
"""An instance seen in use for so long, in all, while it was stopped is worth one."""

_HOUR = timedelta(hours=1)
_STATES = {"Active Nodes": "active", "Idle Nodes": "idle"}
_ON, _OFF = {"Start", "Restart", "Create"}, {"Stop", "Delete"}


def node_disagreements(
    connection: Connection,
    workspaces: Sequence[Resource],
    clusters: Sequence[Resource],
    logged: pd.DataFrame,
    window: Window,
) -> Iterator[Problem]:
    """Yield the clusters whose log tells other node-hours than Azure's metrics do.

    Shape: `logged` is what `node_hours` returns. Metrics are asked for by the hour, one question
    for fifty workspaces.

    Raises:
        AzureError: the metrics cannot be read.
    """
    known = set(logged.index.unique("resource_id"))
    asked = [c for c in clusters if c.resource_id in known]
    homes = {c.workspace_id for c in asked}
    for group in batches([w for w in workspaces if w.resource_id in homes]):
        question = MetricQuestion(
            metrics=tuple(_STATES),
            filter="ClusterName eq '*'",
            window=window,
            grain=_HOUR,
            aggregations=("Average",),
        )
        ids = [workspace.resource_id for workspace in group]
        series = connection.monitor.metrics(group[0].region, ids, question)
        yield from compared(series, [c for c in asked if c.workspace_id in ids], logged, window)


def node_hours(logged: pd.DataFrame, window: Window) -> pd.DataFrame:
    """Return the node-hours of each whole hour of a window, by cluster and hour.

    Shape: `logged` has the rows of `tables.NODE_MINUTES` that come from the log.
    """
    hours = logged["minute_utc"].dt.floor("h")
    inside = (hours >= window.start_utc) & (hours + _HOUR <= window.end_utc)
    by_hour = logged[inside].groupby(["resource_id", hours[inside]], observed=True)
    whole = by_hour.size() == 60  # noqa: PLR2004 - minutes
    sums: pd.DataFrame = by_hour[[*_STATES.values()]].sum()[whole]
    return sums / 60


def compared(
    series: Sequence[MetricSeries],
    clusters: Sequence[Resource],
    logged: pd.DataFrame,
    window: Window,
) -> Iterator[Problem]:
    """Yield the clusters for which hourly metrics and logged minutes differ by too much.

    Shape: `logged` is what `node_hours` returns. Only hours that both have count, and differences
    of either sign add up.
    """
    told: dict[tuple[str, str], dict[str, pd.Series[float]]] = {}
    for one in series:
        key = one.resource_id, one.dimensions.get("clustername", "").lower()
        values = pd.Series(one.average, index=pd.DatetimeIndex(one.times, tz="UTC"))
        told.setdefault(key, {})[_STATES[one.metric]] = values.dropna()
    for cluster in clusters:
        if cluster.resource_id not in logged.index:
            continue
        sums = logged.loc[cluster.resource_id]
        metrics = told.get((cluster.workspace_id, cluster.name.lower()), {})
        differ = total = 0.0
        for state, measured in metrics.items():
            both = sums.index.intersection(measured.index)
            ours, theirs = sums.loc[both, state].to_numpy(), measured.loc[both].to_numpy()
            differ += float(np.abs(ours - theirs).sum())
            total += float(np.maximum(ours, theirs).sum())
        if differ > max(LEAST_NODE_HOURS, MOST_DISAGREEMENT * total):
            yield Problem(
                scope=cluster.resource_id,
                what=f"The log of cluster {cluster.name} and Azure's metrics differ by "
                f"{differ:.1f} of {total:.1f} node-hours since {window.start_utc:%Y-%m-%d}: the "
                "log was believed, as it is finer; check that its diagnostic setting was on all "
                "along.",
            )


def instance_disagreements(
    instances: Sequence[Resource], events: pd.DataFrame, observed: pd.DataFrame, window: Window
) -> Iterator[Problem]:
    """Yield the instances that were measured at times when the activity log has them stopped.

    Shape: `events` and `observed` have the columns of `tables.INSTANCE_EVENTS` and `INTERVALS`.
    Before the first event of an instance nothing is known of it.
    """
    by_id, seen = _by_id(events), _by_id(observed)
    for instance in instances:
        of = instance.resource_id
        if of in by_id and of in seen:
            minutes = _overlap_minutes(_stopped(by_id[of], window), seen[of])
            if minutes >= LEAST_MINUTES:
                yield Problem(
                    scope=of,
                    what=f"Instance {instance.name} was measured for {minutes:.0f} minutes in "
                    "which the activity log has it stopped: the measurements were believed, as "
                    "they are finer.",
                )


def _by_id(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {str(key): mine for key, mine in frame.groupby("resource_id")}


def _stopped(events: pd.DataFrame, window: Window) -> list[tuple[float, float]]:
    """Return when an instance was off, in seconds; of several events at once a start holds.

    Its machine may be measured from the beginning of a start on.
    """
    worked = events[events["status"].str.lower().isin(["started", "succeeded"])]
    stretches: list[tuple[float, float]] = []
    since: float | None = None
    seconds = _seconds(worked["at_utc"])
    for at_s in np.unique(seconds).tolist():
        done = set(worked["operation"][seconds == at_s])
        if done & _ON:
            if since is not None:
                stretches.append((since, at_s))
            since = None
        elif done & _OFF and since is None:
            since = at_s
    end = window.end_utc.timestamp()
    return [*stretches, (since, end)] if since is not None and since < end else stretches


def _overlap_minutes(stretches: Sequence[tuple[float, float]], observed: pd.DataFrame) -> float:
    first, last = (_seconds(observed[name]) for name in ("start_utc", "end_utc"))
    # The minute in which it stopped was measured in part.
    return sum(
        float((np.minimum(last, end) - np.maximum(first, start + 60)).clip(min=0).sum()) / 60
        for start, end in stretches
    )


def _seconds(times: "pd.Series[pd.Timestamp]") -> npt.NDArray[np.float64]:
    return times.dt.as_unit("s").astype("int64").to_numpy().astype(np.float64)
