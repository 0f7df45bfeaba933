"""Azure Resource Manager: inventory, writes to computes, and their long-running operations.

A write takes effect at the virtual now. Its operation is done when first asked for, unless a
fault delays it, so that a client waits no longer than it must.
"""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from optimizer.emulator import arm
from optimizer.emulator.quotas import check_room
from optimizer.emulator.records import JobRecord
from optimizer.emulator.wire import (
    PROVIDER,
    TENANT,
    Answer,
    Call,
    Endpoint,
    Json,
    Operation,
    Refusal,
    epoch,
    iso,
    page,
    same,
    workspace_of,
)
from optimizer.errors import ConfigError
from optimizer.units import iso_from_seconds, seconds_from_iso

COMPUTE_PAGE = 20
JOB_PAGE = 100
COMPUTE_NAME = re.compile(r"^[a-zA-Z](?![a-zA-Z0-9-]*-\d+$)[a-zA-Z0-9-]{2,23}$")
IDLE_SHUTDOWN_RANGE = (timedelta(minutes=15), timedelta(days=3))

_WORKSPACES = f"{PROVIDER}/workspaces"
_ROOT = "/subscriptions/{subscription}"
_GROUP = f"{_ROOT}/resourceGroups/{{group}}"
_WORKSPACE = f"{_GROUP}/providers/{_WORKSPACES}/{{workspace}}"
_COMPUTE = f"{_WORKSPACE}/computes/{{compute}}"
_DEPLOYMENT = f"{_WORKSPACE}/onlineEndpoints/{{endpoint}}/deployments/{{deployment}}"
_AUTOSCALE = f"{_GROUP}/providers/{arm.AUTOSCALE}/{{setting}}"
_LOCATION = f"{_ROOT}/providers/{PROVIDER}/locations/{{location}}"
_JOB_TYPES = {"command": "Command", "sweep": "Sweep", "pipeline": "Pipeline", "batch": "Pipeline"}


# Subscriptions and groups


def _subscriptions(call: Call) -> Answer:
    return Answer(
        body={"value": [_subscription_document(each) for each in call.service.subscriptions()]}
    )


def _subscription(call: Call) -> Answer:
    return Answer(body=_subscription_document(known_subscription(call)))


def _subscription_document(subscription: str) -> Json:
    return {
        "id": f"/subscriptions/{subscription}",
        "subscriptionId": subscription,
        "tenantId": TENANT,
        "displayName": f"Subscription {subscription[:8]}",
        "state": "Enabled",
        "authorizationSource": "RoleBased",
    }


def known_subscription(call: Call) -> str:
    """Return the subscription that the path names, or refuse it."""
    asked = call.parts["subscription"]
    for known in call.service.subscriptions():
        if same(known, asked):
            return known
    raise Refusal(404, "SubscriptionNotFound", f"The subscription '{asked}' could not be found.")


def _groups(call: Call) -> Answer:
    subscription = known_subscription(call)
    locations: dict[str, str] = {}
    for document in call.world.documents():
        parts = document["id"].split("/")
        if same(parts[2], subscription) and "location" in document:
            locations.setdefault(parts[4], document["location"])
    value = [
        {
            "id": f"/subscriptions/{subscription}/resourceGroups/{name}",
            "name": name,
            "type": "Microsoft.Resources/resourceGroups",
            "location": location,
            "properties": {"provisioningState": "Succeeded"},
        }
        for name, location in locations.items()
    ]
    return Answer(body={"value": value})


# Workspaces and what lies in them


def _workspaces(call: Call) -> Answer:
    known_subscription(call)
    group = call.parts.get("group")
    found = [
        document
        for document in call.world.documents(_WORKSPACES)
        if same(document["id"].split("/")[2], call.parts["subscription"])
        and (group is None or same(document["id"].split("/")[4], group))
    ]
    return Answer(body=page(call, found, COMPUTE_PAGE))


def _workspace(call: Call) -> Answer:
    return Answer(body=_known_workspace(call))


