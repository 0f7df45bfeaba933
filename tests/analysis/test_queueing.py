"""Methods §3.2c against sums written out and a simulated queue."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.analysis.queueing import erlang_c, p95_wait


@given(st.integers(1, 40), st.floats(0.01, 0.99))
def test_erlang_c_is_the_sum_written_out(servers: int, utilisation: float) -> None:
    load = servers * utilisation
    last = load**servers / math.factorial(servers) / (1 - utilisation)
    written_out = last / (sum(load**k / math.factorial(k) for k in range(servers)) + last)
    assert erlang_c(servers, np.array([load]))[0] == pytest.approx(written_out, rel=1e-9)


def test_one_server_is_busy_as_often_as_it_is_loaded() -> None:
    assert erlang_c(1, np.array([0.3, 0.9, 1.5])) == pytest.approx([0.3, 0.9, 1.0])


def test_p95_of_one_server_by_hand() -> None:
    # M/M/1 at a half: ln(0.5 / 0.05) × 0.2 s / (1 − 0.5)
    assert p95_wait(1, np.array([0.5]), 0.2)[0] == pytest.approx(math.log(10) * 0.4)
    assert p95_wait(1, np.array([0.04]), 0.2)[0] == 0.0
    assert p95_wait(1, np.array([1.0]), 0.2)[0] == math.inf


def test_p95_is_that_of_a_simulated_queue() -> None:
    rng = np.random.default_rng(7)
    servers, service, rate, count = 3, 1.0, 2.4, 200_000
    arrivals = rng.exponential(1 / rate, count).cumsum()
    free = np.zeros(servers)
    waits = np.empty(count)
    for index, (at, takes) in enumerate(
        zip(arrivals, rng.exponential(service, count), strict=True)
    ):
        first = int(free.argmin())
        waits[index] = max(0.0, free[first] - at)
        free[first] = at + waits[index] + takes
    found = p95_wait(servers, np.array([rate * service]), service)[0]
    assert found == pytest.approx(np.quantile(waits[1000:], 0.95), rel=0.08)


@given(st.integers(1, 20), st.floats(0.1, 15))
def test_more_servers_never_wait_longer(servers: int, load: float) -> None:
    a = np.array([load])
    assert p95_wait(servers + 1, a, 0.1)[0] <= p95_wait(servers, a, 0.1)[0]
