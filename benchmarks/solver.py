"""The solver on a large estate: seconds, gap to the bound, and what a greedy choice would lose.

    python -m benchmarks.solver [--findings 5000] [--seed 1]

Options are made up, seeded, and shaped like those of an estate: findings of one resource overlap,
so that together they save less than one by one; most are one click and low risk; a few resources
hold most of the money. Every limit binds or nearly does. What is timed is all that happens between
replayed combinations and a choice: leaving out dominated options, and HiGHS.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from benchmarks.estate_files import write_json
from optimizer.errors import OptimizerError
from optimizer.model import Effort
from optimizer.scenarios.limits import EFFORT_POINTS, Budget
from optimizer.scenarios.solver import (
    TAKES,
    Option,
    choose,
    linear_bound,
    undominated,
)

RESULTS = Path(__file__).parent / "results"

TEAMS = 40
FINDINGS_OF_A_RESOURCE = (1, 2, 3, 4)
SHARE_OF_RESOURCES = (0.55, 0.28, 0.12, 0.05)
EFFORTS = (Effort.ONE_CLICK, Effort.RECREATE, Effort.CODE_CHANGE)
SHARE_OF_EFFORTS = (0.72, 0.20, 0.08)
HIGH_RISK = 0.08
MEDIAN_SPEND, SPEND_SIGMA = 400.0, 1.3

ALLOWED = 0.35
"""Of what all findings together would take: effort, waiting, restarts, high risks and changes."""
ALLOWED_TO_A_TEAM = 0.5
"""Of what all findings of an average team would take: changes and waiting."""

GOAL_SECONDS = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures and keep them as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.solver")
    parser.add_argument("--findings", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parsed = parser.parse_args(arguments)
    try:
        figures = measured(parsed.findings, parsed.seed)
    except OptimizerError as error:
        print(error, file=sys.stderr)
        return 1
    for name, value in figures.items():
        print(
            f"{name:<28} {value:>14,.6g}"
            if isinstance(value, float)
            else f"{name:<28} {value:>14,}"
        )
    write_json(RESULTS / "solver.json", figures)
    return 0


def measured(findings: int, seed: int) -> dict[str, Any]:
    """Return how long a choice takes and how good it is."""
    options = estate(findings, seed)
    budget, teams = limits_of(options)
    budgets = [budget, *teams.values()]
    started, cpu_started = perf_counter(), process_time()
    kept = undominated(options, budgets)
    choice = choose(kept, budget, teams=teams)
    seconds, cpu_seconds = perf_counter() - started, process_time() - cpu_started
    cpu_started = process_time()
    taken = greedy(options, budget, teams)
    greedy_seconds = process_time() - cpu_started
    chosen = [kept[index] for index in choice.options]
    bound = linear_bound(kept, budget, teams=teams)
    greedily = sum(option.saving for option in taken)
    return {
        "findings": findings,
        "seed": seed,
        "options": len(options),
        "options_not_dominated": len(kept),
        "changes_chosen": sum(option.changes for option in chosen),
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "goal_seconds": GOAL_SECONDS,
        "saving": round(choice.saving, 2),
        "gap_to_proved_bound": round(choice.bound / choice.saving - 1, 9),
        "gap_to_linear_bound": round(bound / choice.saving - 1, 9),
        "greedy_saving": round(greedily, 2),
        "saving_over_greedy": round(choice.saving / greedily, 5),
        "greedy_cpu_seconds": round(greedy_seconds, 3),
        "cpu_over_greedy": round(cpu_seconds / greedy_seconds, 1),
    }


def estate(findings: int, seed: int) -> list[Option]:
    """Return every combination of the findings of each resource."""
    rng = np.random.default_rng(seed)
    options: list[Option] = []
    made = resource = 0
    while made < findings:
        count = min(findings - made, int(rng.choice(FINDINGS_OF_A_RESOURCE, p=SHARE_OF_RESOURCES)))
        spend = float(rng.lognormal(np.log(MEDIAN_SPEND), SPEND_SIGMA))
        saved = rng.beta(2, 4, count)
        """Share of the resource's spend that each saves of what those before it leave."""
        waiting = rng.gamma(1.5, 40.0, count)
        restarts = waiting / rng.uniform(3, 6, count)
        points = [EFFORT_POINTS[EFFORTS[i]] for i in rng.choice(3, count, p=SHARE_OF_EFFORTS)]
        risky = rng.random(count) < HIGH_RISK
        team = f"team-{int(rng.integers(TEAMS)):02d}"
        options += [
            Option(
                resource_id=f"resource-{resource}",
                finding_ids=tuple(f"{made + index}" for index in chosen),
                saving=spend * float(1 - np.prod(1 - saved[chosen])),
                # A node that is gone already is not started anew a second time.
                waiting_minutes=float(waiting[chosen].max() + 0.3 * waiting[chosen].sum()),
                restarts=float(restarts[chosen].max()),
                effort_points=sum(points[index] for index in chosen),
                high_risks=int(risky[chosen].sum()),
                team=team,
            )
            for size in range(1, count + 1)
            for chosen in map(list, combinations(range(count), size))
        ]
        made, resource = made + count, resource + 1
    return options


def limits_of(options: Sequence[Option]) -> tuple[Budget, dict[str, Budget]]:
    """Return limits on everything that can be limited, and on each team."""
    largest: dict[str, Option] = {}
    for option in options:
        known = largest.setdefault(option.resource_id, option)
        if option.changes > known.changes:
            largest[option.resource_id] = option
    total = {name: sum(getattr(option, name) for option in largest.values()) for name in TAKES}
    budget = Budget(
        waiting_minutes=ALLOWED * total["waiting_minutes"],
        restarts=ALLOWED * total["restarts"],
        effort_points=ALLOWED * total["effort_points"],
        high_risks=int(ALLOWED * total["high_risks"]),
        changes=int(ALLOWED * total["changes"]),
    )
    of_a_team = Budget(
        waiting_minutes=ALLOWED_TO_A_TEAM * total["waiting_minutes"] / TEAMS,
        changes=int(ALLOWED_TO_A_TEAM * total["changes"] / TEAMS),
    )
    return budget, dict.fromkeys(sorted({option.team for option in options}), of_a_team)


def greedy(options: Sequence[Option], budget: Budget, teams: dict[str, Budget]) -> list[Option]:
    """Return what taking the most saving for each point of effort first comes to (methods §6)."""
    taken: dict[str, Option] = {}
    spent: dict[str, dict[str, float]] = {}
    for option in sorted(options, key=lambda o: -o.saving / o.effort_points):
        scopes = (("", budget), (option.team, teams[option.team]))
        if option.resource_id in taken or any(
            (most := getattr(limit, name)) is not None
            and spent.get(scope, {}).get(name, 0.0) + getattr(option, name) > most
            for scope, limit in scopes
            for name in TAKES
        ):
            continue
        taken[option.resource_id] = option
        for scope, _ in scopes:
            known = spent.setdefault(scope, dict.fromkeys(TAKES, 0.0))
            for name in TAKES:
                known[name] += getattr(option, name)
    return list(taken.values())


if __name__ == "__main__":
    sys.exit(main())
