"""Hold what `verify` says against the bill of the same estate without the change.

    python -m benchmarks.verify_coverage [--seeds 20] [--seed 1]

For each seed an estate is drawn whose computes differ in the shape of their demand. The product
collects it from the emulator, applies a change to most of its computes, waits and verifies. A
second emulator plays the same estate unchanged: the difference of the true bills over the days of
the report is what each change saved. Some changes change nothing, some computes get twice the work
afterwards, and some are never touched. At last the same bill is read again with lower prices.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.closed_loop import RESULTS, Emulator, emulator
from benchmarks.estate_files import (
    Estate,
    Job,
    Price,
    Session,
    cluster_document,
    diagnostic_setting_document,
    instance_document,
    workspace_document,
    write_estate,
    write_json,
)
from optimizer import pipeline
from optimizer.config import AzureSettings, Settings
from optimizer.emulator.estate import load_estate
from optimizer.emulator.world import World
from optimizer.errors import OptimizerError
from optimizer.model import (
    Basis,
    Change,
    Claim,
    Effects,
    Effort,
    Estimate,
    Finding,
    How,
    Json,
    Kind,
    Level,
    Source,
)
from optimizer.remediation.outcomes import ClaimReport, Measured, Parts, Report
from optimizer.remediation.plan import Plan, make_plan
from optimizer.scenarios import Scenario, ScenarioStep
from optimizer.store import tables
from optimizer.store.lake import Lake
from optimizer.units import HOURS_PER_MONTH, iso_utc

START_UTC = datetime(2026, 3, 2, tzinfo=UTC)
SEEN_DAYS = 35
LATER_DAYS = 35
"""Three to settle, 28 to report on, and what the bill lags behind."""

PRICE_CUT = 0.2
DAYS_PER_MONTH = HOURS_PER_MONTH / 24
REGION = "westeurope"
SIZES = {"Standard_D8ds_v5": (8, 32, 0.54), "Standard_E4ds_v5": (4, 32, 0.346)}
SCALE = "properties.properties.scaleSettings"

Arm = dict[str, Any]
Shape = Callable[[np.random.Generator, int], Iterator[tuple[float, float]]]
"""Yields the jobs of one day as hour of submission and length in hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A change that the benchmark makes, and what it is a trial of."""

    resource_id: str
    trial: str
    """saves, changes nothing, or twice the work."""
    shape: str
    setting: str
    after: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was said of one change and what was true, a month, in the estate's currency."""

    seed: int
    resource: str
    trial: str
    shape: str
    level: str
    low: float
    mid: float
    high: float
    true: float
    old: float
    """True cost under the old settings."""
    volume: float
    policy: float
    price: float

    @property
    def holds(self) -> bool:
        """Whether the interval holds the truth."""
        # What rounding of the bill to a hundredth of a cent makes is no miss.
        return self.low - 0.005 <= self.true <= self.high + 0.005


