"""The steps of a plan: one write each, with all that a person and `apply` must know of it."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from optimizer.model import Change, Effects, Estimate, Finding, How, Json, Kind, Resource
from optimizer.remediation import scaling
from optimizer.remediation.beside import REPLACED_BY, new_cluster, what_to_do
from optimizer.remediation.documents import same, value_at, with_value, without
from optimizer.remediation.requirements import (
    AUTOSCALE,
    AUTOSCALE_RULES,
    BOTH,
    IDLE_SHUTDOWN,
    MIN_NODES,
    PRESENT,
    RESOURCE,
    SCALE,
    SCHEDULES,
    az_cli,
    permissions,
)
from optimizer.scenarios import ScenarioStep

_UNSET_UNDOCUMENTED = (
    "Azure documents no way to unset this again: rollback asks for it and tells if Azure keeps it."
)
_OVERWRITES = (
    "Azure changes schedules only by a PUT of the whole instance, which it calls an overwrite that "
    "nothing recovers from."
)
_NOTHING = Estimate(p10=0.0, p50=0.0, p90=0.0)
_NOT_KNOWN = Effects(
    extra_waiting_minutes_per_month=None, extra_restarts_per_month=None, runtime_stretch=None
)


class Frozen(BaseModel):
    """What a plan's file is made of."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True
    )


class Step(Frozen):
    """One setting of one resource, made only while `before` still holds."""

    id: str
    finding_ids: tuple[str, ...]
    detector: str
    """Of the first of `finding_ids`."""
    title: str
    resource_id: str
    setting: str
    """The path in the ARM document, or one of the words of `requirements`."""
    before: Json
    """As Azure spells it; None where it is not set."""
    after: Json
    how: How
    """`patch`, `action` or `recreate`."""
    put: dict[str, Any] = Field(default_factory=dict)
    """What is written beside the value, such as the document of a new cluster."""
    part_of: str | None = None
    """The step that this one completes, and that alone bears the saving; None: it is one itself."""
    needs: tuple[str, ...] = ()
    """The steps that must stand before it is made."""
    requires: tuple[str, ...]
    """The Azure actions that whoever applies it must be allowed."""
    reversible: bool
    destructive: bool = False
    """It is made only where it is confirmed by its id."""
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


def steps_of(
    groups: Sequence[Sequence[ScenarioStep]], resources: Mapping[str, Resource]
) -> Iterator[Step]:
    """Yield the steps of findings that are grouped by what they change, in their order.

    What completes a new cluster comes last: the old one is to be left as all other steps have it,
    and scaled to zero only once the new one stands. The old one keeps its other changes too, since
    jobs use it until people name the new one, which is made with them from the start.
    """
    build = _Builder(resources=resources, groups=groups)
    made = [build.step([step.finding for step in group], _sum(group)) for group in groups]
    yield from made
    for step in made:
        if step.how is How.RECREATE:
            yield from build.parts(step, made)


def hashed(value: object) -> str:
    """Return the SHA-256 of a value as JSON."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Builder:
    """Builds one step after another, each on what the last one left."""

    resources: Mapping[str, Resource]
    groups: Sequence[Sequence[ScenarioStep]]
    documents: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Those that an earlier step changes, as it leaves them: commands run in this order."""
    new_ids: set[str] = field(default_factory=set)
    """Of the clusters that this plan makes, in lower case."""

    def step(self, findings: Sequence[Finding], saving: Estimate) -> Step:
        """Return the step of findings that want one change, or one new cluster."""
        first = findings[0]
        resource = self.resources[first.change.resource_id]
        if first.change.how is How.RECREATE:
            change, put = self._new_cluster(findings, resource)
        else:
            change = _with_before(first.change, self._document(resource))
            put = _put(change, resource)
        made = self._step(change, put, first, saving)
        notes = tuple(dict.fromkeys(note for one in findings for note in one.pillar_notes))
        return made.model_copy(
            update={"finding_ids": tuple(one.id for one in findings), "pillar_notes": notes}
        )

    def parts(self, made: Step, steps: Sequence[Step]) -> Iterator[Step]:
        """Yield what the old cluster gets once a new one stands beside it."""
        resource = self.resources[made.resource_id]
        new_name = made.put["resource_id"].rpartition("/")[2]
        first = next(
            step.finding
            for group in self.groups
            for step in group
            if step.finding.id == made.finding_ids[0]
        )
        earlier = [
            step.id
            for step in steps
            if (step.resource_id, step.setting) == (made.resource_id, MIN_NODES)
        ]
        for setting, after, needs in (
            (MIN_NODES, 0, (made.id, *earlier)),
            (f"tags.{REPLACED_BY}", new_name, (made.id,)),
        ):
            wanted = Change(
                resource_id=made.resource_id,
                setting=setting,
                before=None,
                after=after,
                how=How.PATCH,
            )
            change = _with_before(wanted, self._document(resource))
            if not same(change.before, change.after):
                part = self._step(change, {}, first, _NOTHING)
                yield part.model_copy(
                    update={
                        "finding_ids": made.finding_ids,
                        "title": f"{resource.name} gives way to {new_name}",
                        "part_of": made.id,
                        "needs": needs,
                        "effects": _NOT_KNOWN,
                    }
                )

    def _new_cluster(
        self, findings: Sequence[Finding], resource: Resource
    ) -> tuple[Change, dict[str, Any]]:
        wanted = {finding.change.setting: finding.change.after for finding in findings}
        scale = {
            step.finding.change.setting: step.finding.change.after
            for group in self.groups
            for step in group
            if step.finding.change.resource_id == resource.resource_id
            and step.finding.change.setting in SCALE
        }
        new_id, document = new_cluster(
            resource, {**wanted, **scale}, tuple(self.resources.values()), self.new_ids
        )
        self.new_ids.add(new_id.lower())
        before = {setting: value_at(resource.arm, setting) for setting in wanted}
        setting = next(iter(wanted)) if len(wanted) == 1 else BOTH
        change = Change(
            resource_id=resource.resource_id,
            setting=setting,
            before=_by_leaf(before, setting),
            after=_by_leaf(wanted, setting),
            how=How.RECREATE,
        )
        return change, {"resource_id": new_id, "document": document}

    def _step(
        self, change: Change, put: Mapping[str, Any], first: Finding, saving: Estimate
    ) -> Step:
        resource = self.resources[change.resource_id]
        document = self._document(resource)
        if change.setting.partition(".")[0] in document and change.how is not How.RECREATE:
            after = with_value(document, change.setting, change.after)
            self.documents[change.resource_id] = after
        step_id = hashed([change.resource_id, change.setting, change.before, change.after])
        is_deletion = change.setting == RESOURCE
        return Step(
            id=f"step-{step_id[:12]}",
            finding_ids=(first.id,),
            detector=first.detector,
            title=first.title,
            resource_id=change.resource_id,
            setting=change.setting,
            before=change.before,
            after=change.after,
            how=change.how,
            put=dict(put),
            requires=permissions(change.how, change.resource_id, change.setting),
            reversible=not is_deletion,
            destructive=is_deletion,
            note=" ".join(_notes(change, put, resource)),
            saving_per_month=saving,
            effects=first.effects,
            pillar_notes=(),
            az_cli=az_cli(document, change, put),
        )

    def _document(self, resource: Resource) -> Mapping[str, Any]:
        return self.documents.get(resource.resource_id, resource.arm)


