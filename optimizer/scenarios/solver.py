"""The choice that saves most within limits, as a mixed-integer programme (methods §6).

An option is some findings of one resource, replayed together, and at most one option of a resource
is taken: so nothing in here adds up savings that overlap. HiGHS solves it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array

from optimizer.errors import ConfigError, OptimizerError
from optimizer.scenarios.limits import Budget

Floats = npt.NDArray[np.float64]

TIE = 0.005
"""Half a cent: what all changes and all waiting together may weigh beside the saving. Of choices
that save the same, the one with fewer changes and less waiting is taken."""

TAKES = ("waiting_minutes", "restarts", "effort_points", "high_risks", "changes")
"""What an option takes and a budget limits: fields of both."""

LARGE = 400
"""Up to so many options the optimum is found and proved."""
EXACT, CLOSE = 1e-7, 1e-4
"""How far a choice may lie below its bound, relative to it: of up to `LARGE` options, and of more.
The last hundredth of a percent of a large estate costs HiGHS ten times the rest."""

_TOLERANCE = 1e-9
_NO_CHOICE = "No choice keeps all limits: ask for less saving, or allow more of what is limited."
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
    large: int = LARGE,
    close: float = CLOSE,
    seconds: float = 60.0,
) -> Choice:
    """Return the options that save most together.

    Args:
        options: at most one of a resource is taken.
        budget: limits of the choice as a whole.
        teams: limits of the options of a team, by its name.
        shortfalls: what is known of purchases beside some other options.
        large: above so many options, a choice that is close is good enough.
        close: how far below its bound that is, relative to it.
        seconds: after which the best choice so far is good enough; `bound` tells how good.

    Raises:
        InfeasibleError: a least saving cannot be had within the limits.
        SolverError: no choice was found in time.
    """
    problem = _problem(options, budget, teams or {}, shortfalls)
    taken, bound = _solved(problem, large, close, seconds)
    saving = float((problem.ties - problem.costs) @ taken)
    return Choice(
        options=tuple(int(index) for index in np.flatnonzero(taken[: len(options)])),
        saving=saving,
        bound=max(saving, bound),
    )


def linear_bound(
    options: Sequence[Option], budget: Budget, *, teams: Mapping[str, Budget] | None = None
) -> float:
    """Return what a choice could save at most if options could be taken in part."""
    return -float(_relaxed(_problem(options, budget, teams or {}, ())).fun)


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Problem:
    """Minimise `costs @ x` where `matrix @ x <= most`, 0 <= x <= upper."""

    costs: Floats
    """Savings below 0, ties among them; then what purchases fall short."""
    ties: Floats
    whole: npt.NDArray[np.bool_]
    """Options are taken or not; shortfalls are amounts."""
    upper: Floats
    matrix: Any
    most: Floats
    groups: npt.NDArray[np.int64]
    """By column: the row that allows one option of its resource; -1: no row."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Found:
    """What HiGHS says of a problem."""

    x: Floats | None
    fun: float = np.inf
    bound: float = -np.inf
    status: int = 0


def _problem(
    options: Sequence[Option],
    budget: Budget,
    teams: Mapping[str, Budget],
    shortfalls: Sequence[Shortfall],
) -> _Problem:
    count = len(options)
    losing = sorted({shortfall.option for shortfall in shortfalls})
    width = count + len(losing)
    upper = np.concatenate((np.ones(count), np.full(len(losing), np.inf)))
    for index, option in enumerate(options):
        limiting = (budget, teams.get(option.team))
        if option.waiting_minutes is None and any(
            b and b.waiting_minutes is not None for b in limiting
        ):
            upper[index] = 0.0
    rows = _Rows(width)
    groups = rows.add_groups([option.resource_id for option in options])
    rows.add_budget(options, budget, np.arange(count))
    team_names = np.array([option.team for option in options])
    for team, own in teams.items():
        rows.add_budget(options, own, np.flatnonzero(team_names == team))
    for shortfall in shortfalls:
        rows.add_shortfall(options, shortfall, count + losing.index(shortfall.option))
    ties = np.concatenate((_ties(options), np.zeros(len(losing))))
    return _Problem(
        costs=np.concatenate((-_savings(options), np.ones(len(losing)))) + ties,
        ties=ties,
        whole=np.arange(width) < count,
        upper=upper,
        matrix=rows.matrix(),
        most=rows.most(),
        groups=groups,
    )


