"""How each kind of change is seen, made and put back: all that `apply` does not know itself.

A kind stands in `KINDS` under how its change reaches Azure and the setting it changes. It sees one
value, makes one write, and says what a ledger must keep so that another write puts it back.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from optimizer.azure.arm import IDLE_SHUTDOWN_API, ML_API
from optimizer.collectors.autoscale import AUTOSCALE_API, summary
from optimizer.errors import NotFoundError, PlanError
from optimizer.model import How, Json
from optimizer.remediation import scaling
from optimizer.remediation.beside import REPLACED_BY, REPLACES
from optimizer.remediation.documents import (
    patch_body,
    same,
    value_at,
    with_value,
    without,
    writable,
)
from optimizer.remediation.requirements import (
    AUTOSCALE,
    AUTOSCALE_RULES,
    BOTH,
    CAPACITY,
    DELETED,
    IDLE_SHUTDOWN,
    IDLE_SHUTDOWN_ACTION,
    PRESENT,
    RESOURCE,
    SCALE,
    SCHEDULES,
    STATE,
    STOPPED,
    VM_PRIORITY,
    VM_SIZE,
)
from optimizer.units import utc

_ENDED_JOBS = frozenset({"canceled", "completed", "failed", "notresponding", "paused"})
"""Of a job's `status`; any other is of one that has yet to end."""

_USES = frozenset({"Start", "Restart"})
"""What a person tells an instance who is about to work on it."""


class Door(Protocol):
    """What writing to Azure needs; `optimizer.azure.arm.Arm` provides it."""

    def now_utc(self) -> datetime:
        """Return the service's time."""

    def get(self, resource_id: str, *, api_version: str = ML_API) -> dict[str, Any]:
        """Return one ARM document."""

    def settled(self, resource_id: str) -> dict[str, Any]:
        """Return one ARM document once no operation on it is under way."""

    def list(
        self, path: str, *, api_version: str = ML_API, **query: str
    ) -> Iterator[dict[str, Any]]:
        """Yield every document under a collection."""

    def patch(self, resource_id: str, body: Json) -> dict[str, Any]:
        """Merge a partial document into a resource and wait until that is done."""

    def put(self, resource_id: str, body: Json, *, api_version: str = ML_API) -> dict[str, Any]:
        """Make a resource what a document says and wait until that is done."""

    def post(self, resource_id: str, action: str, body: Json | None, *, api_version: str) -> Json:
        """Run an action of a resource and wait until that is done."""

    def delete(self, resource_id: str, *, api_version: str = ML_API, **query: str) -> None:
        """Delete a resource and wait until it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One setting to bring from one value to another; apply and rollback are made of these."""

    step_id: str
    resource_id: str
    setting: str
    before: Json
    after: Json
    how: How
    put: Mapping[str, Any] = field(default_factory=dict)
    """What is written beside the value, such as a whole document; its kind knows the names."""
    needs: tuple[str, ...] = ()
    """The steps of this run that must stand first."""
    needless: str | None = None
    """Why nothing is to be done; None: what Azure says decides."""
    withheld: str | None = None
    """Why it must not be made, or cannot; None: it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What stands in Azure before or after a write."""

    value: Json
    """To compare with `before` and `after` of a move."""
    document: Any = None
    """What it was read from, for whoever writes it; None: there is nothing."""
    why: str = ""
    """What else is so, in a sentence, where the value alone would not tell a person."""


class Write(ABC):
    """One kind of change. Every method may raise the AzureError that fits."""

    @abstractmethod
    def see(self, move: Move, door: Door) -> Seen:
        """Return what stands now."""

    @abstractmethod
    def make(self, move: Move, seen: Seen, door: Door) -> None:
        """Write the move, once, and wait until Azure has done it."""

    def inverse(self, move: Move, seen: Seen) -> dict[str, Json]:
        """Return what puts it back, as JSON.

        `value`; where that is not enough also `put`, as the move has it, and `back`, what the way
        back is to have besides.
        """
        return {"value": seen.value, "put": dict(move.put)} if move.put else {"value": seen.value}

    def written(self, move: Move) -> str:
        """Return the id of the resource whose operation the write starts."""
        return move.resource_id

    def told(self, move: Move) -> str:  # noqa: ARG002 - most have nothing to add
        """Return what people must know once it is made; mostly empty."""
        return ""


def kind_of(how: How, setting: str) -> Write | None:
    """Return the kind of a change; None: it is none of ours."""
    return KINDS.get((how, setting))


def write_of(move: Move) -> Write:
    """Return the kind of a move.

    Raises:
        PlanError: it is none of ours.
    """
    kind = kind_of(move.how, move.setting)
    if kind is None:
        raise PlanError(f"{move.setting} of {move.resource_id} is not ours to change.")
    return kind


class _Setting(Write):
    """A value at a path of the resource's own document."""

    def see(self, move: Move, door: Door) -> Seen:
        document = door.get(move.resource_id)
        return Seen(value=value_at(document, move.setting), document=document)


