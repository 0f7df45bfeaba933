"""Cases from a few numbers, small enough to work their answers out by hand."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from optimizer.analysis.assemble import Bill, Estate
from optimizer.analysis.bought import CommitmentCase
from optimizer.analysis.case import Assumptions, Case
from optimizer.analysis.clusters import ClusterCase, levels_of
from optimizer.analysis.deployments import DeploymentCase
from optimizer.analysis.detectors import load_detectors
from optimizer.analysis.features import (
    ClusterFeatures,
    DeploymentFeatures,
    InstanceFeatures,
    cut_into_gaps,
)
from optimizer.analysis.find import Exclusions, judge
from optimizer.analysis.instances import Habits, InstanceCase
from optimizer.analysis.rate_savings import rate_savings
from optimizer.analysis.rates import Rate, Rates
from optimizer.analysis.replay import Physics
from optimizer.analysis.result import Analysis, Calibration
from optimizer.analysis.serving import Demand
from optimizer.analysis.use import Histogram, Use
from optimizer.analysis.work import NO_RUNS, Runs
from optimizer.catalogue import Catalogue, ListPrice, Size
from optimizer.model import (
    Basis,
    ClusterSettings,
    InstanceSettings,
    Kind,
    Resource,
    Window,
)

START = datetime(2026, 6, 1, tzinfo=UTC)
WORKSPACE = (
    "/subscriptions/s/resourcegroups/rg/providers/microsoft.machinelearningservices/workspaces/ws"
)

Run = tuple[float, int]
"""A level and for how many minutes."""


def minutes_of(runs: Sequence[Run]) -> list[float]:
    """Write runs out minute by minute."""
    return [level for level, minutes in runs for _ in range(minutes)]


def resource(kind: Kind, name: str = "it", **changes: Any) -> Resource:
    """A compute with nothing special about it."""
    values: dict[str, Any] = {
        "resource_id": f"{WORKSPACE}/computes/{name}",
        "kind": kind,
        "name": name,
        "workspace_id": WORKSPACE,
        "region": "westeurope",
        "sku": "Standard_D2_v3",
        "vm_priority": "dedicated",
        "state": "Running",
        "created_utc": None,
        "owner": None,
    }
    return Resource(**(values | changes))


def window(days: int) -> Window:
    """So many whole days."""
    return Window(start_utc=START, end_utc=START + timedelta(days=days))


def cluster(
    demand: Sequence[float],
    *,
    min_nodes: int = 0,
    idle_minutes: float = 2,
    rate: float = 3.0,
    start_minutes: float = 5,
    leaving_minutes: float = 0,
    runs: Runs = NO_RUNS,
    max_nodes: int = 100,
    **changes: Any,
) -> ClusterCase:
    """A cluster whose demand is known to the minute; whole days only."""
    days = len(demand) // 1440
    features = ClusterFeatures(
        resource=resource(Kind.CLUSTER, **changes),
        window=window(days),
        policies=(
            (
                START,
                ClusterSettings(
                    min_nodes=min_nodes, max_nodes=max_nodes, idle_seconds=round(idle_minutes * 60)
                ),
            ),
        ),
        demand=np.asarray(demand, dtype=float),
        unknown=np.zeros(len(demand), dtype=np.bool_),
        present=np.asarray(demand, dtype=float),
        preparing=np.zeros(len(demand)),
        leaving=np.zeros(len(demand)),
        preempted=np.zeros(len(demand)),
        on_at_start=min_nodes,
        from_logs=True,
        jobs=100,
        runs=runs,
    )
    return ClusterCase(
        features=features,
        levels=levels_of(features),
        physics=Physics(
            start_seconds=start_minutes * 60,
            leaving_seconds=leaving_minutes * 60,
            wait_seconds=start_minutes * 60,
        ),
        rate=Rate(per_hour=rate, basis=Basis.EFFECTIVE),
        calibration=Calibration(k=1.0, nmbe=0.0, cv_rmse=0.0, days=days, basis=Basis.EFFECTIVE),
        spend_per_month=None,
    )


def instance(
    use: Sequence[float],
    *,
    idle_shutdown_minutes: int | None = None,
    rate: float = 1.0,
    habits: Habits | None = None,
    **changes: Any,
) -> InstanceCase:
    """An instance minute by minute: 1 used, 0 on and idle, -1 off; whole days only."""
    minutes = np.asarray(use)
    on, active = minutes >= 0, minutes > 0
    features = InstanceFeatures(
        resource=resource(Kind.INSTANCE, **changes),
        window=window(minutes.size // 1440),
        policies=((START, InstanceSettings(idle_shutdown_minutes=idle_shutdown_minutes)),),
        on=on,
        active=active,
        gaps=cut_into_gaps(on=on, active=active, kept_on=on),
        unknown_hours=0.0,
        idle_stops=0,
    )
    return InstanceCase(
        features=features,
        rate=Rate(per_hour=rate, basis=Basis.EFFECTIVE),
        calibration=None,
        # So many shutdowns seen that open kernels no longer blur the figure.
        habits=habits or Habits(shut=10**9),
        spend_per_month=None,
    )


def deployment(
    requests: Sequence[float],
    *,
    instances: int = 4,
    rate: float = 1.0,
    demand: Demand | None = None,
    **changes: Any,
) -> DeploymentCase:
    """A deployment by the requests of each minute (-1: not told); whole days only."""
    asked = np.asarray(requests, dtype=float)
    settings: dict[str, Any] = {"managed": True, "instances": instances, "autoscale": None}
    settings |= changes.pop("settings", {})
    if settings["autoscale"] == "unknown":
        del settings["autoscale"]
    features = DeploymentFeatures(
        resource=resource(Kind.DEPLOYMENT, settings=settings, **changes),
        window=window(asked.size // 1440),
        requests_per_minute=np.where(asked < 0, np.nan, asked),
        latency_p95_ms=np.where(asked > 0, 100.0, np.nan),
        instances=np.full(asked.size, float(instances)),
        demand=demand,
    )
    return DeploymentCase(
        features=features,
        rate=Rate(per_hour=rate, basis=Basis.EFFECTIVE),
        calibration=None,
        spend_per_month=None,
    )


def commitment(
    *, used_hours_per_day: float, utilisation: float, rate: float, days: int = 28
) -> CommitmentCase:
    """A commitment that covers as much on every day."""
    return CommitmentCase(
        bought=resource(Kind.COMMITMENT, sku=None),
        billed=window(days),
        used_hours=np.full(days, used_hours_per_day),
        utilisation=utilisation,
        rate=Rate(per_hour=rate, basis=Basis.EFFECTIVE),
        calibration=None,
        spend_per_month=None,
    )


SIZES = {
    # sku: vCPUs, GiB, GPUs, model, GiB each, price of an hour
    "Standard_D2_v3": (2, 8.0, 0, None, None, 0.10),
    "Standard_DS3_v2": (4, 14.0, 0, None, None, 0.30),
    "Standard_DS4_v2": (8, 28.0, 0, None, None, 0.60),
    "Standard_D4s_v5": (4, 16.0, 0, None, None, 0.20),
    "Standard_D8s_v5": (8, 32.0, 0, None, None, 0.40),
    "Standard_D8as_v5": (8, 32.0, 0, None, None, 0.34),
    "Standard_D16s_v5": (16, 64.0, 0, None, None, 0.80),
    "Standard_E4s_v5": (4, 32.0, 0, None, None, 0.25),
    "Standard_B4ms": (4, 16.0, 0, None, None, 0.10),
    "Standard_NC4as_T4_v3": (4, 28.0, 1, "T4", 16.0, 0.50),
    "Standard_NC8as_T4_v3": (8, 56.0, 1, "T4", 16.0, 0.70),
    "Standard_NC64as_T4_v3": (64, 440.0, 4, "T4", 16.0, 4.00),
    "Standard_NC6s_v3": (6, 112.0, 1, "V100", 16.0, 3.00),
    "Standard_NC12s_v3": (12, 224.0, 2, "V100", 16.0, 6.00),
    "Standard_NC24rs_v3": (24, 448.0, 4, "V100", 16.0, 13.00),
    "Standard_NC24s_v3": (24, 448.0, 4, "V100", 16.0, 12.00),
}


def rates() -> Rates:
    """What a customer without a discount pays: low priority a fifth, reserved three fifths."""
    listed = date(2026, 6, 1)
    return Rates(
        catalogue=Catalogue(
            currency="USD",
            sizes={
                sku.lower(): Size(
                    sku=sku,
                    vcpus=vcpus,
                    memory_gib=memory,
                    gpus=gpus,
                    gpu_model=model,
                    gpu_memory_gib=each,
                )
                for sku, (vcpus, memory, gpus, model, each, _) in SIZES.items()
            },
            prices={
                ("westeurope", sku.lower(), offer, ""): ListPrice(
                    per_hour=price * share, as_of=listed
                )
                for sku, (*_, price) in SIZES.items()
                for offer, share in (("payg", 1.0), ("low_priority", 0.2))
            }
            | {
                ("westeurope", sku.lower(), "reservation", "1y"): ListPrice(
                    per_hour=price * 0.6, as_of=listed
                )
                for sku, (*_, price) in SIZES.items()
            },
        ),
        known={},
        shares={},
    )


def use(  # noqa: PLR0913 - each may be left to its default
    *,
    cpu: float | None = 0.5,
    cpu_spikes: float = 0.0,
    memory: float | None = 0.5,
    gpu: float | None = None,
    gpu_memory: float = 0.0,
    gpus_seen: int | None = None,
    gpus_used: int | None = None,
    days: int = 28,
    hours: float = 280,
    idle_hours: float = 0,
) -> Use:
    """Machines at one level of use while at work, a share of it in spikes of all CPUs."""

    def level(share: float, spikes: float = 0.0) -> Histogram:
        minutes = np.zeros(1001)
        minutes[0] = idle_hours * 60
        minutes[round(share * 1000)] += hours * 60 * (1 - spikes)
        minutes[1000] += hours * 60 * spikes
        return Histogram(minutes=minutes)

    return Use(
        machine_days=days,
        days=days,
        minutes=round((hours + idle_hours) * 60),
        busy_minutes=round(hours * 60),
        cpu=None if cpu is None else level(cpu, cpu_spikes),
        cpu_mean=(
            None
            if cpu is None
            else (cpu * (1 - cpu_spikes) + cpu_spikes) * hours / (hours + idle_hours)
        ),
        memory=None if memory is None else level(memory),
        gpu=None if gpu is None else level(gpu),
        gpu_memory=None if gpu is None else level(gpu_memory),
        gpus_seen=gpus_seen,
        gpus_used=gpus_used,
    )


def judged(
    *cases: Case[Any],
    assumptions: Assumptions | None = None,
    exclusions: Exclusions | None = None,
    unassessable: Mapping[str, str] | None = None,
    paying: Rates | None = None,
) -> Analysis:
    """What all detectors say of these cases."""
    days = max(round(case.window.days) for case in cases)
    return judge(
        Estate(
            window=window(days),
            bill=Bill(
                lines=(),
                start=date(2026, 6, 1),
                end=date(2026, 6, 1),
                currency="USD",
                rate_savings=rate_savings(()),
            ),
            resources={case.resource.resource_id: case.resource for case in cases},
            cases={case.resource.resource_id: case for case in cases},
            unassessable=unassessable or {},
            rates=paying
            or Rates(catalogue=Catalogue(currency="USD", sizes={}, prices={}), known={}, shares={}),
        ),
        load_detectors(),
        assumptions=assumptions or Assumptions(),
        exclusions=exclusions or Exclusions(),
    )
