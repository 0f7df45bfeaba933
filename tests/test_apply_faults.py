"""What goes wrong in Azure, all at once: nothing is done that the plan does not say, and all told.

The estate has more clusters than the plan changes. What every step ended as is held against the
emulator's documents, one by one, whatever the order in which things went wrong.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from optimizer import cli
from optimizer.azure.access import Access
from optimizer.azure.arm import Arm
from optimizer.config import AzureSettings, load_settings
from optimizer.errors import LedgerError, OptimizerError
from optimizer.model import Json
from optimizer.remediation.apply import MAX_FAILURES
from optimizer.remediation.documents import same, value_at
from optimizer.remediation.history import applied_changes, records, runs
from optimizer.remediation.outcomes import Run, Status
from optimizer.remediation.plan import Plan, dump
from tests.changes import (
    IDLE_TIME,
    MIN_NODES,
    VISION,
    apply_here,
    finding,
    new_ledger,
    plan_of,
)
from tests.conftest import ROOT, Emulator, running
from tests.estates import Arm as Document
from tests.estates import cluster, write_estate
from tests.refusals import REFUSED

CLUSTERS = tuple(cluster(VISION, f"gpu-{n:02}", minimum=2, idle="PT2H") for n in range(12))
OTHERS = tuple(cluster(VISION, f"other-{n}", minimum=1) for n in range(3))
PLAN = plan_of(
    [
        one
        for of in CLUSTERS
        for one in (finding(of, MIN_NODES, 0), finding(of, IDLE_TIME, "PT10M"))
    ],
    documents=CLUSTERS,
)
VALUES: dict[str, tuple[Json, Json, Json]] = {
    MIN_NODES: (2, 0, 1),
    IDLE_TIME: ("PT2H", "PT10M", "PT30M"),
}
"""Of each setting: before, after, and what somebody else makes of it."""


class Hurried:
    """No real time passes while an operation is waited for."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with running(
        write_estate(tmp_path / "estate", resources=[VISION, *CLUSTERS, *OTHERS], days=1)
    ) as emulator:
        yield emulator


@pytest.fixture
def arm(emulator: Emulator) -> Arm:
    return Arm(Access(settings(emulator), Hurried()))


def settings(emulator: Emulator) -> AzureSettings:
    return AzureSettings(
        endpoint=emulator.url, ca_file=emulator.ca_file, credential="emulator", operation_minutes=1
    )


def go(arm: Arm, folder: Path, plan: Plan = PLAN) -> Run:
    return apply_here(
        plan, arm, new_ledger(folder), known=CLUSTERS, max_steps=len(plan.steps), parallel=4
    )


def drift(arm: Arm, of: Document) -> None:
    """Change a cluster as somebody else would, between the plan and its application."""
    scale = dict(arm.get(of["id"])["properties"]["properties"]["scaleSettings"])
    scale |= {name.rpartition(".")[2]: theirs for name, (_, _, theirs) in VALUES.items()}
    arm.patch(of["id"], {"properties": {"properties": {"scaleSettings": scale}}})


def check_truth(run: Run, arm: Arm, folder: Path, *, drifted: set[str]) -> None:
    """Hold what is told against Azure's documents, status by status and what is not of the plan."""
    documents = {of["id"].lower(): arm.settled(of["id"]) for of in (*CLUSTERS, *OTHERS)}
    told = {outcome.step_id: outcome for outcome in run.outcomes}
    assert told.keys() == {step.id for step in PLAN.steps}
    for step in PLAN.steps:
        before, after, theirs = VALUES[step.setting]
        now = value_at(documents[step.resource_id], step.setting)
        ours = theirs if step.resource_id in drifted else before
        wanted: Json = after if told[step.id].status is Status.DONE else ours
        assert same(now, wanted), (step.resource_id, step.setting, now, told[step.id])
        assert told[step.id].status is not Status.UNCHANGED
        assert told[step.id].detail or told[step.id].status is Status.DONE
        if step.resource_id in drifted:
            assert told[step.id].status in {Status.DRIFTED, Status.SKIPPED, Status.FAILED}
    for of in OTHERS:
        assert value_at(documents[of["id"].lower()], MIN_NODES) == 1
    ledger = new_ledger(folder)
    changed = {(change.resource_id, change.setting) for change in applied_changes(ledger)}
    done = {
        (outcome.resource_id, outcome.setting)
        for outcome in run.outcomes
        if outcome.status is Status.DONE
    }
    assert changed == done
    assert runs(ledger)[0] == run


