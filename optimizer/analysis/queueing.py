"""Requests that wait: M/M/c, as methods §3.2c uses it."""

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def erlang_c(servers: int, load: Floats) -> Floats:
    """Return the probability that a request waits; 1 where the load is too much for the servers.

    Through the recursion of Erlang B, 1/B(c) = 1 + (c/a) / B(c − 1), which never overflows.

    Args:
        servers: c, at least one.
        load: a = requests a second × seconds each, in erlangs.
    """
    busy = np.maximum(load, 1e-12)
    inverse = np.ones_like(busy)
    for count in range(1, servers + 1):
        inverse = 1.0 + inverse * count / busy
    blocked = 1.0 / inverse
    waits = blocked / (1.0 - np.minimum(busy / servers, 1 - 1e-12) * (1.0 - blocked))
    return np.where(load >= servers, 1.0, waits)


def mean_wait(servers: int, load: Floats, service_seconds: Floats | float) -> Floats:
    """Return how long requests wait on average: s C / (c − a); infinite where overloaded."""
    spare = servers - load
    with np.errstate(divide="ignore", invalid="ignore"):
        wait = erlang_c(servers, load) * service_seconds / spare
    return np.where(spare > 0, wait, math.inf)


def p95_wait(servers: int, load: Floats, service_seconds: Floats | float) -> Floats:
    """Return how long 95 % of requests wait at most: s ln(C / 0.05) / (c − a), 0 where C is less.

    Infinite where the load is too much for the servers.
    """
    waits = erlang_c(servers, load)
    spare = servers - load
    with np.errstate(divide="ignore", invalid="ignore"):
        longest = np.log(np.maximum(waits / 0.05, 1.0)) * service_seconds / spare
    return np.where(spare > 0, longest, math.inf)
