"""Find planted waste, and hold what was said of it against the bill of the mended estate.

    python -m benchmarks.planted --estates 20 --seed 1 [--keep DIR]

For each seed three estates are drawn: one of every fault that shows within weeks
(`planted_estate`), one of months of machines by the hour (`planted_pools`), and one with
reservations (`planted_commitments`). Each is played by the emulator and judged through the
product's own command line. Every finding's change is then put into the estate's
documents from the first day, and the difference of the emulator's true bills is what it would have
saved: for each finding alone, and for all of an estate at once. A finding is right where its fault
was planted, or where the bill confirms four fifths of what it says.

Restarts and waiting are what the emulator counts under the change less what it counts without it,
over the window that was seen; of waiting, all minutes of jobs on no node, of people at a start, and
of requests in the queue. An error is a share of the truth, or of ten restarts or minutes where the
truth is less: one of them in four weeks is within a tenth of that. Where neither what was said nor
the truth reaches ten there is nothing to be felt, and it counts for nothing.

How long an allocation takes and when a low-priority node is taken away is chance, so no prediction
of a single play can be right: of a few minutes of waiting, or of one or two evictions, most is
luck. `restarts_error_p90` and `waiting_error_p90` are of the one play that is billed; those of
`expected` hold the same figures against the mean of several throws of the dice
(`truth.THROWS`). Of evictions all estates count together, by the central 95 % of a Poisson
count over all throws (of twenty true predictions one falls outside), and what one makes wait is
held against what it truly made wait.

`coverage` is the share of P10–P90 that hold the four weeks to come, of findings that are unsure at
all. One whose ends are the same amount is a statement and no interval: right or wrong to the cent,
it says nothing of how wide an interval should be. Those are `certain`, and `certain_held` of them
came out.
"""

import argparse
import json
import math
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import poisson

from benchmarks.closed_loop import RESULTS, Cli, emulator
from benchmarks.estate_files import write_estate
from benchmarks.planted_commitments import DETECTOR as UNDERUSED
from benchmarks.planted_commitments import Commitments, Unused, judged_commitments
from benchmarks.planted_estate import planted
from benchmarks.planted_maker import Plant, Planted
from benchmarks.planted_pools import DETECTOR as UNCOVERED
from benchmarks.planted_pools import Bought, Pools, judged_pools
from benchmarks.truth import THROWS, Judge, Replayed, exposed, mended
from optimizer.errors import OptimizerError

CONFIRMED = 0.8
"""Share of a saving that the bill must confirm where the fault was not planted."""

FEW = 10
"""Restarts, or minutes of waiting in the window, of fewer than which a share says nothing."""

BY_CHANCE = ("dedicated_batch",)
"""Detectors whose restarts are evictions, which fall by chance."""

CENT = 0.01
"""What amounts are told in: a promise of no width holds a truth that reads the same."""

ROUNDED = 1e-3
"""Of how much longer work takes, as it is printed and as whole seconds of jobs make it."""

ONE_SIDED_95 = 1.6448536269514722
"""Quantile of the normal distribution."""

