import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optimizer.azure.access import permission_of
from optimizer.azure.arm import IDLE_SHUTDOWN_API, Arm
from optimizer.azure.connect import Connection, connect
from optimizer.azure.doctor import NOT_SEEN, check
from optimizer.azure.ml import MachineLearning
from optimizer.config import AzureSettings
from optimizer.errors import (
    ForbiddenError,
    NotFoundError,
    OperationFailedError,
    UnauthorizedError,
    UnreachableError,
)
from tests.conftest import Emulator
from tests.estates import SUBSCRIPTION, cluster, instance, workspace, write_estate

VISION = workspace("ws-vision")["id"]
KEPT = f"{VISION}/computes/gpu-kept"
FORGOTTEN = f"{VISION}/computes/ci-forgotten"


def door_to(emulator: Emulator) -> Connection:
    return connect(
        AzureSettings(endpoint=emulator.url, ca_file=emulator.ca_file, credential="emulator")
    )


@pytest.fixture(scope="module")
def played(emulator: Callable[[Path], Emulator], small_estate: Path) -> Emulator:
    """Return an emulator of the small estate that only this module writes to."""
    return emulator(small_estate)


@pytest.fixture
def azure(played: Emulator) -> Iterator[Emulator]:
    yield played
    played.heal()


@pytest.fixture
def arm(azure: Emulator) -> Arm:
    return door_to(azure).arm


def test_the_clock_is_the_services(arm: Arm, azure: Emulator) -> None:
    assert arm.now_utc() == azure.now_utc


def test_a_list_follows_every_page(emulator: Callable[[Path], Emulator], tmp_path: Path) -> None:
    names = [f"cpu-{number:02}" for number in range(45)]
    home = workspace("ws-many")
    resources = [home, *(cluster(home, name) for name in names)]
    many = door_to(emulator(write_estate(tmp_path / "many", resources=resources, days=1)))
    assert sorted(c["name"] for c in many.arm.list(f"{home['id']}/computes")) == names


def test_a_patch_waits_and_reads_back(arm: Arm, azure: Emulator) -> None:
    azure.fault(path_contains="gpu-kept", delay_lro=1, times=1)
    scale = {"minNodeCount": 1, "maxNodeCount": 6, "nodeIdleTimeBeforeScaleDown": "PT120S"}
    document = arm.patch(KEPT, {"properties": {"properties": {"scaleSettings": scale}}})
    assert document["properties"]["properties"]["scaleSettings"] == scale


def test_an_action_without_an_answer(arm: Arm) -> None:
    body = {"idleTimeBeforeShutdown": "PT45M"}
    action = "updateIdleShutdownSetting"
    assert arm.post(FORGOTTEN, action, body, api_version=IDLE_SHUTDOWN_API) is None
    settings = arm.get(FORGOTTEN)["properties"]["properties"]
    assert settings["idleTimeBeforeShutdown"] == "PT45M"


def test_an_operation_that_fails_is_an_error(arm: Arm, azure: Emulator) -> None:
    azure.fault(path_contains="gpu-kept", fail_lro=True, times=1)
    scale = {"minNodeCount": 0, "maxNodeCount": 6}
    with pytest.raises(OperationFailedError, match="gpu-kept"):
        arm.patch(KEPT, {"properties": {"properties": {"scaleSettings": scale}}})


def test_what_is_not_there_is_named(arm: Arm) -> None:
    with pytest.raises(NotFoundError, match="computes/gone"):
        arm.get(f"{VISION}/computes/gone")


def test_a_missing_permission_is_named(arm: Arm, azure: Emulator) -> None:
    azure.fault(status=403, path_contains="computes")
    with pytest.raises(ForbiddenError) as caught:
        arm.get(KEPT)
    assert permission_of(caught.value) == (
        "Microsoft.MachineLearningServices/workspaces/computes/read"
    )


def test_a_refused_token_says_how_to_sign_in(arm: Arm, azure: Emulator) -> None:
    azure.fault(status=401)
    with pytest.raises(UnauthorizedError, match="az login"):
        arm.get(KEPT)


def test_a_passing_failure_is_not_noticed(arm: Arm, azure: Emulator) -> None:
    azure.fault(status=503, times=1)
    assert arm.get(KEPT)["name"] == "gpu-kept"


def test_an_endpoint_that_is_not_there_is_known_within_seconds() -> None:
    nobody = connect(AzureSettings(endpoint="https://localhost:9", credential="emulator"))
    begun = time.monotonic()
    with pytest.raises(UnreachableError, match="localhost:9 does not answer"):
        nobody.arm.now_utc()
    assert time.monotonic() - begun < 10


def test_an_untrusted_certificate_says_which_setting(azure: Emulator) -> None:
    stranger = connect(AzureSettings(endpoint=azure.url, credential="emulator"))
    with pytest.raises(UnreachableError, match="OPTIMIZER_AZURE_CA_FILE"):
        stranger.arm.now_utc()


@pytest.mark.filterwarnings("ignore::marshmallow.warnings.Marshmallow4Warning")
def test_azure_ai_ml_lists_the_same_and_leaves_the_environment_alone(azure: Emulator) -> None:
    before = dict(os.environ)
    door = door_to(azure)
    seen = MachineLearning(door.access)
    documents = door.arm.list(f"{VISION}/computes")
    assert seen.computes(VISION) == [document["name"] for document in documents]
    assert [w.lower() for w in seen.workspaces(SUBSCRIPTION)] == [VISION.lower()]
    cloud = "AZUREML_CURRENT_CLOUD"
    assert os.environ.get(cloud) == before.get(cloud)


def test_a_healthy_estate_passes_every_check(azure: Emulator) -> None:
    checks = check(door_to(azure), ())
    assert {c.name: c.detail for c in checks if c.ok is False} == {}
    assert sum(c.name.startswith("Computes of") for c in checks) == 2
    unsure = [c.name for c in checks if c.ok is None and c.detail != NOT_SEEN]
    assert unsure == ["Logs of ws-speech"]


def test_the_doctor_names_what_is_missing(azure: Emulator) -> None:
    azure.fault(status=403, path_contains="CostManagement")
    failed = [c for c in check(door_to(azure), (SUBSCRIPTION,)) if c.ok is False]
    assert [c.name for c in failed] == [f"Costs of {SUBSCRIPTION}"]
    assert "Microsoft.CostManagement/query" in failed[0].detail


def test_the_doctor_survives_what_the_sdk_cannot_read(
    emulator: Callable[[Path], Emulator], tmp_path: Path
) -> None:
    home = workspace("ws-apps")
    notebook = instance(home, "ci-apps")
    notebook["properties"]["properties"]["customServices"] = [
        {"name": "rstudio", "endpoints": [{"protocol": "http", "name": "ui", "target": 8787}]}
    ]
    door = door_to(emulator(write_estate(tmp_path / "apps", resources=[home, notebook], days=1)))
    (found,) = [c for c in check(door, (SUBSCRIPTION,)) if c.name == "Computes of ws-apps"]
    assert (found.ok, "such as a custom application without a port" in found.detail) == (
        False,
        True,
    )
