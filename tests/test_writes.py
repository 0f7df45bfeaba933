"""Every kind of change, made and put back through the real door to the emulator."""

import copy
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from azure.mgmt.monitor.models import AutoscaleSettingResource

from optimizer.azure.arm import IDLE_SHUTDOWN_API, ML_API, Arm
from optimizer.azure.connect import Connection
from optimizer.collectors.autoscale import AUTOSCALE_API
from optimizer.errors import NotFoundError, PlanError, UnreachableError
from optimizer.model import Finding, How, Json, Kind
from optimizer.remediation.documents import same
from optimizer.remediation.history import applied_changes, runs
from optimizer.remediation.outcomes import Outcome, Run, Status
from optimizer.remediation.plan import Plan, Step, make_plan
from optimizer.remediation.requirements import MIN_NODES, RESOURCE, VM_PRIORITY, VM_SIZE
from optimizer.store.ledger import Ledger
from tests.changes import NOW_UTC, WINDOW, finding, new_ledger, resource, scenario
from tests.changes import apply_here as apply_plan
from tests.changes import roll_back_here as roll_back
from tests.conftest import Emulator, running
from tests.estates import (
    CPU_SKU,
    GPU_SKU,
    autoscale,
    cluster,
    quota,
    scale_rule,
    write_estate,
)
from tests.every_kind import (
    BIG,
    BOTH_WAYS,
    CHEAPER,
    EVENINGS,
    EVERY,
    EVERYTHING,
    FEWER,
    FORGOTTEN,
    HALT,
    IDENTITY,
    IN_MOTION,
    LEFT,
    NARROWER,
    NO_CLUSTER,
    NO_DEPLOYMENT,
    NO_INSTANCE,
    PLANNED,
    QUIET,
    RUNS,
    SILENT,
    SMALLER,
    SOONER,
    STOP,
    STUCK,
    SUBNET,
    THREE_WIDE,
    UP_ONLY,
    WAVES,
    WIDE,
    WITH_RULES,
    WS,
    connected,
    plan_for,
    wanted,
    write,
)
from tests.refusals import NO_QUOTA, REFUSED


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with running(write(tmp_path_factory.mktemp("estates") / "every")) as served:
        yield served


@pytest.fixture(scope="module")
def still(served: Emulator) -> Connection:
    """Return a connection for tests that only read."""
    return connected(served)


@pytest.fixture
def emulator(served: Emulator) -> Iterator[Emulator]:
    """Yield the emulator, whose estate is as written again once the test is over."""
    yield served
    served.heal()
    restore(connected(served).arm)


@pytest.fixture
def connection(emulator: Emulator) -> Connection:
    return connected(emulator)


@pytest.fixture
def arm(connection: Connection) -> Arm:
    return connection.arm


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return new_ledger(tmp_path)


def restore(arm: Arm) -> None:
    """Bring everything below the workspace back by hand, whatever a test did to it."""
    wanted_ids = {document["id"] for document in EVERYTHING}
    for found in everything(arm).values():
        if found["id"] not in wanted_ids:
            api = AUTOSCALE_API if "/autoscaleSettings/" in found["id"] else ML_API
            arm.delete(found["id"], api_version=api, underlyingResourceAction="Delete")
    for document in (BIG, QUIET, FORGOTTEN, PLANNED, LEFT, RUNS, WIDE, WAVES, STUCK, SILENT):
        arm.put(document["id"], said(document))
    arm.put(UP_ONLY["id"], said(UP_ONLY), api_version=AUTOSCALE_API)
    never: Json = {"idleTimeBeforeShutdown": None}
    action = "updateIdleShutdownSetting"
    arm.post(FORGOTTEN["id"], action, never, api_version=IDLE_SHUTDOWN_API)
    arm.post(RUNS["id"], "start", None, api_version=ML_API)
    arm.post(LEFT["id"], "stop", None, api_version=ML_API)


def said(document: Mapping[str, Any]) -> Json:
    names = ("location", "tags", "identity", "sku", "properties")
    return {name: document[name] for name in names if name in document}


def apply_here(plan: Plan, arm: Any, ledger: Ledger, *, confirm: bool = False) -> Run:
    confirmed = [step.id for step in plan.steps if step.destructive and confirm]
    return apply_plan(plan, arm, ledger, known=EVERYTHING, confirmed=confirmed)


