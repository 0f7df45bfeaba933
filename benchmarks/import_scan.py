"""How fast an export is imported, beside DuckDB's bare scan of the same file.

    python -m benchmarks.import_scan [--gigabytes 1.0] [--work DIR]

The file is made by a seeded script: FOCUS 1.2, one row in twenty Azure ML's, as CSV and as Parquet.
Each reading is a process of its own, so that its memory is its own; the bare scan adds up one
column.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import duckdb

from benchmarks.closed_loop import RESULTS
from benchmarks.estate_files import write_json

ROWS_A_GIGABYTE = 2_250_000
"""Of CSV, as made here."""
DAYS = 28
WORKSPACES, COMPUTES = 50, 20

_BARE = """
import sys, duckdb
source = {"csv": "read_csv", "parquet": "read_parquet"}[sys.argv[1].rpartition(".")[2]]
print(duckdb.sql(f"SELECT sum(BilledCost) FROM {source}('{sys.argv[1]}')").fetchall())
"""
_IMPORT = """
import os, sys
from pathlib import Path
from optimizer import pipeline
from optimizer.config import load_settings
report = pipeline.import_costs(
    load_settings({}, home=Path(sys.argv[2])), [Path(sys.argv[1])], progress=lambda *_: None
)
(export,) = report.exports
print(export.rows, export.kept_rows, len(report.costs))
"""
_MEASURED = """
import resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], check=True, capture_output=True, text=True)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(seconds, peak, done.stdout.strip())
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print seconds, rows a second and memory of both, and keep them as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.import_scan")
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--work", type=Path, help="keep the files here")
    parsed = parser.parse_args(arguments)
    rows = round(parsed.gigabytes * ROWS_A_GIGABYTE)
    results = []
    print(f"{'file':10}{'MB':>8}{'rows':>12}{'kept':>10}{'bare s':>9}{'import s':>10}", end="")
    print(f"{'ratio':>7}{'rows/s':>12}{'peak MB':>9}")
    with tempfile.TemporaryDirectory() as scratch:
        work = parsed.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        for suffix in ("csv", "parquet"):
            file = make(work / f"focus.{suffix}", rows)
            bare_seconds, _, _ = measured(_BARE, str(file))
            seconds, peak, said = measured(_IMPORT, str(file), str(work / f"home-{suffix}"))
            read, kept, _ = (int(number) for number in said.split())
            megabytes = file.stat().st_size / 1e6
            print(
                f"{suffix:10}{megabytes:8,.0f}{read:12,}{kept:10,}{bare_seconds:9.2f}{seconds:10.2f}"
                f"{seconds / bare_seconds:7.1f}{read / seconds:12,.0f}{peak:9,.0f}"
            )
            results.append(
                {
                    "file": suffix,
                    "megabytes": round(megabytes),
                    "rows": read,
                    "kept_rows": kept,
                    "bare_scan_seconds": round(bare_seconds, 2),
                    "import_seconds": round(seconds, 2),
                    "ratio": round(seconds / bare_seconds, 2),
                    "peak_mebibytes": round(peak),
                }
            )
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / "import_scan.json", {"files": results})
    return 0


def measured(program: str, *arguments: str) -> tuple[float, float, str]:
    """Return seconds, peak memory in MiB and what a program printed; start-up is part of it."""
    command = [sys.executable, "-c", _MEASURED, sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, peak, said = done.stdout.split(maxsplit=2)
    return float(seconds), float(peak), said.strip()


def make(file: Path, rows: int) -> Path:
    """Write the export; the same rows whatever the format."""
    form = "CSV, HEADER" if file.suffix == ".csv" else "PARQUET, COMPRESSION zstd"
    workspace = (
        "'/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg/providers/'"
        f" || 'Microsoft.MachineLearningServices/workspaces/ws-' || (n // 20 % {WORKSPACES})"
    )
    other = (
        "'/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg/providers/'"
        " || 'Microsoft.Storage/storageAccounts/account' || (n % 5000)"
    )
    guid = "'84f29f84-4ac2-4286-9879-731da9be5607'"
    with duckdb.connect(config={"memory_limit": "1GB"}) as db:
        db.execute(f"""
            COPY (
                SELECT
                    round(hash(n) % 10000 / 700.0, 6) AS BilledCost,
                    round(hash(n) % 10000 / 800.0, 6) AS EffectiveCost,
                    round(hash(n) % 10000 / 600.0, 6) AS ListCost,
                    round(hash(n) % 10000 / 650.0, 6) AS ContractedCost,
                    'USD' AS BillingCurrency, 'Usage' AS ChargeCategory,
                    TIMESTAMP '2026-01-01' + to_days(n % {DAYS}) AS ChargePeriodStart,
                    TIMESTAMP '2026-01-02' + to_days(n % {DAYS}) AS ChargePeriodEnd,
                    'Virtual Machines NCv3 Series - NC6s v3 - US East' AS ChargeDescription,
                    NULL AS CommitmentDiscountStatus, NULL AS CommitmentDiscountType,
                    24.0 AS ConsumedQuantity, 'Hours' AS ConsumedUnit,
                    'Standard' AS PricingCategory, 'Microsoft' AS ProviderName,
                    'Microsoft' AS PublisherName, 'eastus' AS RegionId,
                    CASE WHEN n % 20 = 0 THEN {workspace} ELSE {other} END AS ResourceId,
                    'meter-' || (n % 997) AS SkuMeter,
                    CASE WHEN n % 20 = 0 THEN '{{"x_PoolName": "cluster-' || (n % {COMPUTES})
                        || '_' || {guid} || '", "x_ServiceType": "Standard_NC6s_v3"}}'
                        ELSE '{{"x_ImageType": "Canonical"}}' END AS SkuPriceDetails,
                    '{{"team": "team-' || (n % 40) || '", "cost-center": "' || (n % 300) || '"}}'
                        AS Tags,
                    CASE WHEN n % 20 = 0 THEN 'Virtual Machines' ELSE 'Storage' END
                        AS x_SkuMeterCategory,
                    md5(n::VARCHAR) AS x_SkuMeterId
                FROM range({rows}) t(n)
            ) TO '{file}' (FORMAT {form})
        """)  # noqa: S608 - our own figures
    return file


if __name__ == "__main__":
    raise SystemExit(main())
