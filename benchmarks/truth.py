"""What is true of an estate: its bill, and what jobs and people felt, as the emulator knows.

Nothing here knows the analysis: a finding's change is put into the estate's documents from the
first day on, and the emulator plays it. What was said of the finding is held against that.
"""

import copy
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.estate_files import Estate, autoscale_document, cpu_rule, write_estate
from optimizer.emulator import arm
from optimizer.emulator.estate import load_estate
from optimizer.emulator.records import JobRecord
from optimizer.emulator.serving import erlang_c, offered_load
from optimizer.emulator.world import World
from optimizer.units import HOURS_PER_MONTH, seconds_from_iso, utc

DAYS_TO_COME = 28
"""Played after the days that were seen."""

THROWS = 8
"""Plays that an expectation is the mean of."""

AFTER_OTHERS = "once the other changes"
"""What a finding says that only saves with the others on its compute in place."""

Arm = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Felt:
    """What jobs or people felt of one compute in the window that was seen."""

    starts: int
    """Nodes that were allocated; times that somebody started an instance."""
    waiting_minutes: float
    """Of all jobs while none of their nodes ran them; of people at a start; of all requests."""
    run_hours: float
    """Of all jobs that ended, on their nodes."""
    failed_share: float | None
    """Of those hours, what jobs took that failed; None: no job ended."""
    most_nodes: int
    """At work at once, in all time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What an estate cost, by compute."""

    seen: Mapping[str, float]
    """In the window that was seen."""
    to_come: Mapping[str, float]
    """In the four weeks after it."""
    felt: Mapping[str, Felt]

    @property
    def total(self) -> float:
        """What all computes cost in the window."""
        return sum(self.seen.values())


class Player:
    """Plays estates and remembers none."""

    def __init__(self, folder: Path, window: tuple[datetime, datetime]) -> None:
        """Begin with a folder to write estates to, and the window that was seen."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._window = window

    def __call__(self, estate: Estate, only: str | None = None) -> Played:
        """Return what an estate cost, or what one of its computes did: they share nothing."""
        world = self.world(estate if only is None else alone(estate, only))
        first, last = (round(moment.timestamp()) for moment in self._window)
        now = utc(estate.manifest["now_utc"])
        keys = [arm.key(d["id"]) for d in world.documents() if arm.is_played(d)]
        wanted = [key for key in keys if only in {None, key}]
        return Played(
            seen=_costs(world, *self._window),
            to_come=_costs(world, now, now + timedelta(days=DAYS_TO_COME)),
            felt={key: _felt(world, key, first, last) for key in wanted},
        )

    def throws(self, estate: Estate, key: str) -> tuple[Felt, ...]:
        """Return what is felt of one compute under several throws of the emulator's dice.

        They tell how long an allocation takes, and when a low-priority node is taken away.
        """
        mine = alone(estate, key)
        seeds = range(mine.manifest["seed"] + 1, mine.manifest["seed"] + 1 + THROWS)
        first, last = (round(moment.timestamp()) for moment in self._window)
        return tuple(
            _felt(
                self.world(replace(mine, manifest={**mine.manifest, "seed": seed})),
                key,
                first,
                last,
            )
            for seed in seeds
        )

    def world(self, estate: Estate) -> World:
        """Return an estate played to the end of the four weeks to come."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            write_estate(Path(folder), estate)
            world = World(load_estate(Path(folder)))
        world.advance(DAYS_TO_COME * 24)
        return world


def alone(estate: Estate, key: str) -> Estate:
    """Return an estate with one compute or deployment, and what it stands in."""

    def stays(document: Mapping[str, Any]) -> bool:
        mine = arm.key(document["id"]) == key or arm.autoscaled(document) == key
        return mine or not (arm.is_played(document) or arm.is_autoscale(document))

    return replace(
        estate,
        resources=[document for document in estate.resources if stays(document)],
        jobs=[job for job in estate.jobs if arm.key(job.resource_id) == key],
        sessions=[each for each in estate.sessions if arm.key(each.resource_id) == key],
        traffic=[each for each in estate.traffic if arm.key(each.resource_id) == key],
    )


