"""What each planted waste really costs: the estate played under every setting of a grid.

Computes do not influence each other, so one play tries one setting of each of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

from benchmarks.estate_files import PATH_OF_SETTING, Settings, as_azure_writes, with_settings
from optimizer.emulator.estate import Estate, load_estate
from optimizer.emulator.world import World
from sample_data.contoso_life import END, HISTORY_START, NOW, Cluster, Compute, Instance

IDLE_SECONDS = tuple(60 * minutes for minutes in (1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120))
IDLE_SHUTDOWNS = tuple(f"PT{minutes}M" for minutes in (15, 30, 45, 60, 90, 120, 180))

LONG_IDLE_SECONDS = 1800
"""More than this is planted waste; no decoy has more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A planted waste, and the settings that might end it."""

    resource_id: str
    detector: str
    """Two with a plus where one change would answer both."""
    before: Settings
    candidates: tuple[Settings, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a compute costs, before now and after."""

    history: float
    future: float

    def less(self, other: "Bill") -> dict[str, float]:
        """Return what having `other` saves."""
        return {
            "history": round(self.history - other.history, 2),
            "future": round(self.future - other.future, 2),
        }


def truth(
    folder: Path, clusters: Sequence[Cluster], instances: Sequence[Instance]
) -> dict[str, Any]:
    """Return what is planted in the estate, with its exact saving, and what only looks like it.

    A saving is the bill as it stands less the bill with the setting changed from the first day.
    """
    estate = load_estate(folder)
    computes: tuple[Compute, ...] = (*clusters, *instances)
    wastes = (*_in_clusters(clusters), *_in_instances(instances))
    now = play(estate, {})
    # Each play holds the next candidate of every waste that has one left; a compute with two
    # wastes has its turns one after the other.
    plays: list[list[tuple[Planted, Settings, Bill]]] = []
    for tried in zip_longest(*_turns(wastes)):
        chosen = [turn for turn in tried if turn]
        bills = play(estate, {waste.resource_id: settings for waste, settings in chosen})
        plays.append([(waste, settings, bills[waste.resource_id]) for waste, settings in chosen])
    return {
        "spend": {
            "history": round(sum(bill.history for bill in now.values()), 2),
            "future": round(sum(bill.future for bill in now.values()), 2),
        },
        "planted": [
            _described(
                waste,
                now[waste.resource_id],
                [(s, bill) for tried in plays for w, s, bill in tried if w is waste],
            )
            for waste in wastes
        ],
        "planted_for_later": [
            {"resource_id": compute.resource_id, "detector": detector, "why": why}
            for compute in computes
            for detector, why in compute.planted_for_later
        ],
        "decoys": [
            {"resource_id": compute.resource_id, "why": compute.decoy}
            for compute in computes
            if compute.decoy
        ],
    }


def play(estate: Estate, settings: Mapping[str, Settings]) -> dict[str, Bill]:
    """Play all eight weeks under these settings and return the bill of each compute."""
    world = World(replace(estate, resources=tuple(with_settings(estate.resources, settings))))
    world.advance((END - NOW).total_seconds() / 3600)
    start, now, end = (int(moment.timestamp()) for moment in (HISTORY_START, NOW, END))
    history, future = (
        {key.lower(): amount for key, amount in world.bill(*span)["by_resource"].items()}
        for span in ((start, now), (now, end))
    )
    # Nothing billed is a bill of 0 here: the emulator knows every cost there is.
    return {
        document["id"]: Bill(
            history=history.get(document["id"].lower(), 0.0),
            future=future.get(document["id"].lower(), 0.0),
        )
        for document in estate.resources
    }


def _in_clusters(clusters: Sequence[Cluster]) -> Iterator[Planted]:
    for cluster in clusters:
        if cluster.decoy:
            continue
        fewer: tuple[Settings, ...] = tuple({"min_nodes": n} for n in range(cluster.min_nodes))
        sooner: tuple[Settings, ...] = (
            tuple({"idle_seconds": seconds} for seconds in IDLE_SECONDS)
            if cluster.idle_seconds > LONG_IDLE_SECONDS
            else ()
        )
        both: tuple[Settings, ...] = tuple(a | b for a, b in product(fewer, sooner))
        for detector, candidates in (
            ("min_nodes_kept", fewer),
            ("slow_scale_down", sooner),
            ("min_nodes_kept+slow_scale_down", both),
        ):
            if candidates:
                yield Planted(
                    resource_id=cluster.resource_id,
                    detector=detector,
                    before={"min_nodes": cluster.min_nodes, "idle_seconds": cluster.idle_seconds},
                    candidates=candidates,
                )


def _in_instances(instances: Sequence[Instance]) -> Iterator[Planted]:
    for instance in instances:
        if instance.planted:
            yield Planted(
                resource_id=instance.resource_id,
                detector="no_idle_shutdown",
                before={"idle_shutdown": instance.idle_shutdown},
                candidates=tuple({"idle_shutdown": shutdown} for shutdown in IDLE_SHUTDOWNS),
            )


def _turns(wastes: Sequence[Planted]) -> list[list[tuple[Planted, Settings]]]:
    """Return, for each compute, what is to be tried on it one play after the other."""
    turns: dict[str, list[tuple[Planted, Settings]]] = {}
    for waste in wastes:
        turns.setdefault(waste.resource_id, []).extend((waste, s) for s in waste.candidates)
    return list(turns.values())


def _described(waste: Planted, now: Bill, tried: Sequence[tuple[Settings, Bill]]) -> dict[str, Any]:
    """Return a waste as `truth.json` holds it; the best candidate costs least over the history."""
    best, least = min(tried, key=lambda pair: pair[1].history)
    return {
        "resource_id": waste.resource_id,
        "detector": waste.detector,
        "before": _by_path({name: waste.before[name] for name in best}),  # type: ignore[literal-required]
        "after": _by_path(best),
        "spend": {"history": round(now.history, 2), "future": round(now.future, 2)},
        "saving": now.less(least),
        "grid": [{"after": _by_path(s), "saving": now.less(bill)} for s, bill in tried],
    }


def _by_path(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {PATH_OF_SETTING[name]: as_azure_writes(name, value) for name, value in settings.items()}