Arm = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Replayed):
    """One finding and what was true of it. Money is over the window that was seen."""

    seed: int
    resource: str
    detector: str
    planted: bool
    decoy: bool
    promised_per_month: tuple[float, float]
    """P10 and P90."""
    exposed: bool | None = None
    """Of what saves nothing by itself: whether it is true all the same."""

    @property
    def certain(self) -> bool:
        """Whether its promise has no width."""
        return self.promised_per_month[1] - self.promised_per_month[0] < CENT

    @property
    def kept(self) -> bool:
        """Whether the promise holds what came."""
        low, high = self.promised_per_month
        return low - CENT <= self.true_to_come_per_month <= high + CENT

    @property
    def right(self) -> bool:
        """Whether it was planted, or the bill or the work confirms it."""
        if self.planted:
            return True
        if self.exposed is not None:
            return self.exposed and not self.decoy
        return not self.decoy and self.said > 0 and self.true >= CONFIRMED * self.said


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A planted fault that no finding names."""

    seed: int
    resource: str
    detectors: tuple[str, ...]
    true: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One estate."""

    rows: tuple[Row, ...]
    missed: tuple[Missed, ...]
    joint: tuple[float, float]
    """What all findings save at once in the window: said and true."""

    @property
    def regret(self) -> float:
        """1 − achieved ÷ what could have been achieved with what was missed."""
        achieved, lost = self.joint[1], sum(each.true for each in self.missed)
        return 1 - achieved / (achieved + lost) if achieved else 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the scores by detector and keep everything as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted")
    parser.add_argument("--estates", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="keep estates and lakes here; use those that are")
    parsed = parser.parse_args(arguments)
    seeds = range(parsed.seed, parsed.seed + parsed.estates)
    every: list[Judged] = []
    pools: list[Pools] = []
    reserved: list[Commitments] = []
    try:
        for seed in seeds:
            with tempfile.TemporaryDirectory() as scratch:
                folder = (parsed.keep or Path(scratch)) / str(seed)
                every.append(judged(seed, folder))
                pools.append(judged_pools(seed, folder / "pools"))
                reserved.append(judged_commitments(seed, folder / "commitments"))
            print(_line(seed, every[-1], pools[-1], reserved[-1]), flush=True)
            _keep(seeds, every, pools, reserved)
    except (OptimizerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    for name, score in scores_of(every, pools, reserved).items():
        print(f"{name:<32}" + "  ".join(f"{key} {value}" for key, value in score.items()))
    for row in (row for each in every for row in each.rows if not row.right):
        print("false", row)
    for missed in (missed for each in every for missed in each.missed):
        print("missed", missed)
    return 0


def _line(seed: int, made: Judged, pools: Pools, reserved: Commitments) -> str:
    return (
        f"seed {seed}: {len(made.rows)} findings, {sum(not row.right for row in made.rows)} wrong, "
        f"{len(made.missed)} missed, regret {made.regret:.3f}, "
        f"joint {made.joint[0]:,.0f} said and {made.joint[1]:,.0f} true; "
        f"{len(pools.bought)} purchases, {len(pools.missed)} missed, {len(pools.false)} false; "
        f"{len(reserved.found)} commitments unused, {len(reserved.missed)} missed, "
        f"{len(reserved.false)} false"
    )


def _keep(
    seeds: range,
    every: Sequence[Judged],
    pools: Sequence[Pools],
    reserved: Sequence[Commitments],
) -> None:
    rows = [row for each in every for row in each.rows]
    joint = np.array([each.joint[0] / each.joint[1] - 1 for each in every if each.joint[1]])
    results = {
        "seeds": [seeds.start, seeds.start + len(every) - 1],
        "scores": scores_of(every, pools, reserved),
        "regret_mean": round(float(np.mean([each.regret for each in every])), 4),
        "joint": {
            "error_p90": _quantile(np.abs(joint), 0.9),
            "bias": _share(
                sum(each.joint[0] - each.joint[1] for each in every),
                sum(each.joint[1] for each in every),
            ),
            "estates": [[round(amount, 2) for amount in each.joint] for each in every],
        },
        "missed": [asdict(missed) for each in every for missed in each.missed],
        "findings": [_rounded(asdict(row) | {"right": row.right}) for row in rows],
        "pools": [_rounded(asdict(each)) for each in pools],
        "commitments": [_rounded(asdict(each)) for each in reserved],
    }
    RESULTS.mkdir(exist_ok=True)
    lines = json.dumps(results, ensure_ascii=False, indent=1)
    (RESULTS / "planted.json").write_text(f"{lines}\n")


def judged(seed: int, folder: Path) -> Judged:
    """Return what was said of the estate of a seed, and what was true of it.

    Raises:
        OptimizerError: the emulator or a command failed.
    """
    made = planted(seed)
    write_estate(folder / "estate", made.estate)
    with emulator(folder / "estate") as azure:
        cli = Cli(azure, folder / "home")
        if not (folder / "home" / "lake").exists():
            cli("collect")
        said = json.loads(cli("findings", "--json"))
    judge = Judge.of(made.estate, said, folder)
    planter = _Planter(seed=seed, made=made, judge=judge)
    rows = [planter.row(finding) for finding in said["findings"]]
    return Judged(
        rows=tuple(rows),
        missed=tuple(planter.missed(rows)),
        joint=(said["totals"]["saving_per_month"]["p50"] * judge.months, judge.together()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planter:
    """Holds findings of one estate against what was planted."""

    seed: int
    made: Planted
    judge: Judge

    def row(self, finding: Arm) -> Row:
        """Return one finding and what was true of it."""
        key, detector = finding["resource_id"], finding["detector"]
        plant = next(each for each in self.made.plants if each.resource_id == key)
        promised = finding["saving_per_month"]
        told: Arm = {
            "seed": self.seed,
            "resource": key.rpartition("/computes/")[2].rpartition("/onlineendpoints/")[2],
            "detector": detector,
            "planted": detector in {*plant.detectors, *plant.exposes},
            "decoy": not plant.detectors and not plant.exposes,
            "promised_per_month": (promised["p10"], promised["p90"]),
        }
        if finding not in self.judge.saving:
            documents = [d for d in self.made.estate.resources if d["id"].lower() == key]
            shown = exposed(detector, self.judge.before.felt[key], documents)
            return Row(**told, said=0.0, true=0.0, true_to_come_per_month=0.0, exposed=bool(shown))
        return Row(**told, **asdict(self.judge.replayed(finding)))

    def missed(self, rows: Sequence[Row]) -> Iterable[Missed]:
        """Yield the faults that no row names, and what their mending would have saved."""
        named = {(row.resource, row.detector) for row in rows}
        for plant in self.made.plants:
            short = plant.resource_id.rpartition("/computes/")[2].rpartition("/onlineendpoints/")[2]
            if plant.detectors and not any((short, each) in named for each in plant.detectors):
                yield Missed(
                    seed=self.seed,
                    resource=short,
                    detectors=plant.detectors,
                    true=self._lost(plant),
                )
            for detector in plant.exposes:
                if (short, detector) not in named:
                    yield Missed(seed=self.seed, resource=short, detectors=(detector,), true=0.0)

    def _lost(self, plant: Plant) -> float:
        key, before = plant.resource_id, self.judge.before
        if not plant.mended:
            return before.seen.get(key, 0.0)
        after = self.judge.play(mended(self.made.estate, {key: plant.mended}), key)
        return before.seen.get(key, 0.0) - after.seen.get(key, 0.0)


# -- scores ----------------------------------------------------------------------------------------


def scores_of(
    every: Sequence[Judged], pools: Sequence[Pools], reserved: Sequence[Commitments]
) -> dict[str, dict[str, Any]]:
    """Return the scores of each detector, and of all but those of commitments together."""
    found: dict[str, tuple[list[Row], list[Missed]]] = defaultdict(lambda: ([], []))
    for each in every:
        for row in each.rows:
            found[row.detector][0].append(row)
            found["all"][0].append(row)
        for missed in each.missed:
            found[missed.detectors[0]][1].append(missed)
            found["all"][1].append(missed)
    scores = {name: score_of(*each) for name, each in sorted(found.items())}
    bought = [_row(UNCOVERED, one.sku, one) for each in pools for one in each.bought]
    unbought = _lost(UNCOVERED, (each.missed for each in pools))
    unused = [_row(UNDERUSED, one.resource, one) for each in reserved for one in each.found]
    unsaid = _lost(UNDERUSED, (each.missed for each in reserved))
    if bought or unbought:
        scores[UNCOVERED] = score_of(bought, unbought)
    if unused or unsaid:
        scores[UNDERUSED] = score_of(unused, unsaid)
    return scores


def _row(detector: str, resource: str, one: Bought | Unused) -> Row:
    return Row(
        seed=0,
        resource=resource,
        detector=detector,
        planted=one.planted,
        decoy=not one.planted,
        said=one.said,
        true=one.true,
        promised_per_month=one.promised_per_month,
        true_to_come_per_month=one.true_to_come_per_month,
    )


def _lost(detector: str, every: Iterable[Iterable[tuple[str, float]]]) -> list[Missed]:
    return [
        Missed(seed=0, resource=name, detectors=(detector,), true=amount)
        for missed in every
        for name, amount in missed
    ]


def score_of(rows: Sequence[Row], missed: Sequence[Missed]) -> dict[str, Any]:
    """Return how right some findings are, and how much they and the missed faults are."""
    right = [row for row in rows if row.right]
    hits = sum(row.planted for row in rows)
    said, lost = sum(row.said for row in rows), sum(each.true for each in missed)
    priced = [row for row in right if row.said > 0]
    errors = np.array([row.said / row.true - 1 for row in priced if row.true > 0])
    unsure = [row.kept for row in priced if not row.certain]
    certain = [row.kept for row in priced if row.certain]
    good = sum(row.true for row in priced)
    return {
        "findings": len(rows),
        "right": len(right),
        "missed": len(missed),
        "precision": _share(len(right), len(rows)),
        "precision_at_least": wilson(len(right), len(rows)),
        "recall": _share(hits, hits + len(missed)),
        "recall_at_least": wilson(hits, hits + len(missed)),
        "precision_dollars": _share(sum(row.said for row in right), said),
        "recall_dollars": _share(good, good + lost),
        "error_p50": _quantile(np.abs(errors), 0.5),
        "error_p90": _quantile(np.abs(errors), 0.9),
        "bias": _share(sum(r.said for r in priced) - good, good),
        "coverage": _share(sum(unsure), len(unsure)),
        "certain": len(certain),
        "certain_held": _share(sum(certain), len(certain)),
        "decoys": sum(row.decoy for row in rows),
        "memory_violations": sum(row.memory_violated for row in rows),
        **_felt_scores(priced),
    }


def _felt_scores(rows: Sequence[Row]) -> dict[str, Any]:
    chance = [row for row in rows if row.detector in BY_CHANCE]
    sure = [row for row in rows if row.detector not in BY_CHANCE]
    stretched = [row.stretch for row in rows if row.stretch]
    held = [best - ROUNDED <= true <= worst + ROUNDED for best, worst, true in stretched]
    return {
        "restarts_error_p90": _felt_error([row.restarts for row in sure]),
        "waiting_error_p90": _felt_error([row.waiting_minutes for row in sure]),
        "restarts_expected_error_p90": _felt_error([row.restarts_expected for row in sure]),
        "waiting_expected_error_p90": _felt_error([row.waiting_expected for row in sure]),
        **_chance_scores(chance),
        "stretch_held": _share(sum(held), len(held)),
    }


def _felt_error(pairs: Iterable[tuple[float, float] | None]) -> float | None:
    """Return P90 of |said − true| ÷ |true|, where there is enough of either to be felt."""
    errors = [
        abs(said - true) / max(abs(true), FEW)
        for said, true in filter(None, pairs)
        if max(abs(said), abs(true)) >= FEW
    ]
    return _quantile(np.array(errors), 0.9)


def _chance_scores(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what all rows said of evictions and their waiting together, and what came of it."""
    if not rows:
        return {}
    restarts, waiting = (
        [sum(pair) for pair in zip(*filter(None, pairs), strict=True)] or [0.0, 0.0]
        for pairs in (
            [row.restarts_expected for row in rows],
            [row.waiting_expected for row in rows],
        )
    )
    low, high = (count / THROWS for count in poisson.interval(0.95, restarts[0] * THROWS))
    each = [
        minutes / count if count else 0.0 for minutes, count in zip(waiting, restarts, strict=True)
    ]
    return {
        "evictions": [round(count, 2) for count in restarts],
        "evictions_held": bool(low <= restarts[1] <= high),
        "waiting_each_error": _share(abs(each[0] - each[1]), each[1]),
    }


def wilson(hits: int, of: int) -> float | None:
    """Return the least share that so many hits speak for, 95 % one-sided (Wilson's bound).

    >>> wilson(47, 50), wilson(18, 20)
    (0.8591, 0.7383)
    """
    if not of:
        return None
    z, share = ONE_SIDED_95, hits / of
    centre = share + z * z / (2 * of)
    spread = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return round((centre - spread) / (1 + z * z / of), 4)


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def _quantile(values: "np.ndarray[Any, Any]", q: float) -> float | None:
    return round(float(np.quantile(values, q)), 4) if values.size else None


def _rounded(value: Any) -> Any:
    """Return a value with cents, and nothing smaller."""
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
