"""How a deployment bears its requests: a queue with exponential service before equal servers.

A server is one of the `maxConcurrentRequestsPerInstance` places of an instance that is ready, and
requests queue for the deployment as a whole (M/M/c). Whatever waits longer than the deployment
lets it is refused, so no latency exceeds what a request may wait and take.
"""

import numpy as np

from optimizer.emulator.records import Floats, Ints

_SECONDS_PER_MINUTE = 60
_MS_PER_SECOND = 1000


def offered_load(requests_per_minute: Floats, service_ms: Floats) -> Floats:
    """Return how many servers the requests of each minute would keep busy.

    >>> offered_load(np.array([600.0]), np.array([200.0]))
    array([2.])
    """
    return requests_per_minute / _SECONDS_PER_MINUTE * service_ms / _MS_PER_SECOND


def latency_ms(
    quantile: float, load: Floats, service_ms: Floats, servers: Ints, longest_ms: float
) -> Floats:
    """Return a quantile of the time from request to answer; NaN without load or servers.

    It is the service time and that quantile of the wait, `ln(C / (1 − q)) · s / (c − a)` where
    that is positive, `C` being Erlang's probability of waiting (methods §3.2c).

    >>> latency_ms(0.95, np.array([1.0]), np.array([100.0]), np.array([2]), 5000.0).round(1)
    array([289.7])
    """
    waiting = erlang_c(load, servers)
    spare = servers - load
    with np.errstate(divide="ignore", invalid="ignore"):
        wait = np.log(waiting / (1.0 - quantile)) * service_ms / spare
    total = service_ms + np.where(spare > 0, np.maximum(wait, 0.0), np.inf)
    shown: Floats = np.where((load > 0) & (servers > 0), np.minimum(total, longest_ms), np.nan)
    return shown


def erlang_c(load: Floats, servers: Ints) -> Floats:
    """Return the probability that a request has to wait; 1 where the load exceeds the servers.

    By the recursion of Erlang's B, which stays exact for many servers.

    >>> erlang_c(np.array([1.0, 3.0]), np.array([2, 2])).round(4)
    array([0.3333, 1.    ])
    """
    waits = np.ones(len(load))
    for count in np.unique(servers[servers > 0]).tolist():
        mine = (servers == count) & (load < count)
        offered = load[mine]
        blocked = np.ones(len(offered))
        for server in range(1, count + 1):
            blocked = offered * blocked / (server + offered * blocked)
        waits[mine] = count * blocked / (count - offered * (1.0 - blocked))
    return waits