def main(arguments: Sequence[str] | None = None) -> int:
    """Print coverage and false claims, and keep everything as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verify_coverage")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="keep estates and lakes here")
    parsed = parser.parse_args(arguments)
    rows: list[Row] = []
    cut: list[Row] = []
    try:
        for seed in range(parsed.seed, parsed.seed + parsed.seeds):
            with tempfile.TemporaryDirectory() as scratch:
                one, other = tried(seed, (parsed.work or Path(scratch)) / str(seed))
            rows, cut = rows + one, cut + other
            print(f"seed {seed}: {sum(r.holds for r in one)} of {len(one)} hold", file=sys.stderr)
            scores = scored(rows, cut)
            write_json(
                RESULTS / "verify_coverage.json",
                {
                    "seeds": [parsed.seed, seed],
                    "scores": scores,
                    "claims": [asdict(row) for row in rows],
                    "claims_after_price_cut": [asdict(row) for row in cut],
                },
            )
    except (OptimizerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(table(scores))
    return 0


def tried(seed: int, folder: Path) -> tuple[list[Row], list[Row]]:
    """Return the claims on the estate of a seed, as billed and with prices cut at the change.

    Raises:
        OptimizerError: the emulator did not start, or a stage of the product failed.
    """
    made, asked = drawn(seed)
    write_estate(folder / "estate", made)
    with emulator(folder / "estate") as azure:
        settings = Settings(
            home=folder / "home",
            azure=AzureSettings(
                endpoint=azure.url,
                ca_file=Path(azure.ca_file),
                credential="emulator",
            ),
        )
        pipeline.collect(settings, progress=_silent)
        plan = _plan(settings, asked)
        pipeline.apply(
            settings, plan, max_steps=len(asked), who="benchmark", on_outcome=lambda _: None
        )
        azure.advance(24 * LATER_DAYS)
        pipeline.collect(settings, days=LATER_DAYS + 5, progress=_silent)
        claims = pipeline.verify(settings).claims
        old = World(load_estate(folder / "estate"))
        old.advance(24 * LATER_DAYS)
        truth = _Truth(azure, old)
        rows = [_row(seed, claim, asked, truth) for claim in claims]
        with _prices_cut(Lake(settings.lake)):
            again = pipeline.verify(settings).claims
        cut = [_at_cut_prices(_row(seed, claim, asked, truth)) for claim in again]
    return rows, cut


def _at_cut_prices(row: Row) -> Row:
    """Return a row whose truth is worth what it is at the lower prices."""
    return replace(row, true=row.true * (1 - PRICE_CUT), old=row.old * (1 - PRICE_CUT))


class _Truth:
    """The true bills of the changed estate and of the one that was left alone."""

    def __init__(self, changed: Emulator, unchanged: World) -> None:
        self._changed = changed
        self._unchanged = unchanged
        self._known: dict[tuple[date, date], tuple[dict[str, float], dict[str, float]]] = {}

    def per_month(self, resource_id: str, report: Report) -> tuple[float, float]:
        """Return what a compute cost in the days of a report unchanged and changed, a month."""
        key = report.start, report.end
        if key not in self._known:
            start, end = (datetime.combine(day, time(), UTC) for day in key)
            unchanged: dict[str, float] = defaultdict(float)
            for each in self._unchanged.charges(round(start.timestamp()), round(end.timestamp())):
                unchanged[each.compute_id.lower()] += each.cost
            self._known[key] = unchanged, self._changed.bill(start, end)
        scale = DAYS_PER_MONTH / (report.end - report.start).days
        old, new = (bill.get(resource_id, 0.0) * scale for bill in self._known[key])
        return old, new


def scored(rows: Sequence[Row], cut: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return coverage, error and false claims by trial and by shape of demand."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        for name in ("all", row.trial, f"{row.trial}: {row.shape}"):
            groups[name].append(row)
    for row in cut:
        groups[f"after a price cut: {row.trial}"].append(row)
    return {name: _score(groups[name]) for name in sorted(groups)}


def table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the scores as a Markdown table."""
    columns = list(next(iter(scores.values())))
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    lines += [
        f"| {name} | {' | '.join(str(score[column]) for column in columns)} |"
        for name, score in scores.items()
    ]
    return "\n".join(lines)


def _score(rows: Sequence[Row]) -> dict[str, Any]:
    errors = [(row.mid - row.true) / row.old for row in rows if row.old > 0]
    widths = [(row.high - row.low) / 2 / row.old for row in rows if row.old > 0]
    return {
        "claims": len(rows),
        "measured": sum(row.level != Claim.APPLIED for row in rows),
        "verified": sum(row.level == Claim.VERIFIED for row in rows),
        "coverage": round(sum(row.holds for row in rows) / len(rows), 3),
        "claims nothing": round(sum(row.low <= 0 for row in rows) / len(rows), 3),
        "error P50 of old cost": round(float(np.median(np.abs(errors))), 5),
        "error P90 of old cost": round(float(np.quantile(np.abs(errors), 0.9)), 5),
        "bias of old cost": round(float(np.mean(errors)), 5),
        "half-width P50": round(float(np.median(widths)), 5),
        "price part / change": round(
            sum(row.price for row in rows)
            / (sum(row.volume + row.policy + row.price for row in rows) or 1.0),
            3,
        ),
    }


