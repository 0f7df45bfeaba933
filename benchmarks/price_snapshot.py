"""The sizes and list prices that come with the product, written down again.

    python -m benchmarks.price_snapshot --catalogue FILE [--out DIR]

FILE is a Parquet table of regions and sizes with what each cost at three dates (`payg_2026_06`,
`low_priority_2026_08`, …; null = not known). We write down the sizes and regions that machine
learning mostly runs on, one row for each offer, and nothing that was not known. The same FILE gives
the same bytes.
"""

import argparse
import csv
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb

OUT = Path(__file__).parent.parent / "optimizer" / "catalogue"

REGIONS = (
    "eastus",
    "japaneast",
    "northeurope",
    "polandcentral",  # the one whose reservations are known
    "southcentralus",
    "swedencentral",
    "uksouth",
    "westeurope",
    "westus2",
)
SERIES = (
    *("Dsv2", "dv3", "dsv3", "dsv4", "ddsv4", "dsv5", "ddsv5", "dsv6", "ddsv6"),
    *("esv3", "esv4", "edsv4", "esv5", "edsv5", "esv6", "Fsv2", "m"),
    *("ncsv3", "ncast4v3", "nca100v4", "ncadsh100v5", "nvv3", "nvv5"),
    *("ndv2", "ndasrv4", "ndamsrv4", "ndsrv5", "ndsrh200v5"),
)
MOST_VCPUS = 128
_LEFT_OUT = re.compile(r"-\d+|_[DEM]S?\d+i|_ND96asr_A100|_M\d+(?:[lt]s|m?|s)$")
"""Sizes with cores switched off, whole machines, one that goes by two names, and of the M series
all but the largest memory."""

OFFERS = (
    # offer, term, column, day: the first that is known serves
    ("payg", "", "payg_2026_08", "2026-08-22"),
    ("payg", "", "payg_2026_06", "2026-06-01"),
    ("low_priority", "", "low_priority_2026_08", "2026-08-22"),
    ("spot", "", "spot_2026_08", "2026-08-22"),
    ("spot", "", "spot_2026_01", "2026-01-26"),
    ("reservation", "1y", "ri_1y_2026_01", "2026-01-26"),
    ("reservation", "3y", "ri_3y_2026_01", "2026-01-26"),
    ("savings_plan", "1y", "sp_1y_2026_08", "2026-08-22"),
    ("savings_plan", "1y", "sp_1y_2026_01", "2026-01-26"),
    ("savings_plan", "3y", "sp_3y_2026_01", "2026-01-26"),
)

GPU_MEMORY_GIB = (
    # Of one whole device, as Microsoft's pages of the sizes say: the first that fits.
    ("ND40rs", 32),  # V100 with NVLink
    ("ND96asr", 40),  # A100 of the first issue
    ("NC.*H100", 94),
    ("H200", 141),
    ("A100|H100|ND96amsr", 80),
    ("A10_", 24),
    ("T4|NC.*s_v3", 16),
    ("NV.*s_v3", 8),
)

SIZE_COLUMNS = ("sku", "vcpus", "memory_gib", "gpus", "gpu_model", "gpu_memory_gib")
PRICE_COLUMNS = ("region", "sku", "offer", "term", "price_per_hour", "currency", "as_of")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write both tables and say how much is known."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.price_snapshot")
    parser.add_argument("--catalogue", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    rows = _read(options.catalogue)
    sizes = {row["arm_sku"]: _size(row) for row in rows}
    prices = [price for row in rows for price in _prices(row)]
    options.out.mkdir(parents=True, exist_ok=True)
    _write(options.out / "sizes.csv", SIZE_COLUMNS, sizes.values())
    _write(options.out / "list_prices.csv", PRICE_COLUMNS, prices)
    print(f"{len(sizes)} sizes, {len(rows)} pairs of region and size, {len(prices)} prices")
    for offer, term in dict.fromkeys((offer, term) for offer, term, *_ in OFFERS):
        known = sum((price[2], price[3]) == (offer, term) for price in prices)
        print(f"  {offer} {term}: {known}, unknown {1 - known / len(rows):.0%}")
    return 0


def _read(catalogue: Path) -> list[dict[str, Any]]:
    """Return the rows of our sizes and regions, sorted: each region and size once."""
    found = duckdb.execute(
        "SELECT * FROM read_parquet($file) WHERE region IN $regions AND series IN $series "
        "AND vcpu <= $most ORDER BY region, series, vcpu, arm_sku",
        {
            "file": str(catalogue),
            "regions": list(REGIONS),
            "series": list(SERIES),
            "most": MOST_VCPUS,
        },
    )
    names = [column[0] for column in found.description or ()]
    rows = (dict(zip(names, row, strict=True)) for row in found.fetchall())
    return [row for row in rows if not _LEFT_OUT.search(row["arm_sku"])]


def _size(row: dict[str, Any]) -> tuple[Any, ...]:
    gpus = row["gpu_count"] or 0
    model = re.search(r"[AHTVM]\d+", row["gpu_model"] or "")
    memory = next((gib for name, gib in GPU_MEMORY_GIB if re.search(name, row["arm_sku"])), None)
    return (
        row["arm_sku"],
        row["vcpu"],
        f"{row['memory_gib']:g}",
        f"{gpus:.4g}",
        model[0] if model else None,
        # A machine that has a part of a device sees as large a part of its memory.
        f"{memory * min(1, gpus):.0f}" if memory and gpus else None,
    )


def _prices(row: dict[str, Any]) -> Iterable[tuple[Any, ...]]:
    seen = set()
    for offer, term, column, day in OFFERS:
        if row[column] is not None and (offer, term) not in seen:
            seen.add((offer, term))
            price = f"{row[column]:.6g}"
            yield row["region"], row["arm_sku"], offer, term, price, "USD", day


def _write(file: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