def _costs(world: World, start: datetime, end: datetime) -> dict[str, float]:
    costs: dict[str, float] = defaultdict(float)
    for charge in world.charges(round(start.timestamp()), round(end.timestamp())):
        costs[charge.compute_id.lower()] += charge.cost
    return dict(costs)


# -- what was said, and what was true --------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What was said of one finding and what was true of it. Money is over the window seen."""

    said: float
    true: float
    true_to_come_per_month: float
    memory_violated: bool = False
    restarts: tuple[float, float] | None = None
    """Said and true in the window, extra; None: not said, or nothing tells it."""
    waiting_minutes: tuple[float, float] | None = None
    restarts_expected: tuple[float, float] | None = None
    """Said, and the mean of what is true under several throws of the dice."""
    waiting_expected: tuple[float, float] | None = None
    stretch: tuple[float, float, float] | None = None
    """At best, at worst, and true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Holds findings of one estate against its truth."""

    estate: Estate
    saving: Sequence[Arm]
    """The findings that save something."""
    play: Player
    before: Played
    months: float
    """The window's length."""
    throws: bool = True
    """Whether effects are held against a mean as well, which takes many plays."""

    @classmethod
    def of(cls, estate: Estate, said: Arm, folder: Path, *, throws: bool = True) -> "Judge":
        """Return the judge of what `optimizer findings --json` says of an estate.

        Args:
            estate: as it stands.
            said: the command's answer.
            folder: where estates that are played are written to.
            throws: whether effects are held against a mean as well.
        """
        window = utc(said["window"]["start_utc"]), utc(said["window"]["end_utc"])
        play = Player(folder, window)
        return cls(
            estate=estate,
            saving=[each for each in said["findings"] if each["saving_per_month"]["p50"] > 0],
            play=play,
            before=play(estate),
            months=(window[1] - window[0]) / timedelta(hours=HOURS_PER_MONTH),
            throws=throws,
        )

    def replayed(self, finding: Arm) -> Replayed:
        """Return what was said of one finding, and what it does by itself."""
        key = finding["resource_id"]
        base, was = self.estate, self.before
        if any(AFTER_OTHERS in note for note in finding["pillar_notes"]):
            for other in self.saving:
                if other["resource_id"] == key and other["id"] != finding["id"]:
                    base = changed(base, other)
            was = self.play(base, key)
        with_it = changed(base, finding)
        after = self.play(with_it, key)
        to_come = was.to_come.get(key, 0.0) - after.to_come.get(key, 0.0)
        felt = was.felt[key], after.felt.get(key)
        thrown = [felt]
        # Nothing of a deployment is left to chance.
        if self.throws and felt[1] is not None and "/computes/" in key:
            plays = self.play.throws(base, key), self.play.throws(with_it, key)
            thrown = list(zip(*plays, strict=True))
        return Replayed(
            said=float(finding["evidence"]["saving_over_window"]),
            true=was.seen.get(key, 0.0) - after.seen.get(key, 0.0),
            true_to_come_per_month=to_come * HOURS_PER_MONTH / (DAYS_TO_COME * 24),
            memory_violated=violates(self.estate, finding),
            restarts=self._extra(finding, "restarts", [felt]),
            waiting_minutes=self._extra(finding, "waiting_minutes", [felt]),
            restarts_expected=self._extra(finding, "restarts", thrown),
            waiting_expected=self._extra(finding, "waiting_minutes", thrown),
            stretch=_stretch(finding, felt),
        )

    def together(self) -> float:
        """Return what all findings that save something do save at once, in the window."""
        return self.before.total - self.play(all_changed(self.estate, self.saving)).total

    def _extra(
        self, finding: Arm, what: str, changes: Sequence[tuple[Felt, Felt | None]]
    ) -> tuple[float, float] | None:
        """Return what was said of an effect in the window, and its mean over some plays."""
        said = finding["effects"][f"extra_{what}_per_month"]
        if said is None or any(after is None for _, after in changes):
            return None
        count = _COUNTS[what]
        true = [count(after) - count(before) for before, after in changes if after is not None]
        return said * self.months, float(np.mean(true))


_COUNTS: dict[str, Callable[[Felt], float]] = {
    "restarts": lambda each: each.starts,
    "waiting_minutes": lambda each: each.waiting_minutes,
}


