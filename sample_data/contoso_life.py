"""What the people and pipelines of the sample estate do, drawn by dice with a fixed seed.

Nothing here knows a setting: activity is given, and waste is planted in settings only.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Any

from benchmarks.estate_files import Job, Session

HISTORY_START = datetime(2026, 10, 26, tzinfo=UTC)
"""A Monday, after Europe's clocks went back: the offsets below hold for all eight weeks."""
NOW = datetime(2026, 11, 23, tzinfo=UTC)
END = datetime(2026, 12, 21, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A workspace and the clock that its people live by."""

    workspace: dict[str, Any]
    region: str
    utc_offset_hours: int

    def at(self, day: date, hour: float) -> datetime:
        """Return a local hour of a day as UTC, to the second."""
        local = datetime.combine(day, time(), UTC) + timedelta(seconds=round(hour * 3600))
        return local - timedelta(hours=self.utc_offset_hours)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one node of a job really needs of its machine."""

    cpu_cores: float
    memory_gib: float
    gpus: int = 0
    gpu_busy: float = 0.0
    gpu_memory_gib: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """What every compute of the estate has."""

    site: Site
    name: str
    sku: str
    tags: tuple[tuple[str, str], ...] = ()
    decoy: str | None = None
    """Why it is no waste, where it looks like one."""
    planted_for_later: tuple[tuple[str, str], ...] = ()
    """(detector, why) of waste in something else than the settings played in the truth."""

    @property
    def resource_id(self) -> str:
        """Its ARM id."""
        return f"{self.site.workspace['id']}/computes/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster(Compute):
    """A cluster: its settings and its work."""

    team: str
    max_nodes: int
    work: "Work"
    need: Need
    min_nodes: int = 0
    idle_seconds: int = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance(Compute):
    """A compute instance: its settings and the habits of the person it belongs to."""

    user: str
    habit: "Habit"
    idle_shutdown: str | None = None
    state: str = "Stopped"
    properties: tuple[tuple[str, Any], ...] = ()
    planted: bool = False


Work = Callable[[Cluster, Random], Iterator[Job]]
Habit = Callable[[Instance, Random], Iterator[Session]]


def days() -> Iterator[date]:
    """Return every day of the eight weeks."""
    for number in range((END - HISTORY_START).days):
        yield (HISTORY_START + timedelta(days=number)).date()


def is_weekend(day: date) -> bool:
    """Return whether hardly anybody works."""
    return day.isoweekday() > 5  # noqa: PLR2004 (Saturday and Sunday)


def office_hour(random: Random) -> float:
    """Return a local hour at which somebody does something: two humps with lunch between."""
    return random.gauss(10.3, 1.0) if random.random() < 0.5 else random.gauss(15.0, 1.4)  # noqa: PLR2004


def lasting(random: Random, median_minutes: float, sigma: float) -> int:
    """Return a lognormal duration in seconds, at least half a minute."""
    return max(30, round(60 * median_minutes * math.exp(random.gauss(0.0, sigma))))


def job(cluster: Cluster, random: Random, number: object, **what: Any) -> Job:
    """Return a job of this cluster; every machine is a little more or less needed than usual."""
    need, scatter = cluster.need, random.uniform(0.9, 1.1)
    plain = Job(
        job_id=f"{cluster.name}-{number}",
        resource_id=cluster.resource_id,
        submit_utc=HISTORY_START,
        run_seconds=0,
        nodes=1,
        kind="command",
        experiment=cluster.team,
        user=f"{cluster.team}@contoso.example",
        fails=False,
        cpu_cores_needed=round(need.cpu_cores * scatter, 2),
        memory_gib_needed=round(need.memory_gib * scatter, 1),
        gpus_needed=need.gpus,
        gpu_busy_fraction=round(min(1.0, need.gpu_busy * scatter), 3),
        gpu_memory_gib_needed=round(need.gpu_memory_gib * min(1.0, scatter), 1),
        reference_sku=cluster.sku,
    )
    return replace(plain, **what)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficeJobs:
    """Single jobs that people start in working hours, now and then at a weekend."""

    per_day: float
    median_minutes: float
    sigma: float = 0.8
    nodes: tuple[int, ...] = (1,)
    users: tuple[str, ...] = ("dana", "emil", "fadi")
    kind: str = "command"
    checkpoint_minutes: int | None = None
    weekend_share: float = 0.08
    deadline: tuple[date, date] | None = None
    """Between these days a paper is due and twice as much is run."""

    def __call__(self, cluster: Cluster, random: Random) -> Iterator[Job]:
        """Return the jobs of eight weeks."""
        for day in days():
            rush = self.deadline and self.deadline[0] <= day <= self.deadline[1]
            mean = self.per_day * (2.0 if rush else 1.0)
            mean *= self.weekend_share if is_weekend(day) else random.uniform(0.6, 1.4)
            for number in range(_poisson(random, mean)):
                yield job(
                    cluster,
                    random,
                    f"{day:%m%d}-{number}",
                    submit_utc=cluster.site.at(day, office_hour(random)),
                    run_seconds=lasting(random, self.median_minutes, self.sigma),
                    nodes=random.choice(self.nodes),
                    kind=self.kind,
                    user=f"{random.choice(self.users)}@contoso.example",
                    fails=random.random() < 0.04,  # noqa: PLR2004
                    checkpoint_minutes=self.checkpoint_minutes,
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeps:
    """Hyperparameter sweeps: many children at once, then nothing until somebody reads them."""

    per_day: float
    children: tuple[int, int]
    median_minutes: float

    def __call__(self, cluster: Cluster, random: Random) -> Iterator[Job]:
        """Return parents, which hold no node, and their children."""
        for day in days():
            mean = self.per_day * (0.15 if is_weekend(day) else 1.0)
            for number in range(_poisson(random, mean)):
                name = f"sweep-{day:%m%d}-{number}"
                submit = cluster.site.at(day, office_hour(random))
                for child in range(random.randint(*self.children)):
                    yield job(
                        cluster,
                        random,
                        f"{name}-{child}",
                        submit_utc=submit + timedelta(seconds=5 * child),
                        run_seconds=lasting(random, self.median_minutes, 0.5),
                        parent_id=f"{cluster.name}-{name}",
                        kind="sweep",
                        experiment=f"{cluster.team}-tuning",
                    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Nightly:
    """A pipeline that runs every night, step after step."""

    hour: float
    steps: tuple[tuple[int, float], ...]
    """(nodes, median minutes)."""
    weekdays: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)

    def __call__(self, cluster: Cluster, random: Random) -> Iterator[Job]:
        """Return the steps of every night."""
        for day in days():
            if day.isoweekday() not in self.weekdays:
                continue
            submit = cluster.site.at(day, self.hour + random.uniform(0.0, 0.1))
            for number, (nodes, median_minutes) in enumerate(self.steps):
                step = job(
                    cluster,
                    random,
                    f"{day:%m%d}-step{number}",
                    submit_utc=submit,
                    run_seconds=lasting(random, median_minutes, 0.25),
                    nodes=nodes,
                    kind="pipeline",
                    parent_id=f"{cluster.name}-{day:%m%d}",
                    user="scheduler@contoso.example",
                )
                yield step
                submit += timedelta(seconds=step.run_seconds + 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverEmpty:
    """Work that never ends: in each lane a job is queued before the one in front is done."""

    lanes: int
    hours: float

    def __call__(self, cluster: Cluster, random: Random) -> Iterator[Job]:
        """Return jobs that overlap by ten minutes in each lane."""
        for lane in range(self.lanes):
            submit, number = HISTORY_START + timedelta(minutes=7 * lane), 0
            while submit < END:
                seconds = round(3600 * self.hours * random.uniform(0.8, 1.2))
                yield job(
                    cluster,
                    random,
                    f"lane{lane}-{number}",
                    submit_utc=submit,
                    run_seconds=seconds,
                    kind="batch",
                    user="scheduler@contoso.example",
                )
                submit, number = submit + timedelta(seconds=seconds - 600), number + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthEnd:
    """One big run when the books are closed."""

    nodes: int
    median_minutes: float

    def __call__(self, cluster: Cluster, random: Random) -> Iterator[Job]:
        """Return the runs of the last day of each month."""
        for day in days():
            if (day + timedelta(days=1)).month == day.month:
                continue
            for number in range(3):
                yield job(
                    cluster,
                    random,
                    f"{day:%m%d}-{number}",
                    submit_utc=cluster.site.at(day, 18.0 + 2.5 * number),
                    run_seconds=lasting(random, self.median_minutes, 0.2),
                    nodes=self.nodes,
                    kind="pipeline",
                    user="scheduler@contoso.example",
                )


def nothing(_: Cluster, __: Random) -> Iterator[Job]:
    """Return no job."""
    yield from ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficeDays:
    """A person's days: two to four stretches of work, a weekend now and then, a week off."""

    start_hour: float = 9.0
    stops: bool = False
    """They stop the machine before they go home."""
    kernel_left_open: float = 0.01
    """How often a notebook's kernel stays open when they go, and holds the machine up."""
    tidies: bool = False
    """The day after they left one open, they stop the machine before they go."""
    via: str = "jupyter"
    cpu_pct: float = 35.0
    gpu_pct: float = 0.0
    days_a_week: float = 4.5
    week_off: int | None = None
    """The week, from 0, that they are away."""
    until: date | None = None

    def __call__(self, instance: Instance, random: Random) -> Iterator[Session]:
        """Return their sessions, which never overlap."""
        left_open = False
        for day in days():
            share = 0.06 if is_weekend(day) else self.days_a_week / 5
            week = (day - HISTORY_START.date()).days // 7
            if (
                random.random() >= share
                or week == self.week_off
                or (self.until and day > self.until)
            ):
                continue
            hour = self.start_hour + random.gauss(0.0, 0.4)
            stretches = random.choice((2, 3, 3, 4))
            stops = self.stops or (self.tidies and left_open)
            left_open = random.random() < self.kernel_left_open
            for number in range(stretches):
                length = max(0.3, random.gauss(6.8 / stretches, 0.4))
                last = number == stretches - 1
                yield Session(
                    resource_id=instance.resource_id,
                    user=f"{instance.user}@contoso.example",
                    start_utc=instance.site.at(day, hour),
                    end_utc=instance.site.at(day, hour + length),
                    cpu_pct=_share_of(random, self.cpu_pct),
                    gpu_pct=_share_of(random, self.gpu_pct),
                    memory_pct=_share_of(random, 45.0),
                    keeps_kernel_open=last and left_open,
                    via=self.via,
                    user_stops=last and stops,
                )
                hour += length + random.uniform(0.2, 0.7)


@dataclass(frozen=True, slots=True, kw_only=True)
class AroundTheClock:
    """Short stretches with short pauses, day and night: by its mean it looks idle."""

    busy_minutes: tuple[float, float]
    pause_minutes: tuple[float, float]
    cpu_pct: float
    gpu_pct: float = 0.0
    memory_pct: float = 40.0
    via: str = "jupyter"

    def __call__(self, instance: Instance, random: Random) -> Iterator[Session]:
        """Return sessions from the first hour to the last."""
        start = HISTORY_START + timedelta(minutes=3)
        while start < END:
            end = start + timedelta(seconds=round(60 * random.uniform(*self.busy_minutes)))
            yield Session(
                resource_id=instance.resource_id,
                user=f"{instance.user}@contoso.example",
                start_utc=start,
                end_utc=end,
                cpu_pct=_share_of(random, self.cpu_pct),
                gpu_pct=_share_of(random, self.gpu_pct),
                memory_pct=self.memory_pct,
                via=self.via,
            )
            start = end + timedelta(seconds=round(60 * random.uniform(*self.pause_minutes)))


def _share_of(random: Random, percent: float) -> float:
    return round(min(100.0, percent * random.uniform(0.6, 1.4)), 1)


def _poisson(random: Random, mean: float) -> int:
    """Return a Poisson number by counting exponential waits."""
    count, waited = 0, random.expovariate(1.0)
    while waited < mean:
        count, waited = count + 1, waited + random.expovariate(1.0)
    return count