class _Patched(_Setting):
    """Scale settings of clusters, and how many instances a deployment runs."""

    def make(self, move: Move, seen: Seen, door: Door) -> None:
        door.patch(move.resource_id, patch_body(seen.document, move.setting, move.after))


class _IdleShutdown(_Setting):
    """The idle time of a compute instance, which has an action of its own."""

    def make(self, move: Move, seen: Seen, door: Door) -> None:  # noqa: ARG002
        # Nothing says that it takes null, which a rollback sends; reading back tells. The other
        # way, a PUT of the whole instance, "will overwrite a compute if it exists. This is a
        # nonrecoverable operation" in Azure's words, and somebody's work is on that disk.
        body: Json = {move.setting.rpartition(".")[2]: move.after}
        door.post(move.resource_id, IDLE_SHUTDOWN_ACTION, body, api_version=IDLE_SHUTDOWN_API)


class _Power(_Setting):
    """Whether a compute instance runs."""

    def make(self, move: Move, seen: Seen, door: Door) -> None:  # noqa: ARG002
        action = "stop" if same(move.after, STOPPED) else "start"
        door.post(move.resource_id, action, None, api_version=ML_API)


class _Replaced(_Setting):
    """What only a PUT of the whole compute changes: tags, and schedules of instances."""

    def see(self, move: Move, door: Door) -> Seen:
        seen = super().see(move, door)
        return replace(seen, value=_without_service_names(seen.value))

    def make(self, move: Move, seen: Seen, door: Door) -> None:
        door.put(move.resource_id, writable(with_value(seen.document, move.setting, move.after)))


def _without_service_names(value: Json) -> Json:
    """Return schedules without the names that the service gives them."""
    if not isinstance(value, list):
        return value
    return [
        without(each, ("id", "provisioningStatus")) if isinstance(each, dict) else each
        for each in value
    ]


class _Deleted(Write):
    """A compute or a deployment itself. Nothing brings it back."""

    def see(self, move: Move, door: Door) -> Seen:
        try:
            document = door.get(move.resource_id)
        except NotFoundError:
            return Seen(value=DELETED)
        if why := _in_use_since(document, move.put):
            return Seen(value="in use", document=document, why=why)
        return Seen(value=PRESENT, document=document)

    def make(self, move: Move, seen: Seen, door: Door) -> None:  # noqa: ARG002
        # A deployment has nothing below it, and its DELETE knows no such parameter.
        query = {} if _is_deployment(move.resource_id) else {"underlyingResourceAction": "Delete"}
        door.delete(move.resource_id, **query)

    def inverse(self, move: Move, seen: Seen) -> dict[str, Json]:
        # It is put back by nobody here; a person may want to know what it was.
        return {"value": seen.value, "put": dict(move.put), "back": {"document": seen.document}}


def _in_use_since(document: Mapping[str, Any], planned: Mapping[str, Any]) -> str:
    """Say how a compute is used though it was planned as abandoned; empty where it is not."""
    inner = document["properties"].get("properties") or {}
    if running := (inner.get("nodeStateCounts") or {}).get("runningNodeCount"):
        return f"{running} of its nodes are at work"
    last = inner.get("lastOperation") or {}
    is_by_a_person = same(last.get("operationTrigger"), "User")
    if is_by_a_person and last.get("operationName") in _USES and last != planned.get("operation"):
        return f"somebody told it to {last['operationName'].lower()}"
    return ""


class _Beside(Write):
    """A cluster of another size or priority, made beside the one that it replaces.

    `put`: `resource_id` and `document` of the new one.
    """

    def see(self, move: Move, door: Door) -> Seen:
        old_name = move.resource_id.rpartition("/")[2]
        try:
            made = door.get(move.put["resource_id"])
        except NotFoundError:
            return Seen(value=_sizing(door.get(move.resource_id), move))
        if not same((made.get("tags") or {}).get(REPLACES), old_name):
            name = made["name"]
            return Seen(value=name, why=f"another compute is called {name} meanwhile")
        if same(made["properties"].get("provisioningState"), "Failed"):
            return Seen(value=_sizing(door.get(move.resource_id), move))
        value = _sizing(made, move)
        if same(value, move.before) and (why := _at_work(made, door)):
            return Seen(value="in use", document=made, why=why)
        return Seen(value=value, document=made)

    def make(self, move: Move, seen: Seen, door: Door) -> None:
        if seen.document is None:
            door.put(move.put["resource_id"], move.put["document"])
        else:
            door.delete(move.put["resource_id"], underlyingResourceAction="Delete")

    def written(self, move: Move) -> str:
        new: str = move.put["resource_id"]
        return new

    def told(self, move: Move) -> str:
        old, new = (i.rpartition("/")[2] for i in (move.resource_id, move.put["resource_id"]))
        if same(_sizing(move.put["document"], move), move.after):
            return f"Jobs use {old} until they name the new one: `compute: azureml:{new}`."
        return ""


