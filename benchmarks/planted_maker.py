"""What estates with planted waste are made of: work drawn by dice, and settings around it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.estate_files import (
    Estate,
    Job,
    Price,
    Session,
    Traffic,
    cluster_document,
    deployment_document,
    diagnostic_setting_document,
    endpoint_document,
    instance_document,
    workspace_document,
)
from benchmarks.truth import DAYS_TO_COME
from optimizer.units import iso_utc

START_UTC = datetime(2026, 3, 2, tzinfo=UTC)
"""A Monday."""

SEEN_DAYS = 35
DAYS = SEEN_DAYS + DAYS_TO_COME
REGION = "westeurope"
CREATED_UTC = START_UTC - timedelta(days=60)

Arm = dict[str, Any]


def _price(sku: str, vcpus: int, memory: float, per_hour: float, gpus: int = 0) -> Price:
    return Price(
        region=REGION,
        sku=sku,
        vcpus=vcpus,
        memory_gib=memory,
        gpus=gpus,
        gpu_memory_gib=16 if gpus else 0,
        list_per_hour=per_hour,
        low_priority_per_hour=round(per_hour * 0.2, 4),
        ri_1y_per_hour=round(per_hour * 0.6, 4),
        ri_3y_per_hour=round(per_hour * 0.4, 4),
        currency="USD",
        as_of="2026-02-01",
    )


# List prices of Linux machines in West Europe, rounded, early 2026.
PRICES = (
    _price("Standard_DS3_v2", 4, 14, 0.272),
    _price("Standard_DS4_v2", 8, 28, 0.545),
    _price("Standard_DS12_v2", 4, 28, 0.379),
    _price("Standard_D4ds_v5", 4, 16, 0.27),
    _price("Standard_D8ds_v5", 8, 32, 0.54),
    _price("Standard_D8s_v5", 8, 32, 0.46),
    _price("Standard_D16ds_v5", 16, 64, 1.08),
    _price("Standard_E4ds_v5", 4, 32, 0.346),
    _price("Standard_E8ds_v5", 8, 64, 0.692),
    _price("Standard_NC4as_T4_v3", 4, 28, 0.658, 1),
    _price("Standard_NC6s_v3", 6, 112, 3.823, 1),
    _price("Standard_NC12s_v3", 12, 224, 7.646, 2),
    _price("Standard_NC24s_v3", 24, 448, 15.29, 4),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a node of a job truly needs."""

    cpu: float
    memory_gib: float
    gpus: int = 0
    gpu_busy: float = 0.0
    gpu_memory_gib: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """One compute's fault and what mends it; a decoy has neither `detectors` nor `exposes`."""

    resource_id: str
    detectors: tuple[str, ...]
    """Any of which names the fault."""
    exposes: tuple[str, ...] = ()
    """What is to be said of it although it saves nothing: each of them."""
    mended: Mapping[str, Any] = field(default_factory=dict)
    """Settings of its document without the fault, by name in `properties.properties`."""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """An estate and what was planted in it."""

    estate: Estate
    plants: tuple[Plant, ...]


