"""The two roles: as files, as code, and as what a collection and an apply really take."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optimizer import pipeline
from optimizer.azure.connect import connect
from optimizer.azure.doctor import check
from optimizer.azure.roles import OPERATOR, READER, missing
from optimizer.config import AzureSettings, load_settings
from optimizer.emulator.permissions import needed_action
from optimizer.remediation.outcomes import Status
from optimizer.remediation.requirements import permissions
from optimizer.remediation.writes import KINDS
from tests.changes import (
    DOCUMENTS,
    KEPT,
    VISION,
    apply_here,
    new_ledger,
    plan_of,
    roll_back_here,
)
from tests.conftest import ROOT, Emulator
from tests.estates import SUBSCRIPTION, write_estate

Start = Callable[..., Emulator]

ASKED_ELSEWHERE = {
    # One question to where all logs are kept, instead of one to each workspace.
    "Microsoft.OperationalInsights/workspaces/read",
    "Microsoft.OperationalInsights/workspaces/query/*/read",
    # In the scope of a resource, by table.
    "Microsoft.Insights/logs/*/read",
}
"""What the templates of the requests of a small estate do not tell."""


def definition(name: str) -> dict[str, Any]:
    """Return a role of docs/roles as Azure Resource Manager shows it once it is created."""
    role = json.loads((ROOT / "docs" / "roles" / f"{name}.json").read_text(encoding="utf-8"))
    return {
        "id": f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions"
        f"/{name}",
        "name": name,
        "type": "Microsoft.Authorization/roleDefinitions",
        "properties": {
            "roleName": role["Name"],
            "permissions": [{"actions": role["Actions"], "notActions": role["NotActions"]}],
        },
    }


@pytest.fixture
def holding(emulator: Callable[[Path], Emulator], small_estate: Path, tmp_path: Path) -> Start:
    """Start an emulator of the small estate that allows what the named roles allow."""

    def start(*roles: str) -> Emulator:
        folder = tmp_path / "-".join(["estate", *roles])
        shutil.copytree(small_estate, folder)
        file = folder / "resources.json"
        resources = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps([*resources, *map(definition, roles)]), encoding="utf-8")
        return emulator(folder)

    return start


def settings(emulator: Emulator) -> AzureSettings:
    return AzureSettings(endpoint=emulator.url, ca_file=emulator.ca_file, credential="emulator")


@pytest.mark.parametrize(("name", "actions"), [("reader", READER), ("operator", OPERATOR)])
def test_the_files_are_the_roles_of_the_code(name: str, actions: tuple[str, ...]) -> None:
    role = json.loads((ROOT / "docs" / "roles" / f"{name}.json").read_text(encoding="utf-8"))
    assert role["Actions"] == list(actions) == sorted(set(actions), key=str.lower)
    assert role["NotActions"] == role["DataActions"] == role["NotDataActions"] == []
    assert role["IsCustom"]


def test_the_operator_may_do_what_plans_ask_for_and_nothing_else() -> None:
    kinds = ("/workspaces/w/computes/c", "/workspaces/w/onlineendpoints/e/deployments/d")
    asked = {
        action for how, setting in KINDS for of in kinds for action in permissions(how, of, setting)
    }
    waiting = {"Microsoft.MachineLearningServices/locations/computeOperationsStatus/read"}
    assert set(OPERATOR) == asked | waiting


def test_a_reader_collects_everything_and_needs_every_action(
    holding: Start, tmp_path: Path
) -> None:
    reader = holding("reader")
    report = pipeline.collect(load_settings(reader.environment, home=tmp_path), progress=_quiet)
    assert [problem for problem in report.problems if problem.permission] == []
    tuple(check(connect(settings(reader)), ()))
    asked = {
        needed_action(*request.split(" ", 1)).lower()
        for request in reader.requests()["by_request"]
        if " /subscriptions" in request or " /{resource" in request
    }
    idle = {
        action
        for action in set(READER) - ASKED_ELSEWHERE
        if not any(missing([action], [{"actions": [one]}]) == () for one in asked)
        and not any(missing([one], [{"actions": [action]}]) == () for one in asked)
    }
    assert idle == {
        "Microsoft.Insights/metrics/read",  # its batch API has an address of another shape
        "Microsoft.OperationalInsights/workspaces/query/read",
        # Asked where there is an endpoint, and the small estate has none.
        "Microsoft.Insights/autoscaleSettings/read",
        "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments/read",
    }


def _quiet(*_: object) -> None:
    """Show no progress."""


def test_a_reader_changes_nothing_and_is_told_what_it_lacks(
    emulator: Callable[[Path], Emulator], tmp_path: Path
) -> None:
    estate = write_estate(
        tmp_path / "estate", resources=[VISION, *DOCUMENTS, definition("reader")], days=1
    )
    reader = emulator(estate)
    arm = connect(settings(reader)).arm
    before = [arm.get(of["id"]) for of in DOCUMENTS]
    run = apply_here(plan_of(), arm, new_ledger(tmp_path))
    assert [outcome.status for outcome in run.outcomes] == [Status.FAILED] * 3
    assert run.outcomes[0].detail == (
        "This account may not perform action 'microsoft.machinelearningservices/workspaces/computes"
        f"/write' on {KEPT['id'].lower()}: ask for a role that holds it, such as that of "
        "docs/roles/operator.json."
    )
    assert "updateIdleShutdownSetting/action'" in run.outcomes[2].detail
    assert [arm.get(of["id"]) for of in DOCUMENTS] == before


def test_reader_and_operator_apply_and_roll_back(
    emulator: Callable[[Path], Emulator], tmp_path: Path
) -> None:
    roles = [definition("reader"), definition("operator")]
    played = emulator(
        write_estate(tmp_path / "estate", resources=[VISION, *DOCUMENTS, *roles], days=1)
    )
    played.fault(delay_lro=1)
    arm, ledger = connect(settings(played)).arm, new_ledger(tmp_path)
    run = apply_here(plan_of(), arm, ledger)
    assert [outcome.status for outcome in run.outcomes] == [Status.DONE] * 3
    back = roll_back_here(run.id, arm, ledger)
    assert [outcome.status for outcome in back.outcomes] == [Status.DONE] * 3


def test_the_doctor_names_what_a_reader_lacks_to_apply(holding: Start) -> None:
    found = {each.name: each for each in check(connect(settings(holding("reader"))), ())}
    (reads,) = {each.ok for name, each in found.items() if name.startswith("Reader role on")}
    assert reads is True
    applies = next(each for name, each in found.items() if name.startswith("Operator role on"))
    assert applies.ok is None
    lacking = [action for action in OPERATOR if action not in READER]
    assert len(lacking) > len(OPERATOR) / 2
    assert applies.detail == (
        f"Not everything can be applied there without {', '.join(lacking)}: "
        "docs/roles/operator.json has them all."
    )


def test_the_doctor_finds_nothing_missing_where_all_is_allowed(small: Emulator) -> None:
    found = check(connect(settings(small)), ())
    assert {each.ok for each in found if " role on " in each.name} == {True}


def test_what_an_operator_alone_lacks_is_a_failed_check(holding: Start) -> None:
    found = {each.name: each for each in check(connect(settings(holding("operator"))), ())}
    workspaces = found[f"Workspaces of {SUBSCRIPTION}"]
    assert workspaces.ok is False
    assert "Microsoft.MachineLearningServices/workspaces/read" in workspaces.detail