def _known_workspace(call: Call) -> Json:
    known_subscription(call)
    parts = call.parts
    found = call.world.document(
        f"/subscriptions/{parts['subscription']}/resourceGroups/{parts['group']}"
        f"/providers/{_WORKSPACES}/{parts['workspace']}"
    )
    if found is None:
        raise Refusal(
            404,
            "ResourceNotFound",
            f"The Resource '{_WORKSPACES}/{parts['workspace']}' under resource group "
            f"'{parts['group']}' was not found. For more details please go to "
            "https://aka.ms/ARMResourceNotFoundFix",
        )
    return found


def _children(kind: str) -> Callable[[Call], Answer]:
    """Return a handler that lists one type of resource below the path."""

    def handle(call: Call) -> Answer:
        above = _known_workspace(call)["id"]
        if endpoint := call.parts.get("endpoint"):
            above = f"{above}/onlineEndpoints/{endpoint}"
        found = [
            _shown(call, document)
            for document in call.world.documents(f"{_WORKSPACES}/{kind}", within=above)
        ]
        return Answer(body=page(call, found, COMPUTE_PAGE))

    return handle


def _document(call: Call) -> Answer:
    _known_workspace(call)
    found = call.world.document(call.path)
    if found is None:
        raise Refusal(404, "ResourceNotFound", f"The Resource '{call.path}' was not found.")
    return Answer(body=found)


def _schedules(call: Call) -> Answer:
    """List the schedules of jobs; by default, as in Azure, only those that are enabled."""
    above = _known_workspace(call)["id"]
    view = call.query.get("listviewtype", "EnabledOnly").lower()
    found = [
        document
        for document in call.world.documents(f"{_WORKSPACES}/schedules", within=above)
        if view == "all" or document["properties"].get("isEnabled", True) == (view == "enabledonly")
    ]
    return Answer(body=page(call, found, COMPUTE_PAGE))


# Computes


def _known_compute(call: Call) -> Json:
    workspace = _known_workspace(call)
    found = call.world.document(f"{workspace['id']}/computes/{call.parts['compute']}")
    if found is None:
        raise Refusal(
            404,
            "ResourceNotFound",
            f"Compute '{call.parts['compute']}' was not found in workspace '{workspace['name']}'.",
        )
    return found


def _shown(call: Call, document: Json) -> Json:
    """Return a document as it is served: `Updating` while an operation on it is under way."""
    if not call.service.updating(document["id"]):
        return document
    return document | {"properties": document["properties"] | {"provisioningState": "Updating"}}


def _compute(call: Call) -> Answer:
    compute_id = f"{_known_workspace(call)['id']}/computes/{call.parts['compute']}"
    if call.world.document(compute_id) is None and (made := call.service.being_made(compute_id)):
        return Answer(body=made)
    return Answer(body=_shown(call, _known_compute(call)))


def _patch_compute(call: Call) -> Answer:
    compute = _known_compute(call)
    if compute["properties"]["computeType"] != "AmlCompute":
        raise Refusal(400, "BadRequest", "Only an AmlCompute can be updated by PATCH.")
    asked = (call.json().get("properties") or {}).get("properties") or {}
    if set(asked) != {"scaleSettings"}:
        raise Refusal(400, "BadRequest", "A PATCH of an AmlCompute takes scaleSettings only.")
    scale = _checked_scale(asked["scaleSettings"])
    return _written(call, compute["id"], lambda: call.world.set_scale(compute["id"], scale))


def _checked_scale(scale: Any) -> Json:
    if not isinstance(scale, dict) or not isinstance(scale.get("maxNodeCount"), int):
        raise Refusal(400, "BadRequest", "scaleSettings.maxNodeCount is required.")
    if not 0 <= scale.get("minNodeCount", 0) <= scale["maxNodeCount"]:
        raise Refusal(
            400, "BadRequest", "scaleSettings.minNodeCount must lie between 0 and maxNodeCount."
        )
    if idle := scale.get("nodeIdleTimeBeforeScaleDown"):
        _seconds(idle)
    return scale


def _seconds(duration: Any) -> int:
    try:
        return seconds_from_iso(duration)
    except ConfigError as error:
        raise Refusal(400, "BadRequest", f"{error}.") from error