@pytest.mark.parametrize("_time", range(2))
def test_whatever_goes_wrong_nothing_is_done_beside_the_plan_and_all_is_told(
    emulator: Emulator, arm: Arm, tmp_path: Path, _time: int
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown where the test fails
    draw = random.Random(seed)  # noqa: S311 - a sample, no secret
    drifted = draw.sample(CLUSTERS, len(CLUSTERS) // 3)
    for of in drifted:
        drift(arm, of)
    emulator.fault(status=409, code="Conflict", method="PATCH", share=0.3)
    emulator.fault(fail_lro=True, method="PATCH", share=0.2)
    emulator.fault(delay_lro=1, late_lro=True, method="PATCH", share=0.5)
    run = go(arm, tmp_path)
    failed = [outcome for outcome in run.outcomes if outcome.status is Status.FAILED]
    assert len(failed) >= MAX_FAILURES
    assert run.ended_utc is not None
    gone = {of["id"].lower() for of in drifted}
    check_truth(run, arm, tmp_path, drifted=gone)

    emulator.heal()
    again = go(arm, tmp_path)
    told = {outcome.step_id: outcome.status for outcome in again.outcomes}
    for step in PLAN.steps:
        healed = {Status.DRIFTED} if step.resource_id in gone else {Status.DONE, Status.UNCHANGED}
        assert told[step.id] in healed
    done = [row for record in records(new_ledger(tmp_path)) for row in record.changed()]
    assert len(done) == len({row.step_id for row in done}) == 2 * (len(CLUSTERS) - len(drifted))


def test_operations_that_never_end_are_pending_and_nothing_is_claimed(
    emulator: Emulator, arm: Arm, tmp_path: Path
) -> None:
    emulator.fault(delay_lro=10**9, late_lro=True, method="PATCH", path_contains="gpu-00")
    emulator.fault(delay_lro=10**9, late_lro=True, method="PATCH", path_contains="gpu-07")
    plan = plan_of([finding(of, MIN_NODES, 0) for of in CLUSTERS], documents=CLUSTERS)
    run = go(arm, tmp_path, plan)
    pending = [outcome for outcome in run.outcomes if outcome.status is Status.PENDING]
    assert {outcome.resource_id.rpartition("/")[2] for outcome in pending} == {"gpu-00", "gpu-07"}
    assert pending[0].detail == (
        f"The change of {pending[0].resource_id} has not ended after 1 min; it may yet take "
        "effect, and the same command looks again."
    )
    assert sum(outcome.status is Status.DONE for outcome in run.outcomes) == 10
    assert (run.ended_utc, len(applied_changes(new_ledger(tmp_path)))) == (None, 10)
    writes = patches(emulator)
    again = go(arm, tmp_path, plan)
    assert [outcome.status for outcome in again.outcomes] == [o.status for o in run.outcomes]
    assert (again.id, patches(emulator)) == (run.id, writes)


def patches(emulator: Emulator) -> int:
    seen = emulator.requests()["by_request"].items()
    return sum(count for request, count in seen if request.startswith("PATCH "))


def test_two_applies_at_once_make_each_change_once(
    emulator: Emulator, arm: Arm, tmp_path: Path
) -> None:
    dump(PLAN, tmp_path / "plan.json")
    program = [sys.executable, "-m", "tests.apply_driver", str(tmp_path / "plan.json")]
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    both = [
        subprocess.Popen(
            [*program, url, "told", "0"],
            cwd=ROOT,
            env=os.environ | emulator.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    ends = [process.communicate()[1] for process in both]
    for process, said in zip(both, ends, strict=True):
        refused = "Another apply or rollback is at work" in said or "was applied on" in said
        assert process.returncode == 0 or refused, said
    assert min(process.returncode for process in both) == 0
    (run,) = runs(new_ledger(tmp_path))
    assert {outcome.status for outcome in run.outcomes} == {Status.DONE}
    check_truth(run, arm, tmp_path, drifted=set())
    assert patches(emulator) == len(PLAN.steps)


# Bad input, and what Azure refuses: a sentence each, and nothing half done


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """Play the estate once; each test changes clusters of its own."""
    folder = tmp_path_factory.mktemp("shared") / "estate"
    with running(write_estate(folder, resources=[VISION, *CLUSTERS], days=1)) as emulator:
        yield emulator


@pytest.fixture
def shared(played: Emulator) -> Iterator[Emulator]:
    """Return the estate that tests share, and leave it without faults."""
    yield played
    played.heal()


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_azure_refuses_is_one_sentence_with_the_way_out(
    shared: Emulator, tmp_path: Path, number: int
) -> None:
    fault, says = REFUSED[number]
    struck, spared = CLUSTERS[2 * number : 2 * number + 2]
    shared.fault(method="PATCH", path_contains=struck["name"], **fault)
    arm = Arm(Access(settings(shared), Hurried()))
    plan = plan_of([finding(of, MIN_NODES, 0) for of in (struck, spared)], documents=CLUSTERS)
    run = go(arm, tmp_path, plan)
    told = {outcome.resource_id.rpartition("/")[2]: outcome for outcome in run.outcomes}
    assert told[struck["name"]].status is Status.FAILED
    assert told[struck["name"]].detail == says.format(id=struck["id"].lower())
    assert told[spared["name"]].status is Status.DONE
    assert value_at(arm.get(struck["id"]), MIN_NODES) == 2


@pytest.mark.parametrize("command", ["apply", "approve"])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda plan: plan | {"schema": 2}, "has plan schema 2 and this optimizer reads 1: "),
        (lambda plan: plan | {"scenario": "all"}, "was edited by hand after it was made: "),
        (lambda plan: plan | {"digest": "0" * 64}, "was edited by hand after it was made: "),
        (
            lambda plan: {name: value for name, value in plan.items() if name != "steps"},
            "lacks the field steps: ",
        ),
        (lambda plan: [plan], "is not a plan: "),
    ],
    ids=["schema", "changed", "digest", "cut", "list"],
)
def test_a_plan_that_cannot_be_used_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    spoil: Callable[[dict[str, Any]], Any],
    says: str,
) -> None:
    monkeypatch.setenv("OPTIMIZER_HOME", str(tmp_path / "home"))
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(spoil(PLAN.document())), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        cli.main([command, str(file)])
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (1, "")
    assert printed.err == f"optimizer: {file} {says}make a new plan with `optimizer plan`.\n"
    assert not (tmp_path / "home").exists()


