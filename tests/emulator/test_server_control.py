"""The process itself: how it begins and ends, its clock, who may ask, and failures on request."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.core.rest import HttpRequest

from tests.conftest import ROOT, Emulator, running
from tests.emulator.sdk import WORKSPACE_ID, Sdk
from tests.estates import (
    GPU_SKU,
    OTHER_SUBSCRIPTION,
    START_UTC,
    SUBSCRIPTION,
    cluster,
    job,
    workspace,
    write_estate,
)

COMPUTES = f"{WORKSPACE_ID}/computes?api-version=2025-12-01"


@pytest.fixture(scope="module")
def clock(
    emulator: Callable[[Path], Emulator], tmp_path_factory: pytest.TempPathFactory
) -> Emulator:
    """Return an estate whose one job comes an hour after now."""
    ws = workspace("ws")
    gpu = cluster(ws, "gpu", sku=GPU_SKU, idle="PT0S")
    later = job(gpu, START_UTC + timedelta(hours=25), run_seconds=3600)
    folder = tmp_path_factory.mktemp("estates") / "clock"
    no_balancer = {"load_balancer_per_day": 0}
    return emulator(
        write_estate(folder, resources=[ws, gpu], jobs=[later], days=1, physics=no_balancer)
    )


@pytest.fixture
def healed(tiny: Emulator) -> Iterator[Emulator]:
    yield tiny
    tiny.heal()


def test_the_first_line_says_where_it_is(small: Emulator) -> None:
    assert small.url.startswith("https://localhost:")
    assert small.now_utc == START_UTC + timedelta(days=21)
    assert small.subscription_ids == (SUBSCRIPTION, OTHER_SUBSCRIPTION)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_told_and_leaves_nothing(tiny_folder: Path, number: int) -> None:
    with running(tiny_folder) as emulator:
        emulator.process.send_signal(number)
        assert emulator.process.wait(timeout=30) == 0
        assert not emulator.ca_file.exists()


def test_a_folder_that_cannot_be_played_gets_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "optimizer.emulator", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1
    assert "estate.json" in ended.stderr


def test_time_moves_and_the_bill_with_it(clock: Emulator) -> None:
    start, end = START_UTC, START_UTC + timedelta(days=9)
    assert clock.bill(start, end)["total"] == 0
    assert clock.advance(1.5) == START_UTC + timedelta(hours=25.5)
    assert clock.bill(start, end)["total"] == pytest.approx(1.5)
    clock.advance(24)
    by_resource = clock.bill(start, end)["by_resource"]
    assert by_resource == {f"{WORKSPACE_ID}/computes/gpu": pytest.approx(3.0)}


def test_the_date_header_is_the_virtual_now(sdk: Sdk) -> None:
    answer = sdk.costs().send_request(HttpRequest("GET", "/subscriptions?api-version=2022-12-01"))
    assert parsedate_to_datetime(answer.headers["Date"]) == sdk.emulator.now_utc
    assert len(answer.headers.get("Date").split(",")) == 2


def test_an_expired_token_is_refused(tiny: Emulator) -> None:
    with pytest.raises(ClientAuthenticationError, match="ExpiredAuthenticationToken"):
        list(Sdk(tiny, token="expired").monitor().metric_definitions.list(WORKSPACE_ID))  # noqa: S106


def test_a_forbidden_subscription_names_the_action(healed: Emulator) -> None:
    healed.fault(status=403, path_contains=f"/subscriptions/{SUBSCRIPTION}")
    status, error = healed.refusal("GET", COMPUTES)
    assert (status, error["code"]) == (403, "AuthorizationFailed")
    action = "'Microsoft.MachineLearningServices/workspaces/computes/read'"
    assert action in error["message"]


def test_a_fault_strikes_as_often_as_asked(healed: Emulator) -> None:
    healed.fault(status=429, path_contains="/computes", times=2, headers={"Retry-After": "1"})
    seen = [healed.refusal("GET", COMPUTES)[0] for _ in range(2)]
    assert seen == [429, 429]
    assert len(healed.call("GET", COMPUTES)["value"]) == 2


def test_a_fault_reaches_the_sdk(healed: Emulator) -> None:
    healed.fault(status=500, path_contains="Microsoft.Insights/metricDefinitions")
    with pytest.raises(HttpResponseError, match="InternalServerError"):
        list(Sdk(healed).monitor().metric_definitions.list(WORKSPACE_ID))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/emulator/advance", {"hours": -1}),
        ("POST", "/emulator/advance", {"days": 1}),
        ("GET", "/emulator/bill?from=2026-01-05T00:00:00Z", None),
        ("GET", "/emulator/bill?from=monday&to=tuesday", None),
        ("POST", "/emulator/faults", {"state": 500}),
    ],
)
def test_wrong_orders_are_refused(tiny: Emulator, method: str, path: str, body: object) -> None:
    assert tiny.refusal(method, path, body)[0] == 400


def test_requests_are_counted_by_api(clock: Emulator) -> None:
    before = clock.requests()
    clock.call("GET", COMPUTES)
    clock.refusal("GET", "/nowhere")
    after = clock.requests()
    assert after["by_api"]["arm"] - before["by_api"].get("arm", 0) == 1
    assert after["by_api"]["unknown"] == 1
    assert after["by_request"]["GET /nowhere"] == 1


def test_a_body_that_is_no_json_is_refused(tiny: Emulator) -> None:
    path = "/providers/Microsoft.ResourceGraph/resources?api-version=2021-03-01"
    status, error = tiny.refusal("POST", path, json.loads('"text"'))
    assert (status, error["code"]) == (400, "InvalidRequestContent")
