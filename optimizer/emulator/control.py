"""What no Azure has: the clock, the true bill, the count of requests and asked-for failures."""

from dataclasses import fields

from optimizer.emulator.permissions import forbidden, needed_action
from optimizer.emulator.wire import (
    Answer,
    Call,
    Endpoint,
    Fault,
    Handler,
    Refusal,
    epoch,
    error_body,
    parse_moment,
)
from optimizer.units import iso_utc

_MESSAGES = {
    401: ("ExpiredAuthenticationToken", "The access token has expired."),
    429: ("429", "Too many requests. Please retry."),
    500: ("InternalServerError", "The server encountered an internal error. Please retry."),
    503: ("ServiceUnavailable", "The service is unavailable. Please retry."),
}


def _advance(call: Call) -> Answer:
    hours = call.json().get("hours")
    if not isinstance(hours, int | float) or hours < 0:
        raise Refusal(400, "BadRequest", "hours must be a number that is not negative.")
    call.world.advance(hours)
    call.service.limits.ahead_seconds += 3600 * hours
    return Answer(body={"now_utc": iso_utc(call.world.now_utc)})


def _wait(call: Call) -> Answer:
    """Move on the clock of the limits alone: a client that waits need not wait for real."""
    seconds = call.json().get("seconds")
    if not isinstance(seconds, int | float) or seconds < 0:
        raise Refusal(400, "BadRequest", "seconds must be a number that is not negative.")
    call.service.limits.ahead_seconds += seconds
    return Answer(body={"ahead_seconds": call.service.limits.ahead_seconds})


def _bill(call: Call) -> Answer:
    start = parse_moment(call.parameter("from"), "from")
    end = parse_moment(call.parameter("to"), "to")
    return Answer(body=call.world.bill(epoch(start), epoch(end)))


def _requests(call: Call) -> Answer:
    service = call.service
    return Answer(
        body={
            "total": service.by_api.total(),
            "by_api": dict(service.by_api),
            "by_request": dict(service.by_request),
            "by_version": dict(service.by_version),
            "refused": dict(service.refused),
            "refused_again": sum(times - 1 for times in service.refusals.values()),
        }
    )


def _add_fault(call: Call) -> Answer:
    known = {each.name for each in fields(Fault) if each.init}
    asked = call.json()
    if unknown := set(asked) - known:
        raise Refusal(400, "BadRequest", f"A fault has no {', '.join(sorted(unknown))}.")
    call.service.faults.append(Fault(**asked))
    return Answer(body={"faults": len(call.service.faults)})


def _clear_faults(call: Call) -> Answer:
    call.service.faults.clear()
    return Answer(body={"faults": 0})


def struck(fault: Fault, method: str, path: str) -> Answer:
    """Return the answer of a failure that was asked for, in Azure's words."""
    status = fault.status or 500
    if status == 403:  # noqa: PLR2004
        refusal = forbidden(needed_action(method, path), path)
        code, message = refusal.code, refusal.message
    else:
        code, message = _MESSAGES.get(status, (str(status), "The request failed."))
    code, message = fault.code or code, fault.message or message
    return Answer(body=error_body(code, message), status=status, headers=fault.headers)


def _control(method: str, template: str, handle: Handler) -> Endpoint:
    return Endpoint(
        api="emulator", method=method, template=template, handle=handle, versioned=False
    )


ENDPOINTS = (
    _control("POST", "/emulator/advance", _advance),
    _control("POST", "/emulator/wait", _wait),
    _control("GET", "/emulator/bill", _bill),
    _control("GET", "/emulator/requests", _requests),
    _control("POST", "/emulator/faults", _add_fault),
    _control("DELETE", "/emulator/faults", _clear_faults),
)
