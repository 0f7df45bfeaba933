"""What every served API shares: a call, its answer, Azure's error shape, routes and pages."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import urlencode
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np
import orjson

from optimizer.emulator.limits import Limits, Verdict
from optimizer.emulator.records import JobRecord
from optimizer.emulator.world import World
from optimizer.units import utc

Json: TypeAlias = dict[str, Any]

TENANT = "72f988bf-0000-4000-8000-2d7cd011db47"
PROVIDER = "Microsoft.MachineLearningServices"


class Refusal(Exception):  # noqa: N818 - an answer of the service, not a fault of the program
    """Azure's answer to a request it does not fulfil."""

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Refuse with an HTTP status and Azure's error code and message."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back: a JSON body, raw bytes or nothing."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_short: bool = False
    silent: bool = False

    def encoded(self) -> bytes:
        """Return the body's bytes."""
        if self.body is None or isinstance(self.body, bytes):
            return self.body or b""
        return orjson.dumps(self.body, option=orjson.OPT_SERIALIZE_NUMPY)


def error_body(code: str, message: str) -> Json:
    """Return Azure's error shape."""
    return {"error": {"code": code, "message": message}}


@dataclass(slots=True, kw_only=True)
class Operation:
    """A long-running operation that a client polls."""

    id: str
    resource_id: str
    polls_left: int
    error: Json | None
    started_utc: datetime
    late: bool = False
    """What it changes is not seen before it ends."""
    pending: Callable[[], None] | None = field(default=None, init=False)
    draft: Json | None = field(default=None, init=False)
    """What it makes: Azure shows a new resource from the first moment, as `Creating`."""

    def take_effect(self, write: Callable[[], None]) -> None:
        """Write, now or when it ends; an operation that is doomed writes nothing."""
        if self.error is not None:
            return
        if self.late and self.polls_left > 0:
            self.pending = write
        else:
            write()

    def look(self) -> bool:
        """Return whether it is still under way; it comes nearer to its end with every look."""
        if self.polls_left <= 0:
            return False
        self.polls_left -= 1
        if self.polls_left == 0 and self.pending is not None:
            self.pending()
        return True


@dataclass(slots=True, kw_only=True)
class Fault:
    """A failure that somebody asked for, so that a test can see what the product does."""

    status: int | None = None
    path_contains: str = ""
    method: str | None = None
    times: int | None = None
    """How often it still strikes; None: always."""
    share: float = 1.0
    """Of the requests it could strike, those it does, evenly spread."""
    cut_short: bool = False
    """The answer itself is right, and breaks off half way."""
    silent: bool = False
    """Nothing is answered, for as long as the client waits."""
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str | None = None
    """Azure's code for it; None: the one that usually comes with `status`."""
    message: str | None = None
    """Azure's words for it; None: those that usually come with `status`."""
    delay_lro: int = 0
    """Looks at a new operation, or at its resource, that find it under way."""
    late_lro: bool = False
    """A delayed operation changes nothing before it ends."""
    fail_lro: bool = False
    met: int = field(default=0, init=False)
    """Requests it could have struck."""

    def strikes(self, method: str, path: str) -> bool:
        """Count a request, and return whether it is struck."""
        mine = self.method in {None, method} and self.path_contains.lower() in path.lower()
        if not mine or self.times == 0:
            return False
        self.met += 1
        struck = math.floor(self.met * self.share) > math.floor((self.met - 1) * self.share)
        if struck and self.times is not None:
            self.times -= 1
        return struck


