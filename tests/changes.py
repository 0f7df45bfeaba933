"""Scenarios and plans made from code, and a door to an estate that is a dictionary."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from optimizer.azure.arm import ML_API
from optimizer.errors import NotFoundError
from optimizer.model import (
    Basis,
    Change,
    Effects,
    Effort,
    Estimate,
    Finding,
    How,
    Json,
    Kind,
    Level,
    Resource,
    Source,
    Window,
)
from optimizer.remediation.apply import Rules, apply
from optimizer.remediation.outcomes import Run
from optimizer.remediation.plan import Plan, make_plan
from optimizer.remediation.rollback import rollback
from optimizer.scenarios import LeftOut, Scenario, ScenarioStep
from optimizer.store.ledger import Ledger
from tests.estates import START_UTC, Arm, cluster, instance, workspace

SCALE = "properties.properties.scaleSettings"
MIN_NODES = f"{SCALE}.minNodeCount"
IDLE_TIME = f"{SCALE}.nodeIdleTimeBeforeScaleDown"
IDLE_SHUTDOWN = "properties.properties.idleTimeBeforeShutdown"

NOW_UTC = datetime(2026, 1, 26, tzinfo=UTC)
WINDOW = Window(start_utc=START_UTC, end_utc=NOW_UTC)

VISION = workspace()
KEPT = cluster(VISION, "gpu-kept", minimum=2, maximum=6)
SLOW = cluster(VISION, "cpu-slow", idle="PT2H", maximum=8)
FORGOTTEN = instance(VISION, "ci-forgotten")
DOCUMENTS = (KEPT, SLOW, FORGOTTEN)


def estimate(p50: float) -> Estimate:
    """Return an estimate, 10 either way."""
    return Estimate(p10=p50 - 10, p50=p50, p90=p50 + 10)


def finding(of: Arm, setting: str, after: Json, **fields: Any) -> Finding:
    """Return a finding that wants one setting of a compute changed."""
    resource_id = of["id"].lower()
    how = How.ACTION if setting == IDLE_SHUTDOWN else How.PATCH
    plain: dict[str, Any] = {
        "id": f"{of['name']}-{setting.rpartition('.')[2]}",
        "detector": "min_nodes_kept",
        "resource_id": resource_id,
        "workspace": "ws-vision",
        "kind": Kind.INSTANCE if how is How.ACTION else Kind.CLUSTER,
        "owner": None,
        "tags": {},
        "title": f"Change {of['name']}",
        "why": f"{of['name']} idles.",
        "evidence": {},
        "change": Change(
            resource_id=resource_id, setting=setting, before=None, after=after, how=how
        ),
        "saving_per_month": estimate(100),
        "basis": Basis.EFFECTIVE,
        "spend_per_month": 500.0,
        "effects": Effects(
            extra_waiting_minutes_per_month=0.0,
            extra_restarts_per_month=0.0,
            runtime_stretch=None,
        ),
        "confidence": Level.HIGH,
        "risk": Level.LOW,
        "effort": Effort.ONE_CLICK,
        "pillar_notes": (),
        "source": Source(title="Scale to zero", url="https://learn.microsoft.com/azure"),
    }
    return Finding(**plain | fields)


THREE = (
    finding(KEPT, MIN_NODES, 0),
    finding(SLOW, IDLE_TIME, "PT10M", detector="slow_scale_down"),
    finding(FORGOTTEN, IDLE_SHUTDOWN, "PT60M", detector="no_idle_shutdown"),
)


def scenario(findings: Sequence[Finding] = THREE, left_out: Sequence[LeftOut] = ()) -> Scenario:
    """Return a scenario in which each finding adds 100 a month."""
    return Scenario(
        name="balanced",
        steps=tuple(ScenarioStep(finding=one, marginal=estimate(100)) for one in findings),
        total=Estimate(p10=50, p50=100.0 * len(findings), p90=900),
        left_out=tuple(left_out),
    )


def plan_of(
    findings: Sequence[Finding] = THREE,
    *,
    documents: Sequence[Arm] = DOCUMENTS,
    left_out: Sequence[LeftOut] = (),
    made_at_utc: datetime = NOW_UTC,
) -> Plan:
    """Return a plan for an estate of these documents."""
    return make_plan(
        scenario(findings, left_out),
        window=WINDOW,
        currency="USD",
        made_at_utc=made_at_utc,
        resources={document["id"].lower(): resource(document) for document in documents},
    )


def resource(document: Arm) -> Resource:
    """Return a compute as the lake holds it."""
    return Resource(
        resource_id=document["id"].lower(),
        kind=Kind.CLUSTER,
        name=document["name"],
        workspace_id=document["id"].lower().rpartition("/computes/")[0],
        region="eastus",
        sku="Standard_DS3_v2",
        vm_priority="dedicated",
        state=None,
        created_utc=None,
        owner=None,
        arm=document,
    )


class MemoryDoor:
    """An estate in a dictionary: writes take effect at once and are remembered.

    `refuse` raises in the place of an answer: by verb and resource name, such as `patch gpu-kept`.
    """

    def __init__(self, documents: Sequence[Arm] = DOCUMENTS) -> None:
        self._documents = {one["id"].lower(): deepcopy(one) for one in documents}
        self._now_utc = NOW_UTC
        self.writes: list[tuple[str, str, Json]] = []
        self.refuse: dict[str, Exception] = {}
        self.deaf = False
        """It accepts every write and keeps none."""

    def now_utc(self) -> datetime:
        self._now_utc += timedelta(seconds=1)
        return self._now_utc

    def get(self, resource_id: str, *, api_version: str = ML_API) -> dict[str, Any]:
        del api_version
        self._ask("get", resource_id)
        if resource_id not in self._documents:
            raise NotFoundError(f"Azure has no {resource_id} (ResourceNotFound): Gone.")
        return deepcopy(self._documents[resource_id])

    def patch(self, resource_id: str, body: Json) -> dict[str, Any]:
        self._write("patch", resource_id, body, lambda old: _merged(old, body))
        return self.get(resource_id)

    def list(
        self, path: str, *, api_version: str = ML_API, **query: str
    ) -> Iterator[dict[str, Any]]:
        raise NotImplementedError("what takes lists is tested against the emulator")

    def put(self, resource_id: str, body: Json, *, api_version: str = ML_API) -> dict[str, Any]:
        raise NotImplementedError("what is put is tested against the emulator")

    def delete(self, resource_id: str, *, api_version: str = ML_API, **query: str) -> None:
        raise NotImplementedError("what is deleted is tested against the emulator")

    def post(self, resource_id: str, action: str, body: Json | None, *, api_version: str) -> Json:
        del api_version
        assert action == "updateIdleShutdownSetting"
        change = {"properties": {"properties": body}}
        self._write("post", resource_id, body, lambda old: _merged(old, change))
        return None

    def settled(self, resource_id: str) -> dict[str, Any]:
        return self.get(resource_id)

    def set_by_hand(self, of: Arm, setting: str, value: Json) -> None:
        """Change a setting as somebody else would."""
        *path, leaf = setting.split(".")
        group = self._documents[of["id"].lower()]
        for name in path:
            group = group[name]
        group[leaf] = value

    def setting(self, of: Arm, setting: str) -> Any:
        """Return what a setting is now."""
        value: Any = self._documents[of["id"].lower()]
        for name in setting.split("."):
            value = value[name]
        return value

    def _ask(self, verb: str, resource_id: str) -> None:
        if error := self.refuse.get(f"{verb} {resource_id.rpartition('/')[2]}"):
            raise error

    def _write(self, verb: str, resource_id: str, body: Json, change: Callable[[Arm], Any]) -> None:
        self._ask(verb, resource_id)
        self.writes.append((verb, resource_id.rpartition("/")[2], body))
        if not self.deaf:
            self._documents[resource_id] = change(self._documents[resource_id])


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    return {**old, **{name: _merged(old.get(name), value) for name, value in new.items()}}


def new_ledger(folder: Path) -> Ledger:
    """Return a ledger in a folder."""
    return Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")


def apply_here(
    plan: Plan,
    door: Any,
    ledger: Ledger,
    *,
    known: Sequence[Arm] = DOCUMENTS,
    who: str = "ana",
    on_outcome: Callable[[Any], None] = lambda _: None,
    confirmed: Sequence[str] = (),
    **rules: Any,
) -> Run:
    """Apply a plan, as Ana unless somebody else is named."""
    return apply(
        plan,
        door=door,
        ledger=ledger,
        who=who,
        known_resources={document["id"].lower() for document in known},
        baseline={"k": 1.0},
        on_outcome=on_outcome,
        rules=Rules(**rules),
        confirmed=confirmed,
    )


def roll_back_here(run_id: str, door: Any, ledger: Ledger) -> Run:
    """Roll a run back as Ben."""
    return rollback(run_id, door=door, ledger=ledger, who="ben", on_outcome=lambda _: None)
