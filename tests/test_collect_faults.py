"""Whatever goes wrong under way, the lake ends as if nothing had."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from optimizer.azure.connect import connect
from optimizer.collectors.collect import CollectReport, collect
from optimizer.config import AnalysisSettings, AzureSettings
from optimizer.errors import AzureError
from optimizer.store.lake import Lake
from optimizer.store.tables import TABLES
from tests.conftest import Emulator

ATTEMPTS = 12
PATIENCE_SECONDS = 3.0
"""Longer than any answer of the small estate takes."""
NO_LOG = "keeps no log of its clusters"


def run(azure: Emulator, lake: Lake) -> CollectReport:
    door = connect(
        AzureSettings(
            endpoint=azure.url,
            ca_file=azure.ca_file,
            credential="emulator",
            read_timeout_seconds=PATIENCE_SECONDS,
        )
    )
    return collect(
        door,
        lake,
        lookback_days=21,
        subscriptions=(),
        analysis=AnalysisSettings(),
        progress=lambda *_: None,
    )


def recover(azure: Emulator, lake: Lake) -> None:
    """Collect until nothing is missing."""
    for _ in range(ATTEMPTS):
        try:
            report = run(azure, lake)
        except AzureError:
            continue
        if all(NO_LOG in problem.what for problem in report.problems):
            return
    pytest.fail(f"still incomplete after {ATTEMPTS} collections")


@pytest.fixture(scope="module")
def undisturbed(
    emulator: Callable[[Path], Emulator],
    small_estate: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("undisturbed"))
    run(emulator(small_estate), lake)
    return lake


@pytest.mark.parametrize(
    "faults",
    [
        [
            {"status": 429, "share": 0.1, "headers": {"Retry-After": "0"}},
            {"status": 500, "share": 0.1},
        ],
        [{"status": 503, "share": 0.2}],
        [{"cut_short": True, "share": 0.2}],
        [{"silent": True, "share": 0.2, "times": 12}],
        [{"status": 401, "share": 0.05, "times": 4}],
        [{"status": 404, "path_contains": "costDetailsOperationResults", "times": 1}],
        [{"fail_lro": True, "path_contains": "generateCostDetailsReport", "times": 1}],
        [{"delay_lro": 2, "path_contains": "generateCostDetailsReport", "times": 1}],
    ],
    ids=[
        "429 and 500",
        "503",
        "cut short",
        "timeouts",
        "expired in between",
        "operation dropped",
        "operation failed",
        "operation slow",
    ],
)
def test_the_lake_ends_as_if_nothing_had_gone_wrong(
    faults: list[dict[str, object]],
    emulator: Callable[[Path], Emulator],
    small_estate: Path,
    undisturbed: Lake,
    tmp_path: Path,
) -> None:
    azure, lake = emulator(small_estate), Lake(tmp_path)
    for fault in faults:
        azure.fault(**fault)
    recover(azure, lake)
    for table in TABLES.values():
        expected, found = undisturbed.read(table), lake.read(table)
        pd.testing.assert_frame_equal(found, expected, obj=table.name)
