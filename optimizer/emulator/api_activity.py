"""The activity log: who started, stopped and changed what, newest first."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from optimizer.emulator.odata import parse_filter
from optimizer.emulator.records import Operation
from optimizer.emulator.wire import (
    PROVIDER,
    TENANT,
    Answer,
    Call,
    Endpoint,
    Json,
    Refusal,
    days_back,
    iso,
    page,
    parse_moment,
    same,
    stable_id,
)
from optimizer.emulator.world import World

EVENT_PAGE = 200
RETENTION_DAYS = 90

_ACTIONS: Mapping[str, str] = {
    "Create": "write",
    "Write": "write",
    "Delete": "delete",
    "Start": "start/action",
    "Stop": "stop/action",
    "Restart": "restart/action",
}

_EVENTS: Mapping[str, str] = {"BeginRequest": "Begin request", "EndRequest": "End request"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """The beginning or the end of an operation: Azure records both of whatever changes a resource.

    Source: https://learn.microsoft.com/azure/azure-monitor/platform/activity-log-schema
    """

    operation: Operation
    at_s: int
    name: str
    status: str


def _moments(world: World) -> list[_Moment]:
    """Return the beginnings and ends so far, newest first."""

    def both() -> Iterator[_Moment]:
        for one in world.operations():
            end_s = one.at_s + one.seconds
            yield _Moment(operation=one, at_s=one.at_s, name="BeginRequest", status="Started")
            if end_s <= world.now_utc.timestamp():
                yield _Moment(operation=one, at_s=end_s, name="EndRequest", status=one.status)

    return sorted(both(), key=lambda moment: moment.at_s)[::-1]


def _events(call: Call) -> Answer:
    wanted = parse_filter(call.parameter("$filter"))
    oldest = days_back(call.world.now_utc, RETENTION_DAYS).timestamp()
    rows = [
        (moment, _filtered_by(moment))
        for moment in _moments(call.world)
        if same(moment.operation.resource_id.split("/")[2], call.parts["subscription"])
        and moment.at_s >= oldest
    ]
    _check_start(call)
    found = [moment for moment, row in rows if wanted.holds(row)]
    body = page(call, found, EVENT_PAGE, key="$skipToken")
    return Answer(body=body | {"value": [_event(moment) for moment in body["value"]]})


def _check_start(call: Call) -> None:
    """Refuse what Azure refuses: a filter without a start, or one before the retention."""
    words = call.query["$filter"].split()
    if words[:2] != ["eventTimestamp", "ge"]:
        raise Refusal(400, "BadRequest", "The filter must begin with eventTimestamp ge.")
    start = parse_moment(words[2], "eventTimestamp")
    if start < days_back(call.world.now_utc, RETENTION_DAYS):
        raise Refusal(
            400, "BadRequest", f"The start time cannot be more than {RETENTION_DAYS} days ago."
        )


def _filtered_by(moment: _Moment) -> Json:
    operation = moment.operation
    parts = operation.resource_id.split("/")
    return {
        # ISO 8601 in UTC sorts as text.
        "eventTimestamp": iso(moment.at_s),
        "resourceGroupName": parts[4],
        "resourceProvider": PROVIDER,
        "resourceUri": operation.resource_id,
        "resourceId": operation.resource_id,
        "caller": operation.caller,
        "status": moment.status,
    }


def _event(moment: _Moment) -> Json:
    """Return one event.

    A stop by a schedule or by the idle rule shows here too; that `properties` tells its trigger,
    and how it spells it, is not documented: an instance's `lastOperation` is where Azure does.
    """
    operation = moment.operation
    parts = operation.resource_id.split("/")
    action = _ACTIONS.get(operation.name, f"{operation.name.lower()}/action")
    name = f"{PROVIDER}/workspaces/computes/{action}"
    operation_id = str(stable_id(operation.resource_id, operation.name, str(operation.at_s)))
    event_id = str(stable_id(operation_id, moment.name))
    at = iso(moment.at_s)
    return {
        "authorization": {"action": name, "scope": operation.resource_id},
        "caller": operation.caller,
        "channels": "Operation",
        "claims": {},
        "correlationId": operation_id,
        "description": "",
        "eventDataId": event_id,
        "eventName": {"value": moment.name, "localizedValue": _EVENTS[moment.name]},
        "category": {"value": "Administrative", "localizedValue": "Administrative"},
        "id": f"{operation.resource_id}/events/{event_id}",
        "level": "Informational",
        "resourceGroupName": parts[4],
        "resourceProviderName": {"value": PROVIDER, "localizedValue": PROVIDER},
        "resourceId": operation.resource_id,
        "resourceType": {"value": f"{PROVIDER}/workspaces/computes", "localizedValue": ""},
        "operationId": operation_id,
        "operationName": {"value": name, "localizedValue": operation.name},
        "properties": {"operationTrigger": operation.trigger},
        "status": {"value": moment.status, "localizedValue": moment.status},
        "subStatus": {"value": "", "localizedValue": ""},
        "eventTimestamp": at,
        "submissionTimestamp": at,
        "subscriptionId": parts[2],
        "tenantId": TENANT,
    }


ENDPOINTS = (
    Endpoint(
        api="activity_log",
        method="GET",
        template=(
            "/subscriptions/{subscription}/providers/Microsoft.Insights"
            "/eventtypes/management/values"
        ),
        handle=_events,
    ),
)
