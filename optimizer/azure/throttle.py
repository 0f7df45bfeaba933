"""Azure's published limits, kept ahead of time, so that no request has to be refused first.

A policy in every client's pipeline, below the retries. Each request is booked on the limit of its
API before it goes out; where the limit is used up, it waits its turn. What Azure says of other
users of the same limit, in the headers of its answers, is heeded as well. Limits: facts §6.2,
performance §5; the batch API of metrics publishes none.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from threading import Lock
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import HTTPPolicy

DAYS_A_QPU = 31
"""A query processing unit of Cost Management reads a month of data."""

_MARGIN = 1.0
"""Seconds: not every request takes equally long to arrive."""

_SUBSCRIPTION = re.compile(r"/subscriptions/([^/?]+)", re.IGNORECASE)
_READS = frozenset({"GET", "HEAD"})
_COST_WINDOWS = {"QueriesPer10Sec": 10.0, "QueriesPerMin": 60.0, "QueriesPerHour": 3600.0}


class Clock(Protocol):
    """What time is taken from, in seconds."""

    def now(self) -> float:
        """Return the time; only differences mean anything."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...


class SystemClock:
    """Real time."""

    def now(self) -> float:
        """Return the time since some moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So much in any stretch of so many seconds."""

    amount: float
    seconds: float


class Windows:
    """A limit on any stretch of some lengths; each use is booked at the moment it is due.

    >>> quota = Windows(Rate(amount=2, seconds=10), Rate(amount=3, seconds=60))
    >>> [quota.book(0.0) for _ in range(4)]
    [0.0, 0.0, 10.0, 60.0]
    """

    def __init__(self, *rates: Rate) -> None:
        """Start unused."""
        self._rates = rates
        self._longest = max(rate.seconds for rate in rates)
        self._booked: deque[tuple[float, float]] = deque()
        self._paused_until = 0.0

    def book(self, now: float, amount: float = 1.0) -> float:
        """Book a use, and return the seconds to wait for it."""
        at = max(now, self._paused_until, self._booked[-1][0] if self._booked else now)
        for rate in self._rates:
            used = 0.0
            for when, booked in reversed(self._booked):
                used += booked
                # More than the whole limit is let through once nothing else is booked.
                if used > max(rate.amount - amount, 0.0):
                    at = max(at, when + rate.seconds)
                    break
        self._booked.append((at, amount))
        while self._booked[0][0] <= at - self._longest:
            self._booked.popleft()
        return at - now

    def pause(self, until: float) -> None:
        """Let nobody pass before a moment: others have used the limit up."""
        self._paused_until = max(self._paused_until, until)


class Bucket:
    """A token bucket: a burst, refilled at an even rate.

    >>> bucket = Bucket(burst=2, per_second=0.5)
    >>> [bucket.book(0.0) for _ in range(4)]
    [0.0, 0.0, 2.0, 4.0]
    """

    def __init__(self, *, burst: float, per_second: float) -> None:
        """Start full."""
        self._burst = burst
        self._per_second = per_second
        self._empty_at = 0.0  # when all that was booked is paid back, plus the burst
        self._paused_until = 0.0

    def book(self, now: float, amount: float = 1.0) -> float:
        """Book a use, and return the seconds to wait for it."""
        full_at = max(self._empty_at, now) + amount / self._per_second
        at = max(now, self._paused_until, full_at - self._burst / self._per_second)
        self._empty_at = full_at
        return at - now

    def pause(self, until: float) -> None:
        """Let nobody pass before a moment: others have used the limit up."""
        self._paused_until = max(self._paused_until, until)


Quota = Windows | Bucket


class Quotas:
    """Every limit of one signed-in account, by service and scope; safe among threads."""

    def __init__(self, clock: Clock) -> None:
        """Start unused."""
        self._clock = clock
        self._quotas: dict[tuple[str, str], Quota] = {}
        self._lock = Lock()
        self.waited_seconds = 0.0
        """What all requests together have waited for their turn."""

    def wait(self, service: str, scope: str, amount: float = 1.0) -> None:
        """Return when a request may be sent."""
        with self._lock:
            seconds = self._quota(service, scope).book(self._clock.now(), amount)
            self.waited_seconds += seconds
        if seconds > 0:
            self._clock.sleep(seconds)

    def pause(self, service: str, scope: str, seconds: float) -> None:
        """Heed that a limit is used up for so long."""
        with self._lock:
            self._quota(service, scope).pause(self._clock.now() + seconds)

    def _quota(self, service: str, scope: str) -> Quota:
        return self._quotas.setdefault((service, scope), _NEW[service]())


