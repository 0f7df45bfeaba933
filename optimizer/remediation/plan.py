"""A scenario as a file: what we can change, what people must, and what it will save."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError

from optimizer.errors import PlanError
from optimizer.model import Change, Effort, Estimate, How, Kind, Resource, Window
from optimizer.remediation.advice import by_hand
from optimizer.remediation.documents import same
from optimizer.remediation.requirements import BOTH, SCHEDULES
from optimizer.remediation.steps import Frozen, Step, hashed, steps_of
from optimizer.remediation.writes import kind_of
from optimizer.scenarios import Scenario, ScenarioStep

__all__ = [
    "MAKE_A_NEW_PLAN",
    "SCHEMA",
    "Advice",
    "NotIncluded",
    "Plan",
    "Step",
    "Totals",
    "dump",
    "load",
    "make_plan",
    "subscription_of",
]

SCHEMA = 1
MAKE_A_NEW_PLAN = "make a new plan with `optimizer plan`"


class Advice(Frozen):
    """A finding that only people can follow."""

    finding_id: str
    detector: str
    resource_id: str
    title: str
    why: str
    how: How
    effort: Effort
    saving_per_month: Estimate
    by_hand: str = ""
    """What to write into a job, a definition or an order; empty: `why` says it all."""


class NotIncluded(Frozen):
    """A finding that the plan leaves out."""

    finding: str
    """Its id."""
    resource_id: str
    why: str
    would_add_per_month: Estimate | None = None
    """To what the plan saves; None: `would_add_note` says why there is no figure."""
    would_add_note: str = ""


class Totals(Frozen):
    """What the plan comes to."""

    steps: int
    advice: int
    saving_per_month: Estimate
    """Of steps and advice together, by joint replay; what each adds sums to it at p50."""


class Plan(Frozen):
    """What `optimizer plan` writes and `optimizer apply` reads."""

    schema_version: Literal[1] = Field(alias="schema")
    id: str
    """The same for the same changes, whenever they are planned."""
    made_at_utc: datetime
    scenario: str
    window: Window
    currency: str
    estate: tuple[str, ...]
    """The ids of the subscriptions that the plan speaks of."""
    steps: tuple[Step, ...]
    advice: tuple[Advice, ...]
    totals: Totals
    not_included: tuple[NotIncluded, ...]
    digest: str = ""
    """SHA-256 of all the rest: a plan is applied as it was made and agreed to, or not at all."""

    def document(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return self.model_dump(mode="json")

    def sealed(self) -> Self:
        """Return it with the digest of what it holds."""
        return self.model_copy(update={"digest": _digest(self)})

    def check_seal(self) -> None:
        """Refuse a plan that was changed after it was made.

        Raises:
            PlanError: its digest is not that of what it holds.
        """
        if self.digest != _digest(self):
            raise PlanError(f"The plan {self.id} was edited by hand: {MAKE_A_NEW_PLAN}.")


def make_plan(
    scenario: Scenario,
    *,
    window: Window,
    currency: str,
    made_at_utc: datetime,
    resources: Mapping[str, Resource],
    put_instances: bool = False,
) -> Plan:
    """Split a scenario into what we can change and what people must; touches nothing.

    Several findings that ask for the same value of one setting make one step, where the first of
    them stood; it saves what they add together. So do those that want a cluster made anew.

    Args:
        scenario: what is wanted, and what each finding adds.
        window: what the findings rest on.
        currency: of the savings.
        made_at_utc: when.
        resources: everything that was collected, by id.
        put_instances: whether a schedule may be written by a PUT of the whole compute instance.

    Raises:
        PlanError: two findings ask for different values of one setting, or about a resource that
            was not collected.
    """
    ours, others = _split(scenario.steps, resources, put_instances=put_instances)
    groups = _by_setting(ours)
    for group in groups:
        _check(group, resources)
    steps = tuple(steps_of(groups, resources))
    advice = tuple(_advice(step, resources) for step in others)
    touched = [step.resource_id for step in steps] + [advised.resource_id for advised in advice]
    return Plan(
        schema_version=SCHEMA,
        id=f"plan-{hashed([[s.resource_id, s.setting, s.before, s.after] for s in steps])[:12]}",
        made_at_utc=made_at_utc,
        scenario=scenario.name,
        window=window,
        currency=currency,
        estate=tuple(sorted({subscription_of(resource_id) for resource_id in touched})),
        steps=steps,
        advice=advice,
        totals=Totals(steps=len(steps), advice=len(advice), saving_per_month=scenario.total),
        not_included=tuple(
            NotIncluded(
                finding=left.finding.id,
                resource_id=left.finding.resource_id,
                why=left.why,
                would_add_per_month=left.would_add_per_month,
                would_add_note=left.no_figure,
            )
            for left in scenario.left_out
        ),
    ).sealed()


def dump(plan: Plan, path: Path) -> None:
    """Write a plan whole or not at all.

    Raises:
        PlanError: the file cannot be written.
    """
    text = json.dumps(plan.document(), indent=2, ensure_ascii=False) + "\n"
    unfinished = path.with_name(f"{path.name}.part")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise PlanError(f"The plan cannot be written to {path}: {error.strerror}.") from error


def load(path: Path) -> Plan:
    """Read a plan.

    Raises:
        PlanError: it is not there, is no plan of this schema, or was edited by hand.
    """
    document = _read(path)
    if not isinstance(document, dict):
        raise PlanError(f"{path} is not a plan: {MAKE_A_NEW_PLAN}.")
    if "schema" in document and document["schema"] != SCHEMA:
        raise PlanError(
            f"{path} has plan schema {document['schema']} and this optimizer reads {SCHEMA}: "
            f"{MAKE_A_NEW_PLAN}."
        )
    try:
        plan = Plan.model_validate(document)
    except ValidationError as error:
        raise PlanError(f"{path} {_first_fault(error)}: {MAKE_A_NEW_PLAN}.") from None
    if plan.digest != _digest(plan):
        raise PlanError(f"{path} was edited by hand after it was made: {MAKE_A_NEW_PLAN}.")
    return plan


def subscription_of(resource_id: str) -> str:
    """Return the subscription that a resource id names, in lower case.

    >>> subscription_of("/subscriptions/ABC/resourceGroups/rg")
    'abc'
    """
    return resource_id.split("/")[2].lower()


def _split(
    steps: tuple[ScenarioStep, ...], resources: Mapping[str, Resource], *, put_instances: bool
) -> tuple[list[ScenarioStep], list[ScenarioStep]]:
    """Return what we can change, how it is done among them, and what only people can."""
    ours, others = [], []
    for step in steps:
        change = step.finding.change
        how = _how(change, resources, put_instances=put_instances)
        if how is None:
            others.append(step)
        else:
            finding = replace(step.finding, change=replace(change, how=how))
            ours.append(replace(step, finding=finding))
    return ours, others


def _how(change: Change, resources: Mapping[str, Resource], *, put_instances: bool) -> How | None:
    """Return how we make a change; None: it is for people."""
    if change.setting == SCHEDULES:
        return How.PATCH if put_instances else None
    if change.how is How.RECREATE:
        # The disk of an instance stays with it, so making another one is no more than half of it.
        resource = resources.get(change.resource_id)
        if resource is not None and resource.kind is not Kind.CLUSTER:
            return None
    return change.how if kind_of(change.how, change.setting) else None


def _by_setting(steps: list[ScenarioStep]) -> list[list[ScenarioStep]]:
    groups: dict[tuple[str, str, How], list[ScenarioStep]] = {}
    for step in steps:
        change = step.finding.change
        setting = BOTH if change.how is How.RECREATE else change.setting
        groups.setdefault((change.resource_id, setting, change.how), []).append(step)
    return list(groups.values())


def _check(group: list[ScenarioStep], resources: Mapping[str, Resource]) -> None:
    first, *others = (step.finding for step in group)
    if first.change.resource_id not in resources:
        raise PlanError(
            f"{first.change.resource_id} was not there when last collected: "
            "run `optimizer collect` and plan again."
        )
    for other in others:
        alike = first.change.setting == other.change.setting
        if alike and not same(first.change.after, other.change.after):
            raise PlanError(
                f"The findings {first.id} and {other.id} want different values of "
                f"{first.change.setting}: choose one of them."
            )


def _advice(step: ScenarioStep, resources: Mapping[str, Resource]) -> Advice:
    finding = step.finding
    return Advice(
        finding_id=finding.id,
        detector=finding.detector,
        resource_id=finding.resource_id,
        title=finding.title,
        why=finding.why,
        how=finding.change.how,
        effort=finding.effort,
        saving_per_month=step.marginal,
        by_hand=by_hand(finding, resources.get(finding.change.resource_id)),
    )


def _digest(plan: Plan) -> str:
    # Without what is as usual, so that a plan from before a field was thought of keeps its digest.
    return hashed(plan.model_dump(mode="json", exclude_defaults=True, exclude={"digest"}))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PlanError(
            f"There is no plan at {path}: make one with `optimizer plan --out {path}`."
        ) from None
    except OSError as error:
        raise PlanError(f"The plan {path} cannot be read: {error.strerror}.") from error
    except ValueError:  # neither text nor JSON
        raise PlanError(f"{path} is not a plan: {MAKE_A_NEW_PLAN}.") from None


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    match first["type"]:
        case "missing":
            return f"lacks the field {where}"
        case "extra_forbidden":
            return f"holds an unknown field {where}"
        case _:
            return f"has a field {where} that cannot be used ({first['msg'].lower()})"
