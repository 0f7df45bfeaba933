"""What a deployment's policies cost and what its callers feel of them, worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from optimizer.analysis.deployments import DeploymentCase
from optimizer.analysis.features import _without_dips, deployment_features
from optimizer.analysis.queueing import mean_wait
from optimizer.analysis.serving import (
    Demand,
    autoscaled,
    fitted_cpu,
    serving,
    told,
    waiting_minutes,
    windows,
)
from optimizer.model import AutoscaleRules, DeploymentSettings, How, Kind, Resource
from optimizer.remediation.requirements import az_cli, permissions
from optimizer.store import tables
from optimizer.store.lake import Lake
from tests.analysis.builders import START, deployment, judged, minutes_of, resource
from tests.analysis.test_features import empty_frames

DEMAND = Demand(service_seconds=0.1, servers_per_instance=1, cpu_at_rest=0.0, cpu_per_request=0.001)


def asked(per_minute: float = 300, days: int = 14) -> DeploymentCase:
    return deployment(minutes_of([(per_minute, days * 1440)]), demand=DEMAND)


def test_a_count_that_was_lowered_already_saves_nothing_more() -> None:
    case = asked()
    was = np.where(np.arange(14 * 1440) < 7 * 1440, 8.0, 4.0)
    case = replace(case, features=replace(case.features, instances=was))
    saved = case.saving(DeploymentSettings(instances=2)).daily
    assert saved == pytest.approx(np.full(14, 48.0))
    assert case.as_was() == pytest.approx(np.repeat([192.0, 96.0], 7))


def test_minutes_whose_requests_were_not_told_save_nothing() -> None:
    case = deployment(minutes_of([(300, 1440), (-1, 1440)] * 7), demand=DEMAND)
    counts = case.instances_under(
        DeploymentSettings(autoscale=AutoscaleRules(least=1, most=4))
    ).reshape(14, 1440)
    assert set(counts[1::2].ravel()) == {4.0}
    assert counts[2].max() < 4


def test_one_server_at_a_half_waits_as_long_as_it_serves() -> None:
    # M/M/1 at ρ = ½ waits s; with ten times the servers hardly at all
    assert mean_wait(1, np.array([0.5]), 0.1)[0] == pytest.approx(0.1)
    case = asked()
    effects = case.effects(DeploymentSettings(instances=1), DeploymentSettings(instances=10))
    # 300 a minute × 43,800 minutes a month × 0.1 s
    assert effects.extra_waiting_minutes_per_month == pytest.approx(21_900, rel=1e-6)


def test_waiting_without_end_is_not_a_number() -> None:
    case = asked(700)
    effects = case.effects(DeploymentSettings(instances=1), case.settings)
    assert effects.extra_waiting_minutes_per_month is None


def test_cpu_of_a_request_is_learnt_although_instances_come_and_go(lake: Lake) -> None:
    # One instance by night, three by day; 10 % at rest and 0.1 % for each request a minute.
    hours = np.arange(24)
    instances, per_minute = np.where(hours < 12, 1, 3), np.where(hours < 12, 100.0, 900.0)
    busy = 0.1 + 0.001 * per_minute / instances
    minutes = int(instances.sum() * 60)
    sums = np.rint(busy * 1000 * instances * 60).astype(int).tolist()
    frames = empty_frames(lake)
    days = [START + np.timedelta64(day, "D").item() for day in range(14)]
    days_frame = lake.read(tables.NODE_DAYS).reindex(range(14))
    days_frame["resource_id"] = "/d"
    days_frame["day"] = days
    days_frame["cpu_minutes"] = minutes
    days_frame["cpu_hour_sums"] = [sums] * 14
    every = np.arange(14 * 1440)
    rows = lake.read(tables.REQUESTS).reindex(every)
    rows["resource_id"] = "/d"
    rows["minute_utc"] = [START + np.timedelta64(minute, "m").item() for minute in every.tolist()]
    rows["requests_per_minute"] = np.tile(np.repeat(per_minute, 60), 14)
    rows["latency_p95_ms"] = 100.0
    rows["instances"] = np.tile(np.repeat(instances, 60), 14)
    seen = deployment_features(
        replace(frames, node_days=days_frame, requests=rows), managed("/d"), []
    )
    assert seen is not None
    assert seen.demand is not None
    assert seen.demand.cpu_at_rest == pytest.approx(0.1, rel=1e-3)
    assert seen.demand.cpu_per_request == pytest.approx(0.001, rel=1e-3)


@pytest.fixture
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake(tmp_path_factory.mktemp("lake"))


def managed(resource_id: str) -> Resource:
    return resource(Kind.DEPLOYMENT, resource_id=resource_id, settings={"managed": True})


def test_a_capacity_is_a_patch_of_the_deployment() -> None:
    analysis = judged(deployment(minutes_of([(30, 28 * 1440)]), demand=DEMAND))
    change = next(f for f in analysis.findings if f.detector == "oversized_deployment").change
    assert (change.setting, change.before, change.after, change.how) == (
        "sku.capacity",
        4,
        1,
        How.PATCH,
    )
    arm_id = "/subscriptions/s/resourceGroups/rg/providers/p/workspaces/w/onlineEndpoints/e/d/blue"
    document = {"id": arm_id, "sku": {"name": "Default", "capacity": 4}, "properties": {}}
    assert '{"sku": {"name": "Default", "capacity": 1}}' in az_cli(document, change)
    kind = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments"
    assert permissions(How.PATCH, arm_id) == (f"{kind}/read", f"{kind}/write")


def test_after_a_step_an_hour_passes_before_the_next() -> None:
    # The first minute already tells that nothing is asked.
    counts = autoscaled(np.zeros(130), DEMAND, AutoscaleRules(least=1, most=4))
    assert counts.tolist() == [4.0] + [3.0] * 60 + [2.0] * 60 + [1.0] * 9


def test_a_rule_sees_the_mean_of_the_five_minutes_before() -> None:
    # One request a minute takes 0.1 % of an instance's CPU.
    demand = replace(DEMAND, cpu_at_rest=0.0, cpu_per_request=0.001)
    rules = AutoscaleRules(least=1, most=2)
    asked = np.array([500.0] * 10 + [900.0] * 10)
    # 25 % of two are 50 % of one: two become one at once. The mean reaches 70 % two and a half
    # minutes into the rise, so the third minute of it is the first that ends above.
    assert autoscaled(asked, demand, rules).tolist() == [2.0] + [1.0] * 19
    quick = replace(rules, in_cooldown_minutes=5)
    assert autoscaled(asked, demand, quick).tolist() == [2.0] + [1.0] * 12 + [2.0] * 7


def test_a_step_in_that_would_lead_straight_out_again_is_not_taken() -> None:
    # At 25 % on three each, two would be at 37.5 % and one at 75 %.
    demand = replace(DEMAND, cpu_at_rest=0.05, cpu_per_request=0.001)
    asked = np.full(200, 600.0)
    assert set(autoscaled(asked, demand, AutoscaleRules(least=1, most=3, in_by=2))) == {3.0}
    # 35 % on two is not below 30 %.
    assert (
        autoscaled(asked, demand, AutoscaleRules(least=1, most=3)).tolist() == [3.0] + [2.0] * 199
    )


def test_a_minute_that_was_not_told_moves_nothing() -> None:
    asked = np.full(30, np.nan)
    assert set(autoscaled(asked, DEMAND, AutoscaleRules(least=1, most=4))) == {4.0}


def test_an_instance_that_is_added_serves_five_minutes_later() -> None:
    counts = np.array([1.0] * 3 + [2.0] * 9 + [1.0] * 2)
    assert serving(counts).tolist() == [1.0] * 8 + [2.0] * 4 + [1.0] * 2


def test_all_requests_wait_what_each_minute_makes_them_wait() -> None:
    # Two places, one second each: at a load of 1 a third of requests wait a second: 60 × ⅓ s. In
    # the quiet minutes between nobody does; the mean of both would be 30 × 1/15 s in each.
    demand = Demand(
        service_seconds=1.0, servers_per_instance=2, cpu_at_rest=None, cpu_per_request=None
    )
    asked = np.array([60.0, 0.0] * 5)
    assert waiting_minutes(asked, np.ones(10), demand) == pytest.approx(5 * 60 / 3 / 60)
    assert waiting_minutes(asked * 3, np.ones(10), demand) == np.inf


def test_a_day_of_hours_tells_what_a_request_takes() -> None:
    asked = np.arange(24.0)
    assert fitted_cpu(0.1 + 0.01 * asked, asked) == pytest.approx((0.1, 0.01))
    assert fitted_cpu(0.1 + 0.01 * asked[:23], asked[:23]) is None


def test_hours_that_are_alike_put_all_cpu_down_to_requests() -> None:
    # 30 % at 20 a minute: at 40 it is 60 % at most, whatever of it is rest.
    assert fitted_cpu(np.full(24, 0.3), np.full(24, 20.0)) == pytest.approx((0.0, 0.015))
    assert fitted_cpu(np.full(24, 0.3), np.zeros(24)) is None


def test_an_instance_whose_sample_got_lost_did_not_go() -> None:
    counts = np.array([4.0] * 9 + [3.0] * 5 + [4.0] * 9 + [2.0] * 6 + [4.0] * 9)
    filled = _without_dips(counts)
    assert set(filled[:23]) == {4.0}
    assert filled[23:].tolist() == [2.0] * 6 + [4.0] * 9
    # A step is no dip, whichever way it goes.
    steps = np.repeat([1.0, 3.0, 2.0], 20)
    assert _without_dips(steps).tolist() == steps.tolist()


def test_five_minutes_of_which_nothing_was_told_are_left_out() -> None:
    per_minute = np.array([60.0] * 4 + [np.nan] + [np.nan] * 5 + [0.0] * 5)
    assert windows(per_minute).tolist() == pytest.approx([60, np.nan, 0], nan_ok=True)
    assert told(per_minute).tolist() == [60.0, 0.0]
