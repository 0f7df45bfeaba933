"""The choice that saves most within limits, as a mixed-integer programme (methods §6).

An option is some findings of one resource, replayed together, and at most one option of a resource
is taken: so nothing in here adds up savings that overlap. HiGHS proves the optimum.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from optimizer.errors import ConfigError, OptimizerError
from optimizer.scenarios.limits import Budget

Floats = npt.NDArray[np.float64]

TIE = 0.005
"""Half a cent: what all changes and all waiting together may weigh beside the saving. Of choices
that save the same, the one with fewer changes and less waiting is taken."""

TAKES = ("waiting_minutes", "restarts", "effort_points", "high_risks", "changes")
"""What an option takes and a budget limits: fields of both."""

_RELATIVE_GAP = 1e-7
_INFEASIBLE = 2
"""A status of `scipy.optimize.milp`."""


class SolverError(OptimizerError):
    """HiGHS found no choice in the time it was given."""


class InfeasibleError(ConfigError):
    """No choice keeps all limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to change one resource, and what it takes; amounts are per month."""

    resource_id: str
    finding_ids: tuple[str, ...]
    saving: float
    """In the billing currency."""
    waiting_minutes: float | None = 0.0
    """None: nobody knows, so a limit on waiting rules it out."""
    restarts: float = 0.0
    effort_points: float = 0.0
    high_risks: int = 0
    team: str = ""
    waits_for: frozenset[str] = frozenset()
    """Resources whose options decide what it saves; `saving` is then the most it can be."""

    @property
    def changes(self) -> int:
        """How many findings it follows."""
        return len(self.finding_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """What a purchase was seen to save less than its most, and beside which other options."""

    option: int
    """Index of the purchase."""
    amount: float
    beside: Mapping[str, int | None]
    """Index of the option taken, by resource id; None: the resource stays as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The options taken, and how good any other choice could be."""

    options: tuple[int, ...]
    """Indices."""
    saving: float
    """A month; what the shortfalls told is taken off."""
    bound: float
    """No choice within the limits saves more, but for `TIE`; as `saving` where that is proved."""


def choose(
    options: Sequence[Option],
    budget: Budget,
    *,
    teams: Mapping[str, Budget] | None = None,
    shortfalls: Sequence[Shortfall] = (),
    seconds: float = 60.0,
) -> Choice:
    """Return the options that save most together.

    Args:
        options: at most one of a resource is taken.
        budget: limits of the choice as a whole.
        teams: limits of the options of a team, by its name.
        shortfalls: what is known of purchases beside some other options.
        seconds: after which the best choice so far is good enough; `bound` tells how good.

    Raises:
        InfeasibleError: a least saving cannot be had within the limits.
        SolverError: no choice was found in time.
    """
    found = _solve(options, budget, teams or {}, shortfalls, relaxed=False, seconds=seconds)
    if found.x is None:
        raise SolverError(f"HiGHS found no choice in {seconds:.0f} s; set fewer limits.")
    taken = np.flatnonzero(found.x[: len(options)] > 0.5)  # noqa: PLR2004 - 0 or 1
    lost = float(found.x[len(options) :].sum())
    saving = float(_savings(options)[taken].sum()) - lost
    return Choice(
        options=tuple(int(index) for index in taken),
        saving=saving,
        bound=max(saving, -float(found.mip_dual_bound)) if taken.size else saving,
    )


def linear_bound(
    options: Sequence[Option], budget: Budget, *, teams: Mapping[str, Budget] | None = None
) -> float:
    """Return what a choice could save at most if options could be taken in part."""
    found = _solve(options, budget, teams or {}, (), relaxed=True, seconds=60.0)
    return -float(found.fun)


def undominated(
    options: Sequence[Option], budgets: Collection[Budget], *, keep: Collection[str] = ()
) -> list[Option]:
    """Leave out options that no choice needs: another of the resource saves as much and takes less.

    Args:
        options: in any order.
        budgets: only what one of them limits counts as taken, and changes.
        keep: ids of resources that purchases wait for: their options matter beyond themselves.
    """
    limited = [name for name in TAKES if any(getattr(b, name) is not None for b in budgets)]
    kept: list[Option] = []
    ordered = sorted(options, key=lambda option: option.resource_id)
    for resource_id, group in groupby(ordered, key=lambda option: option.resource_id):
        mine = list(group)
        if resource_id in keep or len(mine) == 1:
            kept += mine
            continue
        # What is not known is ruled out by any limit, so it takes more than whatever is known.
        takes = [_taken(mine, name, unknown=np.inf) for name in {*limited, "changes"}]
        costs = np.stack([-_savings(mine), *takes], axis=1)
        no_worse = (costs[:, None, :] <= costs[None, :, :]).all(axis=2)
        alike = no_worse & no_worse.T
        needless = ((no_worse & ~alike) | np.triu(alike, k=1)).any(axis=0)
        kept += [mine[index] for index in np.flatnonzero(~needless)]
    return kept


def _solve(
    options: Sequence[Option],
    budget: Budget,
    teams: Mapping[str, Budget],
    shortfalls: Sequence[Shortfall],
    *,
    relaxed: bool,
    seconds: float,
) -> Any:
    count = len(options)
    losing = sorted({shortfall.option for shortfall in shortfalls})
    width = count + len(losing)
    if not width:
        raise SolverError("There is no option to choose from.")
    savings = _savings(options)
    upper = np.ones(width)
    upper[count:] = np.inf
    if _limits_waiting(budget, teams):
        unknown = [
            option.waiting_minutes is None
            and (budget.waiting_minutes is not None or _limits_waiting(teams.get(option.team), {}))
            for option in options
        ]
        upper[:count][unknown] = 0.0
    rows = _Rows(width)
    rows.add_groups([option.resource_id for option in options])
    everyone = np.arange(count)
    team_names = np.array([option.team for option in options])
    rows.add_budget(options, budget, everyone)
    for team, own in teams.items():
        rows.add_budget(options, own, np.flatnonzero(team_names == team))
    for shortfall in shortfalls:
        rows.add_shortfall(options, shortfall, count + losing.index(shortfall.option))
    result = milp(
        np.concatenate([-savings + _ties(options), np.ones(len(losing))]),
        integrality=np.where(np.arange(width) < count, 0 if relaxed else 1, 0),
        bounds=Bounds(np.zeros(width), upper),
        constraints=rows.constraint(),
        options={"time_limit": seconds, "mip_rel_gap": _RELATIVE_GAP},
    )
    if result.status == _INFEASIBLE:
        raise InfeasibleError(
            "No choice keeps all limits: ask for less saving, or allow more of what is limited."
        )
    return result


class _Rows:
    """Rows of `matrix @ x <= most`, as they come."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._values: list[Floats] = []
        self._columns: list[npt.NDArray[np.int64]] = []
        self._most: list[float] = []

    def add(self, columns: Any, values: Any, most: float) -> None:
        self._columns.append(np.asarray(columns, dtype=np.int64))
        self._values.append(np.asarray(values, dtype=np.float64))
        self._most.append(most)

    def add_groups(self, names: Sequence[str]) -> None:
        """At most one of those with one name."""
        groups: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            groups.setdefault(name, []).append(index)
        for group in groups.values():
            if len(group) > 1:
                self.add(group, np.ones(len(group)), 1.0)

    def add_budget(
        self, options: Sequence[Option], budget: Budget, mine: npt.NDArray[np.int64]
    ) -> None:
        of_mine = [options[index] for index in mine]
        for name in TAKES:
            most = getattr(budget, name)
            if most is not None:
                self.add(mine, _taken(of_mine, name, unknown=0.0), most)
        if budget.least_saving is not None:
            self.add(mine, -_savings(of_mine), -budget.least_saving)

    def add_shortfall(self, options: Sequence[Option], known: Shortfall, loss: int) -> None:
        """Require `loss >= amount * (purchase taken - how many of `beside` are otherwise)`."""
        columns, values, same = [loss, known.option], [-1.0, known.amount], 0
        for index, option in enumerate(options):
            if option.resource_id not in known.beside:
                continue
            taken = known.beside[option.resource_id]
            if taken is None:
                columns.append(index)
                values.append(-known.amount)
            elif taken == index:
                same += 1
                columns.append(index)
                values.append(known.amount)
        self.add(columns, values, known.amount * same)

    def constraint(self) -> list[LinearConstraint]:
        if not self._most:
            return []
        sizes = [columns.size for columns in self._columns]
        matrix = csr_array(
            (
                np.concatenate(self._values),
                np.concatenate(self._columns),
                np.concatenate(([0], np.cumsum(sizes))),
            ),
            shape=(len(sizes), self._width),
        )
        return [LinearConstraint(matrix, -np.inf, np.array(self._most))]


def _savings(options: Sequence[Option]) -> Floats:
    return np.array([option.saving for option in options], dtype=np.float64)


def _taken(options: Sequence[Option], name: str, *, unknown: float) -> Floats:
    values = (getattr(option, name) for option in options)
    return np.array([unknown if value is None else value for value in values], dtype=np.float64)


def _ties(options: Sequence[Option]) -> Floats:
    """Return a weight of each option, so small that all together weigh less than `TIE`."""
    weights = np.zeros(len(options))
    for name in ("changes", "waiting_minutes"):
        taken = np.maximum(_taken(options, name, unknown=0.0), 0.0)
        if taken.sum() > 0:
            weights += taken * (TIE / 2 / taken.sum())
    return weights


def _limits_waiting(budget: Budget | None, teams: Mapping[str, Budget]) -> bool:
    return any(
        each is not None and each.waiting_minutes is not None for each in (budget, *teams.values())
    )
