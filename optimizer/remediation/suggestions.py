"""What looks like an event outside routine: told, and left to people to date."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from optimizer.analysis.assemble import Estate
from optimizer.analysis.case import Case
from optimizer.analysis.clusters import ClusterCase
from optimizer.model import Resource
from optimizer.remediation.baseline import Baseline
from optimizer.remediation.events import Event

NEW_WORK_SHARE = 0.2
"""Share of a cluster's node-hours since its baseline from which on new experiments are told."""


def suggested_events(
    estate: Estate, frozen: Mapping[str, Baseline | None], events: Sequence[Event]
) -> tuple[str, ...]:
    """Return what happened to changed computes beside their change, unless it is dated already.

    Args:
        estate: as it is.
        frozen: the baselines, by resource id.
        events: those that were dated.
    """
    return tuple(
        said
        for resource_id, baseline in frozen.items()
        if baseline is not None
        and (resource := estate.resources.get(resource_id)) is not None
        and not any(event.touches(resource) for event in events)
        for said in _seen(estate, resource, baseline)
    )


def _seen(estate: Estate, resource: Resource, baseline: Baseline) -> Iterator[str]:
    if resource.sku != baseline.sku:
        yield f"{resource.name} was {baseline.sku} and is {resource.sku}."
    workspace = estate.resources.get(resource.workspace_id)
    offered = workspace.settings.get("sizes_offered") if workspace else None
    if offered and resource.sku and resource.sku.lower() not in {s.lower() for s in offered}:
        yield f"{resource.name} is {resource.sku}, which Azure no longer offers there."
    yield from _new_work(resource, estate.cases.get(resource.resource_id), baseline)


def _new_work(resource: Resource, case: Case[Any] | None, baseline: Baseline) -> Iterator[str]:
    if not isinstance(case, ClusterCase):
        return
    runs = case.features.runs
    last = max(baseline.dates, default=baseline.first_day)
    since = runs.start > ((last - case.window.start_utc.date()).days + 1) * 86_400
    hours = runs.node_hours
    new = since & ~np.isin(runs.experiment, [*baseline.experiments, ""])
    if not new.any() or hours[new].sum() < NEW_WORK_SHARE * hours[since].sum():
        return
    names = sorted(set(runs.experiment[new].tolist()))
    began = np.datetime64(case.window.start_utc.replace(tzinfo=None), "s") + runs.start[new].min()
    yield (
        f"{resource.name} runs experiments that it did not have, from {str(began)[:10]} on: "
        f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}."  # noqa: PLR2004 - as many as a line holds
    )