def _stretch(finding: Arm, felt: tuple[Felt, Felt | None]) -> tuple[float, float, float] | None:
    """Return how much longer work takes, at best, at worst and truly, where the size changes."""
    told = [finding["evidence"].get(f"runtime_stretch_at_{end}") for end in ("best", "worst")]
    if None in told or felt[1] is None or not felt[0].run_hours:
        return None
    nodes = finding["evidence"].get("nodes_for_one", 1)
    return told[0], told[1], felt[1].run_hours * nodes / felt[0].run_hours


# -- what is felt ----------------------------------------------------------------------------------


def _felt(world: World, key: str, first_s: int, last_s: int) -> Felt:
    document = world.document(key) or {}
    if arm.is_cluster(document):
        return _felt_by_jobs(world, key, first_s, last_s)
    nothing = Felt(starts=0, waiting_minutes=0.0, run_hours=0.0, failed_share=None, most_nodes=0)
    if arm.is_instance(document):
        starts = sum(
            operation.name == "Start"
            and arm.key(operation.resource_id) == key
            and first_s <= operation.at_s < last_s
            for operation in world.operations()
        )
        waited = starts * world.estate.physics.start_seconds / 60
        return replace(nothing, starts=starts, waiting_minutes=waited)
    seen = world.deployment_minutes(key, first_s // 60, last_s // 60)
    servers = seen.ready * world.deployment_settings(key).servers_per_instance
    load = offered_load(seen.requests_per_minute, seen.service_ms)
    spare = np.maximum(servers - load, 1e-9)
    waits_ms = erlang_c(load, servers) * seen.service_ms / spare
    waited = float((waits_ms * seen.requests_per_minute).sum()) / 60_000
    return replace(nothing, waiting_minutes=waited)


def _felt_by_jobs(world: World, key: str, first_s: int, last_s: int) -> Felt:
    counts = world.node_counts(key)
    allocated = np.maximum(np.diff(counts.preparing, prepend=0), 0)
    inside = (counts.at_s >= first_s) & (counts.at_s < last_s)
    spans = world.occupancy(key)
    ran: dict[int, dict[int, int]] = defaultdict(dict)
    for job, start, end in zip(
        spans.job_index.tolist(), spans.start_s.tolist(), spans.end_s.tolist(), strict=True
    ):
        ran[job][start] = end
    mine = [
        record
        for record in world.jobs()
        if arm.key(record.resource_id) == key
        and first_s <= record.submitted_s < last_s
        and record.ended_s is not None
    ]
    on_nodes = {record.job_index: _seconds(ran[record.job_index]) for record in mine}
    held = _node_hours(mine, on_nodes)
    failed = _node_hours([each for each in mine if each.status == "Failed"], on_nodes)
    return Felt(
        starts=int(allocated[inside].sum()),
        waiting_minutes=sum(
            (record.ended_s or 0) - record.submitted_s - on_nodes[record.job_index]
            for record in mine
        )
        / 60,
        run_hours=sum(on_nodes.values()) / 3600,
        failed_share=failed / held if held else None,
        most_nodes=int(counts.active.max(initial=0)),
    )


def _seconds(attempts: Mapping[int, int]) -> int:
    return sum(end - start for start, end in attempts.items())


def _node_hours(jobs: Iterable[JobRecord], seconds: Mapping[int, int]) -> float:
    return sum(seconds[job.job_index] * int(job.row["nodes"]) for job in jobs) / 3600


# -- what is changed -------------------------------------------------------------------------------


def changed(estate: Estate, finding: Arm) -> Estate:  # noqa: PLR0911 - one for each kind of change
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
        case "abandoned_compute" | "idle_deployment":
            return mended(estate, {key: {"deleted": True}})
        case "no_schedule":
            return mended(estate, {key: {"schedules": {"computeStartStop": after}}})
        case "no_autoscale" | "inverted_autoscale":
            return mended(estate, {key: {"autoscale": (after["minimum"], after["maximum"])}})
        case "serial_training":
            return _spread(estate, key, after, finding["evidence"]["nodes_for_one"])
        case _:
            name = finding["change"]["setting"].rpartition(".")[2]
            return mended(estate, {key: {name: after}})


def all_changed(estate: Estate, findings: Iterable[Arm]) -> Estate:
    """Return the estate with the changes of some findings in place from the first day."""
    for finding in findings:
        estate = changed(estate, finding)
    return estate


def mended(estate: Estate, settings: Mapping[str, Mapping[str, Any]]) -> Estate:
    """Return the estate with settings of some resources changed, by their last name.

    Beside those of their documents there are `deleted`, and `autoscale`: minimum and maximum of a
    setting with Microsoft's two rules, looked at once an hour.
    """
    gone = {key for key, chosen in settings.items() if chosen.get("deleted")}
    scaled = {key for key, chosen in settings.items() if "autoscale" in chosen} | gone
    documents = [
        copy.deepcopy(dict(each))
        for each in estate.resources
        if arm.key(each["id"]) not in gone and arm.autoscaled(each) not in scaled
    ]
    added = []
    for document in documents:
        for name, value in settings.get(document["id"].lower(), {}).items():
            if name == "autoscale":
                added.append(_microsofts_sample(document, *value))
            else:
                _set(document, name, value)
    return replace(
        estate,
        resources=documents + added,
        jobs=[job for job in estate.jobs if arm.key(job.resource_id) not in gone],
        sessions=[each for each in estate.sessions if arm.key(each.resource_id) not in gone],
        traffic=[each for each in estate.traffic if arm.key(each.resource_id) not in gone],
    )


def _microsofts_sample(deployment: Mapping[str, Any], least: int, most: int) -> Arm:
    rules = (
        cpu_rule("GreaterThan", 70, "Increase", by=2, cooldown_minutes=60),
        cpu_rule("LessThan", 30, "Decrease", by=1, cooldown_minutes=60),
    )
    return autoscale_document(deployment, least=least, most=most, rules=rules)


def _set(document: Arm, name: str, value: Any) -> None:
    if arm.is_deployment(document):
        document["sku"][name] = value
        return
    inner = document["properties"]["properties"]
    scale = inner.get("scaleSettings", {})
    (scale if name in scale else inner)[name] = value


def _spread(estate: Estate, key: str, sku: str, nodes: int) -> Estate:
    """Return the estate with each job of a cluster on `nodes` times as many, smaller nodes.

    Its pieces do not wait for each other: each node does its part of them.
    """
    (cluster,) = (each for each in estate.resources if arm.key(each["id"]) == key)
    most = cluster["properties"]["properties"]["scaleSettings"]["maxNodeCount"] * nodes
    jobs = [
        replace(job, nodes=job.nodes * nodes, run_seconds=round(job.run_seconds / nodes))
        if arm.key(job.resource_id) == key
        else job
        for job in estate.jobs
    ]
    return mended(replace(estate, jobs=jobs), {key: {"vmSize": sku, "maxNodeCount": most}})


def violates(estate: Estate, finding: Arm) -> bool:
    """Tell whether a proposed size has less memory than a job truly needs."""
    size = next((p for p in estate.prices if p.sku == finding["change"]["after"]), None)
    return size is not None and any(
        job.memory_gib_needed > size.memory_gib
        or (job.gpus_needed > 0 and job.gpu_memory_gib_needed > size.gpu_memory_gib)
        for job in estate.jobs
        if job.resource_id.lower() == finding["resource_id"]
    )


def exposed(detector: str, played: Felt, settings: Sequence[Mapping[str, Any]]) -> bool | None:
    """Tell whether what saves nothing by itself is true all the same; None: nothing tells it.

    Args:
        detector: what was said.
        played: what the emulator knows of the compute.
        settings: its documents.
    """
    if detector == "failed_work":
        return (played.failed_share or 0.0) >= FAILED_SHARE
    if detector == "open_ended_maximum":
        (most,) = (
            each["properties"]["properties"]["scaleSettings"]["maxNodeCount"] for each in settings
        )
        return bool(most >= FAR_OVER * played.most_nodes)
    return None


FAILED_SHARE = 0.05
"""Of a cluster's node-hours, from which on failures are worth a word (methods §11)."""

FAR_OVER = 2
"""Times all that was ever at work at once, past and to come: a maximum that limits nothing."""
