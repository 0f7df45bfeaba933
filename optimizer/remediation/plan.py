"""A scenario as a file: what we can change, what people must, and what it will save."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from optimizer.errors import PlanError
from optimizer.model import Effects, Effort, Estimate, Finding, How, Json, Resource, Window
from optimizer.remediation.documents import same, value_at, with_value
from optimizer.remediation.requirements import az_cli, permissions
from optimizer.scenarios import Scenario, ScenarioStep

SCHEMA = 1
MAKE_A_NEW_PLAN = "make a new plan with `optimizer plan`"

_UNSET_UNDOCUMENTED = (
    "Azure documents no way to unset this again: rollback asks for it and tells if Azure keeps it."
)


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True
    )


class Step(_Frozen):
    """One setting of one resource, made only while `before` still holds."""

    id: str
    finding_ids: tuple[str, ...]
    detector: str
    """Of the first of `finding_ids`."""
    title: str
    resource_id: str
    setting: str
    """The path in the ARM document."""
    before: Json
    """As Azure spells it; None where it is not set."""
    after: Json
    how: How
    """`patch` or `action`."""
    requires: tuple[str, ...]
    """The Azure actions that whoever applies it must be allowed."""
    reversible: bool
    note: str
    """What to know before applying it; mostly empty."""
    saving_per_month: Estimate
    """What it adds to the steps before it."""
    effects: Effects
    """What people and jobs would feel, of the first of `finding_ids`."""
    pillar_notes: tuple[str, ...]
    """Conflicts with advice on reliability, security or performance."""
    az_cli: str
    """The same by hand."""


class Advice(_Frozen):
    """A finding that only people can follow."""

    finding_id: str
    detector: str
    resource_id: str
    title: str
    why: str
    how: How
    effort: Effort
    saving_per_month: Estimate


class NotIncluded(_Frozen):
    """A finding that the plan leaves out."""

    finding: str
    """Its id."""
    resource_id: str
    why: str
    would_add_per_month: Estimate | None = None
    """To what the plan saves; None: `would_add_note` says why there is no figure."""
    would_add_note: str = ""


class Totals(_Frozen):
    """What the plan comes to."""

    steps: int
    advice: int
    saving_per_month: Estimate
    """Of steps and advice together, by joint replay; what each adds sums to it at p50."""


class Plan(_Frozen):
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
) -> Plan:
    """Split a scenario into what we can change and what people must; touches nothing.

    Several findings that ask for the same value of one setting make one step, where the first of
    them stood; it saves what they add together.

    Raises:
        PlanError: two findings ask for different values of one setting, or about a resource that
            was not collected.
    """
    groups = _by_setting(scenario.steps)
    for group in groups:
        _check(group, resources)
    steps = tuple(_steps([g for g in groups if _is_ours(g[0].finding)], resources))
    advice = tuple(_advice(g) for group in groups if not _is_ours(group[0].finding) for g in group)
    touched = [step.resource_id for step in steps] + [advised.resource_id for advised in advice]
    return Plan(
        schema_version=SCHEMA,
        id=f"plan-{_hash([[s.resource_id, s.setting, s.before, s.after] for s in steps])[:12]}",
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


def _by_setting(steps: tuple[ScenarioStep, ...]) -> list[list[ScenarioStep]]:
    groups: dict[tuple[str, str, How], list[ScenarioStep]] = {}
    for step in steps:
        change = step.finding.change
        groups.setdefault((change.resource_id, change.setting, change.how), []).append(step)
    return list(groups.values())


def _is_ours(finding: Finding) -> bool:
    return finding.change.how in (How.PATCH, How.ACTION)


def _check(group: list[ScenarioStep], resources: Mapping[str, Resource]) -> None:
    first, *others = (step.finding for step in group)
    if _is_ours(first) and first.change.resource_id not in resources:
        raise PlanError(
            f"{first.change.resource_id} was not there when last collected: "
            "run `optimizer collect` and plan again."
        )
    for other in others:
        if _is_ours(first) and not same(first.change.after, other.change.after):
            raise PlanError(
                f"The findings {first.id} and {other.id} want different values of "
                f"{first.change.setting}: choose one of them."
            )


def _steps(groups: list[list[ScenarioStep]], resources: Mapping[str, Resource]) -> Iterator[Step]:
    # The commands are for a person who runs them in this order, each on what the last one left.
    documents: dict[str, Mapping[str, Any]] = {}
    for group in groups:
        findings = [step.finding for step in group]
        change = findings[0].change
        document = documents.get(change.resource_id, resources[change.resource_id].arm)
        yield _step(findings, document, _sum([step.marginal for step in group]))
        documents[change.resource_id] = with_value(document, change.setting, change.after)


def _step(findings: list[Finding], document: Mapping[str, Any], saving: Estimate) -> Step:
    first, change = findings[0], findings[0].change
    before = value_at(document, change.setting)
    return Step(
        id=f"step-{_hash([change.resource_id, change.setting, before, change.after])[:12]}",
        finding_ids=tuple(finding.id for finding in findings),
        detector=first.detector,
        title=first.title,
        resource_id=change.resource_id,
        setting=change.setting,
        before=before,
        after=change.after,
        how=change.how,
        requires=permissions(change.how, change.resource_id),
        reversible=True,
        note=_UNSET_UNDOCUMENTED if change.how is How.ACTION and before is None else "",
        saving_per_month=saving,
        effects=first.effects,
        pillar_notes=tuple(dict.fromkeys(note for one in findings for note in one.pillar_notes)),
        az_cli=az_cli(document, change),
    )


def _advice(step: ScenarioStep) -> Advice:
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
    )


def _sum(estimates: list[Estimate]) -> Estimate:
    return Estimate(
        p10=sum(estimate.p10 for estimate in estimates),
        p50=sum(estimate.p50 for estimate in estimates),
        p90=sum(estimate.p90 for estimate in estimates),
    )


def _digest(plan: Plan) -> str:
    return _hash({name: value for name, value in plan.document().items() if name != "digest"})


def _hash(value: object) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


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