def _solved(problem: _Problem, large: int, close: float, seconds: float) -> tuple[Floats, float]:
    """Return what is taken of each column, and what no choice can save more than.

    Of a large problem, what could hardly be otherwise is settled first: options may be taken in
    part, few are, and the reduced costs tell what another decision on any option would lose. Where
    the choice among the undecided ones comes close enough to that bound, it stands; where it does
    not, only what could not close the gap stays settled.
    """
    lower, upper, gap = np.zeros(problem.upper.size), problem.upper, EXACT
    if problem.upper.size > large:
        gap = close
        relaxed = _relaxed(problem)
        first = _milp(problem, *_core(problem, relaxed, large), gap, seconds)
        if first.x is not None:
            if first.fun - relaxed.fun <= gap * abs(relaxed.fun):
                return _whole(problem, first.x), -float(relaxed.fun)
            lower, upper = _settled(problem, relaxed, float(first.fun - relaxed.fun) + TIE)
    found = _milp(problem, lower, upper, gap, seconds)
    if found.status == _INFEASIBLE:
        raise InfeasibleError(_NO_CHOICE)
    if found.x is None:
        raise SolverError(f"HiGHS found no choice in {seconds:.0f} s; set fewer limits.")
    return _whole(problem, found.x), -found.bound


def _whole(problem: _Problem, x: Floats) -> Floats:
    taken: Floats = np.where(problem.whole, np.round(x), x)
    return taken


def _core(problem: _Problem, relaxed: Any, count: int) -> tuple[Floats, Floats]:
    """Return bounds that leave only so many columns open that are decided least."""
    lost = np.abs(relaxed.lower.marginals + relaxed.upper.marginals)
    lost[(relaxed.x > _TOLERANCE) & (relaxed.x < problem.upper - _TOLERANCE)] = 0.0
    is_open = (lost <= np.partition(lost, count)[count]) | ~problem.whole
    rounded = np.round(relaxed.x)
    return np.where(is_open, 0.0, rounded), np.where(is_open, problem.upper, rounded)


def _settled(problem: _Problem, relaxed: Any, gap: float) -> tuple[Floats, Floats]:
    """Return bounds of every column, those fixed whose change would lose more than the gap.

    A resource of which one option must be taken, and only one is left, is settled as well.
    """
    lower, upper = np.zeros(problem.upper.size), problem.upper.copy()
    upper[problem.whole & (relaxed.lower.marginals > gap)] = 0.0
    lower[problem.whole & (-relaxed.upper.marginals > gap) & (upper > 0)] = 1.0
    must = np.append(-relaxed.ineqlin.marginals > gap, False)
    left = problem.whole & (upper > 0) & must[problem.groups]
    groups, counts = np.unique(problem.groups[left], return_counts=True)
    lower[left & np.isin(problem.groups, groups[counts == 1])] = 1.0
    return lower, upper


def _relaxed(problem: _Problem) -> Any:
    found: Any = linprog(  # type: ignore[call-overload]  # sparse matrices are taken
        problem.costs,
        A_ub=problem.matrix,
        b_ub=problem.most,
        bounds=np.stack((np.zeros(problem.upper.size), problem.upper), axis=1),
        method="highs",
    )
    if found.x is None:
        raise InfeasibleError(_NO_CHOICE)
    return found


def _milp(
    problem: _Problem, lower: Floats, upper: Floats, relative_gap: float, seconds: float
) -> _Found:
    """Solve among the columns that are not fixed, which is faster than telling HiGHS all."""
    free = lower < upper
    rest = problem.most - problem.matrix @ np.where(free, 0.0, lower)
    matrix = problem.matrix[:, free]
    used = np.diff(matrix.indptr) > 0
    if (rest[~used] < -_TOLERANCE).any():
        return _Found(x=None, status=_INFEASIBLE)
    fixed_cost = float(problem.costs[~free] @ lower[~free])
    if not free.any():
        return _Found(x=lower, fun=fixed_cost, bound=fixed_cost)
    found = milp(
        problem.costs[free],
        integrality=problem.whole[free].astype(int),
        bounds=Bounds(lower[free], upper[free]),
        constraints=LinearConstraint(matrix[used], -np.inf, rest[used]) if used.any() else (),
        options={"time_limit": seconds, "mip_rel_gap": relative_gap},
    )
    if found.x is None:
        return _Found(x=None, status=found.status)
    x = lower.copy()
    x[free] = found.x
    bound = found.fun if found.mip_dual_bound is None else found.mip_dual_bound
    return _Found(x=x, fun=found.fun + fixed_cost, bound=bound + fixed_cost)


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

    def add_groups(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        """At most one of those with one name; return the row of each column, -1 for none."""
        groups: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            groups.setdefault(name, []).append(index)
        rows = np.full(self._width, -1)
        for group in groups.values():
            if len(group) > 1:
                rows[group] = len(self._most)
                self.add(group, np.ones(len(group)), 1.0)
        return rows

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

    def matrix(self) -> Any:
        sizes = [columns.size for columns in self._columns]
        return csr_array(
            (
                np.concatenate([*self._values, np.zeros(0)]),
                np.concatenate([*self._columns, np.zeros(0, dtype=np.int64)]),
                np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
            ),
            shape=(len(sizes), self._width),
        )

    def most(self) -> Floats:
        return np.array(self._most, dtype=np.float64)


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
