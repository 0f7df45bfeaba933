import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from optimizer.errors import PlanError
from optimizer.model import Change, Effort, How
from optimizer.remediation.plan import dump, load
from optimizer.scenarios import LeftOut
from tests.changes import (
    FORGOTTEN,
    IDLE_SHUTDOWN,
    IDLE_TIME,
    KEPT,
    MIN_NODES,
    NOW_UTC,
    SLOW,
    THREE,
    estimate,
    finding,
    plan_of,
)
from tests.estates import SUBSCRIPTION


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    dump(plan_of(), path)
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def refusal(path: Path) -> str:
    with pytest.raises(PlanError) as refused:
        load(path)
    return str(refused.value)


def test_a_plan_has_the_keys_of_the_contract(plan_file: Path) -> None:
    document = json.loads(plan_file.read_text())
    assert list(document) == [
        *("schema", "id", "made_at_utc", "scenario", "window", "currency", "estate"),
        *("steps", "advice", "totals", "not_included", "digest"),
    ]
    assert document["schema"] == 1
    assert document["made_at_utc"] == "2026-01-26T00:00:00Z"
    assert document["window"] == {
        "start_utc": "2026-01-05T00:00:00Z",
        "end_utc": "2026-01-26T00:00:00Z",
    }
    assert document["estate"] == [SUBSCRIPTION]


def test_a_step_has_the_keys_of_the_contract(plan_file: Path) -> None:
    step = json.loads(plan_file.read_text())["steps"][1]
    del step["id"], step["az_cli"]
    assert step == {
        "finding_ids": ["cpu-slow-nodeIdleTimeBeforeScaleDown"],
        "detector": "slow_scale_down",
        "title": "Change cpu-slow",
        "resource_id": SLOW["id"].lower(),
        "setting": IDLE_TIME,
        "before": "PT2H",
        "after": "PT10M",
        "how": "patch",
        "put": {},
        "part_of": None,
        "needs": [],
        "requires": [
            "Microsoft.MachineLearningServices/workspaces/computes/read",
            "Microsoft.MachineLearningServices/workspaces/computes/write",
        ],
        "reversible": True,
        "destructive": False,
        "note": "",
        "saving_per_month": {"p10": 90.0, "p50": 100.0, "p90": 110.0},
        "effects": {
            "extra_waiting_minutes_per_month": 0.0,
            "extra_restarts_per_month": 0.0,
            "runtime_stretch": None,
        },
        "pillar_notes": [],
    }


def test_what_is_not_set_is_planned_from_null() -> None:
    step = plan_of().steps[2]
    assert (step.before, step.after, step.how) == (None, "PT60M", How.ACTION)
    assert step.requires[1].endswith("/updateIdleShutdownSetting/action")
    assert step.note.startswith("Azure documents no way to unset this again: ")


def test_a_plan_reads_back_as_it_was_written(plan_file: Path) -> None:
    assert load(plan_file) == plan_of()


def test_the_same_changes_have_the_same_id_whenever_they_are_planned() -> None:
    today, tomorrow = plan_of(), plan_of(made_at_utc=NOW_UTC + timedelta(days=1))
    assert today.id == tomorrow.id
    assert today.digest != tomorrow.digest
    assert plan_of(THREE[:2]).id != today.id


def test_findings_that_agree_on_a_setting_make_one_step() -> None:
    again = finding(KEPT, MIN_NODES, 0, id="second")
    (step, _, _) = plan_of((*THREE, again)).steps
    assert step.finding_ids == ("gpu-kept-minNodeCount", "second")
    assert step.saving_per_month.p50 == 200


def test_findings_that_disagree_on_a_setting_are_refused() -> None:
    other = finding(KEPT, MIN_NODES, 1, id="other")
    with pytest.raises(PlanError) as refused:
        plan_of((*THREE, other))
    assert str(refused.value) == (
        "The findings gpu-kept-minNodeCount and other want different values of "
        f"{MIN_NODES}: choose one of them."
    )


def test_steps_add_up_to_the_total() -> None:
    plan = plan_of()
    assert sum(step.saving_per_month.p50 for step in plan.steps) == 300
    assert plan.totals.saving_per_month.p50 == 300
    assert plan.totals.steps == 3


def test_what_only_people_can_do_is_advice() -> None:
    change = Change(
        resource_id=KEPT["id"].lower(), setting="sku", before="a", after="b", how=How.RECREATE
    )
    resize = finding(KEPT, MIN_NODES, 0, id="resize", change=change, effort=Effort.RECREATE)
    plan = plan_of((*THREE, resize))
    assert len(plan.steps) == 3
    assert [(a.finding_id, a.how, a.saving_per_month) for a in plan.advice] == [
        ("resize", How.RECREATE, estimate(100))
    ]


def test_what_was_left_out_says_why() -> None:
    plan = plan_of(THREE[:1], left_out=[LeftOut(finding=THREE[1], why="The risk is high.")])
    (left,) = plan.not_included
    assert (left.finding, left.why) == (THREE[1].id, "The risk is high.")
    assert left.would_add_per_month is None