def ends(run: Run) -> list[tuple[str, str, Status]]:
    return [
        (o.resource_id.rpartition("/")[2], o.setting.rpartition(".")[2], o.status)
        for o in run.outcomes
    ]


def settings_of(arm: Arm, path: str = "computes") -> dict[str, Any]:
    """Return every document below the workspace but for what is in motion."""
    found = {}
    for document in arm.list(f"{WS['id']}/{path}"):
        lasting = copy.deepcopy(document)
        lasting["properties"].pop("modifiedOn", None)
        inner = lasting["properties"].get("properties") or {}
        for name in IN_MOTION:
            inner.pop(name, None)
        found[document["name"]] = lasting
    return found


def everything(arm: Arm) -> dict[str, Any]:
    scaling = arm.list(
        f"{WS['id'].partition('/providers')[0]}/providers/Microsoft.Insights/autoscaleSettings",
        api_version=AUTOSCALE_API,
    )
    return {
        **settings_of(arm),
        **settings_of(arm, "onlineEndpoints/ep/deployments"),
        **{document["name"]: document for document in scaling},
    }


def inner_of(document: Mapping[str, Any]) -> Any:
    return document["properties"]["properties"]


def step_of(plan: Plan, of: Finding) -> Step:
    return next(s for s in plan.steps if of.id in s.finding_ids and s.part_of is None)


# Everything at once


def test_rollback_of_a_plan_of_every_kind_brings_every_setting_back(
    connection: Connection, arm: Arm, ledger: Ledger
) -> None:
    before = everything(arm)
    plan = plan_for(connection, *EVERY)
    run = apply_here(plan, arm, ledger)
    assert {o.status for o in run.outcomes} == {Status.DONE, Status.WITHHELD}
    assert everything(arm) != before
    back = roll_back(run.id, arm, ledger)
    assert {o.status for o in back.outcomes} == {Status.DONE, Status.UNCHANGED}
    after, was = (without_service_names(each) for each in (everything(arm), before))
    assert json.dumps(after, sort_keys=True) == json.dumps(was, sort_keys=True)


def test_a_plan_of_every_kind_is_made_once_however_often_it_is_applied(
    connection: Connection, emulator: Emulator, arm: Arm, ledger: Ledger
) -> None:
    plan = plan_for(connection, *EVERY)
    apply_here(plan, arm, ledger)
    made, count = everything(arm), writes(emulator)
    again = apply_here(plan, arm, ledger)
    assert {o.status for o in again.outcomes} == {Status.UNCHANGED, Status.WITHHELD}
    assert (everything(arm), writes(emulator)) == (made, count)


def writes(emulator: Emulator) -> int:
    seen = emulator.requests()["by_request"].items()
    methods = ("PUT ", "PATCH ", "DELETE ", "POST /subscriptions/{subscription}/resourceGroups")
    return sum(
        count
        for request, count in seen
        if request.startswith(methods) and "/emulator/" not in request
    )


def test_what_is_planned_again_is_the_same_but_for_its_date(still: Connection) -> None:
    one, two = plan_for(still, *EVERY), plan_for(still, *EVERY)
    assert one == two
    assert sum(step.saving_per_month.p50 for step in one.steps) == pytest.approx(
        one.totals.saving_per_month.p50
    )


def test_once_applied_nothing_is_left_to_plan_but_what_is_unchanged(
    connection: Connection, arm: Arm, ledger: Ledger
) -> None:
    apply_here(plan_for(connection, SMALLER), arm, ledger)
    again = plan_for(connection, SMALLER)
    assert [step.part_of for step in again.steps] == [None]
    assert again.steps[0].put["resource_id"].endswith("/gpu-big-ds3-v2")
    assert ends(apply_here(again, arm, ledger)) == [("gpu-big", "vmSize", Status.UNCHANGED)]


# A new cluster beside an old one


