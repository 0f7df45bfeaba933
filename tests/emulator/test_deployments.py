"""Deployments: their instances, what autoscale makes of them, and how long a request takes."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.emulator.estate import load_estate
from optimizer.emulator.serving import erlang_c, latency_ms
from optimizer.emulator.telemetry import Minutes, measured
from optimizer.emulator.telemetry_deployments import deployment_metrics
from optimizer.emulator.world import CreateOnlyError, World, WriteError
from optimizer.errors import EstateError
from tests.estates import (
    GPU_SKU,
    START_UTC,
    Arm,
    autoscale,
    deployment,
    endpoint,
    requests,
    scale_profile,
    scale_rule,
    workspace,
    write_estate,
)

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
START_S = int(START_UTC.timestamp())
WS = workspace("ws")
EP = endpoint(WS)
AT_ONCE = {"deployment_start_seconds": 0, "deployment_cpu_at_rest": 0.0}

OUT = scale_rule("GreaterThan", 70, "Increase", by=2)
IN = scale_rule("LessThan", 30, "Decrease", cooldown="PT1H")


def world(folder: Path, *resources: Arm, physics: Arm | None = None, **files: Any) -> World:
    written = write_estate(
        folder,
        resources=[WS, EP, *resources],
        physics=AT_ONCE | (physics or {}),
        **files,
    )
    return World(load_estate(written))


def instances(of: World, which: Arm, hours: Sequence[float]) -> list[int]:
    minutes = [START_S // 60 + round(hour * 60) for hour in hours]
    seen = of.deployment_minutes(which["id"], START_S // 60, max(minutes) + 1)
    return [int(seen.instances[minute - START_S // 60]) for minute in minutes]


def metric(of: World, which: Arm, name: str, first: float, hours: float) -> list[dict[str, Any]]:
    start = START_S // 60 + round(first * 60)
    window = Minutes(start, start + round(hours * 60))
    found = measured(deployment_metrics()[name.lower()], of, which["id"], window, None)
    return [
        {**found.labels[series], "minute": minute - start, "mean": mean}
        for series, minute, mean in zip(
            found.series.tolist(), found.minute.tolist(), found.mean.tolist(), strict=True
        )
    ]


def cost_of(of: World, which: Arm) -> float:
    bill = of.bill(START_S, START_S + 1000 * 86_400)
    return float(bill["by_resource"][which["id"]])


def test_every_instance_is_paid_for_by_the_hour(tmp_path: Path) -> None:
    blue = deployment(EP, instances=3)
    change = {"at_utc": START_UTC + 12 * HOUR, "resource_id": blue["id"], "path": "sku.capacity"}
    played = world(tmp_path, blue, changes=[change | {"value": 1}], days=1)
    assert instances(played, blue, [0, 11.9, 12, 23]) == [3, 3, 1, 1]
    assert cost_of(played, blue) == pytest.approx((3 * 12 + 12) * 0.25)


def test_kubernetes_deployments_cost_nothing_here(tmp_path: Path) -> None:
    theirs = deployment(EP, "theirs", sku="defaultInstanceType")
    theirs["properties"]["endpointComputeType"] = "Kubernetes"
    played = world(tmp_path, theirs, days=1)
    assert played.charges(START_S, START_S + 86_400) == []
    assert played.document(theirs["id"]) is not None


# -- load ----------------------------------------------------------------------------------------


def test_load_is_spread_over_the_places_of_all_instances(tmp_path: Path) -> None:
    blue = deployment(EP, instances=2, concurrency=4)
    # 240 a minute of 500 ms keep two of the eight places busy.
    asked = requests(blue, START_UTC, 60, 240, service_ms=500)
    played = world(tmp_path, blue, requests=asked, days=1)
    busy = metric(played, blue, "CpuUtilizationPercentage", 0, 1)
    assert {each["instanceId"] for each in busy} == {"blue-0", "blue-1"}
    assert np.mean([each["mean"] for each in busy]) == pytest.approx(25, rel=0.02)
    assert {each["mean"] for each in metric(played, blue, "CpuUtilizationPercentage", 1, 1)} == {0}


def test_a_cpu_deployment_has_no_gpu_metric(tmp_path: Path) -> None:
    blue, green = deployment(EP), deployment(EP, "green", sku=GPU_SKU)
    played = world(tmp_path, blue, green, days=1)
    assert metric(played, blue, "GpuUtilizationPercentage", 0, 1) == []
    assert len(metric(played, green, "GpuUtilizationPercentage", 0, 1)) == 60


@pytest.mark.parametrize(("told", "minutes"), [(True, 60), (False, 10)])
def test_a_minute_without_requests_may_be_told_or_not(
    tmp_path: Path, *, told: bool, minutes: int
) -> None:
    blue = deployment(EP)
    asked = requests(blue, START_UTC, 10, 6)
    played = world(tmp_path, blue, requests=asked, days=1, telemetry={"zero_requests": told})
    assert len(metric(played, blue, "RequestsPerMinute", 0, 1)) == minutes
    assert len(metric(played, blue, "RequestLatency_P95", 0, 1)) == 10


def test_latency_is_service_and_waiting() -> None:
    # Two of three places busy: Erlang's C is 4/9, and P95 of the wait is ln(C/0.05)·s/(c − a).
    load, service, servers = np.array([2.0]), np.array([100.0]), np.array([3])
    assert erlang_c(load, servers)[0] == pytest.approx(4 / 9)
    expected = 100 + np.log(4 / 9 / 0.05) * 100
    assert latency_ms(0.95, load, service, servers, 5500)[0] == pytest.approx(expected)
    assert latency_ms(0.5, load, service, servers, 5500)[0] == 100  # more than half do not wait
    assert latency_ms(0.95, 2 * load, service, servers, 5500)[0] == 5500  # overload: given up
    assert np.isnan(latency_ms(0.95, 0 * load, service, servers, 5500)[0])


def test_the_waiting_probability_is_that_of_a_simulated_queue() -> None:
    random = np.random.default_rng(5)
    arrivals = np.cumsum(random.exponential(1 / 2.4, 200_000))
    free = np.zeros(3)
    waited = 0
    for at, takes in zip(arrivals, random.exponential(1.0, len(arrivals)), strict=True):
        first = free.argmin()
        waited += free[first] > at
        free[first] = max(free[first], at) + takes
    erlang = erlang_c(np.array([2.4]), np.array([3]))[0]
    assert waited / len(arrivals) == pytest.approx(erlang, rel=0.02)


# -- autoscale -----------------------------------------------------------------------------------


def test_load_brings_instances_and_calm_takes_them_away(tmp_path: Path) -> None:
    blue = deployment(EP)
    # One place an instance: 1.8 places busy from 1:00 to 2:00.
    asked = requests(blue, START_UTC + HOUR, 60, 216, service_ms=500)
    played = world(tmp_path, blue, autoscale(blue, OUT, IN), requests=asked, days=1)
    assert instances(played, blue, [0.9, 1.2, 1.9]) == [1, 3, 3]
    assert instances(played, blue, [2.5, 3.6, 23]) == [2, 1, 1]
    shown = played.document(blue["id"])
    assert shown is not None
    assert shown["sku"]["capacity"] == 1


def test_scaling_in_stops_before_it_would_scale_out_again(tmp_path: Path) -> None:
    blue = deployment(EP, instances=4)
    eager = scale_rule("LessThan", 60, "Decrease")  # 50 % on 4 would be 66 % on 3, 100 % on 2
    asked = requests(blue, START_UTC, 24 * 60, 240, service_ms=500)
    played = world(tmp_path, blue, autoscale(blue, OUT, eager), requests=asked, days=1)
    assert instances(played, blue, [0, 23]) == [4, 3]


def test_a_rule_with_its_direction_inverted_ends_at_the_maximum(tmp_path: Path) -> None:
    blue = deployment(EP)
    inverted = scale_rule("LessThan", 30, "Increase")
    played = world(tmp_path, blue, autoscale(blue, OUT, inverted, maximum=5), days=1)
    assert instances(played, blue, [0, 23]) == [1, 5]


def test_limits_hold_whatever_the_rules_say(tmp_path: Path) -> None:
    blue = deployment(EP, instances=9)
    played = world(tmp_path, blue, autoscale(blue, minimum=2, maximum=4), days=1)
    assert instances(played, blue, [0.5, 23]) == [4, 4]


def test_a_recurring_profile_lasts_until_the_next_one(tmp_path: Path) -> None:
    blue = deployment(EP)
    week = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]

    def at(hour: int) -> Arm:
        times = {
            "timeZone": "W. Europe Standard Time",
            "days": week,
            "hours": [hour],
            "minutes": [0],
        }
        return {"recurrence": {"frequency": "Week", "schedule": times}}

    profiles = [scale_profile("day", 3, 3, **at(8)), scale_profile("night", 1, 1, **at(18))]
    played = world(tmp_path, blue, autoscale(blue, more=profiles), days=7)
    # It is winter: 08:00 in Berlin is 07:00 UTC. At first the night of last Friday still holds.
    assert instances(played, blue, [6, 7.5, 16, 17.5]) == [1, 3, 3, 1]
    assert instances(played, blue, [5 * 24 + 12]) == [1]  # Saturday


def test_a_fixed_date_beats_the_rest(tmp_path: Path) -> None:
    blue = deployment(EP)
    sale = {"timeZone": "UTC", "start": "2026-01-05T10:00:00", "end": "2026-01-05T12:00:00"}
    more = [scale_profile("sale", 4, 4, fixedDate=sale)]
    played = world(tmp_path, blue, autoscale(blue, IN, more=more), days=1)
    assert instances(played, blue, [9.9, 11, 20]) == [1, 4, 1]


def test_a_new_instance_is_paid_before_it_serves(tmp_path: Path) -> None:
    blue = deployment(EP)
    asked = requests(blue, START_UTC, 24 * 60, 108, service_ms=500)  # 0.9 places
    played = world(
        tmp_path,
        blue,
        autoscale(blue, OUT),
        requests=asked,
        days=1,
        physics={"deployment_start_seconds": 600},
    )
    seen = played.deployment_minutes(blue["id"], START_S // 60, START_S // 60 + 60)
    grown = int(np.argmax(seen.instances == 3))
    assert seen.ready[grown : grown + 10].tolist() == [1] * 10
    assert seen.ready[grown + 10] == 3


def test_a_setting_that_is_switched_off_leaves_things_as_they_are(tmp_path: Path) -> None:
    blue = deployment(EP)
    setting = autoscale(blue, minimum=3, maximum=5)
    off = {"resource_id": setting["id"], "path": "properties.enabled", "value": "false"}
    changes = [
        off | {"at_utc": START_UTC + HOUR},
        {
            "at_utc": START_UTC + 2 * HOUR,
            "resource_id": blue["id"],
            "path": "sku.capacity",
            "value": 1,
        },
    ]
    played = world(tmp_path, blue, setting, changes=changes, days=1)
    assert instances(played, blue, [0.5, 1.5, 2.5]) == [3, 3, 1]


def test_playing_in_pieces_is_playing_at_once(tmp_path: Path) -> None:
    blue = deployment(EP)
    asked = [
        row
        for hour in range(0, 48, 3)
        for row in requests(blue, START_UTC + hour * HOUR, 50, 200, service_ms=500)
    ]
    files: dict[str, Any] = {"requests": asked}
    whole = world(tmp_path / "whole", blue, autoscale(blue, OUT, IN), days=2, **files)
    pieces = world(tmp_path / "pieces", blue, autoscale(blue, OUT, IN), days=0, **files)
    for _ in range(16):
        pieces.advance(3)
    assert cost_of(whole, blue) == pytest.approx(cost_of(pieces, blue))
    assert cost_of(whole, blue) > 48 * 0.25


@pytest.mark.parametrize("seed", range(6))
def test_looking_where_something_may_happen_is_looking_every_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    random = np.random.default_rng(seed)
    blue = deployment(EP, concurrency=int(random.integers(1, 4)))
    rules = (
        scale_rule("GreaterThan", 60, "Increase", by=int(random.integers(1, 4)), minutes=3),
        scale_rule("LessThan", 40, "Decrease", minutes=int(random.integers(5, 30))),
        scale_rule("GreaterThan", 900, "Increase", metric="RequestLatency_P95", cooldown="PT20M"),
    )
    asked = [
        row
        for hour in np.sort(random.choice(72, 30, replace=False)).tolist()
        for row in requests(
            blue,
            START_UTC + hour * HOUR,
            int(random.integers(5, 60)),
            float(random.integers(30, 900)),
            service_ms=400,
        )
    ]
    physics = {"deployment_start_seconds": int(random.choice([0, 90, 300]))}
    files: dict[str, Any] = {"requests": asked, "days": 3, "physics": physics}
    quick = world(tmp_path / "quick", blue, autoscale(blue, *rules), **files)
    monkeypatch.setattr(
        "optimizer.emulator.deployments.may_decide",
        lambda _profile, _instances, _history, length: np.ones(length, dtype=np.bool_),
    )
    slow = world(tmp_path / "slow", blue, autoscale(blue, *rules), **files)
    first, last = START_S // 60, START_S // 60 + 3 * 1440
    seen, expected = (each.deployment_minutes(blue["id"], first, last) for each in (quick, slow))
    assert seen.instances.tolist() == expected.instances.tolist()
    assert seen.ready.tolist() == expected.ready.tolist()
    assert len(set(seen.instances.tolist())) > 2


# -- writes and refusals -------------------------------------------------------------------------


def test_a_deployment_is_made_changed_and_unmade(tmp_path: Path) -> None:
    blue = deployment(EP, instances=2)
    played = world(tmp_path, days=1)
    played.put_deployment(blue["id"], blue)
    played.advance(2)
    played.put_deployment(blue["id"], blue | {"sku": {"name": "Default", "capacity": 5}})
    played.advance(1)
    played.delete_compute(blue["id"])
    played.advance(9)
    assert cost_of(played, blue) == pytest.approx((2 * 2 + 5) * 0.25)
    assert played.document(blue["id"]) is None


def test_the_size_of_a_deployment_is_fixed(tmp_path: Path) -> None:
    blue = deployment(EP)
    played = world(tmp_path, blue, days=1)
    with pytest.raises(CreateOnlyError, match="make a new deployment"):
        played.put_deployment(blue["id"], deployment(EP, sku=GPU_SKU))


def test_a_setting_that_cannot_be_played_changes_nothing(tmp_path: Path) -> None:
    blue = deployment(EP)
    setting = autoscale(blue, minimum=2)
    played = world(tmp_path, blue, setting, days=1)
    wrong = autoscale(blue, scale_rule("Above", 70, "Increase"))
    with pytest.raises(WriteError, match="operator"):
        played.put_autoscale(setting["id"], wrong)
    assert played.document(setting["id"]) == setting


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda each: each["properties"].pop("profiles"), "has no profiles"),
        (lambda each: each["properties"].update(targetResourceUri="/x"), "not listed"),
        (
            lambda each: each["properties"]["profiles"][0]["capacity"].update(default="9"),
            "outside of 1 to 5",
        ),
    ],
)
def test_an_estate_says_which_setting_it_cannot_play(
    tmp_path: Path, change: Any, says: str
) -> None:
    blue = deployment(EP)
    setting = autoscale(blue)
    change(setting)
    with pytest.raises(EstateError, match=says):
        world(tmp_path, blue, setting, days=1)


def test_requests_go_to_managed_deployments_only(tmp_path: Path) -> None:
    with pytest.raises(EstateError, match="requests on managed deployments"):
        world(tmp_path, requests=requests(EP, START_UTC, 1, 1), days=1)
