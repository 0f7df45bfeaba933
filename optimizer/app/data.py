"""What the pages show. The only cache: pages ask here, and here asks the pipeline."""

import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias

import streamlit as st

from optimizer import pipeline
from optimizer.analysis.result import Analysis
from optimizer.config import Settings, load_settings
from optimizer.remediation.outcomes import Outcome, Run, Verification
from optimizer.remediation.plan import Plan
from optimizer.scenarios import Scenario
from optimizer.scenarios.best import BEST, Front
from optimizer.scenarios.limits import Limits
from optimizer.scenarios.presets import CHOSEN
from optimizer.store.ledger import Approval

Work: TypeAlias = Callable[[Callable[[Outcome], None]], Run]
Version: TypeAlias = tuple[int, str]

_ENTRIES = 4
_CHOICES = 64
"""Somebody who moves a slider to and fro waits for each of its places once."""
_HASH: dict[str | type[Any], Callable[[Any], Any]] = {
    Settings: Settings.model_dump_json,
    Limits: repr,
}


def settings() -> Settings:
    """Return the settings of the process that serves the app."""
    return load_settings(os.environ)


def analysis() -> Analysis:
    """Return the analysis of what was last collected."""
    return _analysis(settings(), _version(settings()))


def plan(scenario: str, finding_ids: tuple[str, ...]) -> Plan:
    """Return the plan of a scenario, or of the findings chosen by hand where any are given."""
    return pipeline.plan_of(
        analysis(),
        scenario=scenario,
        finding_ids=finding_ids,
        put_instances=settings().azure.put_instances,
    )


def scenario(name: str) -> Scenario:
    """Return a preset."""
    return _scenario(settings(), _version(settings()), name, (), Limits())


def picked(finding_ids: tuple[str, ...]) -> Scenario:
    """Return findings picked by hand, totalled together."""
    return _scenario(settings(), _version(settings()), CHOSEN, finding_ids, Limits())


def best(limits: Limits) -> Scenario:
    """Return the most saving within limits."""
    return _scenario(settings(), _version(settings()), BEST, (), limits)


def front(limits: Limits) -> Front:
    """Return the most that can be saved at each amount of waiting, within limits."""
    return _front(settings(), _version(settings()), limits)


def verification() -> Verification:
    """Return how far every applied saving has come."""
    return _verification(settings(), _version(settings()))


def history() -> tuple[Run, ...]:
    """Return every run, oldest first. Never cached: it is what a person looks at after a click."""
    return pipeline.history(settings())


def approvals(chosen: Plan) -> tuple[Approval, ...]:
    """Return every approval of a plan, oldest first. Never cached, as the history."""
    return pipeline.approvals(settings(), chosen)


def why_not_approved(chosen: Plan) -> str | None:
    """Return why whoever serves the app may not apply a plan yet; None where that is no hurdle."""
    used = settings()
    return pipeline.why_not_approved(used, chosen, who=used.who)


def approve(chosen: Plan, *, hours: float, comment: str) -> Approval:
    """Keep that whoever serves the app agrees to a plan."""
    used = settings()
    return pipeline.approve(used, chosen, who=used.who, hours=hours, comment=comment)


def apply(chosen: Plan, *, max_steps: int) -> Iterator[Outcome | Run]:
    """Apply a plan; yield each outcome as it is known, and the run at the end."""
    used = settings()
    return followed(
        lambda tell: pipeline.apply(
            used, chosen, max_steps=max_steps, who=used.who, on_outcome=tell
        )
    )


def roll_back(run_id: str) -> Iterator[Outcome | Run]:
    """Undo a run; yield each outcome as it is known, and the run at the end."""
    used = settings()
    return followed(lambda tell: pipeline.rollback(used, run_id, who=used.who, on_outcome=tell))


def followed(work: Work) -> Generator[Outcome | Run, None, None]:
    """Yield each outcome of `work` as it is told, then its run; raises what `work` raises."""
    # A thread of its own: closing the page or a click elsewhere ends the page's script, and that
    # must not end a run between two of its steps.
    told: SimpleQueue[Outcome | None] = SimpleQueue()
    with ThreadPoolExecutor(max_workers=1) as pool:
        run = pool.submit(work, told.put)
        run.add_done_callback(lambda _: told.put(None))
        while (outcome := told.get()) is not None:
            yield outcome
        yield run.result()


def _version(used: Settings) -> Version:
    """Return what changes whenever the lake or the ledger does."""
    collected_ns = max(map(changed_ns, used.lake.rglob("*.parquet")), default=0)
    return collected_ns, pipeline.ledger_head(used)


def changed_ns(file: Path) -> int:
    """Return when a file was last written; 0 where it has gone meanwhile."""
    # A collection may replace it, between our listing and our look.
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


# Shared, not copied: an analysis is frozen, and 26 MB for a small estate.
@st.cache_resource(
    max_entries=_ENTRIES, hash_funcs=_HASH, show_spinner="Replaying what was collected…"
)
def _analysis(used: Settings, version: Version) -> Analysis:
    del version  # part of the key
    return pipeline.analyse(used)


@st.cache_resource(
    max_entries=_CHOICES, hash_funcs=_HASH, show_spinner="Replaying the findings together…"
)
def _scenario(
    used: Settings, version: Version, name: str, finding_ids: tuple[str, ...], limits: Limits
) -> Scenario:
    return pipeline.make_scenario(
        _analysis(used, version), scenario=name, finding_ids=finding_ids, limits=limits
    )


@st.cache_resource(
    max_entries=_CHOICES, hash_funcs=_HASH, show_spinner="Looking for the most at each waiting…"
)
def _front(used: Settings, version: Version, limits: Limits) -> Front:
    return pipeline.front_of(_analysis(used, version), limits)


@st.cache_data(max_entries=_ENTRIES, hash_funcs=_HASH, show_spinner="Comparing with the bill…")
def _verification(used: Settings, version: Version) -> Verification:
    del version
    return pipeline.verify(used)
