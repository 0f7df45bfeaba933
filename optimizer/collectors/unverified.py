"""What Azure's documents leave open, and which way this estate turned out to be.

The code takes it either way. These lines say which one it met, from what was collected; no request
is sent for them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import pandas as pd

from optimizer.azure.doctor import NOT_SEEN, Check
from optimizer.model import Attribution, Kind, Window
from optimizer.store.lake import Lake, start_of
from optimizer.store.tables import (
    COSTS,
    INSTANCE_EVENTS,
    INTERVALS,
    JOBS,
    REQUESTS,
    RESOURCES,
    Table,
)

_LOOKED_AT = timedelta(days=14)
"""Of each table its latest days; older ones would say the same."""


def turned_out(lake: Lake) -> tuple[Check, ...]:
    """Return a line for each open question that what was collected can answer.

    Raises:
        LakeError: a file of the lake is damaged.
    """
    resources = lake.read(RESOURCES, columns=["resource_id", "kind"]).drop_duplicates()
    seen = _Seen(
        lake=lake, kinds=dict(zip(resources["resource_id"], resources["kind"], strict=True))
    )
    return tuple(_lines(seen))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """The latest of what was collected."""

    lake: Lake
    kinds: dict[str, str]

    def latest(self, table: Table, *columns: str) -> pd.DataFrame:
        days = self.lake.days(table)
        if not days:
            return self.lake.read(table, columns=columns)
        end = start_of(days[-1]) + timedelta(days=1)
        return self.lake.read(table, Window(start_utc=end - _LOOKED_AT, end_utc=end), columns)

    def ids(self, kind: Kind) -> set[str]:
        return {resource_id for resource_id, its in self.kinds.items() if its == kind.value}


def _lines(seen: _Seen) -> Iterator[Check]:
    questions: dict[str, Callable[[_Seen], str | None]] = {
        "Use of instances without a job": _instance_use,
        "Clusters in the bill": _clusters_billed,
        "Deployments in the bill": _deployments_billed,
        "Minutes without requests": _silence,
        "Commitments in the bill": _commitments,
    }
    for name, ask in questions.items():
        said = ask(seen)
        yield Check(name=name, ok=None if said is None else True, detail=said or NOT_SEEN)


def _instance_use(seen: _Seen) -> str | None:
    instances = seen.ids(Kind.INSTANCE)
    with_jobs = set(seen.lake.read(JOBS, columns=["resource_id"])["resource_id"].dropna())
    alone = instances - with_jobs
    measured = set(seen.latest(INTERVALS, "resource_id")["resource_id"])
    if measured & alone:
        return "Azure measures instances while no job runs on them, so their idle time is seen."
    events = seen.latest(INSTANCE_EVENTS, "resource_id", "operation")
    started = set(events.loc[events["operation"] == "Start", "resource_id"])
    if started & alone:
        return (
            "Instances were started and not measured without a job: their idle time is not seen, "
            "and what rests on it is not assessed."
        )
    return None


def _clusters_billed(seen: _Seen) -> str | None:
    costs = seen.latest(COSTS, "resource_id", "component", "attribution")
    machines = costs[costs["component"] == "vm"]
    exact = machines[machines["attribution"] == Attribution.EXACT.value]
    if set(exact["resource_id"]) & seen.ids(Kind.CLUSTER):
        return "PoolName tells the cluster of a cost: spend by cluster is exact."
    if len(exact):
        return "PoolName tells instances and no cluster: spend by cluster is by tag or estimated."
    if len(machines):
        return "No cost has a PoolName: spend by compute is by tag or estimated."
    return None


def _deployments_billed(seen: _Seen) -> str | None:
    deployments = seen.ids(Kind.DEPLOYMENT)
    costs = seen.latest(COSTS, "resource_id")
    if set(costs["resource_id"]) & deployments:
        return "The tags azuremlendpoint and azuremldeployment tell the deployment of a cost."
    if deployments and len(costs):
        return "No cost has the tags of a deployment: their spend stays with the workspace."
    return None


def _silence(seen: _Seen) -> str | None:
    frame = seen.latest(REQUESTS, "requests_per_minute", "instances")
    if (frame["requests_per_minute"] == 0).any():
        return "A minute without requests is told as 0, or taken for it as configured."
    if (frame["requests_per_minute"].isna() & (frame["instances"] > 0)).any():
        return (
            "Minutes without requests are not told: they count as unknown unless the setting "
            "analysis.silent_deployments_are_idle says that they had none."
        )
    return None


def _commitments(seen: _Seen) -> str | None:
    models = seen.latest(COSTS, "pricing_model")["pricing_model"].dropna()
    named = models.str.replace(" ", "").str.lower()
    found = [name for name in ("reservation", "savingsplan") if (named == name).any()]
    words = {"reservation": "reservations", "savingsplan": "savings plans"}
    if found:
        covering = " and ".join(words[name] for name in found)
        return f"Compute of Azure Machine Learning is covered by {covering} here."
    return None