def test_a_new_cluster_is_the_old_one_but_for_what_is_changed(
    connection: Connection, arm: Arm, ledger: Ledger
) -> None:
    run = apply_here(plan_for(connection, SMALLER, CHEAPER, SOONER, NARROWER), arm, ledger)
    assert {o.status for o in run.outcomes} == {Status.DONE}
    old, new = (arm.get(f"{WS['id']}/computes/{n}") for n in ("gpu-big", "gpu-big-ds3-v2-lp"))
    assert inner_of(new)["vmSize"] == CPU_SKU
    assert inner_of(new)["vmPriority"] == "LowPriority"
    assert inner_of(new)["scaleSettings"] == {
        "minNodeCount": 2,
        "maxNodeCount": 4,
        "nodeIdleTimeBeforeScaleDown": "PT10M",
    }
    for name in ("subnet", "propertyBag", "osType", "remoteLoginPortPublicAccess"):
        assert inner_of(new)[name] == inner_of(old)[name]
    assert new["tags"] == {"team": "vision", "optimizer:replaces": "gpu-big"}
    assert new["identity"] == {
        "type": "SystemAssigned,UserAssigned",
        "userAssignedIdentities": {IDENTITY: {}},
    }
    assert inner_of(old)["scaleSettings"] == {
        "minNodeCount": 0,
        "maxNodeCount": 4,
        "nodeIdleTimeBeforeScaleDown": "PT10M",
    }
    assert old["tags"] == {"team": "vision", "optimizer:replaced-by": "gpu-big-ds3-v2-lp"}
    assert inner_of(old)["subnet"] == {"id": SUBNET}


def test_people_are_told_where_jobs_go_in_the_plan_and_in_the_outcome(
    connection: Connection, arm: Arm, ledger: Ledger
) -> None:
    plan = plan_for(connection, SMALLER)
    told = "`compute: azureml:gpu-big-ds3-v2`"
    assert told in plan.steps[0].note
    assert "give it the roles of the old one" in plan.steps[0].note
    assert told in apply_here(plan, arm, ledger).outcomes[0].detail


def test_two_reasons_for_a_new_cluster_make_one_that_bears_both(still: Connection) -> None:
    plan = plan_for(still, SMALLER, CHEAPER)
    made, *parts = plan.steps
    assert made.finding_ids == (SMALLER.id, CHEAPER.id)
    assert made.setting == "properties.properties"
    assert made.before == {"vmPriority": "Dedicated", "vmSize": GPU_SKU}
    assert made.after == {"vmPriority": "LowPriority", "vmSize": CPU_SKU}
    assert made.saving_per_month.p50 == 200
    assert [(p.part_of, p.saving_per_month.p50) for p in parts] == [(made.id, 0), (made.id, 0)]


def test_a_minimum_of_its_own_goes_to_the_new_cluster_and_the_old_one_scales_to_zero(
    connection: Connection, arm: Arm, ledger: Ledger
) -> None:
    plan = plan_for(connection, finding(BIG, MIN_NODES, 1), CHEAPER)
    fewer, made, retired, tagged = plan.steps
    assert [(s.before, s.after) for s in (fewer, retired)] == [(2, 1), (1, 0)]
    assert retired.needs == (made.id, fewer.id)
    assert tagged.needs == (made.id,)
    run = apply_here(plan, arm, ledger)
    new = arm.get(f"{WS['id']}/computes/gpu-big-nc6s-v3-lp")
    assert inner_of(new)["scaleSettings"]["minNodeCount"] == 1
    assert [c.setting for c in applied_changes(ledger)] == [MIN_NODES, VM_PRIORITY]
    roll_back(run.id, arm, ledger)
    assert inner_of(arm.get(BIG["id"]))["scaleSettings"]["minNodeCount"] == 2


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_where_a_new_cluster_is_refused_the_old_one_is_untouched(
    number: int, connection: Connection, emulator: Emulator, arm: Arm, ledger: Ledger
) -> None:
    fault, says = REFUSED[number]
    plan, before = plan_for(connection, SMALLER), everything(arm)
    emulator.fault(method="PUT", path_contains="gpu-big-ds3-v2", **fault)
    run = apply_here(plan, arm, ledger)
    refused, *parts = run.outcomes
    assert refused.status is Status.FAILED
    wanted_words = says.format(id=plan.steps[0].put["resource_id"])
    assert refused.detail.lower() == wanted_words.lower()  # ids and actions as Azure spells them
    assert [(o.status, o.detail) for o in parts] == [
        (Status.SKIPPED, f"It builds on {plan.steps[0].id}, which was not made.")
    ] * 2
    assert everything(arm) == before
    assert (runs(ledger)[0], applied_changes(ledger)) == (run, ())
    emulator.heal()
    assert {o.status for o in apply_here(plan, arm, ledger).outcomes} == {Status.DONE}


