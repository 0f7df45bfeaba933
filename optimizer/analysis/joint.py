"""Many findings at once: one replay of all their changes, so that no dollar counts twice.

Changes of one resource are replayed together; resources do not touch each other, but for pools of
commitments, which come last and see what all the others leave. The parts are what each finding adds
to those before it, in the order of the waterfall, so they sum to the whole.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from optimizer.analysis.case import Case, Saving
from optimizer.analysis.confidence import Floats, next_month
from optimizer.analysis.result import Combination, Felt, Together
from optimizer.errors import PriceNotFoundError
from optimizer.model import Estimate
from optimizer.units import HOURS_PER_MONTH

DAYS_PER_MONTH = HOURS_PER_MONTH / 24
MOST_TOGETHER = 6
"""Up to so many findings of one resource, all their combinations are replayed (methods §6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What one finding changes in the settings of its resource."""

    finding_id: str
    detector: str
    resource_id: str
    order: int
    overlay: Mapping[str, Any]

    def excludes(self, other: "Move") -> bool:
        """Tell whether no plan can hold both: two values of one setting, or it goes altogether."""
        if self.resource_id != other.resource_id or self.finding_id == other.finding_id:
            return False
        if self.overlay.get("deleted") or other.overlay.get("deleted"):
            return True
        shared = self.overlay.keys() & other.overlay.keys()
        return any(self.overlay[name] != other.overlay[name] for name in shared)


@dataclass(frozen=True, kw_only=True, eq=False)
class Joint:
    """Everything needed to total any choice of findings."""

    cases: Mapping[str, Case[Any]]
    moves: tuple[Move, ...]
    _replayed: dict[tuple[str, tuple[str, ...]], Combination | None] = field(
        repr=False, default_factory=dict
    )
    """Combinations that were asked for once already."""
    _steps: dict[tuple[str, tuple[str, ...]], tuple[Saving, Estimate]] = field(
        repr=False, default_factory=dict
    )
    """What a finding adds to others of its resource; of purchases, which wait for more, nothing."""
    _effects: dict[tuple[str, ...], Felt] = field(repr=False, default_factory=dict)

    def together(self, finding_ids: Collection[str], /) -> Together:
        """Replay all changes of these findings at once."""
        chosen = self._moves(finding_ids)
        marginal: dict[str, Saving] = {}
        parts: dict[str, Estimate] = {}
        before: dict[str, list[Move]] = {}
        for at, move in enumerate(chosen):
            mine = before.setdefault(move.resource_id, [])
            saving, part = self._added(mine, move, chosen[:at])
            marginal[move.finding_id], parts[move.finding_id] = saving, part
            mine.append(move)
        detectors: dict[str, list[Saving]] = {}
        owners: dict[str | None, list[Saving]] = {}
        for move in chosen:
            saving = marginal[move.finding_id]
            detectors.setdefault(move.detector, []).append(saving)
            owners.setdefault(self.cases[move.resource_id].resource.owner, []).append(saving)
        return Together(
            total=estimate(*marginal.values()),
            marginal=parts,
            by_detector={name: estimate(*savings) for name, savings in detectors.items()},
            by_owner={owner: estimate(*savings) for owner, savings in owners.items()},
            felt=_all(self._felt(mine) for mine in before.values()),
        )

    def would_add(
        self, finding_ids: Collection[str], others: Collection[str], /
    ) -> dict[str, Estimate]:
        """Return what each of the others alone would add to a choice: with it less without it.

        Only its own resource is replayed again, and the purchases of the choice that its hours
        belong to. An other that excludes one of the choice, or whose price is not known, is left
        out.
        """
        chosen = self._moves(finding_ids)
        without, beside = self._settings(chosen), _grouped(chosen)
        purchases = [self.cases[name] for name in without if self.cases[name].waits_for]
        added: dict[str, Estimate] = {}
        for move in self._moves(others):
            mine = beside.get(move.resource_id, [])
            if move in mine or any(move.excludes(other) for other in mine):
                continue
            concerned = [pool for pool in purchases if move.resource_id in pool.waits_for]
            try:
                saving, part = self._added(mine, move, chosen)
                if concerned:
                    after = without | self._settings(sorted([*mine, move], key=_place))
                    pooled = [_difference(pool, after, without) for pool in concerned]
                    part = estimate(saving, *pooled)
            except PriceNotFoundError:
                continue
            added[move.finding_id] = part
        return added

    def combinations(self, finding_ids: Collection[str], /) -> tuple[Combination, ...]:
        """Return the ways to follow some of these findings, resource by resource.

        Every combination of up to `MOST_TOGETHER` findings of a resource that do not exclude each
        other is replayed. Of more, only those met on the way from none to all in three orders,
        each time taking what adds most: money; money for each minute of waiting; and in the order
        of the waterfall; and each finding by itself. One without a known price is no choice.
        """
        return tuple(
            combination
            for moves in _grouped(self._moves(finding_ids)).values()
            for combination in self._ways(tuple(moves))
        )

    def after_others(self, finding_ids: Collection[str], every: Collection[str], /) -> Estimate:
        """Return what findings of one resource save once all of `every` are carried out."""
        moves = self._moves(finding_ids)
        case = self.cases[moves[0].resource_id].under(self._settings(self._moves(every)))
        return estimate(case.saving(self._settings(moves)[moves[0].resource_id]))

    def excludes(self, finding_id: str, finding_ids: AbstractSet[str], /) -> str | None:
        """Return the first of these findings that cannot be followed beside this one, or None."""
        if finding_id not in self._by_finding:
            return None
        move = self._by_finding[finding_id]
        beside = self._by_resource[move.resource_id]
        return next(
            (o.finding_id for o in beside if o.finding_id in finding_ids and move.excludes(o)), None
        )

    @cached_property
    def _by_finding(self) -> dict[str, Move]:
        return {move.finding_id: move for move in self.moves}

    @cached_property
    def _by_resource(self) -> dict[str, list[Move]]:
        return _grouped(sorted(self.moves, key=_place))

    def _added(
        self, mine: Sequence[Move], move: Move, others: Iterable[Move]
    ) -> tuple[Saving, Estimate]:
        """Return what a finding adds to those of its resource; `others` matter to purchases."""
        key = move.finding_id, tuple(other.finding_id for other in mine)
        case = self.cases[move.resource_id]
        if key in self._steps:
            return self._steps[key]
        before = self._settings(mine).get(move.resource_id, case.settings)
        after = self._settings(sorted([*mine, move], key=_place))[move.resource_id]
        if case.waits_for:
            saving = case.under(self._settings(others)).saving(after, before)
            return saving, estimate(saving)
        saving = case.saving(after, before)
        self._steps[key] = saving, estimate(saving)
        return self._steps[key]

    def _felt(self, mine: Sequence[Move]) -> Felt:
        """Return what is felt of findings of one resource together."""
        key = tuple(move.finding_id for move in mine)
        if key not in self._effects:
            case = self.cases[mine[0].resource_id]
            self._effects[key] = _felt(case, self._settings(mine)[mine[0].resource_id])
        return self._effects[key]

    def _moves(self, finding_ids: Collection[str]) -> list[Move]:
        known = self._by_finding
        return sorted((known[key] for key in set(finding_ids) if key in known), key=_place)

    def _settings(self, moves: Iterable[Move]) -> dict[str, Any]:
        """Return the settings of every resource that these findings change, once they are made."""
        settings: dict[str, Any] = {}
        for move in moves:
            before = settings.get(move.resource_id, self.cases[move.resource_id].settings)
            settings[move.resource_id] = overlaid(before, move.overlay)
        return settings

    def _ways(self, moves: tuple[Move, ...]) -> Iterator[Combination]:
        if len(moves) > MOST_TOGETHER:
            sets = self._greedy_sets(moves)
        else:
            sets = [
                chosen for size in range(1, len(moves) + 1) for chosen in combinations(moves, size)
            ]
        for chosen in sets:
            if combination := self._replay(chosen):
                yield combination

    def _greedy_sets(self, moves: tuple[Move, ...]) -> list[tuple[Move, ...]]:
        def money(found: Combination, _: Move) -> float:
            return found.saving.p50

        def money_for_waiting(found: Combination, _: Move) -> float:
            return found.saving.p50 / (1.0 + max(0.0, found.felt.extra_waiting_minutes_per_month))

        def waterfall(_: Combination, move: Move) -> float:
            return -moves.index(move)

        sets: dict[tuple[str, ...], tuple[Move, ...]] = {
            (move.finding_id,): (move,) for move in moves
        }
        for worth in (money, money_for_waiting, waterfall):
            taken: tuple[Move, ...] = ()
            while ways := [
                (worth(found, move), more)
                for move in moves
                if move not in taken
                and (found := self._replay(more := tuple(sorted((*taken, move), key=_place))))
            ]:
                taken = max(ways, key=lambda way: way[0])[1]
                sets[tuple(move.finding_id for move in taken)] = taken
        return list(sets.values())

    def _replay(self, moves: tuple[Move, ...]) -> Combination | None:
        """Return what findings of one resource come to; None: they exclude each other."""
        key = moves[0].resource_id, tuple(move.finding_id for move in moves)
        if key not in self._replayed:
            self._replayed[key] = self._replay_now(*key, moves)
        return self._replayed[key]

    def _replay_now(
        self, resource_id: str, finding_ids: tuple[str, ...], moves: tuple[Move, ...]
    ) -> Combination | None:
        if any(one.excludes(other) for one, other in combinations(moves, 2)):
            return None
        case = self.cases[resource_id]
        after = self._settings(moves)[resource_id]
        try:
            saving = estimate(case.at_most(after))
        except PriceNotFoundError:
            return None
        return Combination(
            resource_id=resource_id,
            finding_ids=finding_ids,
            saving=saving,
            felt=self._felt(moves),
            waits_for=case.waits_for,
        )


def _grouped(moves: Iterable[Move]) -> dict[str, list[Move]]:
    """Return moves by the resource that they change."""
    groups: dict[str, list[Move]] = {}
    for move in moves:
        groups.setdefault(move.resource_id, []).append(move)
    return groups


def _place(move: Move) -> tuple[int, str, str]:
    return move.order, move.resource_id, move.finding_id


def _difference(case: Case[Any], after: Mapping[str, Any], before: Mapping[str, Any]) -> Saving:
    """Return what a purchase saves more because others change, on each day."""
    bought = before[case.resource.resource_id]
    return Saving(
        daily=case.under(after).saving(bought).daily - case.under(before).saving(bought).daily
    )


def _felt(case: Case[Any], after: Any) -> Felt:
    effects = case.effects(after, case.settings)
    waiting = effects.extra_waiting_minutes_per_month
    return Felt(
        extra_waiting_minutes_per_month=waiting or 0.0,
        extra_restarts_per_month=effects.extra_restarts_per_month or 0.0,
        waiting_not_known=int(waiting is None),
    )


def _all(parts: Iterable[Felt]) -> Felt:
    every = list(parts)
    return Felt(
        extra_waiting_minutes_per_month=sum(p.extra_waiting_minutes_per_month for p in every),
        extra_restarts_per_month=sum(p.extra_restarts_per_month for p in every),
        waiting_not_known=sum(p.waiting_not_known for p in every),
    )


def overlaid(settings: Any, overlay: Mapping[str, Any]) -> Any:
    """Return settings of any kind with some fields changed."""
    return replace(settings, **overlay)


def estimate(*savings: Saving) -> Estimate:
    """Return what savings make together in the coming month.

    The days' spread is bootstrapped on their sum, day beside day. What days cannot tell of one
    resource (open kernels) is independent of the next one's, so it adds in quadrature.
    """
    if not savings:
        return Estimate(p10=0.0, p50=0.0, p90=0.0)
    days = max(saving.daily.size for saving in savings)
    total = np.sum([_at_length(saving.daily, days) for saving in savings], axis=0)
    spread = next_month(total, days_per_month=DAYS_PER_MONTH)
    means = [float(saving.daily.mean()) * DAYS_PER_MONTH for saving in savings]
    below = [mean * (1 - saving.low) for mean, saving in zip(means, savings, strict=True)]
    above = [mean * (saving.high - 1) for mean, saving in zip(means, savings, strict=True)]
    return Estimate(
        p10=spread.p50 - float(np.hypot(spread.p50 - spread.p10, np.linalg.norm(below))),
        p50=spread.p50,
        p90=spread.p50 + float(np.hypot(spread.p90 - spread.p50, np.linalg.norm(above))),
    )


def _at_length(daily: Floats, days: int) -> Floats:
    """Put a shorter history beside longer ones without changing its mean: its end days align."""
    return np.concatenate((np.full(days - daily.size, daily.mean()), daily))