def _put_compute(call: Call) -> Answer:
    workspace = _known_workspace(call)
    compute_id = f"{workspace['id']}/computes/{call.parts['compute']}"
    existed = call.world.document(compute_id)
    if existed is None and not COMPUTE_NAME.match(call.parts["compute"]):
        raise Refusal(400, "BadRequest", f"{call.parts['compute']} is no name of a compute.")
    body = call.json()
    properties = body.get("properties") or {}
    if properties.get("computeType") not in {"AmlCompute", "ComputeInstance"}:
        raise Refusal(400, "BadRequest", "properties.computeType must be one that is served here.")
    if scale := (properties.get("properties") or {}).get("scaleSettings"):
        _checked_scale(scale)
    if existed is None:
        check_room(call.world, workspace, body)
    resource_id = existed["id"] if existed else compute_id
    return _written(
        call,
        resource_id,
        lambda: call.world.put_compute(resource_id, body),
        status=200 if existed else 201,
    )


def _written(
    call: Call, resource_id: str, write: Callable[[], None], *, status: int = 200
) -> Answer:
    """Write, unless a fault dooms the operation, and answer as Azure does while it goes on."""
    operation = call.service.begin(resource_id, method=call.method, path=call.path)
    operation.take_effect(write)
    document = call.world.document(resource_id)
    if document is None:
        name = resource_id.rpartition("/")[2]
        document = {"properties": {}} | call.json() | {"id": resource_id, "name": name}
        creating = document["properties"] | {"provisioningState": "Creating"}
        operation.draft = document | {"properties": creating}
    body = document | {"properties": document["properties"] | {"provisioningState": "Updating"}}
    return Answer(
        body=body,
        status=status,
        headers={"Azure-AsyncOperation": _status_url(call, operation), "Retry-After": "1"},
    )


def _delete_compute(call: Call) -> Answer:
    compute = _known_compute(call)
    if call.query.get("underlyingresourceaction", "").lower() not in {"delete", "detach"}:
        raise Refusal(400, "BadRequest", "underlyingResourceAction must be Delete or Detach.")
    operation = call.service.begin(compute["id"], method=call.method, path=call.path)
    operation.take_effect(lambda: call.world.delete_compute(compute["id"]))
    return _accepted(call, operation)


def _action(name: str) -> Callable[[Call], Answer]:
    """Return a handler that starts, stops or restarts an instance."""

    def handle(call: Call) -> Answer:
        compute = _known_compute(call)
        if compute["properties"]["computeType"] != "ComputeInstance":
            raise Refusal(400, "BadRequest", f"Only a ComputeInstance can {name}.")
        operation = call.service.begin(compute["id"], method=call.method, path=call.path)

        def write() -> None:
            if name in {"stop", "restart"}:
                call.world.stop(compute["id"])
            if name in {"start", "restart"}:
                call.world.start(compute["id"])

        operation.take_effect(write)
        return _accepted(call, operation)

    return handle


def _accepted(call: Call, operation: Operation) -> Answer:
    url = _status_url(call, operation)
    return Answer(
        status=202, headers={"Location": url, "Azure-AsyncOperation": url, "Retry-After": "1"}
    )


def _status_url(call: Call, operation: Operation) -> str:
    subscription = operation.resource_id.split("/")[2]
    workspace = call.world.document(workspace_of(operation.resource_id))
    location = workspace["location"] if workspace else "eastus"
    return (
        f"{call.base_url}/subscriptions/{subscription}/providers/{PROVIDER}/locations"
        f"/{location}/computeOperationsStatus/{operation.id}"
        f"?api-version={call.query['api-version']}&service=new"
    )


def _operation_status(call: Call) -> Answer:
    operation = call.service.operations.get(call.parts["operation"])
    if operation is None:
        raise Refusal(404, "NotFound", "There is no such operation.")
    body: Json = {
        "id": call.path,
        "name": operation.id,
        "startTime": iso(operation.started_utc.timestamp()),
    }
    if operation.look():
        return Answer(body=body | {"status": "InProgress"}, headers={"Retry-After": "1"})
    ended = {"endTime": iso(call.world.now_utc.timestamp())}
    if operation.error:
        return Answer(body=body | ended | {"status": "Failed", "error": operation.error})
    return Answer(body=body | ended | {"status": "Succeeded"})