def test_what_was_left_out_says_what_it_would_add_or_why_nobody_can_say() -> None:
    plan = plan_of(
        THREE[:1],
        left_out=[
            LeftOut(finding=THREE[1], why="not chosen", would_add_per_month=estimate(70)),
            LeftOut(finding=THREE[2], why="not chosen", no_figure="no price is known"),
        ],
    )
    first, second = plan.document()["not_included"]
    assert first["would_add_per_month"] == {"p10": 60.0, "p50": 70.0, "p90": 80.0}
    assert (second["would_add_per_month"], second["would_add_note"]) == (None, "no price is known")


def test_a_resource_that_is_gone_cannot_be_planned() -> None:
    with pytest.raises(PlanError) as refused:
        plan_of(documents=[KEPT, SLOW])
    assert str(refused.value) == (
        f"{FORGOTTEN['id'].lower()} was not there when last collected: "
        "run `optimizer collect` and plan again."
    )


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    assert refusal(path) == (
        f"There is no plan at {path}: make one with `optimizer plan --out {path}`."
    )


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe\x00", b""])
def test_a_file_that_is_no_plan_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    assert refusal(path) == f"{path} is not a plan: make a new plan with `optimizer plan`."


def test_another_schema_is_one_sentence(plan_file: Path) -> None:
    edit(plan_file, lambda plan: plan.update(schema=2))
    assert refusal(plan_file) == (
        f"{plan_file} has plan schema 2 and this optimizer reads 1: "
        "make a new plan with `optimizer plan`."
    )


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda plan: plan["steps"][0].pop("after"), "lacks the field steps.0.after"),
        (lambda plan: plan.pop("schema"), "lacks the field schema"),
        (lambda plan: plan.update(force=True), "holds an unknown field force"),
        (
            lambda plan: plan["steps"][0].update(reversible=[]),
            "has a field steps.0.reversible that cannot be used (input should be a valid boolean)",
        ),
    ],
)
def test_a_field_that_does_not_fit_is_named(
    plan_file: Path, change: Callable[[dict[str, Any]], None], fault: str
) -> None:
    edit(plan_file, change)
    assert refusal(plan_file) == f"{plan_file} {fault}: make a new plan with `optimizer plan`."


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan["steps"][0].update(after=1),
        lambda plan: plan["steps"].pop(),
        lambda plan: plan.update(digest="0" * 64),
        lambda plan: plan["totals"]["saving_per_month"].update(p50=1e6),
    ],
)
def test_a_plan_edited_by_hand_is_one_sentence(
    plan_file: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    edit(plan_file, change)
    assert refusal(plan_file) == (
        f"{plan_file} was edited by hand after it was made: make a new plan with `optimizer plan`."
    )


def test_laying_a_plan_out_otherwise_is_no_edit(plan_file: Path) -> None:
    edit(plan_file, lambda _: None)
    assert load(plan_file) == plan_of()


def test_a_plan_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "plan.json"
    with pytest.raises(PlanError, match=f"^{re.escape(f'The plan cannot be written to {path}: ')}"):
        dump(plan_of(), path)


def test_by_hand_a_cluster_is_updated_option_by_option() -> None:
    here = f"--subscription {SUBSCRIPTION} --resource-group rg-ml --workspace-name ws-vision"
    kept, slow, _ = (step.az_cli for step in plan_of().steps)
    assert kept == f"az ml compute update {here} --name gpu-kept --min-instances 0"
    assert slow == (
        f"az ml compute update {here} --name cpu-slow --idle-time-before-scale-down 600"
    )


def test_by_hand_an_instance_is_set_by_the_action() -> None:
    assert plan_of().steps[2].az_cli == (
        f"az rest --method post --url '{FORGOTTEN['id']}/updateIdleShutdownSetting"
        '?api-version=2025-01-01-preview\' --body \'{"idleTimeBeforeShutdown": "PT60M"}\''
    )


def test_by_hand_a_cluster_in_a_network_is_patched_whole_each_command_on_the_last() -> None:
    network = {**KEPT, "properties": {**KEPT["properties"]}}
    network["properties"]["properties"] = {
        **KEPT["properties"]["properties"],
        "subnet": {"id": "/subscriptions/1/subnets/training"},
    }
    findings = (finding(network, MIN_NODES, 0), finding(network, IDLE_TIME, "PT5M"))
    first, second = plan_of(findings, documents=[network]).steps
    assert first.az_cli.startswith("az rest --method patch --url ")
    assert first.before == 2
    assert json.loads(second.az_cli.split("--body ")[1].strip("'")) == {
        "properties": {
            "properties": {
                "scaleSettings": {
                    "minNodeCount": 0,
                    "maxNodeCount": 6,
                    "nodeIdleTimeBeforeScaleDown": "PT5M",
                }
            }
        }
    }


def test_the_setting_of_an_instance_is_where_azure_has_it() -> None:
    assert FORGOTTEN["properties"]["properties"]["idleTimeBeforeShutdown"] is None
    assert plan_of().steps[2].setting == IDLE_SHUTDOWN
