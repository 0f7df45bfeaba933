"""Azure's limits on requests, as documented, with the headers that the real services answer with.

Resource Manager has a token bucket for each subscription, Cost Management counts query processing
units of the tenant, Resource Graph queries of the user, Log Analytics queries of the user. The
batch API of metrics publishes no limit and has none here.
"""

import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

COST_WINDOWS = {
    "QueriesPerHour": (3600, 600),
    "QueriesPerMin": (60, 60),
    "QueriesPer10Sec": (10, 12),
}
"""Seconds, and the units that may be used within them."""
GRAPH_SECONDS, GRAPH_QUERIES = 5, 15
LOG_SECONDS, LOG_QUERIES = 30, 200
_BUCKETS = {"reads": (250, 25), "writes": (200, 10)}
"""Tokens, and how many come back each second."""
_SLACK = 1e-6
"""Clocks of two programs do not agree to the last bit."""


@dataclass(slots=True, kw_only=True)
class Verdict:
    """Whether a request may pass, and what the answer's headers say of the limit."""

    headers: Mapping[str, str]
    retry_after: float | None = None
    """Seconds; None: it passes."""


@dataclass(slots=True)
class Limits:
    """What has been used of every limit."""

    ahead_seconds: float = 0.0
    """How far the clock was moved on, so that nobody has to wait in a test or a benchmark."""
    _buckets: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    _used: defaultdict[str, deque[tuple[float, float]]] = field(
        default_factory=lambda: defaultdict(deque)
    )

    def now(self) -> float:
        """Return the time that limits go by, in seconds."""
        return time.monotonic() + self.ahead_seconds

    def resource_manager(self, subscription: str, method: str) -> Verdict:
        """Take a token of a subscription's bucket."""
        kind = "reads" if method in {"GET", "HEAD"} else "writes"
        size, refill = _BUCKETS[kind]
        now = self.now()
        level, seen = self._buckets.get((subscription, kind), (float(size), now))
        level = min(size, level + (now - seen) * refill)
        passes = level >= 1 - _SLACK
        self._buckets[subscription, kind] = (level - 1 if passes else level, now)
        name = f"x-ms-ratelimit-remaining-subscription-{kind}"
        headers = {name: str(max(0, int(level - passes)))}
        return Verdict(headers=headers, retry_after=None if passes else (1 - level) / refill)

    def cost_query(self, units: float) -> Verdict:
        """Take units of the tenant's three windows."""
        waits = [
            self._wait("cost", seconds, allowed, units)
            for seconds, allowed in COST_WINDOWS.values()
        ]
        retry_after = max(waits)
        if not retry_after:
            self._use("cost", units)
        left = {
            name: allowed - self._sum("cost", seconds)
            for name, (seconds, allowed) in COST_WINDOWS.items()
        }
        prefix = "x-ms-ratelimit-microsoft.costmanagement-qpu"
        headers = {
            f"{prefix}-consumed": f"{units:g}",
            f"{prefix}-remaining": ",".join(f"{n}:{max(0, v):g}" for n, v in left.items()),
        }
        if retry_after:
            headers = {f"{prefix}-retry-after": str(int(-(-retry_after // 1)))}
        return Verdict(headers=headers, retry_after=retry_after or None)

    def graph(self) -> Verdict:
        """Take one of the user's queries of Resource Graph."""
        wait = self._wait("graph", GRAPH_SECONDS, GRAPH_QUERIES, 1)
        if not wait:
            self._use("graph", 1)
        left = GRAPH_QUERIES - self._sum("graph", GRAPH_SECONDS)
        headers = {
            "x-ms-user-quota-remaining": f"{max(0, left):g}",
            "x-ms-user-quota-resets-after": f"00:00:{GRAPH_SECONDS:02}",
        }
        return Verdict(headers=headers, retry_after=wait or None)

    def logs(self) -> Verdict:
        """Take one of the user's queries of Log Analytics."""
        wait = self._wait("logs", LOG_SECONDS, LOG_QUERIES, 1)
        if not wait:
            self._use("logs", 1)
        return Verdict(headers={}, retry_after=wait or None)

    def _use(self, what: str, amount: float) -> None:
        self._used[what].append((self.now(), amount))

    def _sum(self, what: str, seconds: float) -> float:
        since = self.now() - seconds + _SLACK
        return sum(amount for at, amount in self._used[what] if at > since)

    def _wait(self, what: str, seconds: float, allowed: float, amount: float) -> float:
        """Return how long until a window has room; 0 where it has."""
        used, now = self._used[what], self.now()
        while used and used[0][0] <= now - max(seconds, 3600):
            used.popleft()
        inside = [(at, each) for at, each in used if at > now - seconds + _SLACK]
        over = sum(each for _, each in inside) + amount - allowed
        for at, each in inside:
            if over <= 0:
                break
            over -= each
            if over <= 0:
                return at + seconds - now
        return 0.0
