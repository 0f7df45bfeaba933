"""The world: an estate played up to a virtual now, and changed at it.

The ARM documents are the one place where settings stand: a write edits the document, and what is
played reads its settings from there.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np

from optimizer.emulator import arm, billing
from optimizer.emulator.autoscale import read_autoscale
from optimizer.emulator.clusters import Cluster
from optimizer.emulator.deployments import Deployment, DeploymentSettings
from optimizer.emulator.documents import (
    CreateOnlyError,
    WriteError,
    created,
    created_deployment,
    live,
    replaced,
    replaced_deployment,
)
from optimizer.emulator.engines import (
    NO_ACTIVITY,
    Engine,
    configure,
    make_engine,
    read_activity,
    whole_seconds,
)
from optimizer.emulator.estate import Estate, SettingChange
from optimizer.emulator.instances import Instance
from optimizer.emulator.records import (
    Charge,
    DeploymentMinutes,
    Ints,
    JobRecord,
    NodeCounts,
    Operation,
    SessionSpans,
    Spans,
)
from optimizer.emulator.reservations import (
    Claim,
    Settled,
    covered_hours,
    hour_edges,
    settle,
    unit_ratio,
    unused_hours,
)
from optimizer.errors import EstateError
from optimizer.units import SECONDS_PER_HOUR, iso_utc

__all__ = ["CreateOnlyError", "World", "WriteError"]

E = TypeVar("E", Cluster, Instance, Deployment)

CUSTOMER = "platform-team"
"""Who makes the changes of `changes.csv`."""
PRINCIPAL = "optimizer"
"""Who writes through the API, unless the server says otherwise."""


@dataclass(slots=True)
class _Entry:
    """Something that is played and billed, with its document; kept after its death."""

    document: arm.Document
    engine: Engine
    born_s: int
    died_s: int | None = None


class World:
    """An estate folder in motion."""

    def __init__(self, estate: Estate) -> None:
        """Play from `history_start_utc` to `now_utc`."""
        self.estate = estate
        self._start_s = self._now_s = whole_seconds(estate.history_start_utc)
        self._changes = deque(estate.changes)
        self._writes: list[Operation] = []
        self._documents: dict[str, arm.Document] = {}
        self._entries: list[_Entry] = []
        self._latest: dict[str, _Entry] = {}
        activity = read_activity(estate)
        numbered = [numbered for each in activity.values() for numbered in each.jobs]
        self._job_rows = [row for _, row in sorted(numbered, key=itemgetter(0))]
        for document in estate.resources:
            key = arm.key(document["id"])
            self._documents[key] = deepcopy(document)
            engine = make_engine(
                estate,
                document,
                activity.get(key, NO_ACTIVITY),
                start_s=self._start_s,
                is_new=False,
            )
            if engine is not None:
                self._enter(self._documents[key], engine)
        for document in self.documents(arm.AUTOSCALE):
            self._follow(document)
        self._play_until(whole_seconds(estate.now_utc))

    @property
    def now_utc(self) -> datetime:
        """The virtual now, a whole second."""
        return datetime.fromtimestamp(self._now_s, UTC)

    @property
    def job_rows(self) -> Sequence[Mapping[str, Any]]:
        """The rows of `jobs.parquet`, in its order, those of the future included."""
        return self._job_rows

    def advance(self, hours: float) -> None:
        """Let time pass.

        Raises:
            WriteError: time would run backwards.
        """
        if hours < 0:
            raise WriteError(f"the clock cannot go back by {-hours} hours")
        self._play_until(self._now_s + round(timedelta(hours=hours).total_seconds()))

    def _play_until(self, end_s: int) -> None:
        while self._changes and whole_seconds(self._changes[0].at_utc) <= end_s:
            self._change(self._changes.popleft())
        for entry in self._entries:
            if entry.died_s is None:
                entry.engine.run_until(end_s)
        self._now_s = end_s

    def _change(self, change: SettingChange) -> None:
        """Play a change of `changes.csv`; what was deleted meanwhile no longer changes."""
        key = arm.key(change.resource_id)
        entry = self._latest.get(key)
        if entry is not None and entry.died_s is None:
            entry.engine.run_until(whole_seconds(change.at_utc))
            self._set(entry, change.path, change.value, CUSTOMER)
        elif key in self._documents:
            document = self._documents[key]
            arm.put_at(document, change.path, change.value)
            if arm.is_autoscale(document):
                self._follow(document, at_s=whole_seconds(change.at_utc))

    # -- documents -------------------------------------------------------------------------------

    def documents(self, kind: str | None = None, *, within: str = "") -> tuple[arm.Document, ...]:
        """Return ARM documents as they stand now: all, or those of a type or below another one."""
        below = f"{arm.key(within)}/" if within else ""
        return tuple(
            live(found, self._engine_of(key))
            for key, found in self._documents.items()
            if key.startswith(below) and (kind is None or found["type"].lower() == kind.lower())
        )

    def document(self, resource_id: str) -> arm.Document | None:
        """Return one ARM document as it stands now; ids may differ in case."""
        key = arm.key(resource_id)
        found = self._documents.get(key)
        return None if found is None else live(found, self._engine_of(key))

    def _engine_of(self, key: str) -> Engine | None:
        entry = self._latest.get(key)
        return None if entry is None else entry.engine

    # -- writes ----------------------------------------------------------------------------------

    def set_scale(
        self, compute_id: str, scale_settings: Mapping[str, Any], *, caller: str = PRINCIPAL
    ) -> None:
        """Give a cluster other scale settings now; what is left out stays, as in a PATCH.

        Raises:
            WriteError: it is no cluster, or the settings contradict one another.
        """
        entry = self._living(compute_id)
        _as(entry, Cluster)
        found = arm.settings(entry.document).get("scaleSettings") or {}
        merged = found | dict(scale_settings)
        self._set(entry, "properties.properties.scaleSettings", merged, caller)

    def set_idle_shutdown(
        self, compute_id: str, iso: str | None, *, caller: str = PRINCIPAL
    ) -> None:
        """Give an instance another idle time now; None = never. Its idle clock starts afresh.

        Raises:
            WriteError: it is no instance, or Azure takes no such idle time.
        """
        entry = self._living(compute_id)
        _as(entry, Instance)
        self._set(entry, "properties.properties.idleTimeBeforeShutdown", iso, caller)

    def set_capacity(self, deployment_id: str, capacity: int, *, caller: str = PRINCIPAL) -> None:
        """Run another number of a deployment's instances from now on.

        Raises:
            WriteError: it is no deployment, or the capacity is no count.
        """
        entry = self._living(deployment_id)
        _as(entry, Deployment)
        self._set(entry, "sku.capacity", capacity, caller)

    def put_deployment(
        self, deployment_id: str, body: Mapping[str, Any], *, caller: str = PRINCIPAL
    ) -> None:
        """Replace a deployment's document by `body`, or make a new deployment of it.

        Raises:
            CreateOnlyError: it would change the VM size.
            WriteError: the body cannot be played.
        """
        entry = self._latest.get(arm.key(deployment_id))
        if entry is not None and entry.died_s is None:
            self._replace(entry, replaced_deployment(entry.document, body), caller)
            return
        location = self._workspace_of(deployment_id).get("location")
        document = created_deployment(deployment_id, body, location=location, now_utc=self.now_utc)
        self._begin(document, caller)

    def put_autoscale(self, setting_id: str, body: Mapping[str, Any]) -> None:
        """Make an autoscale setting what `body` says, in force from now on.

        Raises:
            WriteError: it cannot be played.
        """
        document = {
            **deepcopy(dict(body)),
            "id": setting_id,
            "name": setting_id.rsplit("/", 1)[-1],
            "type": arm.AUTOSCALE,
        }
        try:
            arm.check_settings(document)
        except EstateError as error:
            raise WriteError(str(error)) from error
        self.delete_autoscale(setting_id)
        self._documents[arm.key(setting_id)] = document
        self._follow(document)

    def delete_autoscale(self, setting_id: str) -> None:
        """Delete an autoscale setting; what it scaled keeps the instances it has."""
        found = self._documents.pop(arm.key(setting_id), None)
        target = self._latest.get(arm.autoscaled(found)) if found else None
        if target is not None and isinstance(target.engine, Deployment):
            target.engine.follow(None)

    def put_compute(
        self, compute_id: str, body: Mapping[str, Any], *, caller: str = PRINCIPAL
    ) -> None:
        """Replace a compute's document by `body`, or make a new compute of it.

        Raises:
            CreateOnlyError: it would change the VM size, priority, system or region.
            WriteError: the body cannot be played.
        """
        entry = self._latest.get(arm.key(compute_id))
        if entry is None or entry.died_s is not None:
            self._create(compute_id, body, caller)
        else:
            self._replace(entry, replaced(entry.document, body), caller)

    def start(self, compute_id: str, *, caller: str = PRINCIPAL) -> None:
        """Start an instance. Raises WriteError where it is no instance."""
        _as(self._living(compute_id), Instance).start(caller)

    def stop(self, compute_id: str, *, caller: str = PRINCIPAL) -> None:
        """Stop an instance; whoever works on it may start it again at once.

        Raises:
            WriteError: it is no instance.
        """
        _as(self._living(compute_id), Instance).stop(caller)

    def delete_compute(self, compute_id: str, *, caller: str = PRINCIPAL) -> None:
        """Delete a compute; what it did and cost stays known.

        Raises:
            WriteError: there is none.
        """
        entry = self._living(compute_id)
        entry.engine.delete()
        entry.died_s = self._now_s
        del self._documents[arm.key(compute_id)]
        self._note("Delete", entry, caller)

    def _set(self, entry: _Entry, path: str, value: Any, caller: str) -> None:
        # A deployment's capacity may be its autoscale's doing, which no other change undoes.
        is_scaled = isinstance(entry.engine, Deployment)
        document = live(entry.document, entry.engine if is_scaled else None)
        arm.put_at(document, path, value)
        self._replace(entry, document, caller)

    def _replace(self, entry: _Entry, document: arm.Document, caller: str) -> None:
        """Put another document in force at the engine's now, or refuse it and change nothing."""
        try:
            arm.check_settings(document)
        except EstateError as error:
            raise WriteError(str(error)) from error
        now_utc = datetime.fromtimestamp(entry.engine.now_s, UTC)
        if arm.is_compute(document):
            arm.put_at(document, "properties.modifiedOn", iso_utc(now_utc))
        self._documents[arm.key(document["id"])] = entry.document = document
        configure(entry.engine, document)
        self._note("Write", entry, caller)

    def _create(self, compute_id: str, body: Mapping[str, Any], caller: str) -> None:
        location = self._workspace_of(compute_id).get("location")
        self._begin(created(compute_id, body, location=location, now_utc=self.now_utc), caller)

    def _begin(self, document: arm.Document, caller: str) -> None:
        """Play a new document from now on."""
        try:
            engine = make_engine(
                self.estate, document, NO_ACTIVITY, start_s=self._now_s, is_new=True
            )
        except EstateError as error:
            raise WriteError(str(error)) from error
        if engine is None:
            raise WriteError(
                f"{document['id']} is neither an AmlCompute nor a ComputeInstance nor a managed "
                "deployment"
            )
        self._documents[arm.key(document["id"])] = document
        self._note("Create", self._enter(document, engine), caller)

    def _workspace_of(self, resource_id: str) -> arm.Document:
        try:
            found = self._documents.get(arm.key(arm.workspace_id(resource_id)))
        except EstateError as error:
            raise WriteError(str(error)) from error
        if found is None:
            raise WriteError(f"{resource_id} names a workspace that does not exist")
        return found

    def _follow(self, document: arm.Document, *, at_s: int | None = None) -> None:
        """Let a deployment follow its autoscale setting as it stands."""
        entry = self._latest.get(arm.autoscaled(document))
        if entry is not None and entry.died_s is None and isinstance(entry.engine, Deployment):
            if at_s is not None:
                entry.engine.run_until(at_s)
            entry.engine.follow(read_autoscale(document))

    def _note(self, name: str, entry: _Entry, caller: str) -> None:
        operation = Operation(
            at_s=entry.engine.now_s,
            resource_id=entry.document["id"],
            name=name,
            trigger="User",
            status="Succeeded",
            caller=caller,
        )
        # An instance tells of its own making in `lastOperation`, but not of changed settings.
        if name == "Create" and isinstance(entry.engine, Instance):
            entry.engine.operations.append(operation)
        else:
            self._writes.append(operation)

    # -- telemetry -------------------------------------------------------------------------------

    def node_counts(self, compute_id: str) -> NodeCounts:
        """Return the history of a cluster's nodes. Raises WriteError where it is no cluster."""
        return _as(self._entry(compute_id), Cluster).node_counts()

    def occupancy(self, compute_id: str) -> Spans:
        """Return which node ran which job when; on an instance, when a person worked on it.

        Raises:
            WriteError: it is neither a cluster nor an instance.
        """
        entry = self._entry(compute_id)
        if isinstance(entry.engine, Cluster):
            return entry.engine.occupancy()
        played = _as(entry, Instance).sessions_played()
        return Spans(
            node_id=np.full(len(played.start_s), entry.document["name"], dtype=np.str_),
            job_index=np.full(len(played.start_s), -1, dtype=np.int64),
            start_s=played.start_s,
            end_s=played.end_s,
        )

    def instance_on(self, compute_id: str) -> list[tuple[int, int]]:
        """Return when an instance ran. Raises WriteError where it is no instance."""
        return _as(self._entry(compute_id), Instance).on_spans()

    def sessions_played(self, compute_id: str) -> SessionSpans:
        """Return when people worked on an instance. Raises WriteError where it is no instance."""
        return _as(self._entry(compute_id), Instance).sessions_played()

    def deployment_minutes(self, deployment_id: str, first: int, end: int) -> DeploymentMinutes:
        """Return what the minutes [first, end) since the epoch saw of a deployment.

        Raises:
            WriteError: it is no deployment.
        """
        return _as(self._entry(deployment_id), Deployment).minutes(first, end)

    def deployment_settings(self, deployment_id: str) -> DeploymentSettings:
        """Return how a deployment runs now. Raises WriteError where it is no deployment."""
        return _as(self._entry(deployment_id), Deployment).settings

    def operations(self) -> tuple[Operation, ...]:
        """Return what was done to all resources, in order of time."""
        done = [
            operation
            for entry in self._entries
            if isinstance(entry.engine, Instance)
            for operation in entry.engine.operations
        ]
        return tuple(sorted(done + self._writes, key=lambda operation: operation.at_s))

    def jobs(self, *, within: str = "") -> tuple[JobRecord, ...]:
        """Return the jobs submitted so far, all or below a resource, in order on each cluster."""
        below = f"{within.lower()}/" if within else ""
        return tuple(
            JobRecord(
                job_index=state.job.index,
                id=self._job_rows[state.job.index]["job_id"],
                resource_id=entry.document["id"],
                submitted_s=state.job.submit_s,
                started_s=state.started_s,
                ended_s=state.ended_s,
                status=state.status,
                restarts=state.restarts,
                row=self._job_rows[state.job.index],
            )
            for entry in self._entries
            if isinstance(entry.engine, Cluster) and entry.document["id"].lower().startswith(below)
            for state in entry.engine.jobs()
        )

    # -- money -----------------------------------------------------------------------------------

    def charges(self, start_s: int, end_s: int) -> list[Charge]:
        """Return what everything cost in [start, end), up to now, for each UTC day it touches.

        Reservations are amortised over what they cover, and what they do not stands beside it.
        """
        start_s, end_s = max(start_s, self._start_s), min(end_s, self._now_s)
        if end_s <= start_s:
            return []
        edges_s = billing.day_edges(start_s, end_s)
        covered, unused = self._reserved(edges_s)
        return [
            charge
            for place, entry in enumerate(self._entries)
            for charge in billing.charges(
                entry.document,
                self._meters(entry),
                edges_s=edges_s,
                until_s=self._now_s,
                discount=self.estate.billing.discount,
                covered=covered.get(place, ()),
            )
        ] + unused

    def purchases(self, start_s: int, end_s: int) -> list[Charge]:
        """Return what reservations cost that were bought in [start, end), up to now."""
        start_s, end_s = max(start_s, self._start_s), min(end_s, self._now_s)
        return [
            billing.purchase(each, self.estate.reserved_per_hour(each))
            for each in self.estate.billing.reservations
            if start_s <= whole_seconds(each.start_utc) < end_s
        ]

    def settled(self, start_s: int, end_s: int) -> Settled:
        """Return how reservations were used in the hours that [start, end) touches, up to now."""
        return self._settled(start_s, end_s)[0]

    def _settled(self, start_s: int, end_s: int) -> tuple[Settled, dict[int, billing.Meter]]:
        """Return that, and the machines of each claim by the place of its entry."""
        edges_s = hour_edges(start_s, end_s, now_s=self._now_s)
        machines = {
            place: meter
            for place, entry in enumerate(self._entries)
            if self._may_be_reserved(entry)
            for meter in self._meters(entry)
            if meter.component == "vm"
        }
        claims = [
            Claim(
                compute_id=document["id"],
                region=arm.region(document),
                sku=arm.vm_size(document),
                hours=billing.held_seconds(
                    meter.at_s, meter.level, until_s=self._now_s, edges_s=edges_s
                )
                / SECONDS_PER_HOUR,
            )
            for place, meter in machines.items()
            for document in [self._entries[place].document]
        ]
        return settle(self.estate, claims, edges_s), machines

    def _may_be_reserved(self, entry: _Entry) -> bool:
        if isinstance(entry.engine, Deployment) and not self.estate.physics.deployments_reserved:
            return False
        return not arm.is_low_priority(entry.document)

    def _reserved(self, edges_s: Ints) -> tuple[dict[int, list[billing.Covered]], list[Charge]]:
        """Return what reservations cover, by the place of an entry, and what goes unused."""
        reservations = self.estate.billing.reservations
        if not reservations:
            return {}, []
        settled, machines = self._settled(int(edges_s[0]), int(edges_s[-1]))
        covered: dict[int, list[billing.Covered]] = {}
        for claim, (place, meter) in enumerate(machines.items()):
            document = self._entries[place].document
            region, sku = arm.region(document), arm.vm_size(document)
            hours = covered_hours(settled, claim, meter, edges_s)
            covered[place] = [
                billing.Covered(
                    reservation_id=each.id,
                    per_hour=unit_ratio(self.estate, each, region, sku)
                    * self.estate.reserved_per_hour(each),
                    hours=mine,
                )
                for each, mine in zip(reservations, hours, strict=True)
                if mine.any()
            ]
        lost = unused_hours(settled, edges_s)
        return covered, [
            charge
            for each, mine in zip(reservations, lost, strict=True)
            for charge in billing.unused_charges(
                each, self.estate.reserved_per_hour(each), mine, edges_s
            )
        ]

    def bill(self, start_s: int, end_s: int) -> dict[str, Any]:
        """Return what [start, end) cost: `currency`, `total` and `by_resource`."""
        return billing.bill(self.charges(start_s, end_s), self.estate.currency)

    def _meters(self, entry: _Entry) -> list[billing.Meter]:
        physics = self.estate.physics
        rate = self.estate.rate(entry.document)
        match entry.engine:
            case Cluster():
                return billing.cluster_meters(entry.engine, rate, physics)
            case Instance():
                died_s = self._now_s if entry.died_s is None else entry.died_s
                return billing.instance_meters(
                    entry.engine, rate, physics, born_s=entry.born_s, died_s=died_s
                )
            case Deployment():
                return billing.deployment_meters(entry.engine, rate)

    # -- finding things --------------------------------------------------------------------------

    def _enter(self, document: arm.Document, engine: Engine) -> _Entry:
        entry = _Entry(document, engine, born_s=self._now_s)
        self._entries.append(entry)
        self._latest[arm.key(document["id"])] = entry
        return entry

    def _entry(self, resource_id: str) -> _Entry:
        """Return the entry of an id, dead or alive; of several in turn, the last."""
        try:
            return self._latest[arm.key(resource_id)]
        except KeyError as error:
            raise WriteError(f"there is no compute {resource_id}") from error

    def _living(self, resource_id: str) -> _Entry:
        entry = self._entry(resource_id)
        if entry.died_s is not None:
            raise WriteError(f"{resource_id} was deleted")
        return entry


def _as(entry: _Entry, kind: type[E]) -> E:
    if not isinstance(entry.engine, kind):
        raise WriteError(f"{entry.document['name']} is not of the kind that can do this")
    return entry.engine