def _update_idle_shutdown(call: Call) -> Answer:
    """Set an instance's idle time; None takes it away, which Azure leaves undocumented.

    Only preview api-versions know the action, and 2021-07-01, with which Azure's pages call it.
    """
    version = call.query["api-version"]
    if not version.endswith("-preview") and version != "2021-07-01":
        raise Refusal(
            404,
            "NotFound",
            f"The action updateIdleShutdownSetting does not exist in api-version {version}.",
        )
    compute = _known_compute(call)
    if compute["properties"]["computeType"] != "ComputeInstance":
        raise Refusal(400, "BadRequest", "Only a ComputeInstance has an idle shutdown.")
    body = call.json()
    if "idleTimeBeforeShutdown" not in body:
        raise Refusal(400, "BadRequest", "idleTimeBeforeShutdown is required.")
    duration = body["idleTimeBeforeShutdown"]
    least, most = (limit.total_seconds() for limit in IDLE_SHUTDOWN_RANGE)
    if duration is not None and not least <= _seconds(duration) <= most:
        raise Refusal(
            400, "BadRequest", "idleTimeBeforeShutdown must lie between 15 minutes and 3 days."
        )
    call.world.set_idle_shutdown(compute["id"], duration)
    return Answer()


def _list_nodes(call: Call) -> Answer:
    """List the nodes that run a job; which others there are only their number tells."""
    compute = _known_compute(call)
    spans = call.world.occupancy(compute["id"])
    running = {
        job.job_index: job.id
        for job in call.service.jobs_of(workspace_of(compute["id"]))
        if job.status == "Running"
    }
    now_s = epoch(call.world.now_utc)
    nodes = [
        {"nodeId": node, "nodeState": "running", "runId": running[job]}
        for node, job, end_s in zip(
            spans.node_id.tolist(), spans.job_index.tolist(), spans.end_s.tolist(), strict=True
        )
        if job in running and end_s == now_s
    ]
    return Answer(body={"nodes": nodes})


# Online endpoints


def _known_deployment(call: Call) -> Json:
    found = call.world.document(_deployment_id(call))
    if found is None:
        raise Refusal(
            404, "ResourceNotFound", f"Deployment '{call.parts['deployment']}' was not found."
        )
    return found


def _deployment_id(call: Call) -> str:
    """Return the id of the deployment that the path names; its endpoint must be there."""
    endpoint = f"{_known_workspace(call)['id']}/onlineEndpoints/{call.parts['endpoint']}"
    known = call.world.document(endpoint)
    if known is None:
        raise Refusal(
            404, "ResourceNotFound", f"Endpoint '{call.parts['endpoint']}' was not found."
        )
    return f"{known['id']}/deployments/{call.parts['deployment']}"


def _deployment(call: Call) -> Answer:
    return Answer(body=_shown(call, _known_deployment(call)))


def _patch_deployment(call: Call) -> Answer:
    """Set how many instances a deployment runs: of a PATCH, all that is played."""
    deployment = _known_deployment(call)
    asked = call.json()
    if set(asked) - {"sku", "tags"} or not asked.get("sku"):
        raise Refusal(400, "BadRequest", "A PATCH of a deployment takes its sku here.")
    capacity = _checked_capacity(asked["sku"])
    return _written(
        call, deployment["id"], lambda: call.world.set_capacity(deployment["id"], capacity)
    )


def _put_deployment(call: Call) -> Answer:
    deployment_id = _deployment_id(call)
    existed = call.world.document(deployment_id)
    body = call.json()
    properties = body.get("properties") or {}
    if not same(str(properties.get("endpointComputeType", "Managed")), "Managed"):
        raise Refusal(400, "BadRequest", "Only a managed deployment can be written here.")
    if not existed and not properties.get("instanceType"):
        raise Refusal(400, "BadRequest", "properties.instanceType is required.")
    _checked_capacity(body.get("sku") or {})
    resource_id = existed["id"] if existed else deployment_id
    return _written(
        call,
        resource_id,
        lambda: call.world.put_deployment(resource_id, body),
        status=200 if existed else 201,
    )


def _checked_capacity(sku: Any) -> int:
    capacity = sku.get("capacity") if isinstance(sku, dict) else None
    if not isinstance(capacity, int) or capacity < 1:
        raise Refusal(400, "BadRequest", "sku.capacity must be a number of instances from 1 on.")
    return capacity