def test_a_resource_that_is_gone_fails_one_step_and_is_named(
    shared: Emulator, tmp_path: Path
) -> None:
    arm = Arm(Access(settings(shared), Hurried()))
    gone = cluster(VISION, "gone", minimum=2)
    two = [finding(gone, MIN_NODES, 0), finding(CLUSTERS[0], IDLE_TIME, "PT5M")]
    plan = plan_of(two, documents=[gone, *CLUSTERS])
    run = apply_here(plan, arm, new_ledger(tmp_path), known=[gone, *CLUSTERS])
    assert [outcome.status for outcome in run.outcomes] == [Status.FAILED, Status.DONE]
    assert run.outcomes[0].detail.startswith(
        f"Azure has no {gone['id'].lower()} (ResourceNotFound): "
    )


def test_a_ledger_that_somebody_else_holds_is_left_alone(shared: Emulator, tmp_path: Path) -> None:
    arm = Arm(Access(settings(shared), Hurried()))
    with new_ledger(tmp_path).hold(), pytest.raises(LedgerError, match="is at work on"):
        go(arm, tmp_path)
    assert runs(new_ledger(tmp_path)) == ()


def test_a_setting_that_cannot_be_used_stops_before_anything_happens() -> None:
    for variable, value in (
        ("OPTIMIZER_REQUIRE_APPROVAL", "perhaps"),
        ("OPTIMIZER_MAINTENANCE", "whenever"),
    ):
        with pytest.raises(OptimizerError, match=r"^The setting apply\."):
            load_settings({variable: value})