_NEW: Mapping[str, Callable[[], Quota]] = {
    # A subscription and account, in a region.
    "arm_reads": lambda: Bucket(burst=250, per_second=25),
    "arm_writes": lambda: Bucket(burst=200, per_second=10),
    # A tenant, in query processing units.
    "cost_query": lambda: Windows(
        Rate(amount=12, seconds=10 + _MARGIN),
        Rate(amount=60, seconds=60 + _MARGIN),
        Rate(amount=600, seconds=3600 + _MARGIN),
    ),
    # A user.
    "resource_graph": lambda: Windows(Rate(amount=15, seconds=5 + _MARGIN)),
    "logs": lambda: Windows(Rate(amount=200, seconds=30 + _MARGIN)),
}


class Throttle(HTTPPolicy):  # type: ignore[misc]
    """Holds each request back until the limits it falls under have room for it."""

    def __init__(self, quotas: Quotas) -> None:
        """Book on `quotas`."""
        super().__init__()
        self._quotas = quotas

    def send(self, request: PipelineRequest) -> PipelineResponse:
        """Wait, send, and heed what the answer says of the limit."""
        method = request.http_request.method.upper()
        service, scope, amount = limit_of(method, request.http_request.url, _content(request))
        if service is not None:
            self._quotas.wait(service, scope, amount)
        response = self.next.send(request)
        if service is not None and (seconds := _used_up_for(response.http_response.headers)):
            self._quotas.pause(service, scope, seconds)
        return response


def limit_of(method: str, url: str, content: bytes) -> tuple[str | None, str, float]:
    """Return which limit a request falls under, whose, and how much of it it takes.

    >>> limit_of("GET", "https://management.azure.com/subscriptions/S/resourceGroups", b"")
    ('arm_reads', 's', 1.0)
    """
    path = urlsplit(url).path.lower()
    if path.endswith("/providers/microsoft.costmanagement/query"):
        return "cost_query", "", _qpu(content)
    if path.endswith("/providers/microsoft.resourcegraph/resources"):
        return "resource_graph", "", 1.0
    if path.startswith("/v1/"):
        return "logs", "", 1.0
    found = _SUBSCRIPTION.match(path)
    if found is None or path.endswith("/metrics:getbatch"):
        return None, "", 0.0
    return "arm_reads" if method in _READS else "arm_writes", found[1], 1.0


def _qpu(content: bytes) -> float:
    """Return the units a cost query takes: one for each month it reads."""
    try:
        period = orjson.loads(content)["timePeriod"]
        first, last = (date.fromisoformat(period[name][:10]) for name in ("from", "to"))
    except (ValueError, KeyError, TypeError):
        return 1.0
    return float(-(-((last - first).days + 1) // DAYS_A_QPU))


def _content(request: PipelineRequest) -> bytes:
    content: Any = request.http_request.content
    if isinstance(content, str):
        return content.encode()
    return content if isinstance(content, bytes) else b""


def _used_up_for(headers: Mapping[str, str]) -> float:
    """Return for how long an answer says that its limit has no room left; 0 where it has.

    >>> _used_up_for({"x-ms-user-quota-remaining": "0", "x-ms-user-quota-resets-after": "00:00:05"})
    5.0
    """
    seconds = [0.0]
    remaining = headers.get("x-ms-ratelimit-microsoft.costmanagement-qpu-remaining", "")
    for part in remaining.split(","):
        name, _, left = part.strip().partition(":")
        if left == "0":
            seconds.append(_COST_WINDOWS.get(name, 0.0))
    if headers.get("x-ms-user-quota-remaining") == "0":
        hours, minutes, rest = headers["x-ms-user-quota-resets-after"].split(":")
        seconds.append(int(hours) * 3600 + int(minutes) * 60 + float(rest))
    return max(seconds)