def test_a_new_cluster_is_seen_from_the_first_moment_as_one_that_is_being_made(
    emulator: Emulator, arm: Arm
) -> None:
    emulator.fault(delay_lro=3, late_lro=True, method="PUT", path_contains="late")
    late = cluster(WS, "late")
    body = {name: late[name] for name in ("location", "properties")}
    emulator.call("PUT", f"{late['id']}?api-version={ML_API}", body)
    assert arm.get(late["id"])["properties"]["provisioningState"] == "Creating"
    assert arm.settled(late["id"])["properties"]["provisioningState"] == "Succeeded"


def test_a_quota_too_small_for_the_new_cluster_is_one_sentence_and_nothing_is_half_done(
    tmp_path: Path, ledger: Ledger
) -> None:
    estate = write_estate(
        tmp_path / "estate", resources=[WS, BIG, quota(WS, "Standard DSv2 Family", 7)], days=1
    )
    with running(estate) as played:
        connection = connected(played)
        plan, before = plan_for(connection, SMALLER), settings_of(connection.arm)
        run = apply_here(plan, connection.arm, ledger)
        assert [o.status for o in run.outcomes] == [Status.FAILED, Status.SKIPPED, Status.SKIPPED]
        assert run.outcomes[0].detail == (
            f"Azure answered 400 for {plan.steps[0].put['resource_id']} (BadRequest): The "
            "specified subscription has a Standard DSv2 family vCPU quota of 7 and cannot "
            "accomodate for at least 2 requested managed compute node which maps to 8 vCPUs; "
            f"{NO_QUOTA}"
        )
        assert settings_of(connection.arm) == before
    assert (runs(ledger)[0], applied_changes(ledger)) == (run, ())


def test_a_name_that_another_compute_took_meanwhile_is_left_alone(
    connection: Connection, arm: Arm, ledger: Ledger
) -> None:
    plan = plan_for(connection, SMALLER)
    other = cluster(WS, "gpu-big-ds3-v2")
    arm.put(other["id"], {k: other[k] for k in ("location", "properties")})
    first, *rest = apply_here(plan, arm, ledger).outcomes
    assert first.status is Status.DRIFTED
    assert first.detail == (
        "Since it was planned, another compute is called gpu-big-ds3-v2 meanwhile, so it is left "
        "alone."
    )
    assert {o.status for o in rest} == {Status.SKIPPED}
    again = plan_for(connection, SMALLER)
    assert again.steps[0].put["resource_id"].endswith("/gpu-big-ds3-v2-b")


def test_a_new_cluster_that_is_used_is_not_taken_away(
    connection: Connection, arm: Arm, ledger: Ledger
) -> None:
    run = apply_here(plan_for(connection, CHEAPER), arm, ledger)
    made = f"{WS['id']}/computes/gpu-big-nc6s-v3-lp"
    body = {"properties": {"properties": {"scaleSettings": {"maxNodeCount": 9, "minNodeCount": 3}}}}
    arm.patch(made, body)
    # Three nodes are kept and none works, so nobody uses it: only its settings were changed.
    back = roll_back(run.id, arm, ledger)
    assert [o.status for o in back.outcomes] == [Status.DONE] * 3
    with pytest.raises(NotFoundError):
        arm.get(made)


class Busy:
    """The door, behind which a cluster works whenever it is looked at."""

    def __init__(self, arm: Arm, name: str) -> None:
        self._arm = arm
        self._name = name

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._arm, verb)

    def get(self, resource_id: str, **query: str) -> dict[str, Any]:
        document = self._arm.get(resource_id, **query)
        if document["name"] == self._name:
            inner_of(document)["currentNodeCount"] = 7
        return document


def test_a_new_cluster_at_work_is_left_and_said_to_be(
    connection: Connection, arm: Arm, ledger: Ledger
) -> None:
    run = apply_here(plan_for(connection, CHEAPER), arm, ledger)
    back = roll_back(run.id, Busy(arm, "gpu-big-nc6s-v3-lp"), ledger)
    assert [o.status for o in back.outcomes] == [Status.DONE, Status.DONE, Status.DRIFTED]
    assert back.outcomes[2].detail == ("Since it was planned, it has 7 nodes, so it is left alone.")
    assert inner_of(arm.get(BIG["id"]))["scaleSettings"]["minNodeCount"] == 2
    assert arm.get(f"{WS['id']}/computes/gpu-big-nc6s-v3-lp")