def _row(seed: int, claim: ClaimReport, asked: Sequence[Asked], truth: _Truth) -> Row:
    trial = next(each for each in asked if each.resource_id == claim.resource_id)
    measured = claim.measured_per_month or Measured(low=0.0, mid=0.0, high=0.0)
    parts = claim.parts_per_month or Parts(volume=0.0, policy=0.0, price=0.0)
    old, new = truth.per_month(claim.resource_id, claim.report) if claim.report else (0.0, 0.0)
    return Row(
        seed=seed,
        resource=claim.resource_id.rpartition("/")[2],
        trial=trial.trial,
        shape=trial.shape,
        level=claim.level.value,
        low=measured.low,
        mid=measured.mid,
        high=measured.high,
        true=old - new,
        old=old,
        **asdict(parts),
    )


@contextmanager
def _prices_cut(lake: Lake) -> Iterator[None]:
    """Show the bill since the change as it would be had the provider cut its prices that day."""
    costs = lake.read(tables.COSTS)
    cut = costs.copy()
    since = cut["charge_date"] >= START_UTC + timedelta(days=SEEN_DAYS)
    for column in ("billed_cost", "effective_cost", "list_cost", "contracted_cost"):
        cut.loc[since, column] = cut.loc[since, column] * (1 - PRICE_CUT)
    lake.write(tables.COSTS, cut)
    yield
    lake.write(tables.COSTS, costs)


def _plan(settings: Settings, asked: Sequence[Asked]) -> Plan:
    """Return a plan of the changes, as if findings had asked for them."""
    estate = pipeline.read_estate(settings)
    nothing = Estimate(p10=0.0, p50=0.0, p90=0.0)
    findings = [_finding(each, number, nothing) for number, each in enumerate(asked)]
    steps = tuple(ScenarioStep(finding=finding, marginal=nothing) for finding in findings)
    return make_plan(
        Scenario(name="benchmark", steps=steps, total=nothing, left_out=()),
        window=estate.window,
        currency=estate.bill.currency,
        made_at_utc=estate.window.end_utc,
        resources=estate.resources,
    )


def _finding(asked: Asked, number: int, saving: Estimate) -> Finding:
    instance = asked.setting.endswith("idleTimeBeforeShutdown")
    return Finding(
        id=f"finding-{number:02}",
        detector="benchmark",
        resource_id=asked.resource_id,
        workspace="coverage",
        kind=Kind.INSTANCE if instance else Kind.CLUSTER,
        owner=None,
        tags={},
        title=asked.trial,
        why=asked.shape,
        evidence={},
        change=Change(
            resource_id=asked.resource_id,
            setting=asked.setting,
            before=None,
            after=asked.after,
            how=How.ACTION if instance else How.PATCH,
        ),
        saving_per_month=saving,
        basis=Basis.EFFECTIVE,
        spend_per_month=None,
        effects=Effects(
            extra_waiting_minutes_per_month=0.0, extra_restarts_per_month=0.0, runtime_stretch=1.0
        ),
        confidence=Level.LOW,
        risk=Level.LOW,
        effort=Effort.ONE_CLICK,
        pillar_notes=(),
        source=Source(title="", url=""),
    )


def _silent(stage: str, done: int, total: int | None) -> None:
    """Show no progress."""


# -- estates ---------------------------------------------------------------------------------------


def _office(rng: np.random.Generator, day: int) -> Iterator[tuple[float, float]]:
    if day % 7 >= 5 or rng.random() < 0.07:  # noqa: PLR2004 - Saturday
        return
    at = rng.uniform(6.5, 9)
    for _ in range(int(rng.integers(3, 8))):
        length = rng.lognormal(np.log(0.7), 0.6)
        yield at, length
        at += length + rng.exponential(0.9) + 0.1


def _nightly(rng: np.random.Generator, _day: int) -> Iterator[tuple[float, float]]:
    yield 2 + rng.uniform(0, 0.2), 1.3 * rng.uniform(0.97, 1.03)
    yield 4 + rng.uniform(0, 0.2), 0.8 * rng.uniform(0.97, 1.03)


def _sporadic(rng: np.random.Generator, _day: int) -> Iterator[tuple[float, float]]:
    for _ in range(int(rng.poisson(0.8)) * int(rng.integers(1, 5))):
        yield rng.uniform(0, 24), rng.lognormal(np.log(0.8), 1.0)


