"""Azure's limits: kept ahead of time by the clients, and enforced by the emulator."""

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.azure.connect import Connection, connect
from optimizer.azure.throttle import Bucket, Rate, Windows, limit_of
from optimizer.config import AzureSettings
from optimizer.emulator.limits import Limits
from tests.conftest import Emulator
from tests.estates import SUBSCRIPTION, workspace, write_estate


class VirtualClock:
    """Waiting moves the emulator's clock of limits instead of taking time.

    For one request at a time: what is under way while the clock leaps would arrive too late.
    """

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._now = 0.0
        self._lock = Lock()

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        until = self._now + seconds
        with self._lock:
            ahead = until - self._now
            if ahead > 0:
                self._emulator.call("POST", "/emulator/wait", {"seconds": ahead})
                self._now = until


@pytest.fixture
def azure(emulator: Callable[[Path], Emulator], tmp_path: Path) -> Emulator:
    write_estate(tmp_path / "estate", resources=[workspace()])
    return emulator(tmp_path / "estate")


def door_to(emulator: Emulator) -> Connection:
    settings = AzureSettings(
        endpoint=emulator.url, ca_file=emulator.ca_file, credential="emulator", max_concurrency=1
    )
    return connect(settings, VirtualClock(emulator))


def cost_question(first: str = "2026-01-05", last: str = "2026-01-06") -> dict[str, Any]:
    return {
        "type": "ActualCost",
        "timeframe": "Custom",
        "timePeriod": {"from": f"{first}T00:00:00Z", "to": f"{last}T23:59:59Z"},
        "dataset": {
            "granularity": "Daily",
            "aggregation": {"cost": {"name": "Cost", "function": "Sum"}},
        },
    }


# The arithmetic


@given(
    uses=st.lists(st.floats(0, 30), min_size=1, max_size=80),
    amounts=st.lists(st.integers(1, 3), min_size=80, max_size=80),
)
def test_no_window_ever_holds_more_than_its_rate(uses: list[float], amounts: list[int]) -> None:
    quota = Windows(Rate(amount=5, seconds=10), Rate(amount=12, seconds=60))
    now, booked = 0.0, []
    for pause, amount in zip(uses, amounts, strict=False):
        now += pause
        booked.append((now + quota.book(now, amount), amount))
    for seconds, allowed in ((10, 5), (60, 12)):
        for at, _ in booked:
            within = sum(a for t, a in booked if at - seconds + 1e-6 < t <= at)
            assert within <= allowed


@given(st.lists(st.floats(0, 3), min_size=1, max_size=100))
def test_no_bucket_is_ever_overdrawn(pauses: list[float]) -> None:
    bucket = Bucket(burst=4, per_second=0.5)
    now, sent = 0.0, []
    for pause in pauses:
        now += pause
        sent.append(now + bucket.book(now))
    level, last = 4.0, 0.0
    for at in sorted(sent):
        level = min(4.0, level + (at - last) * 0.5) - 1
        last = at
        assert level > -1e-6


def test_nobody_waits_without_need() -> None:
    quota = Windows(Rate(amount=2, seconds=10))
    assert [quota.book(now) for now in (0.0, 5.0, 10.0, 15.0)] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [
        ("GET", "/subscriptions/A/resourceGroups?x=1", ("arm_reads", "a", 1)),
        ("PATCH", "/subscriptions/A/resourceGroups/g", ("arm_writes", "a", 1)),
        ("POST", "/subscriptions/A/metrics:getBatch", (None, "", 0)),
        ("POST", "/v1/subscriptions/A/query", ("logs", "", 1)),
        ("GET", "/api/retail/prices", (None, "", 0)),
        (
            "POST",
            "/subscriptions/A/providers/Microsoft.CostManagement/query?api-version=1",
            ("cost_query", "", 1),
        ),
    ],
)
def test_each_api_has_its_limit(method: str, path: str, limit: tuple[Any, ...]) -> None:
    assert limit_of(method, f"https://host{path}", b"") == limit


def test_a_cost_query_takes_a_unit_a_month() -> None:
    path = "https://host/subscriptions/a/providers/Microsoft.CostManagement/query"
    body = b'{"timePeriod":{"from":"2026-01-01T00:00:00Z","to":"2026-03-31T23:59:59Z"}}'
    assert limit_of("POST", path, body)[2] == 3


# Against the emulator


def test_the_emulator_refuses_what_is_over_the_limit_in_azures_words(azure: Emulator) -> None:
    path = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.CostManagement/query"
    for _ in range(12):
        azure.call("POST", f"{path}?api-version=2025-03-01", cost_question())
    status, error = azure.refusal("POST", f"{path}?api-version=2025-03-01", cost_question())
    assert (status, error["code"]) == (429, "429")
    assert azure.requests()["refused_again"] == 0
    azure.refusal("POST", f"{path}?api-version=2025-03-01", cost_question())
    azure.call("POST", "/emulator/wait", {"seconds": 10.1})
    azure.call("POST", f"{path}?api-version=2025-03-01", cost_question())
    counted = azure.requests()
    assert (counted["refused"], counted["refused_again"]) == ({"cost_management": 2}, 1)


def test_a_hundred_cost_queries_are_never_refused(azure: Emulator) -> None:
    door = door_to(azure)

    for _ in range(100):
        list(door.costs.query(f"/subscriptions/{SUBSCRIPTION}", cost_question()))
    counted = azure.requests()
    assert (counted["by_api"]["cost_management"], counted["refused"]) == (100, {})
    assert door.access.quotas.waited_seconds > 60


def test_a_burst_of_reads_is_spread_and_never_refused(azure: Emulator) -> None:
    door = door_to(azure)
    path = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.MachineLearningServices/workspaces"
    door.access.map(lambda _: list(door.arm.list(path)), range(400))
    counted = azure.requests()
    assert (counted["by_api"]["arm"], counted["refused"]) == (400, {})


def test_what_others_used_up_is_heeded(azure: Emulator) -> None:
    path = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.CostManagement/query"
    for _ in range(11):  # somebody else of the same tenant
        azure.call("POST", f"{path}?api-version=2025-03-01", cost_question())
    door = door_to(azure)
    for _ in range(3):
        list(door.costs.query(f"/subscriptions/{SUBSCRIPTION}", cost_question()))
    assert azure.requests()["refused"] == {}


def test_the_emulators_bucket_refills() -> None:
    limits = Limits()
    verdicts = [limits.resource_manager("a", "GET") for _ in range(300)]
    assert 245 <= sum(verdict.retry_after is None for verdict in verdicts) <= 275
    limits.ahead_seconds += 10
    assert limits.resource_manager("a", "GET").retry_after is None
    assert limits.resource_manager("b", "GET").retry_after is None
