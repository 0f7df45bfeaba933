"""An estate with something to change of every kind, and the findings that want it changed."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from optimizer.azure.connect import Connection, connect
from optimizer.collectors.inventory import collect_inventory
from optimizer.config import AzureSettings
from optimizer.model import Change, Finding, How, Json, Kind, Resource
from optimizer.remediation.plan import Plan, make_plan
from optimizer.remediation.requirements import (
    AUTOSCALE,
    AUTOSCALE_RULES,
    CAPACITY,
    IDLE_SHUTDOWN,
    MIN_NODES,
    RESOURCE,
    SCHEDULES,
    STATE,
    VM_PRIORITY,
    VM_SIZE,
)
from tests.changes import IDLE_TIME, NOW_UTC, WINDOW, finding, scenario
from tests.conftest import Emulator
from tests.estates import (
    CPU_SKU,
    GPU_SKU,
    START_UTC,
    autoscale,
    cluster,
    deployment,
    endpoint,
    instance,
    job,
    price,
    requests,
    scale_rule,
    session,
    workspace,
    write_estate,
)
from tests.estates import (
    Arm as Document,
)

MAX_NODES = "properties.properties.scaleSettings.maxNodeCount"
DAYS = 21
WS = workspace("ws-every")
IDENTITY = (
    "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg-ml/providers"
    "/Microsoft.ManagedIdentity/userAssignedIdentities/trainer"
)
SUBNET = (
    "/subscriptions/1/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/v/subnets/s"
)
BIG = cluster(
    WS, "gpu-big", sku=GPU_SKU, minimum=2, maximum=9, idle="PT2H", tags={"team": "vision"}
)
BIG["identity"] = {
    "type": "SystemAssigned,UserAssigned",
    "principalId": "55555555-5555-5555-5555-555555555555",
    "tenantId": "66666666-6666-6666-6666-666666666666",
    "userAssignedIdentities": {IDENTITY: {"principalId": "p", "clientId": "c"}},
}
BIG["properties"]["properties"]["subnet"] = {"id": SUBNET}
BIG["properties"]["properties"]["propertyBag"] = {"own": "word"}
QUIET = cluster(WS, "cpu-quiet")
FORGOTTEN = instance(WS, "ci-forgotten", tags={"owner": "Ana"})
STOP = {
    "action": "Stop",
    "status": "Enabled",
    "triggerType": "Cron",
    "cron": {"expression": "0 18 * * 1-5", "timeZone": "UTC"},
}
PLANNED = instance(
    WS, "ci-planned", schedules=[STOP | {"id": "1", "provisioningStatus": "Completed"}]
)
LEFT = instance(WS, "ci-left")
RUNS = instance(WS, "ci-runs")
EP = endpoint(WS, "ep", traffic={"wide": 60, "waves": 40})
WIDE = deployment(EP, "wide", instances=5)
WAVES = deployment(EP, "waves", instances=4)
STUCK = deployment(EP, "stuck", instances=3)
SILENT = deployment(EP, "silent", instances=1)
UP_ONLY = autoscale(STUCK, scale_rule("GreaterThan", 70, "Increase"), minimum=2, maximum=6) | {
    "tags": {"team": "serving"}
}
RULES: dict[str, Json] = {
    "scale_out_above_percent": 70,
    "scale_out_by": 2,
    "scale_out_cooldown_minutes": 60,
    "scale_in_below_percent": 30,
    "scale_in_by": 1,
    "scale_in_cooldown_minutes": 60,
}
EVERYTHING = [
    *(WS, BIG, QUIET, FORGOTTEN, PLANNED, LEFT, RUNS, EP, WIDE, WAVES, STUCK, SILENT, UP_ONLY),
]


def wanted(of: Document, setting: str, after: Json, how: How, **fields: Any) -> Finding:
    """Return a finding that wants a change made in a certain way."""
    resource_id = of["id"].lower()
    change = Change(
        resource_id=resource_id,
        setting=setting,
        before=fields.pop("before", None),
        after=after,
        how=how,
    )
    return finding(of, setting, after, change=change, **fields)


FEWER = finding(BIG, MIN_NODES, 0)
SOONER = finding(BIG, IDLE_TIME, "PT10M")
NARROWER = finding(BIG, MAX_NODES, 4)
SMALLER = wanted(BIG, VM_SIZE, CPU_SKU, How.RECREATE)
CHEAPER = wanted(BIG, VM_PRIORITY, "LowPriority", How.RECREATE)
SHUTDOWN = finding(FORGOTTEN, IDLE_SHUTDOWN, "PT60M")
EVENINGS = wanted(
    PLANNED,
    SCHEDULES,
    [
        *PLANNED["properties"]["properties"]["schedules"]["computeStartStop"],
        STOP | {"status": "Disabled"},
    ],
    How.ADVICE,
)
HALT = wanted(RUNS, STATE, "Stopped", How.ACTION)
NO_INSTANCE = wanted(LEFT, RESOURCE, "deleted", How.ACTION, kind=Kind.INSTANCE)
NO_CLUSTER = wanted(QUIET, RESOURCE, "deleted", How.ACTION, kind=Kind.CLUSTER)
NO_DEPLOYMENT = wanted(SILENT, RESOURCE, "deleted", How.ACTION, kind=Kind.DEPLOYMENT)
THREE_WIDE = wanted(WIDE, CAPACITY, 3, How.PATCH)
WITH_RULES = wanted(WAVES, AUTOSCALE, {"minimum": 1, "maximum": 4, **RULES}, How.PATCH)
BOTH_WAYS = wanted(
    STUCK, AUTOSCALE_RULES, {"minimum": 2, "maximum": 6, **RULES}, How.PATCH, before=["as it was"]
)
EVERY = (
    *(FEWER, SOONER, NARROWER, SMALLER, CHEAPER, SHUTDOWN, EVENINGS, HALT),
    *(THREE_WIDE, WITH_RULES, BOTH_WAYS, NO_INSTANCE, NO_CLUSTER, NO_DEPLOYMENT),
)
IN_MOTION = {
    *("allocationState", "allocationStateTransitionTime", "currentNodeCount", "lastOperation"),
    *("nodeStateCounts", "targetNodeCount"),
}
"""What Azure tells of a compute at work; nobody sets it."""


def write(folder: Path) -> Path:
    return write_estate(
        folder,
        resources=EVERYTHING,
        jobs=[
            job(BIG, START_UTC + timedelta(days=day), run_seconds=7200) for day in range(2 * DAYS)
        ],
        sessions=[session(RUNS, START_UTC, START_UTC + timedelta(days=1))],
        requests=requests(WAVES, START_UTC, 60, 10.0),
        prices=[price(CPU_SKU, 0.25), price(GPU_SKU, 3.0, gpus=1)],
        days=DAYS,
    )


def connected(emulator: Emulator) -> Connection:
    return connect(
        AzureSettings(endpoint=emulator.url, ca_file=emulator.ca_file, credential="emulator")
    )


def resources_of(connection: Connection) -> dict[str, Resource]:
    found = collect_inventory(connection, ())
    return {resource.resource_id: resource for resource in found.resources}


def plan_for(connection: Connection, *findings: Finding, put_instances: bool = True) -> Plan:
    return make_plan(
        scenario(findings),
        window=WINDOW,
        currency="USD",
        made_at_utc=NOW_UTC,
        resources=resources_of(connection),
        put_instances=put_instances,
    )
