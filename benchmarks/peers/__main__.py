"""The product and other tools' rules on the same planted estates, side by side.

    python -m benchmarks.peers --estates 5 --seed 1

A compute is wasteful where a fault was planted in it. Whatever a tool says of a wasteful compute
counts as right, be it the wrong advice. What is achievable is what the emulator's true bill falls
by with all of the product's findings carried out at once.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.closed_loop import RESULTS, Cli, emulator
from benchmarks.estate_files import write_estate, write_json
from benchmarks.peers import advisor, krr, optscale
from benchmarks.peers.machines import Advice, advice_of, machines_of
from benchmarks.planted_estate import GPU_BUSY, planted
from benchmarks.planted_maker import Planted
from benchmarks.truth import Player, changed
from optimizer.errors import OptimizerError
from optimizer.units import HOURS_PER_MONTH, utc

PRODUCT = "optimizer"
PEERS = (advisor, optscale, krr)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What every tool said of one estate, and what was true of it."""

    advice: Mapping[str, Sequence[Advice]]
    """By the tool's name."""
    wasteful: frozenset[str]
    gpu_busy: frozenset[str]
    achievable_per_month: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and keep it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    parser.add_argument("--estates", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parsed = parser.parse_args(arguments)
    said = []
    try:
        for seed in range(parsed.seed, parsed.seed + parsed.estates):
            with tempfile.TemporaryDirectory() as scratch:
                said.append(heard(planted(seed), Path(scratch)))
    except (OptimizerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    table = {name: scores(name, said) for name in said[0].advice}
    for name, row in table.items():
        print(f"{name:<24}" + "  ".join(f"{key} {value}" for key, value in row.items()))
    seeds = [parsed.seed, parsed.seed + parsed.estates - 1]
    write_json(RESULTS / "peers.json", {"seeds": seeds, "scores": table})
    return 0


def heard(made: Planted, folder: Path) -> Said:
    """Collect an estate once and ask every tool about it.

    Raises:
        OptimizerError: the emulator or a command failed.
    """
    write_estate(folder / "estate", made.estate)
    with emulator(folder / "estate") as azure:
        cli = Cli(azure, folder / "home")
        cli("collect")
        ours = json.loads(cli("findings", "--json"))
    machines = list(machines_of(folder / "home"))
    start, end = utc(ours["window"]["start_utc"]), utc(ours["window"]["end_utc"])
    play = Player(folder, (start, end))
    after = made.estate
    for finding in ours["findings"]:
        if finding["saving_per_month"]["p50"] > 0:
            after = changed(after, finding)
    saved = play(made.estate).total - play(after).total
    hours = (end - start).total_seconds() / 3600
    return Said(
        advice={PRODUCT: _ours(ours), **{p.NAME: advice_of(machines, p.RULES) for p in PEERS}},
        wasteful=frozenset(plant.resource_id for plant in made.plants if plant.detectors),
        gpu_busy=frozenset(plant.resource_id for plant in made.plants if plant.why == GPU_BUSY),
        achievable_per_month=saved * HOURS_PER_MONTH / hours,
    )


def _ours(said: Mapping[str, Any]) -> list[Advice]:
    """Return our findings, each with its share of the joint replay: as the product adds them up."""
    findings = [each for each in said["findings"] if each["saving_per_month"]["p50"] > 0]
    alone = sum(each["saving_per_month"]["p50"] for each in findings)
    joint = said["totals"]["saving_per_month"]["p50"] / alone if alone else 0.0
    return [
        Advice(
            rule=each["detector"],
            resource_id=each["resource_id"],
            saving_per_month=each["saving_per_month"]["p50"] * joint,
        )
        for each in findings
    ]


def scores(name: str, said: Iterable[Said]) -> dict[str, float | int | None]:
    """Return precision and recall by compute, and what is reported ÷ what is achievable."""
    flagged = right = wasteful = on_gpu_busy = 0
    reported = achievable = 0.0
    priced = True
    for each in said:
        computes = {advice.resource_id for advice in each.advice[name]}
        flagged += len(computes)
        right += len(computes & each.wasteful)
        wasteful += len(each.wasteful)
        on_gpu_busy += len(computes & each.gpu_busy)
        achievable += each.achievable_per_month
        for advice in each.advice[name]:
            priced = priced and advice.saving_per_month is not None
            reported += advice.saving_per_month or 0.0
    return {
        "flagged": flagged,
        "precision": round(right / flagged, 3) if flagged else None,
        "recall": round(right / wasteful, 3) if wasteful else None,
        "reported_by_achievable": round(reported / achievable, 3) if priced else None,
        "gpu_busy_flagged": on_gpu_busy,
    }


if __name__ == "__main__":
    sys.exit(main())