def _steady(rng: np.random.Generator, _day: int) -> Iterator[tuple[float, float]]:
    at = rng.exponential(0.8)
    while at < 24:  # noqa: PLR2004 - hours
        length = rng.lognormal(np.log(0.6), 0.5)
        yield at, length
        at += length * rng.uniform(0.5, 1.2) + rng.exponential(1.2)


def _growing(rng: np.random.Generator, day: int) -> Iterator[tuple[float, float]]:
    for _ in range(int(rng.poisson(2 + 0.09 * day))):
        yield rng.uniform(5, 20), rng.lognormal(np.log(0.7), 0.5)


def _fading(rng: np.random.Generator, day: int) -> Iterator[tuple[float, float]]:
    for _ in range(int(rng.poisson(9 * 0.97**day))):
        yield rng.uniform(5, 20), rng.lognormal(np.log(0.7), 0.5)


SHAPES: Mapping[str, Shape] = {
    "office": _office,
    "nightly": _nightly,
    "sporadic": _sporadic,
    "steady": _steady,
    "growing": _growing,
    "fading": _fading,
}


class _Maker:
    """Draws one estate."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.seed = seed
        self.workspace = workspace_document(
            subscription=f"80000000-0000-4000-8000-{seed:012d}",
            group="rg-coverage",
            name="coverage",
            region=REGION,
            tags={},
        )
        self.resources = [self.workspace, diagnostic_setting_document(self.workspace)]
        self.jobs: list[Job] = []
        self.sessions: list[Session] = []
        self.asked: list[Asked] = []

    def cluster(
        self,
        trial: str,
        *,
        least: int = 0,
        idle_minutes: int = 10,
        changes: tuple[str, Json] | None = None,
        twice: bool = False,
    ) -> None:
        """Make a cluster with a shape of demand drawn by dice."""
        shape = str(self.rng.choice(list(SHAPES)))
        made = cluster_document(
            self.workspace,
            f"{trial.replace(' ', '-')}-{len(self.resources)}",
            sku="Standard_D8ds_v5",
            min_nodes=least,
            max_nodes=12,
            idle_seconds=idle_minutes * 60,
            created_utc=START_UTC - timedelta(days=60),
            tags={},
        )
        self.resources.append(made)
        nodes = int(self.rng.integers(1, 4))
        for day in range(SEEN_DAYS + LATER_DAYS):
            for hour, length in SHAPES[shape](self.rng, day):
                at = START_UTC + timedelta(days=day, hours=float(hour))
                self._job(made, at, float(length), nodes)
                if twice and day >= SEEN_DAYS:
                    self._job(made, at + timedelta(minutes=7), float(length), nodes)
        self._ask(made, trial, shape, changes)

    def instance(
        self,
        trial: str,
        *,
        shutdown: str | None = None,
        stops: float = 0.0,
        changes: tuple[str, Json] | None = None,
    ) -> None:
        """Make an instance of somebody who stops it on a share of the evenings."""
        made = instance_document(
            self.workspace,
            f"{trial.replace(' ', '-')}-{len(self.resources)}",
            sku="Standard_E4ds_v5",
            user="ana@coverage.example",
            created_utc=START_UTC - timedelta(days=60),
            tags={},
            properties={"idleTimeBeforeShutdown": shutdown} if shutdown else {},
        )
        self.resources.append(made)
        for day in range(SEEN_DAYS + LATER_DAYS):
            if day % 7 >= 5 or self.rng.random() < 0.1:  # noqa: PLR2004 - Saturday
                continue
            begin = START_UTC + timedelta(days=day, hours=float(self.rng.uniform(7, 9.5)))
            self.sessions.append(
                Session(
                    resource_id=made["id"],
                    user="ana@coverage.example",
                    start_utc=begin,
                    end_utc=begin + timedelta(hours=float(self.rng.uniform(5, 9))),
                    cpu_pct=60.0,
                    gpu_pct=0.0,
                    memory_pct=70.0,
                    user_stops=bool(self.rng.random() < stops),
                )
            )
        self._ask(made, trial, f"user stops {stops:.0%}", changes)

    def _ask(self, made: Arm, trial: str, shape: str, changes: tuple[str, Json] | None) -> None:
        if changes is not None:
            setting, after = changes
            self.asked.append(
                Asked(
                    resource_id=made["id"].lower(),
                    trial=trial,
                    shape=shape,
                    setting=setting,
                    after=after,
                )
            )

    def _job(self, made: Arm, at: datetime, hours: float, nodes: int) -> None:
        self.jobs.append(
            Job(
                job_id=f"job-{len(self.jobs):05d}",
                resource_id=made["id"],
                submit_utc=at,
                run_seconds=max(60, round(hours * 3600)),
                nodes=nodes,
                kind="command",
                experiment=made["name"],
                user="team@coverage.example",
                cpu_cores_needed=6.5,
                memory_gib_needed=24.0,
                reference_sku="Standard_D8ds_v5",
            )
        )

    def manifest(self) -> dict[str, Any]:
        """Return `estate.json`, with physics and noise drawn by dice."""
        return {
            "name": f"coverage {self.seed}",
            "currency": "USD",
            "history_start_utc": iso_utc(START_UTC),
            "now_utc": iso_utc(START_UTC + timedelta(days=SEEN_DAYS)),
            "billing": {
                "discount": round(float(self.rng.uniform(0, 0.3)), 2),
                "lag_hours": int(self.rng.integers(24, 49)),
                "round_to": 0.0001,
            },
            "physics": {
                "allocation_seconds_median": int(self.rng.integers(120, 400)),
                "allocation_seconds_sigma": round(float(self.rng.uniform(0.2, 0.6)), 2),
                "leaving_seconds": int(self.rng.integers(30, 180)),
                "start_seconds": 150,
                "eviction_per_node_hour": 0.01,
            },
            "telemetry": {
                "missing_fraction": round(float(self.rng.uniform(0, 0.04)), 3),
                "diagnostic_logs": bool(self.rng.random() < 0.7),  # noqa: PLR2004 - most have them
                "cost_details": True,
                "tags_on_costs": True,
            },
            "seed": self.seed,
        }


def drawn(seed: int) -> tuple[Estate, list[Asked]]:
    """Return the estate of a seed and the changes to make in it; the same seed gives the same."""
    maker = _Maker(seed)
    floor, idle, most = (
        f"{SCALE}.{name}"
        for name in ("minNodeCount", "nodeIdleTimeBeforeScaleDown", "maxNodeCount")
    )
    shutdown = "properties.properties.idleTimeBeforeShutdown"
    kept = [int(n) for n in maker.rng.integers(1, 4, size=2)]
    minutes = int(maker.rng.choice([60, 120, 240]))
    maker.cluster("saves", least=kept[0], changes=(floor, 0))
    maker.cluster("saves", idle_minutes=minutes, changes=(idle, "PT10M"))
    maker.cluster("saves", least=kept[1], idle_minutes=30, changes=(floor, 0))
    maker.instance("saves", stops=0.2, changes=(shutdown, "PT60M"))
    maker.cluster("changes nothing", changes=(most, 10))
    maker.instance("changes nothing", shutdown="PT60M", stops=1.0, changes=(shutdown, "PT45M"))
    maker.cluster("twice the work", least=1, changes=(most, 11), twice=True)
    maker.cluster("twice the work", idle_minutes=30, changes=(most, 11), twice=True)
    maker.cluster("untouched", idle_minutes=30)
    maker.instance("untouched", shutdown="PT60M")
    prices = tuple(
        Price(
            region=REGION,
            sku=sku,
            vcpus=vcpus,
            memory_gib=memory,
            gpus=0,
            gpu_memory_gib=0,
            list_per_hour=per_hour,
            low_priority_per_hour=None,
            ri_1y_per_hour=None,
            ri_3y_per_hour=None,
            currency="USD",
            as_of="2026-02-01",
        )
        for sku, (vcpus, memory, per_hour) in SIZES.items()
    )
    return (
        Estate(
            manifest=maker.manifest(),
            resources=maker.resources,
            jobs=sorted(maker.jobs, key=lambda job: (job.submit_utc, job.job_id)),
            sessions=sorted(maker.sessions, key=lambda session: session.start_utc),
            prices=prices,
        ),
        maker.asked,
    )


if __name__ == "__main__":
    sys.exit(main())