def _delete_deployment(call: Call) -> Answer:
    deployment = _known_deployment(call)
    operation = call.service.begin(deployment["id"], method=call.method, path=call.path)
    operation.take_effect(lambda: call.world.delete_compute(deployment["id"]))
    return _accepted(call, operation)


# Autoscale settings


def _autoscale_settings(call: Call) -> Answer:
    subscription, group = known_subscription(call), call.parts.get("group")
    found = [
        document
        for document in call.world.documents(arm.AUTOSCALE)
        if same(document["id"].split("/")[2], subscription)
        and (group is None or same(document["id"].split("/")[4], group))
    ]
    return Answer(body={"value": found})


def _autoscale_id(call: Call) -> str:
    return (
        f"/subscriptions/{known_subscription(call)}/resourceGroups/{call.parts['group']}"
        f"/providers/{arm.AUTOSCALE}/{call.parts['setting']}"
    )


def _autoscale_setting(call: Call) -> Answer:
    found = call.world.document(_autoscale_id(call))
    if found is None:
        raise Refusal(404, "ResourceNotFound", f"'{call.parts['setting']}' was not found.")
    return Answer(body=found)


def _put_autoscale(call: Call) -> Answer:
    """Make or replace a setting; it is in force at once, without an operation to wait for."""
    existed = call.world.document(_autoscale_id(call))
    call.world.put_autoscale(existed["id"] if existed else _autoscale_id(call), call.json())
    return Answer(body=call.world.document(_autoscale_id(call)), status=200 if existed else 201)


def _delete_autoscale(call: Call) -> Answer:
    if call.world.document(_autoscale_id(call)) is None:
        return Answer(status=204)
    call.world.delete_autoscale(_autoscale_id(call))
    return Answer()


# Jobs


def _jobs(call: Call) -> Answer:
    asked = call.query.get("jobtype")
    found = [
        record
        for record in call.service.jobs_of(_known_workspace(call)["id"])
        if asked is None or _JOB_TYPES[record.row["kind"]] == asked
    ]
    body = page(call, found, JOB_PAGE)
    return Answer(body=body | {"value": [_job_document(record) for record in body["value"]]})


def _job(call: Call) -> Answer:
    for record in call.service.jobs_of(_known_workspace(call)["id"]):
        if record.id == call.parts["job"]:
            return Answer(body=_job_document(record))
    raise Refusal(404, "UserError", f"Job {call.parts['job']} was not found.")


def _job_document(record: JobRecord) -> Json:
    """Return a job as the ARM document of its kind.

    The documented schema dates a job's creation only. When it started and ended is told by
    `properties.properties`, the run's own property bag, as `StartTimeUtc` and `EndTimeUtc`.
    """
    row = record.row
    kind = row["kind"]
    bag = {"azureml.jobkind": kind}
    if record.started_s is not None:
        bag["StartTimeUtc"] = iso(record.started_s)
    if record.ended_s is not None:
        bag["EndTimeUtc"] = iso(record.ended_s)
    if parent := row["parent_id"]:
        bag["azureml.parentRunId"] = str(parent)
    properties = {
        "jobType": _JOB_TYPES[kind],
        "status": record.status,
        "displayName": record.id,
        "experimentName": row["experiment"],
        "computeId": record.resource_id,
        "isArchived": False,
        "properties": bag,
        "tags": {},
        "services": {},
        "inputs": {},
        "outputs": {},
    }
    workspace = workspace_of(record.resource_id)
    return {
        "id": f"{workspace}/jobs/{record.id}",
        "name": record.id,
        "type": f"{_WORKSPACES}/jobs",
        "properties": properties | _of_kind(_JOB_TYPES[kind], workspace, row),
        "systemData": {
            "createdAt": iso(record.submitted_s),
            "createdBy": row["user"],
            "createdByType": "User",
        },
    }


