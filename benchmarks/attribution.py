"""How near the cost of each compute is to the truth, by what the bill lets us see.

    python -m benchmarks.attribution ESTATE [--work DIR] [--name NAME]

The same estate is collected three times through the command line: with cost details (the bill names
the compute), with a tag on every compute (it names the tag) and with neither (it names the
workspace only). The truth is the emulator's own bill.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.closed_loop import RESULTS, Cli, emulator
from benchmarks.estate_files import write_json
from optimizer.config import load_settings
from optimizer.errors import OptimizerError
from optimizer.pipeline import read_estate

WAYS: Mapping[str, Mapping[str, bool]] = {
    "exact": {"cost_details": True, "tags_on_costs": True},
    "tag": {"cost_details": False, "tags_on_costs": True},
    "estimated": {"cost_details": False, "tags_on_costs": False},
}
CENT = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one way of seeing the bill gave, over whole billed days."""

    way: str
    labels: tuple[str, ...]
    """The attributions that the lines carry; `none` = left with the workspace."""
    computes: int
    true_cost: float
    attributed_share: float
    """Of the true cost, what names a compute."""
    error_of_spend: float
    """Σ |attributed − true| over computes, as a share of the true cost."""
    worst_error: float
    """Of the computes that make up 99 % of the cost, the largest |error| of one."""
    worst: str
    workspace_days: int
    workspace_days_off: int
    """Days of a workspace whose lines do not sum to its bill to the cent."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each way and keep them as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attribution")
    parser.add_argument("estate", type=Path)
    parser.add_argument("--work", type=Path, help="keep copies and lakes here")
    parser.add_argument("--name", help="of the result; default: the folder's")
    parsed = parser.parse_args(arguments)
    rows = []
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for way in WAYS:
                row = attribution(parsed.estate, (parsed.work or Path(scratch)) / way, way)
                print(
                    f"{row.way}: {row.attributed_share:.2%} names a compute; off by "
                    f"{row.error_of_spend:.3%} of the spend, at worst {row.worst_error:.3%} "
                    f"({row.worst}); {row.workspace_days_off} of {row.workspace_days} "
                    "workspace-days off the bill"
                )
                rows.append(asdict(row))
    except (OptimizerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"attribution_{parsed.name or parsed.estate.resolve().name}.json", rows)
    return 0


def attribution(folder: Path, work: Path, way: str) -> Row:
    """Collect the estate as one way lets it be seen, and compare with the truth."""
    copy = work / "estate"
    seen_as(folder, copy, way)
    home = work / "home"
    with emulator(copy) as azure:
        Cli(azure, home)("collect")
        bill = read_estate(load_settings({}, home=home)).bill
        true = azure.bill(_midnight(bill.start), _midnight(bill.end))
        days = [bill.start + timedelta(days=n) for n in range(bill.days)]
        true_days = {day: azure.bill(_midnight(day), _midnight(day, after=1)) for day in days}
    attributed: dict[str, float] = defaultdict(float)
    billed: dict[tuple[str, date], float] = defaultdict(float)
    for line in bill.lines:
        billed[line.workspace_id, line.day] += line.cost
        if line.resource_id is not None:
            attributed[line.resource_id] += line.cost
    truth: dict[tuple[str, date], float] = defaultdict(float)
    for day, amounts in true_days.items():
        for resource_id, amount in amounts.items():
            truth[resource_id.partition("/computes/")[0], day] += amount
    total = sum(true.values())
    errors = {each: abs(attributed[each] - cost) for each, cost in true.items()}
    worst = max(_large(true), key=lambda each: errors[each] / true[each])
    return Row(
        way=way,
        labels=tuple(sorted({line.attribution or "none" for line in bill.lines})),
        computes=len(true),
        true_cost=round(total, 2),
        attributed_share=sum(attributed.values()) / total,
        error_of_spend=sum(errors.values()) / total,
        worst_error=errors[worst] / true[worst],
        worst=worst.rpartition("/")[2],
        workspace_days=len(truth),
        workspace_days_off=sum(
            abs(billed[place] - truth[place]) >= CENT for place in truth.keys() | billed.keys()
        ),
    )


def seen_as(folder: Path, out: Path, way: str) -> None:
    """Copy an estate as one that Azure's bill tells of in this way."""
    shutil.copytree(folder, out, ignore=shutil.ignore_patterns("truth.json", "__pycache__"))
    head = json.loads((out / "estate.json").read_text())
    head["telemetry"] = {**(head.get("telemetry") or {}), **WAYS[way]}
    write_json(out / "estate.json", head)
    documents: list[dict[str, Any]] = json.loads((out / "resources.json").read_text())
    for document in documents:
        if way == "tag" and "/computes/" in document["id"]:
            document["tags"] = (document.get("tags") or {}) | {"compute": document["name"]}
    write_json(out / "resources.json", documents)


def _large(costs: Mapping[str, float]) -> list[str]:
    """Return the dearest resources that together make up 99 % of the cost."""
    ordered = sorted(costs, key=lambda each: -costs[each])
    kept, sum_so_far, limit = [], 0.0, 0.99 * sum(costs.values())
    for each in ordered:
        if sum_so_far >= limit:
            break
        kept.append(each)
        sum_so_far += costs[each]
    return kept


def _midnight(day: date, *, after: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=after)


if __name__ == "__main__":
    raise SystemExit(main())