def _sizing(document: Mapping[str, Any], move: Move) -> Json:
    """Return size, priority or both, as the move has them."""
    value = value_at(document, move.setting)
    if move.setting != BOTH or not isinstance(value, dict) or not isinstance(move.after, dict):
        return value
    return {name: value.get(name) for name in move.after}


def _at_work(cluster: Mapping[str, Any], door: Door) -> str:
    """Say what a cluster does or is about to do; empty where nobody uses it."""
    inner = cluster["properties"]["properties"]
    kept = inner["scaleSettings"].get("minNodeCount") or 0
    nodes = inner.get("currentNodeCount") or 0
    if nodes > kept or (inner.get("nodeStateCounts") or {}).get("runningNodeCount"):
        return f"it has {nodes} nodes"
    workspace = cluster["id"].rpartition("/computes/")[0]
    born = cluster["properties"].get("createdOn")
    for job in door.list(f"{workspace}/jobs"):  # newest first
        made = (job.get("systemData") or {}).get("createdAt")
        if born and made and utc(str(made)) < utc(str(born)):
            break
        properties = job["properties"]
        mine = same(properties.get("computeId"), cluster["id"])
        if mine and str(properties.get("status")).lower() not in _ENDED_JOBS:
            return f"the job {job['name']} waits for it"
    return ""


class _Autoscaled(Write):
    """The autoscale setting of a deployment, which is a resource of its own.

    `put`: `former`, its summary as collected, None where there was none; `profile`, the limits and
    rules that it is to have; `resource_id` and `document` of a new one. On the way back besides
    `restores`, what stood there, and `capacity`, how many instances ran.
    """

    def see(self, move: Move, door: Door) -> Seen:
        found = self._found(move, door)
        deployment = door.get(move.resource_id)
        seen = {"setting": found, "capacity": (deployment.get("sku") or {}).get("capacity")}
        is_rollback = "restores" in move.put
        new, old = (move.before, move.after) if is_rollback else (move.after, move.before)
        if found is not None and scaling.carries(found, move.put["profile"]):
            return Seen(value=new, document=seen)
        now = None if found is None else summary(found)
        if same(_comparable(now), _comparable(move.put["former"])):
            return Seen(value=old, document=seen)
        return Seen(value=now, document=seen, why="its autoscale setting is another one")

    def make(self, move: Move, seen: Seen, door: Door) -> None:
        found, put = seen.document["setting"], move.put
        if "restores" not in put:
            if found is None:
                door.put(put["resource_id"], put["document"], api_version=AUTOSCALE_API)
            else:
                changed = scaling.with_profile(found, put["profile"])
                door.put(found["id"], writable(changed), api_version=AUTOSCALE_API)
        elif put["restores"] is None:
            # Without its rules a deployment keeps what it has, which may be few at this hour.
            if put["capacity"] not in {None, seen.document["capacity"]}:
                deployment = door.get(move.resource_id)
                door.patch(move.resource_id, patch_body(deployment, CAPACITY, put["capacity"]))
            door.delete(found["id"], api_version=AUTOSCALE_API)
        else:
            former = put["restores"]
            door.put(former["id"], writable(former), api_version=AUTOSCALE_API)

    def inverse(self, move: Move, seen: Seen) -> dict[str, Json]:
        back = {"restores": seen.document["setting"], "capacity": seen.document["capacity"]}
        is_rollback = "restores" in move.put
        return {**super().inverse(move, seen), "back": {} if is_rollback else back}

    def _found(self, move: Move, door: Door) -> dict[str, Any] | None:
        """Return the setting that scales the deployment, whatever it is called."""
        subscription = move.resource_id.split("/")[2]
        path = f"/subscriptions/{subscription}/providers/Microsoft.Insights/autoscaleSettings"
        for document in door.list(path, api_version=AUTOSCALE_API):
            if same(document["properties"].get("targetResourceUri"), move.resource_id):
                return document
        return None


def _comparable(said: Any) -> Json:
    """Return the summary of an autoscale setting but for its id, which Azure spells variously."""
    return None if said is None else without(said, ("id",))


def _is_deployment(resource_id: str) -> bool:
    return "/onlineendpoints/" in resource_id.lower()


def _kinds(how: How, settings: Collection[str], kind: Write) -> dict[tuple[How, str], Write]:
    return {(how, setting): kind for setting in settings}


KINDS: Mapping[tuple[How, str], Write] = {
    **_kinds(How.PATCH, (*SCALE, CAPACITY), _Patched()),
    **_kinds(How.PATCH, (AUTOSCALE, AUTOSCALE_RULES), _Autoscaled()),
    **_kinds(How.PATCH, (SCHEDULES, f"tags.{REPLACED_BY}"), _Replaced()),
    **_kinds(How.ACTION, (IDLE_SHUTDOWN,), _IdleShutdown()),
    **_kinds(How.ACTION, (STATE,), _Power()),
    **_kinds(How.ACTION, (RESOURCE,), _Deleted()),
    **_kinds(How.RECREATE, (VM_SIZE, VM_PRIORITY, BOTH), _Beside()),
}
"""Every change that is ours to make."""