@pytest.mark.parametrize(
    "old", ["abc", "a" * 24, "train-2", "gpu--", "x-y-z-with-a-long-name-1", "A1b"]
)
def test_a_new_name_is_one_that_azure_takes(old: str) -> None:
    # The rule of computes in the REST specification, restated.
    azure = re.compile(r"^[a-zA-Z](?![a-zA-Z0-9-]*-\d+$)[a-zA-Z0-9\-]{2,23}$")
    document = cluster(WS, old, sku="Standard_NC6")
    held = resource(document)
    plan = make_plan(
        scenario([wanted(document, VM_PRIORITY, "LowPriority", How.RECREATE)]),
        window=WINDOW,
        currency="USD",
        made_at_utc=NOW_UTC,
        resources={held.resource_id: held},
    )
    assert azure.match(plan.steps[0].put["resource_id"].rpartition("/")[2])


def test_an_instance_is_not_made_anew(still: Connection) -> None:
    plan = plan_for(still, wanted(FORGOTTEN, VM_SIZE, "Standard_D2s_v3", How.RECREATE))
    assert plan.steps == ()
    assert 'type: computeinstance\nsize: "Standard_D2s_v3"' in plan.advice[0].by_hand


# Deletion


def test_nothing_is_deleted_without_its_own_word(
    connection: Connection, arm: Arm, ledger: Ledger
) -> None:
    plan = plan_for(connection, NO_INSTANCE, NO_CLUSTER, NO_DEPLOYMENT)
    assert [(s.destructive, s.reversible) for s in plan.steps] == [(True, False)] * 3
    run = apply_here(plan, arm, ledger)
    assert {o.status for o in run.outcomes} == {Status.WITHHELD}
    assert run.outcomes[0].detail == (
        f"Nothing brings it back, so it takes its own word: --confirm-delete {plan.steps[0].id}."
    )
    assert {"ci-left", "cpu-quiet", "silent"} <= everything(arm).keys()


def test_what_is_confirmed_is_deleted_and_cannot_come_back(
    connection: Connection, arm: Arm, ledger: Ledger
) -> None:
    plan = plan_for(connection, NO_INSTANCE, NO_CLUSTER, NO_DEPLOYMENT)
    run = apply_here(plan, arm, ledger, confirm=True)
    assert {o.status for o in run.outcomes} == {Status.DONE}
    assert not {"ci-left", "cpu-quiet", "silent"} & everything(arm).keys()
    back = roll_back(run.id, arm, ledger)
    assert {o.status for o in back.outcomes} == {Status.WITHHELD}
    assert back.outcomes[0].detail == (
        "It was deleted, and nothing brings it back; the ledger holds its last document."
    )
    with pytest.raises(PlanError, match="nothing is left to undo"):
        roll_back(run.id, arm, ledger)


def test_what_goes_with_a_deletion_is_said(still: Connection) -> None:
    traffic = wanted(WAVES, RESOURCE, "deleted", How.ACTION, kind=Kind.DEPLOYMENT)
    notes = [step.note for step in plan_for(still, NO_INSTANCE, traffic).steps]
    assert "every file that is not in the workspace's share" in notes[0]
    assert "It gets 40 % of its endpoint's requests: send them elsewhere first." in notes[1]


def test_what_was_started_since_the_plan_is_not_deleted(
    connection: Connection, arm: Arm, ledger: Ledger
) -> None:
    plan = plan_for(connection, NO_INSTANCE)
    arm.post(LEFT["id"], "start", None, api_version="2025-12-01")
    (outcome,) = apply_here(plan, arm, ledger, confirm=True).outcomes
    assert outcome.status is Status.DRIFTED
    assert outcome.detail == (
        "Since it was planned, somebody told it to start, so it is left alone."
    )


def test_only_a_deletion_is_confirmed(connection: Connection, arm: Arm, ledger: Ledger) -> None:
    plan = plan_for(connection, FEWER)
    with pytest.raises(PlanError, match=r"has no step step-\w+ that deletes something\.$"):
        apply_plan(plan, arm, ledger, known=EVERYTHING, confirmed=[plan.steps[0].id])


# Deployments


def test_rules_are_made_and_taken_away_with_the_instances_given_back(
    connection: Connection, emulator: Emulator, arm: Arm, ledger: Ledger
) -> None:
    plan = plan_for(connection, WITH_RULES)
    run = apply_here(plan, arm, ledger)
    assert [o.status for o in run.outcomes] == [Status.DONE]
    emulator.advance(24)
    assert arm.get(WAVES["id"])["sku"]["capacity"] == 1
    assert [o.status for o in roll_back(run.id, arm, ledger).outcomes] == [Status.DONE]
    assert arm.get(WAVES["id"])["sku"]["capacity"] == 4
    assert "optimizer-ws-every-ep-waves" not in everything(arm)