class Maker:
    """Draws one estate."""

    seen_days = SEEN_DAYS

    def __init__(self, seed: int) -> None:
        """Begin with an empty workspace."""
        self.rng = np.random.default_rng(seed)
        self.seed = seed
        self.workspace = workspace_document(
            subscription=f"70000000-0000-4000-8000-{seed:012d}",
            group="rg-planted",
            name="planted",
            region=REGION,
            tags={},
        )
        self.resources: list[Arm] = [
            self.workspace,
            diagnostic_setting_document(self.workspace),
        ]
        self.jobs: list[Job] = []
        self.sessions: list[Session] = []
        self.traffic: list[Traffic] = []
        self.silent: list[str] = []
        self.plants: list[Plant] = []

    @property
    def days(self) -> int:
        """Those that are seen and those to come."""
        return self.seen_days + DAYS_TO_COME

    def made(self) -> Planted:
        """Return what was drawn so far as an estate."""
        return Planted(
            estate=Estate(
                manifest=self._manifest(),
                resources=self.resources,
                jobs=sorted(self.jobs, key=lambda job: (job.submit_utc, job.job_id)),
                sessions=self.sessions,
                prices=PRICES,
                traffic=self.traffic,
            ),
            plants=tuple(self.plants),
        )

    def _manifest(self) -> dict[str, Any]:
        return {
            "name": f"planted {self.seed}",
            "currency": "USD",
            "history_start_utc": iso_utc(START_UTC),
            "now_utc": iso_utc(START_UTC + timedelta(days=self.seen_days)),
            "billing": {
                "discount": round(float(self.rng.uniform(0, 0.3)), 2),
                "lag_hours": int(self.rng.integers(24, 49)),
                "round_to": 0.0001,
            },
            "physics": {
                "allocation_seconds_median": int(self.rng.integers(150, 330)),
                "allocation_seconds_sigma": 0.3,
                "leaving_seconds": int(self.rng.integers(30, 150)),
                "start_seconds": 150,
                "eviction_per_node_hour": 0.01,
                "deployment_cpu_at_rest": round(float(self.rng.uniform(1, 4)), 2),
                "request_cpu_share": round(float(self.rng.uniform(0.88, 1.0)), 2),
            },
            "telemetry": {
                "missing_fraction": 0.02,
                "diagnostic_logs": True,
                "cost_details": True,
                "tags_on_costs": True,
                "silent_computes": self.silent,
            },
            "seed": self.seed,
        }

    def cluster(
        self,
        name: str,
        sku: str,
        *,
        least: int = 0,
        most: int = 3,
        idle_minutes: float = 5,
        tags: Mapping[str, str] | None = None,
    ) -> Arm:
        """Add a cluster."""
        made = cluster_document(
            self.workspace,
            name,
            sku=sku,
            min_nodes=least,
            max_nodes=most,
            idle_seconds=round(idle_minutes * 60),
            created_utc=CREATED_UTC,
            tags=dict(tags or {}),
        )
        self.resources.append(made)
        return made

    def office(
        self,
        made: Arm,
        need: Need,
        *,
        nodes: int = 1,
        minutes: tuple[float, float] = (20, 90),
        failing: float = 0.0,
    ) -> None:
        """Some jobs on each workday, one after the other for most of it."""
        for day in self.workdays():
            at = day + timedelta(hours=float(self.rng.uniform(6.5, 8.5)))
            for _ in range(int(self.rng.integers(4, 8))):
                length = float(self.rng.uniform(*minutes)) * 60
                fails = bool(failing) and bool(self.rng.random() < failing)
                self.job(made, at, length, need, nodes=nodes, fails=fails)
                at += timedelta(seconds=length, minutes=float(self.rng.exponential(50) + 6))

    def nightly(
        self,
        made: Arm,
        need: Need,
        *,
        nodes: int,
        kind: str,
        hour: int = 2,
        minutes: float = 75,
        saved: int | None = None,
    ) -> None:
        """One job in each night, of about the same length."""
        for day in range(self.days):
            at = START_UTC + timedelta(days=day, hours=hour, minutes=float(self.rng.uniform(0, 20)))
            length = minutes * 60 * float(self.rng.uniform(0.85, 1.15))
            self.job(made, at, length, need, nodes=nodes, kind=kind, saved=saved)

    def sweeps(self, made: Arm, need: Need, *, nodes: int = 1, policy: str | None = None) -> None:
        """Two sweeps a week of some trials each, all submitted at once."""
        for week in range(self.days // 7):
            for weekday in (1, 3):
                at = START_UTC + timedelta(weeks=week, days=weekday, hours=9)
                name = f"sweep-{made['name']}-{week}-{weekday}"
                for _ in range(int(self.rng.integers(6, 10))):
                    seconds = float(self.rng.uniform(2400, 5400))
                    trial: Arm = {"kind": "sweep", "sweep": name, "policy": policy}
                    self.job(made, at, seconds, need, nodes=nodes, **trial)

    def job(  # noqa: PLR0913 - the columns of a job
        self,
        made: Arm,
        at: datetime,
        seconds: float,
        need: Need,
        *,
        nodes: int = 1,
        kind: str = "command",
        fails: bool = False,
        saved: int | None = None,
        sweep: str | None = None,
        policy: str | None = None,
    ) -> None:
        """Submit a job, or a trial of a sweep."""
        self.jobs.append(
            Job(
                job_id=f"job-{len(self.jobs):05d}",
                resource_id=made["id"],
                submit_utc=at,
                run_seconds=round(seconds),
                nodes=nodes,
                kind=kind,
                experiment=made["name"],
                user="team@planted.example",
                fails=fails,
                cpu_cores_needed=need.cpu,
                memory_gib_needed=need.memory_gib,
                gpus_needed=need.gpus,
                gpu_busy_fraction=need.gpu_busy,
                gpu_memory_gib_needed=need.gpu_memory_gib,
                reference_sku=made["properties"]["properties"]["vmSize"],
                checkpoint_minutes=saved,
                parent_id=sweep,
                early_termination=policy,
            )
        )

    def instance(self, name: str, sku: str, *, shutdown: str | None = None, **more: Any) -> Arm:
        """Add a compute instance."""
        made = instance_document(
            self.workspace,
            name,
            sku=sku,
            user=f"{name}@planted.example",
            created_utc=CREATED_UTC,
            tags={},
            properties={
                **({"idleTimeBeforeShutdown": shutdown} if shutdown else {}),
                **more,
            },
        )
        self.resources.append(made)
        return made

    def used_on_workdays(
        self,
        made: Arm,
        *,
        via: str = "jupyter",
        kernel: float = 0.0,
        stops: bool = False,
        regular: bool = False,
        cpu: float = 65.0,
        memory: float = 75.0,
        gpu: float = 0.0,
    ) -> None:
        """Workdays from about eight to about five, with a pause at noon."""
        for day in self.workdays():
            spread = 0.2 if regular else 1.0
            begin = day + timedelta(hours=8 + float(self.rng.uniform(-spread, spread)))
            end = day + timedelta(hours=17 + float(self.rng.uniform(-spread, spread)))
            noon = day + timedelta(hours=12)
            open_kernel = bool(self.rng.random() < kernel)
            use: dict[str, Any] = {"cpu": cpu, "memory": memory, "gpu": gpu, "via": via}
            self.session(made, begin, noon, **use)
            self.session(
                made, noon + timedelta(minutes=25), end, kernel=open_kernel, stops=stops, **use
            )

    def session(  # noqa: PLR0913 - the columns of a session
        self,
        made: Arm,
        start: datetime,
        end: datetime,
        *,
        cpu: float,
        memory: float,
        gpu: float = 0.0,
        via: str = "jupyter",
        kernel: bool = False,
        stops: bool = False,
    ) -> None:
        """Let the owner of an instance work on it."""
        self.sessions.append(
            Session(
                resource_id=made["id"],
                user=made["properties"]["properties"]["createdBy"]["userName"],
                start_utc=start,
                end_utc=end,
                cpu_pct=cpu,
                gpu_pct=gpu,
                memory_pct=memory,
                keeps_kernel_open=kernel,
                via=via,
                user_stops=stops,
            )
        )

    def workdays(self) -> Iterator[datetime]:
        """Mondays to Fridays, some of them on leave."""
        for offset in range(self.days):
            day = START_UTC + timedelta(days=offset)
            if day.weekday() < 5 and self.rng.random() < 0.93:  # noqa: PLR2004 - Saturday; leave
                yield day

    def plant(
        self,
        made: Arm,
        detectors: tuple[str, ...],
        mended: Mapping[str, Any] | None = None,
        why: str = "",
        exposes: tuple[str, ...] = (),
    ) -> None:
        """Note what was planted in a compute; nothing: it is a decoy."""
        self.plants.append(
            Plant(
                resource_id=made["id"].lower(),
                detectors=detectors,
                exposes=exposes,
                mended=mended or {},
                why=why,
            )
        )

    # -- deployments -------------------------------------------------------------------------------

    def deployment(
        self,
        name: str,
        *,
        instances: int,
        at_once: int,
        tags: Mapping[str, str] | None = None,
    ) -> Arm:
        """Add an endpoint with one deployment."""
        endpoint = endpoint_document(self.workspace, name)
        made = deployment_document(
            endpoint,
            sku="Standard_D4ds_v5",
            instances=instances,
            requests_at_once=at_once,
            created_utc=CREATED_UTC,
            tags=dict(tags or {}),
        )
        self.resources += [endpoint, made]
        return made

    def asked(self, made: Arm, load: npt.NDArray[np.float64], *, service_ms: float) -> None:
        """Ask a deployment for so many requests at once, minute by minute, as dice fall."""
        mean = load * 60_000 / service_ms
        self.traffic.append(
            Traffic(
                resource_id=made["id"],
                start_utc=START_UTC,
                per_minute=self.rng.poisson(mean).astype(np.float64),
                service_ms=service_ms,
            )
        )
