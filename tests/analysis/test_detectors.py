"""Runs every case of every detector; knows none by name, and demands what is missing."""

import tomllib
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.analysis.case import Assumptions, Case
from optimizer.analysis.detectors import load_detectors
from optimizer.analysis.instances import Habits
from optimizer.analysis.preemption import EvictionRate
from optimizer.analysis.serving import Demand
from optimizer.analysis.work import Runs
from optimizer.model import Kind
from tests.analysis.builders import (
    START,
    cluster,
    commitment,
    deployment,
    instance,
    judged,
    minutes_of,
    rates,
    use,
)

REQUEST = {
    "service_seconds": 0.1,
    "servers_per_instance": 1,
    "cpu_at_rest": 0.0,
    "cpu_per_request": 0.001,
}
"""A tenth of a second and a thousandth of the CPUs for one request a minute."""

CASES = Path(__file__).parents[1] / "cases"


def cases() -> list[Any]:
    return [
        pytest.param(detector, case, id=f"{detector.name}-{name}")
        for detector in load_detectors()
        for name, case in tomllib.loads((CASES / f"{detector.name}.toml").read_text()).items()
    ]


def build(detector: Any, case: dict[str, Any]) -> Case[Any]:
    days = case.get("days", 28)
    if "week" in case:
        minutes = [m for day in case["week"] for m in minutes_of(day)] * (days // 7)
    else:
        pattern = minutes_of(case.get("day_pattern") or case["day"])
        minutes = pattern * (1440 // len(pattern)) * days
    hung = case.get("hung", {"days": [], "minutes": 0})
    for day in hung["days"]:
        minutes[day * 1440 : day * 1440 + hung["minutes"]] = [1.0] * hung["minutes"]
    if "second_half_day" in case:
        minutes[days // 2 * 1440 :] = minutes_of(case["second_half_day"]) * (days // 2)
    if "first_day" in case:
        minutes[:1440] = minutes_of(case["first_day"])
    common: dict[str, Any] = (
        {"tags": case.get("tags", {})}
        | ({"sku": case["sku"]} if "sku" in case else {})
        | ({"rate": case["rate"]} if "rate" in case else {})
    )
    if "runs" in case:
        common["runs"] = daily_runs(days, case["runs"], hung)
    if "vm_priority" in case:
        common["vm_priority"] = case["vm_priority"]
    if "stopped_days_before" in case:
        common |= stopped(START + timedelta(days=days - case["stopped_days_before"]))
    built = build_alone(detector, case, minutes, common)
    if "evictions" in case:
        built = replace(built, evictions=EvictionRate(**case["evictions"]))
    if "use" in case or "offered" in case:
        offered = dict.fromkeys(case["offered"], True) if "offered" in case else None
        told: dict[str, Any] = {
            k: None if v == "none" else v for k, v in case.get("use", {}).items()
        }
        seen = use(**told) if told else None
        built = replace(built, use=seen, rates=rates(), offered=offered)
    return replace(built, standing_per_day=case.get("standing_per_day", 0.0))


def daily_runs(days: int, runs: dict[str, Any], hung: dict[str, Any]) -> Runs:
    """Runs that start at midnight, of one experiment; on some days they hang and then fail."""
    trials = runs.get("trials", 1)
    at = np.repeat(np.arange(0, days, runs.get("every_days", 1)), trials)
    bad = np.isin(at, hung["days"])
    count = at.size
    return Runs(
        start=at * 86_400,
        end=at * 86_400 + np.where(bad, hung["minutes"], runs["minutes"]) * 60,
        nodes=np.full(count, runs["nodes"]),
        experiment=np.full(count, "x"),
        kind=np.full(count, runs.get("kind", "command")),
        status=np.where(bad, hung.get("status", "Failed"), runs.get("status", "Completed")),
        limit_minutes=np.full(count, float(runs.get("limit_minutes", "nan"))),
        unended_sweep=at.astype(np.str_) if "trials" in runs else np.full(count, ""),
    )


def stopped(at: datetime) -> dict[str, Any]:
    last = {"operationName": "Stop", "operationTime": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
    return {"state": "Stopped", "arm": {"properties": {"properties": {"lastOperation": last}}}}


def build_alone(
    detector: Any, case: dict[str, Any], minutes: list[float], common: dict[str, Any]
) -> Any:
    if detector.kinds == (Kind.DEPLOYMENT,):
        if "created_days_before" in case:
            age = timedelta(days=len(minutes) // 1440 - case["created_days_before"])
            common["created_utc"] = START + age
        return deployment(
            minutes,
            demand=Demand(**REQUEST | case.get("demand", {})) if "demand" in case else None,
            settings=case.get("resource_settings", {}),
            **case.get("settings", {}),
            **common,
        )
    if Kind(case.get("kind", detector.kinds[0])) in {Kind.CLUSTER, Kind.POOL}:
        return cluster(minutes, **case.get("settings", {}), **common)
    return instance(
        minutes,
        idle_shutdown_minutes=case.get("idle_shutdown_minutes"),
        habits=Habits(**case["habits"]) if "habits" in case else None,
        settings=case.get("resource_settings", {}),
        **common,
    )


@pytest.mark.parametrize(("detector", "case"), cases())
def test_case(detector: Any, case: dict[str, Any]) -> None:
    bought = case.get("commitment")
    analysis = judged(
        commitment(days=case.get("days", 28), **bought) if bought else build(detector, case),
        assumptions=Assumptions(**case.get("assumptions", {})),
        paying=rates() if Kind.POOL in detector.kinds else None,
    )
    found = [finding for finding in analysis.findings if finding.detector == detector.name]
    expect = case["expect"]
    assert bool(found) == expect["fires"]
    if "reason" in expect:
        reasons = [n.reason for n in analysis.not_assessed if n.detector == detector.name]
        assert reasons == [expect["reason"]]
    for finding in found:
        assert finding.change.before == expect.get("before", finding.change.before)
        assert finding.change.after == expect.get("after", finding.change.after)
        assert expect.get("evidence", {}).items() <= dict(finding.evidence).items()
        assert expect.get("note", "") in "".join(finding.pillar_notes)
        if "saving_per_month" in expect:
            assert finding.saving_per_month is not None
            expected = pytest.approx(expect["saving_per_month"], rel=1e-4)
            assert finding.saving_per_month.p50 == expected


@pytest.mark.parametrize("detector", load_detectors(), ids=lambda d: d.name)
def test_cases_show_both_verdicts_and_too_little_seen(detector: Any) -> None:
    every = tomllib.loads((CASES / f"{detector.name}.toml").read_text())
    assert {case["expect"]["fires"] for case in every.values()} == {True, False}
    assert "too_little_seen" in every


def test_every_detector_says_where_its_advice_comes_from() -> None:
    for detector in load_detectors():
        assert detector.source.url.startswith("https://learn.microsoft.com/azure/")
        assert detector.source.title
        assert type(detector).__doc__