def test_rules_are_changed_in_place_and_all_else_of_the_setting_stays(
    connection: Connection, arm: Arm, ledger: Ledger
) -> None:
    run = apply_here(plan_for(connection, BOTH_WAYS), arm, ledger)
    changed = everything(arm)["scale-stuck"]
    (profile,) = changed["properties"]["profiles"]
    assert [r["scaleAction"]["direction"] for r in profile["rules"]] == ["Increase", "Decrease"]
    assert (profile["name"], profile["capacity"]["minimum"]) == ("always", "2")
    assert changed["tags"] == {"team": "serving"}
    roll_back(run.id, arm, ledger)
    assert everything(arm)["scale-stuck"] == UP_ONLY


def test_rules_that_somebody_made_since_are_left_alone(
    connection: Connection, arm: Arm, ledger: Ledger
) -> None:
    plan = plan_for(connection, WITH_RULES)
    own = autoscale(WAVES, scale_rule("GreaterThan", 50, "Increase"))
    body = {name: own[name] for name in ("location", "properties")}
    arm.put(own["id"], body, api_version=AUTOSCALE_API)
    (outcome,) = apply_here(plan, arm, ledger).outcomes
    assert (outcome.status, outcome.detail) == (
        Status.DRIFTED,
        "Since it was planned, its autoscale setting is another one, so it is left alone.",
    )


def test_a_new_autoscale_setting_is_what_the_sdk_of_monitor_knows(still: Connection) -> None:
    document = step_of(plan_for(still, WITH_RULES), WITH_RULES).put["document"]
    read = AutoscaleSettingResource.deserialize(document)
    assert same(read.serialize(), document)


# Instances


def test_schedules_are_advice_unless_a_put_of_an_instance_is_allowed(
    still: Connection,
) -> None:
    plan = plan_for(still, EVENINGS, put_instances=False)
    assert plan.steps == ()
    assert "compute_start_stop:\n    - action: stop" in plan.advice[0].by_hand
    assert "overwrite" in plan_for(still, EVENINGS).steps[0].note


def test_a_schedule_is_put_with_all_else_of_the_instance(
    connection: Connection, arm: Arm, ledger: Ledger
) -> None:
    before = settings_of(arm)["ci-planned"]
    run = apply_here(plan_for(connection, EVENINGS), arm, ledger)
    after = settings_of(arm)["ci-planned"]
    assert inner_of(after)["schedules"]["computeStartStop"] == [
        STOP,
        STOP | {"status": "Disabled"},
    ]
    rest = {name: value for name, value in inner_of(after).items() if name != "schedules"}
    assert rest == {name: value for name, value in inner_of(before).items() if name != "schedules"}
    roll_back(run.id, arm, ledger)
    assert inner_of(settings_of(arm)["ci-planned"])["schedules"]["computeStartStop"] == [STOP]


def test_an_instance_is_stopped_and_started_again(
    connection: Connection, arm: Arm, ledger: Ledger
) -> None:
    run = apply_here(plan_for(connection, HALT), arm, ledger)
    assert inner_of(arm.get(RUNS["id"]))["state"] == "Stopped"
    roll_back(run.id, arm, ledger)
    assert inner_of(arm.get(RUNS["id"]))["state"] == "Running"


# Interruptions: the write arrives and its answer does not