def _with_before(change: Change, document: Mapping[str, Any]) -> Change:
    """Return a change from what stands, as far as a path of the document says it."""
    before = change.before
    match change.setting:
        case "resource":
            before = PRESENT
        case "autoscaleSettings" | "autoscaleSettings.rules":
            pass
        case _:
            before = value_at(document, change.setting)
    after = change.after
    if change.setting == SCHEDULES:
        before, after = _as_written(before or []), _as_written(after)
    return Change(
        resource_id=change.resource_id,
        setting=change.setting,
        before=before,
        after=after,
        how=change.how,
    )


def _as_written(schedules: Any) -> Json:
    """Return schedules without the names that the service gives them."""
    return [without(each, ("id", "provisioningStatus")) for each in schedules]


def _put(change: Change, resource: Resource) -> dict[str, Any]:
    """Return what a kind of change writes beside the value, or looks at before it does."""
    if change.setting in {AUTOSCALE, AUTOSCALE_RULES}:
        return _autoscale(change, resource)
    inner = resource.arm["properties"].get("properties") or {}
    if change.setting == RESOURCE and (last := inner.get("lastOperation")):
        return {"operation": last}
    return {}


def _autoscale(change: Change, resource: Resource) -> dict[str, Any]:
    wanted: Any = change.after
    former = resource.settings.get("autoscale")
    profile = scaling.profile_of(resource.arm["id"], wanted)
    setting_id, document = scaling.new_setting(resource.arm, profile)
    if former is not None:
        setting_id, document = former["id"], None
    return {
        "resource_id": setting_id,
        "former": former,
        "profile": profile,
        "document": document,
    }


def _notes(change: Change, put: Mapping[str, Any], resource: Resource) -> Iterator[str]:
    match change.setting:
        case "resource":
            yield f"Nothing brings it back. {_LOST[resource.kind]}"
            if traffic := resource.settings.get("traffic_percent"):
                yield f"It gets {traffic} % of its endpoint's requests: send them elsewhere first."
        case "autoscaleSettings" if put["former"] is None:
            yield "Rollback deletes the setting and gives back as many instances as ran before."
        case _ if change.how is How.RECREATE:
            yield from what_to_do(resource, put["resource_id"])
        case _ if change.setting == IDLE_SHUTDOWN and change.before is None:
            yield _UNSET_UNDOCUMENTED
        case _ if change.setting == SCHEDULES:
            yield _OVERWRITES
        case _:
            return


_LOST = {
    Kind.CLUSTER: "A cluster holds no files; jobs that name it fail from then on.",
    Kind.INSTANCE: (
        "Its disk goes with it, and with the disk every file that is not in the workspace's share."
    ),
    Kind.DEPLOYMENT: "Its definition goes with it, and whoever calls it gets an error.",
}
"""What goes with a resource that is deleted."""


def _by_leaf(values: Mapping[str, Json], setting: str) -> Json:
    """Return the one value, or several by the last part of their path."""
    if setting != BOTH:
        return values[setting]
    return {path.rpartition(".")[2]: value for path, value in sorted(values.items())}


def _sum(group: Sequence[ScenarioStep]) -> Estimate:
    return Estimate(
        p10=sum(step.marginal.p10 for step in group),
        p50=sum(step.marginal.p50 for step in group),
        p90=sum(step.marginal.p90 for step in group),
    )
