"""Find planted waste, and hold what was said of it against the bill of the mended estate.

    python -m benchmarks.planted --estates 20 --seed 1 [--keep DIR]

For each seed an estate is drawn (`planted_estate`), played by the emulator and judged through the
product's own command line. Every finding's change is then put into the estate's documents from the
first day, and the difference of the emulator's true bills is what it would have saved. A finding is
right where its fault was planted, or where the bill confirms four fifths of what it says.
"""

import argparse
import copy
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.closed_loop import RESULTS, Cli, emulator
from benchmarks.estate_files import Estate, write_estate, write_json
from benchmarks.planted_estate import DAYS, PRICES, SEEN_DAYS, START_UTC, Planted, planted
from optimizer.emulator.estate import load_estate
from optimizer.emulator.world import World
from optimizer.errors import OptimizerError
from optimizer.units import HOURS_PER_MONTH, seconds_from_iso, utc

CONFIRMED = 0.8
"""Share of a saving that the bill must confirm where the fault was not planted."""

AFTER_OTHERS = "once the other changes"

Arm = dict[str, Any]
Bills = tuple[dict[str, float], dict[str, float]]
"""Cost of each compute in the window that was seen, and in the four weeks to come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One finding and what was true of it. Money is over the window that was seen."""

    seed: int
    resource: str
    detector: str
    planted: bool
    decoy: bool
    said: float
    true: float
    promised_per_month: tuple[float, float]
    """P10 and P90."""
    true_to_come_per_month: float
    memory_violated: bool

    @property
    def right(self) -> bool:
        """Whether it was planted, or the bill confirms it."""
        return self.planted or (not self.decoy and self.true >= CONFIRMED * self.said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A planted fault that no finding names."""

    seed: int
    resource: str
    detectors: tuple[str, ...]
    true: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the scores by detector and keep everything as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted")
    parser.add_argument("--estates", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="keep estates and lakes here")
    parsed = parser.parse_args(arguments)
    rows: list[Row] = []
    missed: list[Missed] = []
    regrets: list[float] = []
    try:
        for seed in range(parsed.seed, parsed.seed + parsed.estates):
            with tempfile.TemporaryDirectory() as scratch:
                folder = (parsed.keep or Path(scratch)) / str(seed)
                one, other, regret = judged(seed, folder)
            rows, missed, regrets = rows + one, missed + other, [*regrets, regret]
            print(f"seed {seed}: {len(one)} findings, {len(other)} missed, regret {regret:.3f}")
    except (OptimizerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    scores = {name: _scores(*each) for name, each in _by_detector(rows, missed).items()}
    for name, score in scores.items():
        print(f"{name:<28}" + "  ".join(f"{key} {value}" for key, value in score.items()))
    for each in missed:
        print("missed", each)
    for row in rows:
        if not row.right:
            print("false", row)
    write_json(
        RESULTS / "planted.json",
        {
            "seeds": [parsed.seed, parsed.seed + parsed.estates - 1],
            "scores": scores,
            "regret_mean": round(float(np.mean(regrets)), 4),
            "missed": [asdict(each) for each in missed],
            "findings": [asdict(row) | {"right": row.right} for row in rows],
        },
    )
    return 0


def judged(seed: int, folder: Path) -> tuple[list[Row], list[Missed], float]:
    """Return the findings on the estate of a seed, the faults that were missed, and the regret.

    Raises:
        OptimizerError: the emulator or a command failed.
    """
    made = planted(seed)
    write_estate(folder / "estate", made.estate)
    with emulator(folder / "estate") as azure:
        cli = Cli(azure, folder / "home")
        cli("collect")
        said = json.loads(cli("findings", "--json"))
    window = utc(said["window"]["start_utc"]), utc(said["window"]["end_utc"])
    findings = [f for f in said["findings"] if f["saving_per_month"]["p50"] > 0]
    play = Player(folder, window)
    before = play(made.estate)
    rows = [_row(seed, made, finding, findings, play, before) for finding in findings]
    named = {(row.resource, row.detector) for row in rows}
    lost = [
        plant
        for plant in made.plants
        if plant.detectors
        and not any((plant.resource_id, detector) in named for detector in plant.detectors)
    ]
    missed = []
    for plant in lost:
        mended = _mended(made.estate, {plant.resource_id: plant.mended})
        after = play(mended)[0] if plant.mended else {}
        true = before[0].get(plant.resource_id, 0.0) - after.get(plant.resource_id, 0.0)
        missed.append(
            Missed(seed=seed, resource=plant.resource_id, detectors=plant.detectors, true=true)
        )
    together = made.estate
    for finding in findings:
        together = changed(together, finding)
    achieved = total(before[0]) - total(play(together)[0])
    lost_money = sum(each.true for each in missed)
    return rows, missed, 1 - achieved / (achieved + lost_money) if achieved else 1.0


class Player:
    """Plays estates and remembers none."""

    def __init__(self, folder: Path, window: tuple[datetime, datetime]) -> None:
        """Begin with a folder to write estates to, and the window that was seen."""
        self._folder = folder
        self._window = window
        self._count = 0

    def __call__(self, estate: Estate) -> Bills:
        """Return the true bills of an estate."""
        self._count += 1
        folder = self._folder / f"played-{self._count}"
        write_estate(folder, estate)
        world = World(load_estate(folder))
        world.advance((DAYS - SEEN_DAYS) * 24)
        now = START_UTC + timedelta(days=SEEN_DAYS)
        end = START_UTC + timedelta(days=DAYS)
        return _costs(world, *self._window), _costs(world, now, end)


def _costs(world: World, start: datetime, end: datetime) -> dict[str, float]:
    costs: dict[str, float] = defaultdict(float)
    for charge in world.charges(round(start.timestamp()), round(end.timestamp())):
        costs[charge.compute_id.lower()] += charge.cost
    return dict(costs)


def total(costs: Mapping[str, float]) -> float:
    """Return what all computes cost."""
    return sum(costs.values())


def _row(
    seed: int,
    made: Planted,
    finding: Arm,
    findings: Sequence[Arm],
    play: Callable[[Estate], Bills],
    before: Bills,
) -> Row:
    key = finding["resource_id"]
    plant = next(each for each in made.plants if each.resource_id == key)
    base, was = made.estate, before
    if any(AFTER_OTHERS in note for note in finding["pillar_notes"]):
        for other in findings:
            if other["resource_id"] == key and other["id"] != finding["id"]:
                base = changed(base, other)
        was = play(base)
    after = play(changed(base, finding))
    to_come = was[1].get(key, 0.0) - after[1].get(key, 0.0)
    hours = (DAYS - SEEN_DAYS) * 24
    return Row(
        seed=seed,
        resource=key,
        detector=finding["detector"],
        planted=finding["detector"] in plant.detectors,
        decoy=not plant.detectors,
        said=float(finding["evidence"]["saving_over_window"]),
        true=was[0].get(key, 0.0) - after[0].get(key, 0.0),
        promised_per_month=(
            finding["saving_per_month"]["p10"],
            finding["saving_per_month"]["p90"],
        ),
        true_to_come_per_month=to_come * HOURS_PER_MONTH / hours,
        memory_violated=_violates(made.estate, finding),
    )


def changed(estate: Estate, finding: Arm) -> Estate:
    """Return the estate with a finding's change in place from the first day."""
    key, after = finding["resource_id"], finding["change"]["after"]
    match finding["detector"]:
        case "job_without_time_limit":
            limits = {name: seconds_from_iso(text) for name, text in after.items()}
            jobs = [
                replace(
                    job,
                    run_seconds=min(job.run_seconds, limits.get(job.experiment, job.run_seconds)),
                )
                if job.resource_id.lower() == key
                else job
                for job in estate.jobs
            ]
            return replace(estate, jobs=jobs)
        case "ineffective_idle_shutdown":
            closed = [
                replace(session, keeps_kernel_open=False)
                if session.resource_id.lower() == key
                else session
                for session in estate.sessions
            ]
            return replace(estate, sessions=closed)
        case "abandoned_compute":
            kept = [each for each in estate.resources if each["id"].lower() != key]
            jobs = [job for job in estate.jobs if job.resource_id.lower() != key]
            return replace(estate, resources=kept, jobs=jobs)
        case "no_schedule":
            return _mended(estate, {key: {"schedules": {"computeStartStop": after}}})
        case _:
            name = finding["change"]["setting"].rpartition(".")[2]
            return _mended(estate, {key: {name: after}})


def _mended(estate: Estate, settings: Mapping[str, Mapping[str, Any]]) -> Estate:
    """Return the estate with settings of some computes changed, by their last name."""
    documents = [copy.deepcopy(dict(each)) for each in estate.resources]
    for document in documents:
        for name, value in settings.get(document["id"].lower(), {}).items():
            inner = document["properties"]["properties"]
            scale = inner.get("scaleSettings", {})
            (scale if name in scale else inner)[name] = value
    return replace(estate, resources=documents)


def _violates(estate: Estate, finding: Arm) -> bool:
    """Tell whether a proposed size has less memory than a job truly needs."""
    size = next((p for p in PRICES if p.sku == finding["change"]["after"]), None)
    return size is not None and any(
        job.memory_gib_needed > size.memory_gib
        or (job.gpus_needed > 0 and job.gpu_memory_gib_needed > size.gpu_memory_gib)
        for job in estate.jobs
        if job.resource_id.lower() == finding["resource_id"]
    )


def _by_detector(
    rows: Sequence[Row], missed: Sequence[Missed]
) -> dict[str, tuple[list[Row], list[Missed]]]:
    found: dict[str, tuple[list[Row], list[Missed]]] = defaultdict(lambda: ([], []))
    for row in rows:
        found[row.detector][0].append(row)
        found["all"][0].append(row)
    for each in missed:
        found[each.detectors[0]][1].append(each)
        found["all"][1].append(each)
    return dict(sorted(found.items()))


def _scores(rows: Sequence[Row], missed: Sequence[Missed]) -> dict[str, Any]:
    right = [row for row in rows if row.right]
    said, lost = sum(row.said for row in rows), sum(each.true for each in missed)
    errors = np.array([row.said / row.true - 1 for row in right if row.true > 0])
    inside = [
        row.promised_per_month[0] <= row.true_to_come_per_month <= row.promised_per_month[1]
        for row in right
    ]
    good = sum(row.true for row in right)
    return {
        "findings": len(rows),
        "right": len(right),
        "missed": len(missed),
        "precision_dollars": _share(sum(row.said for row in right), said),
        "recall_dollars": _share(good, good + lost),
        "error_p50": _quantile(np.abs(errors), 0.5),
        "error_p90": _quantile(np.abs(errors), 0.9),
        "bias": _share(sum(r.said for r in right) - good, good),
        "coverage": _share(sum(inside), len(inside)),
        "decoys": sum(row.decoy for row in rows),
        "memory_violations": sum(row.memory_violated for row in rows),
    }


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def _quantile(values: "np.ndarray[Any, Any]", q: float) -> float | None:
    return round(float(np.quantile(values, q)), 4) if values.size else None


if __name__ == "__main__":
    sys.exit(main())
