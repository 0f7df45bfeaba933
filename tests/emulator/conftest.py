"""A tiny estate whose every number can be worked out in the head.

`gpu` costs 3.00 an hour and runs two jobs: one node 09:00 to 10:00, and two nodes 12:00:30 to
12:02:00. A node waits ten minutes before it leaves. `ci` costs 0.25 an hour and is worked on
from 09:00 to 11:00, when its user stops it. Nothing else costs anything.
"""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tests.conftest import Emulator
from tests.emulator.sdk import Sdk
from tests.estates import (
    GPU_SKU,
    START_UTC,
    cluster,
    diagnostics,
    instance,
    job,
    session,
    workspace,
    write_estate,
)

NO_EXTRAS = {"instance_disk_per_month": 0, "load_balancer_per_day": 0, "public_ip_per_hour": 0}


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ws = workspace("ws")
    gpu = cluster(ws, "gpu", sku=GPU_SKU, idle="PT10M", tags={"team": "vision"})
    ci = instance(ws, "ci", tags={"owner": "ana"})
    nine, noon = START_UTC + timedelta(hours=9), START_UTC + timedelta(hours=12, seconds=30)
    return write_estate(
        tmp_path_factory.mktemp("estates") / "tiny",
        resources=[ws, diagnostics(ws), gpu, ci],
        jobs=[job(gpu, nine, run_seconds=3600), job(gpu, noon, run_seconds=90, nodes=2)],
        sessions=[session(ci, nine, nine + timedelta(hours=2), user_stops=True)],
        days=2,
        physics=NO_EXTRAS,
    )


@pytest.fixture(scope="session")
def tiny(emulator: Callable[[Path], Emulator], tiny_folder: Path) -> Emulator:
    """Return an emulator of the tiny estate, for tests that only read."""
    return emulator(tiny_folder)


@pytest.fixture(scope="session")
def sdk(tiny: Emulator) -> Sdk:
    """Return the Azure SDKs, pointed at the tiny estate."""
    return Sdk(tiny)


@pytest.fixture(scope="session")
def bare(
    emulator: Callable[[Path], Emulator], tmp_path_factory: pytest.TempPathFactory
) -> Emulator:
    """Return a customer who sees little: bills a day late and rounded, no report, no logs."""
    ws = workspace("ws")
    return emulator(
        write_estate(
            tmp_path_factory.mktemp("estates") / "bare",
            resources=[ws, cluster(ws, minimum=1)],
            days=2,
            billing={"lag_hours": 24, "round_to": 0.01, "discount": 0.1},
            telemetry={"cost_details": False, "diagnostic_logs": False},
            physics=NO_EXTRAS,
        )
    )