class Lost:
    """The real door, whose next write is made and not answered."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self.ready = True

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._arm, verb)

    def put(self, *args: Any, **kwargs: Any) -> Any:
        return self._lose(self._arm.put(*args, **kwargs))

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        self._arm.delete(*args, **kwargs)
        return self._lose(None)

    def post(self, *args: Any, **kwargs: Any) -> Any:
        return self._lose(self._arm.post(*args, **kwargs))

    def _lose(self, answer: Any) -> Any:
        if self.ready:
            self.ready = False
            raise UnreachableError("localhost:1 does not answer.")
        return answer


@pytest.mark.parametrize(
    "made",
    [[SMALLER], [WITH_RULES], [BOTH_WAYS], [EVENINGS], [HALT], [NO_CLUSTER]],
    ids=["beside", "new rules", "other rules", "schedule", "stop", "delete"],
)
def test_a_write_whose_answer_was_lost_is_found_and_not_made_again(
    made: Sequence[Finding], connection: Connection, emulator: Emulator, arm: Arm, ledger: Ledger
) -> None:
    plan, before = plan_for(connection, *made), everything(arm)
    lost = Lost(arm)
    with pytest.raises(UnreachableError):
        apply_here(plan, lost, ledger, confirm=True)
    count = writes(emulator)
    run = apply_here(plan, lost, ledger, confirm=True)
    assert {o.status for o in run.outcomes} == {Status.DONE}
    assert "Written before an interruption" in run.outcomes[0].detail
    assert writes(emulator) == count + len(plan.steps) - 1
    if plan.steps[0].reversible:
        roll_back(run.id, arm, ledger)
        back = everything(arm)
        assert without_service_names(back) == without_service_names(before)


def test_another_plan_ends_an_interrupted_one_of_a_new_cluster(
    connection: Connection, arm: Arm, ledger: Ledger
) -> None:
    plan, other = plan_for(connection, SMALLER), plan_for(connection, THREE_WIDE)
    with pytest.raises(UnreachableError):
        apply_here(plan, Lost(arm), ledger)
    apply_here(other, arm, ledger)
    told: list[Outcome] = [o for o in outcomes(ledger) if o.setting == VM_SIZE]
    assert [o.status for o in told] == [Status.DONE]


def outcomes(ledger: Ledger) -> list[Outcome]:
    return [outcome for run in runs(ledger) for outcome in run.outcomes]


def without_service_names(documents: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the service, not the customer, calls a schedule."""
    lean = copy.deepcopy(documents)
    for document in lean.values():
        inner = document["properties"].get("properties") or {}
        for schedule in (inner.get("schedules") or {}).get("computeStartStop") or []:
            schedule.pop("id", None)
            schedule.pop("provisioningStatus", None)
    return lean


# By hand


def test_every_command_by_hand_is_one_that_a_shell_reads_back(still: Connection) -> None:
    for step in plan_for(still, *EVERY).steps:
        for command in step.az_cli.split(" && "):
            words = shlex.split(command)
            assert words[0] == "az"
            if words[1] == "rest":
                body = json.loads(words[words.index("--body") + 1])
                assert isinstance(body, dict)
                assert words[words.index("--url") + 1].startswith("/subscriptions/")


def test_names_that_would_steer_a_shell_are_quoted() -> None:
    evil = cluster(WS, "x", tags={"team": "a'; rm -rf / #$(id)`id`"})
    held = resource(evil)
    plan = make_plan(
        scenario([wanted(evil, VM_PRIORITY, "LowPriority", How.RECREATE)]),
        window=WINDOW,
        currency="USD",
        made_at_utc=NOW_UTC,
        resources={held.resource_id: held},
    )
    for step in plan.steps:
        words = shlex.split(step.az_cli)
        if "--body" in words:
            body = json.loads(words[words.index("--body") + 1])
            assert body["tags"]["team"] == evil["tags"]["team"]


@pytest.mark.parametrize(
    ("made", "command"),
    [
        (NO_CLUSTER, "az ml compute delete {here} --name cpu-quiet"),
        (HALT, "az ml compute stop {here} --name ci-runs"),
        (
            NO_DEPLOYMENT,
            "az ml online-deployment delete {here} --endpoint-name ep --name silent",
        ),
    ],
)
def test_by_hand_there_is_a_command_of_its_own(
    made: Finding, command: str, still: Connection
) -> None:
    parts = WS["id"].split("/")
    here = f"--subscription {parts[2]} --resource-group {parts[4]} --workspace-name {parts[8]}"
    assert plan_for(still, made).steps[0].az_cli == command.format(here=here)


def test_by_hand_other_rules_take_the_place_of_all_there_are(still: Connection) -> None:
    commands = plan_for(still, BOTH_WAYS).steps[0].az_cli.split(" && ")
    words = [shlex.split(command) for command in commands]
    assert [w[2:5] for w in words] == [
        ["autoscale", "rule", "delete"],
        ["autoscale", "rule", "create"],
        ["autoscale", "rule", "create"],
        ["autoscale", "update", "--subscription"],
    ]
    assert "CpuUtilizationPercentage > 70 avg 5m" in words[1]
    assert "CpuUtilizationPercentage < 30 avg 5m" in words[2]