@dataclass(slots=True, kw_only=True)
class Service:
    """The world behind the server, and what the server itself remembers."""

    world: World
    operations: dict[str, Operation] = field(default_factory=dict)
    reports: dict[str, Json] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    jobs: dict[str, list[JobRecord]] = field(default_factory=dict)
    """Each workspace's jobs, newest first, kept until the next write: lists are read in pages."""
    limits: Limits = field(default_factory=Limits)
    refused: Counter[str] = field(default_factory=Counter)
    """Requests over a limit, by API."""
    refusals: Counter[str] = field(default_factory=Counter)
    """The same, by the whole request: one that is refused again was sent too early again."""
    by_api: Counter[str] = field(default_factory=Counter)
    by_request: Counter[str] = field(default_factory=Counter)
    by_version: Counter[str] = field(default_factory=Counter)
    """By api-version, and the request it was sent with."""

    def subscriptions(self) -> list[str]:
        """Return the ids of the estate's subscriptions, in the order of its documents."""
        ids = (document["id"].split("/")[2] for document in self.world.estate.resources)
        return list(dict.fromkeys(ids))

    def begin(self, resource_id: str, *, method: str, path: str) -> Operation:
        """Return a new operation on a resource, delayed or doomed where a fault says so."""
        faults = (fault for fault in self.faults if fault.delay_lro or fault.fail_lro)
        fault = next((fault for fault in faults if fault.strikes(method, path)), None)
        doom = error_body("InternalServerError", "The operation failed.")["error"]
        if fault and fault.code:
            doom = error_body(fault.code, fault.message or "The operation failed.")["error"]
        operation = Operation(
            id=str(stable_id(resource_id, str(len(self.operations)))),
            resource_id=resource_id,
            polls_left=fault.delay_lro if fault else 0,
            error=doom if fault and fault.fail_lro else None,
            started_utc=self.world.now_utc,
            late=bool(fault and fault.late_lro),
        )
        self.operations[operation.id] = operation
        return operation

    def jobs_of(self, workspace_id: str) -> list[JobRecord]:
        """Return the jobs of a workspace, newest first."""
        key = workspace_id.lower()
        if key not in self.jobs:
            self.jobs[key] = sorted(
                self.world.jobs(within=key),
                key=lambda job: job.submitted_s,
                reverse=True,
            )
        return self.jobs[key]

    def admit(self, api: str, code: str, verdict: Verdict) -> Mapping[str, str]:
        """Return the headers that tell of a limit; refuse what is over it.

        Cost Management says how long to wait in its own headers only, and others in Retry-After.
        """
        if verdict.retry_after is None:
            return verdict.headers
        self.refused[api] += 1
        after = (
            {} if api == "cost_management" else {"Retry-After": str(math.ceil(verdict.retry_after))}
        )
        raise Refusal(
            429, code, "Too many requests. Please retry.", headers={**verdict.headers, **after}
        )

    def updating(self, resource_id: str) -> bool:
        """Return whether an operation on the resource is still under way; counts as a look."""
        mine = (o for o in self.operations.values() if same(o.resource_id, resource_id))
        return sum(operation.look() for operation in mine) > 0  # each of them is looked at

    def being_made(self, resource_id: str) -> Json | None:
        """Return a resource that an operation is still making; None: none is. Counts as a look."""
        for operation in self.operations.values():
            mine = same(operation.resource_id, resource_id) and operation.pending is not None
            if mine and operation.draft is not None and operation.look():
                return operation.draft
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request, taken apart."""

    service: Service
    method: str
    path: str
    parts: Mapping[str, str]
    """The parts of the path that the template names."""
    query: Mapping[str, str]
    """Query parameters by name in lower case."""
    content: bytes
    base_url: str
    """How the client calls the server; links lead back the same way."""

    @property
    def world(self) -> World:
        """Return the world that is asked about."""
        return self.service.world

    def parameter(self, name: str) -> str:
        """Return a query parameter that must be there."""
        if value := self.query.get(name.lower()):
            return value
        raise Refusal(400, "BadRequest", f"The query parameter '{name}' is required.")

    def json(self) -> Json:
        """Return the body, which must be a JSON object."""
        wrong = Refusal(400, "InvalidRequestContent", "The request content was not a JSON object.")
        try:
            body = orjson.loads(self.content)
        except orjson.JSONDecodeError as error:
            raise wrong from error
        if not isinstance(body, dict):
            raise wrong
        return body

    def number(self, name: str, default: int) -> int:
        """Return a query parameter that must be a whole number where it is given."""
        text = self.query.get(name.lower(), str(default))
        if not text.isdecimal():
            raise Refusal(400, "BadRequest", f"The query parameter '{name}' must be a number.")
        return int(text)

    def link(self, **changed: str) -> str:
        """Return this request's absolute address with some query parameters set."""
        return f"{self.base_url}{self.path}?{urlencode(dict(self.query) | changed)}"


Handler: TypeAlias = Callable[[Call], Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One operation of one API. `{name}` in the template is a segment, `{name:path}` several."""

    api: str
    method: str
    template: str
    handle: Handler
    versioned: bool = True
    """Whether the service refuses a request without `api-version`."""

    def pattern(self) -> re.Pattern[str]:
        """Return what the paths look like; Azure does not mind the case."""
        segments = re.sub(
            r"\{(\w+)\}",
            r"(?P<\1>[^/]+)",
            re.escape(self.template).replace(r"\{", "{").replace(r"\}", "}"),
        )
        return re.compile(re.sub(r"\{(\w+):path\}", r"(?P<\1>.+)", segments), re.IGNORECASE)


def page(
    call: Call, items: Sequence[Any], size: int, *, key: str = "$skip", link: str = "nextLink"
) -> Json:
    """Return one page of a list with the absolute address of the next."""
    start = call.number(key, 0)
    body: Json = {"value": list(items[start : start + size])}
    if start + size < len(items):
        body[link] = call.link(**{key: str(start + size)})
    return body


def stable_id(*parts: str) -> UUID:
    """Return an id that is the same whenever the estate is played again."""
    return uuid5(NAMESPACE_URL, "/".join(parts))


def epoch(moment: datetime) -> int:
    """Return whole seconds since 1970."""
    return int(moment.timestamp())


def moment(seconds: float) -> datetime:
    """Return the moment of some seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def parse_moment(text: str, what: str) -> datetime:
    """Return a moment that a client wrote, or refuse it by name."""
    try:
        return utc(text.strip().strip("'"))
    except ValueError as error:
        raise Refusal(400, "BadRequest", f"{what} '{text}' is not a date and time.") from error


def iso(seconds: float) -> str:
    """Return a moment as Azure's monitoring writes it."""
    return f"{moment(seconds):%Y-%m-%dT%H:%M:%SZ}"


def isos(seconds: np.ndarray[Any, np.dtype[np.int64]]) -> list[str]:
    """Return many whole seconds as `iso` does.

    >>> isos(np.array([0, 60]))
    ['1970-01-01T00:00:00Z', '1970-01-01T00:01:00Z']
    """
    stamps: list[str] = np.datetime_as_string(seconds.astype("datetime64[s]")).tolist()
    return [f"{stamp}Z" for stamp in stamps]


def workspace_of(resource_id: str) -> str:
    """Return the id of the workspace that a resource belongs to."""
    return "/".join(resource_id.split("/")[:9])


def same(left: str, right: str) -> bool:
    """Return whether two Azure ids or names are the same; case does not count."""
    return left.lower() == right.lower()


def days_back(now_utc: datetime, days: int) -> datetime:
    """Return the start of a retention period."""
    return now_utc - timedelta(days=days)