def _of_kind(job_type: str, workspace: str, row: Mapping[str, Any]) -> Json:
    nodes, limit, policy = int(row["nodes"]), row["time_limit_minutes"], row["early_termination"]
    environment = f"{workspace}/environments/train/versions/1"
    resources = {"instanceCount": nodes, "properties": {}}
    timeout = {"timeout": iso_from_seconds(round(limit * 60))} if limit else {}
    if job_type == "Command":
        return {
            "command": "python train.py",
            "environmentId": environment,
            "resources": resources,
            "limits": {"jobLimitsType": "Command", **timeout} if timeout else None,
        }
    if job_type == "Sweep":
        ends = {"policyType": policy, "evaluationInterval": 1, "delayEvaluation": 5}
        return {
            "trial": {
                "command": "python train.py",
                "environmentId": environment,
                "resources": resources,
            },
            "samplingAlgorithm": {"samplingAlgorithmType": "Random"},
            "objective": {"goal": "Minimize", "primaryMetric": "loss"},
            "searchSpace": {"learning_rate": ["uniform", [0.001, 0.1]]},
            "limits": {"jobLimitsType": "Sweep", "maxConcurrentTrials": nodes, **timeout},
            "earlyTermination": ends if policy else None,
        }
    return {"jobs": {}, "settings": {}}


# Diagnostic settings


def _diagnostic_settings(call: Call) -> Answer:
    above = f"/{call.parts['resource']}"
    if call.world.document(above) is None:
        raise Refusal(404, "ResourceNotFound", f"'{above}' was not found.")
    above = f"{above}/providers/Microsoft.Insights"
    found = call.world.documents("Microsoft.Insights/diagnosticSettings", within=above)
    return Answer(body={"value": [*found]})


def _arm(method: str, template: str, handle: Callable[[Call], Answer]) -> Endpoint:
    return Endpoint(api="arm", method=method, template=template, handle=handle)


ENDPOINTS = (
    _arm("GET", "/subscriptions", _subscriptions),
    _arm("GET", _ROOT, _subscription),
    _arm("GET", f"{_ROOT}/resourceGroups", _groups),
    _arm("GET", f"{_ROOT}/providers/{_WORKSPACES}", _workspaces),
    _arm("GET", f"{_GROUP}/providers/{_WORKSPACES}", _workspaces),
    _arm("GET", _WORKSPACE, _workspace),
    _arm("GET", f"{_WORKSPACE}/computes", _children("computes")),
    _arm("GET", _COMPUTE, _compute),
    _arm("PATCH", _COMPUTE, _patch_compute),
    _arm("PUT", _COMPUTE, _put_compute),
    _arm("DELETE", _COMPUTE, _delete_compute),
    _arm("POST", f"{_COMPUTE}/start", _action("start")),
    _arm("POST", f"{_COMPUTE}/stop", _action("stop")),
    _arm("POST", f"{_COMPUTE}/restart", _action("restart")),
    _arm("POST", f"{_COMPUTE}/listNodes", _list_nodes),
    _arm("POST", f"{_COMPUTE}/updateIdleShutdownSetting", _update_idle_shutdown),
    _arm("GET", f"{_WORKSPACE}/jobs", _jobs),
    _arm("GET", f"{_WORKSPACE}/jobs/{{job}}", _job),
    _arm("GET", f"{_WORKSPACE}/schedules", _schedules),
    _arm("GET", f"{_WORKSPACE}/onlineEndpoints", _children("onlineEndpoints")),
    _arm("GET", f"{_WORKSPACE}/onlineEndpoints/{{endpoint}}", _document),
    _arm(
        "GET",
        f"{_WORKSPACE}/onlineEndpoints/{{endpoint}}/deployments",
        _children("onlineEndpoints/deployments"),
    ),
    _arm("GET", _DEPLOYMENT, _deployment),
    _arm("PATCH", _DEPLOYMENT, _patch_deployment),
    _arm("PUT", _DEPLOYMENT, _put_deployment),
    _arm("DELETE", _DEPLOYMENT, _delete_deployment),
    _arm("GET", f"{_ROOT}/providers/{arm.AUTOSCALE}", _autoscale_settings),
    _arm("GET", f"{_GROUP}/providers/{arm.AUTOSCALE}", _autoscale_settings),
    _arm("GET", _AUTOSCALE, _autoscale_setting),
    _arm("PUT", _AUTOSCALE, _put_autoscale),
    _arm("DELETE", _AUTOSCALE, _delete_autoscale),
    _arm("GET", f"{_LOCATION}/computeOperationsStatus/{{operation}}", _operation_status),
    _arm(
        "GET",
        "/{resource:path}/providers/Microsoft.Insights/diagnosticSettings",
        _diagnostic_settings,
    ),
)
