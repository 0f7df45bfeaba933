"""Estates in which waste is planted in the settings alone, so that its size is known.

Needs (what work truly takes) and settings (what the customer chose) are drawn apart. Most computes
have one fault, some have none, and some look like waste and are none. Nothing here knows how the
product looks for any of it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from benchmarks.estate_files import (
    Estate,
    Job,
    Price,
    Session,
    cluster_document,
    diagnostic_setting_document,
    instance_document,
    workspace_document,
)
from optimizer.units import iso_utc

START_UTC = datetime(2026, 3, 2, tzinfo=UTC)
"""A Monday."""

DAYS = 63
"""Five weeks that are seen and four to come."""

SEEN_DAYS = 35
REGION = "westeurope"
GPU_BUSY = "Its GPU trains while its CPUs wait."
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
    """One compute's fault and what mends it; `detectors` is empty for a decoy."""

    resource_id: str
    detectors: tuple[str, ...]
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
        self.plants: list[Plant] = []

    def planted(self) -> Planted:
        """Return an estate with every kind of fault and decoy, in sizes drawn by dice."""
        for plant in (
            self.kept_nodes,
            self.kept_nodes,
            self.slow_to_scale_down,
            self.slow_to_scale_down,
            self.cpu_work,
            self.unused_gpus,
            self.too_large,
            self.old_generation,
            self.interruptible,
            self.hung_jobs,
            self.fine_cluster,
            self.fine_cluster,
            self.warm_pool,
            self.standby,
            self.month_end,
            self.low_priority_already,
            self.gpu_trainer,
            self.left_on,
            self.left_on,
            self.kernel_open,
            self.custom_application,
            self.stopped_long_ago,
            self.gpu_instance_without_gpu_work,
            self.stopped_by_user,
            self.fine_instance,
            self.fine_instance,
            self.bursty,
            self.memory_held,
        ):
            plant(f"{plant.__name__.replace('_', '-')}-{len(self.plants)}")
        return Planted(
            estate=Estate(
                manifest=self._manifest(),
                resources=self.resources,
                jobs=sorted(self.jobs, key=lambda job: (job.submit_utc, job.job_id)),
                sessions=self.sessions,
                prices=PRICES,
            ),
            plants=tuple(self.plants),
        )

    def _manifest(self) -> dict[str, Any]:
        return {
            "name": f"planted {self.seed}",
            "currency": "USD",
            "history_start_utc": iso_utc(START_UTC),
            "now_utc": iso_utc(START_UTC + timedelta(days=SEEN_DAYS)),
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
            },
            "telemetry": {
                "missing_fraction": 0.02,
                "diagnostic_logs": True,
                "cost_details": True,
                "tags_on_costs": True,
            },
            "seed": self.seed,
        }

    # -- clusters ----------------------------------------------------------------------------------

    def kept_nodes(self, name: str) -> None:
        """Plant nodes that a minimum keeps."""
        kept = int(self.rng.integers(1, 4))
        made = self._cluster(name, "Standard_D8ds_v5", least=kept)
        self._office(made, Need(cpu=6.5, memory_gib=24), nodes=kept)
        self._plant(made, ("min_nodes_kept",), {"minNodeCount": 0})

    def slow_to_scale_down(self, name: str) -> None:
        """Plant an idle time of hours."""
        made = self._cluster(
            name, "Standard_NC4as_T4_v3", idle_minutes=float(self.rng.choice([60, 120, 240]))
        )
        self._office(made, Need(cpu=3.4, memory_gib=20, gpus=1, gpu_busy=0.7, gpu_memory_gib=9))
        self._plant(made, ("slow_scale_down",), {"nodeIdleTimeBeforeScaleDown": "PT5M"})

    def cpu_work(self, name: str) -> None:
        """Plant work without GPUs on a machine with one."""
        made = self._cluster(name, "Standard_NC6s_v3")
        self._office(made, Need(cpu=5.0, memory_gib=20))
        self._plant(made, ("cpu_work_on_gpu",), {"vmSize": "Standard_D8s_v5"})

    def unused_gpus(self, name: str) -> None:
        """Plant machines with twice the GPUs that any job takes."""
        made = self._cluster(name, "Standard_NC24s_v3")
        need = Need(cpu=8.0, memory_gib=90, gpus=2, gpu_busy=0.8, gpu_memory_gib=11)
        self._office(made, need)
        self._plant(made, ("unused_gpus",), {"vmSize": "Standard_NC12s_v3"})

    def too_large(self, name: str) -> None:
        """Plant machines of four times the CPUs that are needed."""
        made = self._cluster(name, "Standard_D16ds_v5")
        self._office(made, Need(cpu=3.0, memory_gib=9), nodes=3)
        self._plant(made, ("oversized_sku",), {"vmSize": "Standard_D4ds_v5"})

    def old_generation(self, name: str) -> None:
        """Plant machines whose successor costs less."""
        made = self._cluster(name, "Standard_DS4_v2", most=8)
        self._office(made, Need(cpu=7.5, memory_gib=25), nodes=4)
        self._plant(made, ("old_generation_sku",), {"vmSize": "Standard_D8s_v5"})

    def interruptible(self, name: str) -> None:
        """Plant nightly scoring on dedicated machines."""
        made = self._cluster(name, "Standard_D8ds_v5", most=6)
        need = Need(cpu=7.2, memory_gib=27)
        self._nightly(made, need, nodes=int(self.rng.integers(2, 5)), kind="batch")
        self._plant(made, ("dedicated_batch",), {"vmPriority": "LowPriority"})

    def hung_jobs(self, name: str) -> None:
        """Plant runs that hang for most of a day and then fail."""
        made = self._cluster(name, "Standard_NC6s_v3")
        need = Need(cpu=5.5, memory_gib=95, gpus=1, gpu_busy=0.8, gpu_memory_gib=12)
        self._office(made, need, minutes=(55, 65))
        # Some before the look and some after it: what never happened yet nobody can find.
        for days in (np.arange(9, SEEN_DAYS - 1), np.arange(SEEN_DAYS, DAYS - 1)):
            for day in self.rng.choice(days, 3, replace=False):
                at = START_UTC + timedelta(days=int(day), hours=20)
                self._job(made, at, 36_000, need, fails=True)
        self._plant(made, ("job_without_time_limit",))

    def fine_cluster(self, name: str) -> None:
        """Make a cluster that fits its work."""
        made = self._cluster(name, "Standard_D8ds_v5")
        self._office(made, Need(cpu=7.0, memory_gib=26), nodes=2)
        self._plant(made, (), why="It fits its work.")

    def warm_pool(self, name: str) -> None:
        """Make a warm pool that a tag asks for."""
        made = self._cluster(name, "Standard_D4ds_v5", least=1, tags={"optimizer:warm-nodes": "1"})
        self._office(made, Need(cpu=3.5, memory_gib=13))
        self._plant(made, (), why="A node is kept warm for a demo, as its tag says.")

    def standby(self, name: str) -> None:
        """Make a standby for a disaster."""
        tags = {"role": "dr-standby", "optimizer:ignore": "all"}
        made = self._cluster(name, "Standard_D4ds_v5", least=1, tags=tags)
        self._plant(made, (), why="It stands by for a disaster.")

    def month_end(self, name: str) -> None:
        """Make a cluster that works once a month."""
        made = self._cluster(name, "Standard_E8ds_v5", most=3)
        need = Need(cpu=7.5, memory_gib=50)
        for hour in range(3):
            at = datetime(2026, 3, 31, 6 + 3 * hour, tzinfo=UTC)
            self._job(made, at, 7000, need, nodes=3, kind="pipeline")
        self._plant(made, (), why="It closes the books.")

    def low_priority_already(self, name: str) -> None:
        """Make a cluster that is low priority already: what evictions are learnt from."""
        made = self._cluster(name, "Standard_D4ds_v5", most=6)
        made["properties"]["properties"]["vmPriority"] = "LowPriority"
        need = Need(cpu=3.6, memory_gib=13)
        for hour in (0, 6, 12, 18):
            self._nightly(made, need, nodes=4, kind="batch", hour=hour, minutes=180, saved=10)
        self._plant(made, (), why="It is low priority already.")

    def gpu_trainer(self, name: str) -> None:
        """Make a cluster that keeps its GPU busy and its CPUs idle: half of a peer's idle rules."""
        made = self._cluster(name, "Standard_NC4as_T4_v3")
        need = Need(cpu=0.1, memory_gib=20, gpus=1, gpu_busy=0.95, gpu_memory_gib=13)
        self._office(made, need, minutes=(120, 240))
        self._plant(made, (), why=GPU_BUSY)

    def _cluster(
        self,
        name: str,
        sku: str,
        *,
        least: int = 0,
        most: int = 5,
        idle_minutes: float = 5,
        tags: Mapping[str, str] | None = None,
    ) -> Arm:
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

    def _office(
        self, made: Arm, need: Need, *, nodes: int = 1, minutes: tuple[float, float] = (20, 90)
    ) -> None:
        """Some jobs on each workday, one after the other for most of it."""
        for day in self._workdays():
            at = day + timedelta(hours=float(self.rng.uniform(6.5, 8.5)))
            for _ in range(int(self.rng.integers(4, 8))):
                length = float(self.rng.uniform(*minutes)) * 60
                self._job(made, at, length, need, nodes=nodes)
                at += timedelta(seconds=length, minutes=float(self.rng.exponential(50) + 6))

    def _nightly(
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
        for day in range(DAYS):
            at = START_UTC + timedelta(days=day, hours=hour, minutes=float(self.rng.uniform(0, 20)))
            length = minutes * 60 * float(self.rng.uniform(0.85, 1.15))
            self._job(made, at, length, need, nodes=nodes, kind=kind, saved=saved)

    def _job(
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
    ) -> None:
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
            )
        )

    # -- instances ---------------------------------------------------------------------------------

    def left_on(self, name: str) -> None:
        """Plant an instance that nothing stops at night."""
        made = self._instance(name, "Standard_E4ds_v5")
        self._days(made)
        self._plant(made, ("no_idle_shutdown",), {"idleTimeBeforeShutdown": "PT60M"})

    def kernel_open(self, name: str) -> None:
        """Plant an idle shutdown that open kernels hold up for good."""
        made = self._instance(name, "Standard_D8ds_v5", shutdown="PT60M")
        self._days(made, kernel=1.0)
        self._plant(made, ("ineffective_idle_shutdown", "no_schedule"))

    def custom_application(self, name: str) -> None:
        """Plant an instance that a custom application keeps on, used at regular hours."""
        service = {"name": "rstudio", "image": {"type": "docker", "reference": "rocker/rstudio"}}
        made = self._instance(name, "Standard_D8ds_v5", customServices=[service])
        self._days(made, via="app", regular=True)
        self._plant(made, ("no_schedule",), {"schedules": _STOPS_AT_EIGHT})

    def stopped_long_ago(self, name: str) -> None:
        """Plant a stopped instance whose disk is still paid."""
        made = self._instance(name, "Standard_D4ds_v5", state="Stopped")
        made["properties"]["properties"]["lastOperation"] = {
            "operationName": "Stop",
            "operationTime": iso_utc(START_UTC - timedelta(days=20)),
            "operationStatus": "Succeeded",
            "operationTrigger": "User",
        }
        self._plant(made, ("abandoned_compute",))

    def gpu_instance_without_gpu_work(self, name: str) -> None:
        """Plant an instance with a GPU that nobody uses, stopped every evening."""
        made = self._instance(name, "Standard_NC4as_T4_v3")
        self._days(made, stops=True, cpu=30.0, memory=40.0)
        self._plant(made, ("cpu_work_on_gpu",), {"vmSize": "Standard_D4ds_v5"})

    def stopped_by_user(self, name: str) -> None:
        """Make an instance that its user stops every evening."""
        made = self._instance(name, "Standard_E4ds_v5")
        self._days(made, stops=True)
        self._plant(made, (), why="Its user stops it.")

    def fine_instance(self, name: str) -> None:
        """Make an instance with an idle shutdown that works."""
        made = self._instance(name, "Standard_E4ds_v5", shutdown="PT30M")
        self._days(made)
        self._plant(made, (), why="Its idle shutdown works.")

    def bursty(self, name: str) -> None:
        """Make an instance that is busy one minute in fifteen, around the clock."""
        made = self._instance(name, "Standard_E4ds_v5")
        at = START_UTC + timedelta(minutes=1)
        while at < START_UTC + timedelta(days=DAYS):
            self._session(made, at, at + timedelta(minutes=1), cpu=95.0, memory=70.0)
            at += timedelta(minutes=15)
        self._plant(made, (), why="It polls: a low mean, and never idle for long.")

    def memory_held(self, name: str) -> None:
        """Make an instance that holds its GPU's memory and computes now and then."""
        made = self._instance(name, "Standard_NC4as_T4_v3", shutdown="PT60M")
        self._days(made, cpu=75.0, memory=85.0, gpu=25.0)
        self._plant(made, (), why="Its GPU computes, if little.")

    def _instance(self, name: str, sku: str, *, shutdown: str | None = None, **more: Any) -> Arm:
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

    def _days(
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
        for day in self._workdays():
            spread = 0.2 if regular else 1.0
            begin = day + timedelta(hours=8 + float(self.rng.uniform(-spread, spread)))
            end = day + timedelta(hours=17 + float(self.rng.uniform(-spread, spread)))
            noon = day + timedelta(hours=12)
            open_kernel = bool(self.rng.random() < kernel)
            use: dict[str, Any] = {"cpu": cpu, "memory": memory, "gpu": gpu, "via": via}
            self._session(made, begin, noon, **use)
            self._session(
                made, noon + timedelta(minutes=25), end, kernel=open_kernel, stops=stops, **use
            )

    def _session(  # noqa: PLR0913 - the columns of a session
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

    def _workdays(self) -> Iterator[datetime]:
        for offset in range(DAYS):
            day = START_UTC + timedelta(days=offset)
            if day.weekday() < 5 and self.rng.random() < 0.93:  # noqa: PLR2004 - Saturday; leave
                yield day

    def _plant(
        self,
        made: Arm,
        detectors: tuple[str, ...],
        mended: Mapping[str, Any] | None = None,
        why: str = "",
    ) -> None:
        self.plants.append(
            Plant(resource_id=made["id"].lower(), detectors=detectors, mended=mended or {}, why=why)
        )


_STOPS_AT_EIGHT = {
    "computeStartStop": [
        {
            "action": "Stop",
            "status": "Enabled",
            "triggerType": "Cron",
            "cron": {"expression": "0 20 * * 1-5", "timeZone": "UTC"},
        }
    ]
}

Planter = Callable[[str], None]


def planted(seed: int) -> Planted:
    """Return the estate of a seed; the same seed gives the same estate."""
    return Maker(seed).planted()
