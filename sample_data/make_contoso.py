"""Make the sample estate: a fictitious customer over eight weeks, half of them still to come.

    python -m sample_data.make_contoso [--out DIR] [--truth]

Waste is planted in settings only; beside it stand decoys that look like waste and are none. With
`--truth` the estate is played under every setting of a grid, and `truth.json` says what each
planted waste costs to the cent. The same script gives the same bytes.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.estate_files import (
    Estate,
    Price,
    cluster_document,
    diagnostic_setting_document,
    instance_document,
    workspace_document,
    write_estate,
    write_json,
)
from optimizer.errors import OptimizerError
from optimizer.units import iso_utc
from sample_data.contoso_life import (
    HISTORY_START,
    NOW,
    AroundTheClock,
    Cluster,
    Instance,
    MonthEnd,
    Need,
    NeverEmpty,
    Nightly,
    OfficeDays,
    OfficeJobs,
    Site,
    Sweeps,
    nothing,
)
from sample_data.contoso_truth import truth

SEED = 20261026
CLOUD_SUBSCRIPTION = "c0470500-0000-4000-8000-000000000001"
LAB_SUBSCRIPTION = "c0470500-0000-4000-8000-000000000002"

PRICES_AS_OF = "2026-08-22"

# Azure Retail Prices API, Linux, USD: vCPUs, GiB, GPUs, GiB of one GPU, list, low priority.
_PRICE_ROWS = (
    ("westeurope", "Standard_DS3_v2", 4, 14, 0, 0, 0.272, 0.054),
    ("westeurope", "Standard_E4ds_v5", 4, 32, 0, 0, 0.346, 0.0692),
    ("westeurope", "Standard_NC4as_T4_v3", 4, 28, 1, 16, 0.658, 0.132),
    ("westeurope", "Standard_NC6s_v3", 6, 112, 1, 16, 3.823, 0.765),
    ("westeurope", "Standard_NC24ads_A100_v4", 24, 220, 1, 80, 4.775, 0.955),
    ("northeurope", "Standard_DS3_v2", 4, 14, 0, 0, 0.263, 0.0527),
    ("northeurope", "Standard_D8ds_v5", 8, 32, 0, 0, 0.504, 0.101),
    ("northeurope", "Standard_D16ds_v5", 16, 64, 0, 0, 1.008, 0.202),
    ("northeurope", "Standard_E4ds_v5", 4, 32, 0, 0, 0.320, 0.064),
    ("northeurope", "Standard_E8ds_v5", 8, 64, 0, 0, 0.640, 0.128),
    ("swedencentral", "Standard_D4ds_v5", 4, 16, 0, 0, 0.240, 0.048),
    ("swedencentral", "Standard_D8ds_v5", 8, 32, 0, 0, 0.480, 0.096),
    ("swedencentral", "Standard_NC4as_T4_v3", 4, 28, 1, 16, 0.558, 0.112),
    ("swedencentral", "Standard_NC8as_T4_v3", 8, 56, 1, 16, 0.796, 0.159),
)

PRICES = tuple(
    Price(
        region=region,
        sku=sku,
        vcpus=vcpus,
        memory_gib=memory,
        gpus=gpus,
        gpu_memory_gib=gpu_memory,
        list_per_hour=list_price,
        low_priority_per_hour=low_priority,
        ri_1y_per_hour=None,
        ri_3y_per_hour=None,
        currency="USD",
        as_of=PRICES_AS_OF,
    )
    for region, sku, vcpus, memory, gpus, gpu_memory, list_price, low_priority in _PRICE_ROWS
)

MANIFEST = {
    "name": "Contoso",
    "currency": "USD",
    "history_start_utc": iso_utc(HISTORY_START),
    "now_utc": iso_utc(NOW),
    "billing": {"discount": 0.12, "lag_hours": 24, "round_to": 1e-4},
    "physics": {
        "allocation_seconds_median": 240,
        "allocation_seconds_sigma": 0.35,
        "leaving_seconds": 120,
        "start_seconds": 150,
        "eviction_per_node_hour": 0.02,
    },
    "telemetry": {
        "missing_fraction": 0.02,
        "diagnostic_logs": True,
        "cost_details": True,
        "tags_on_costs": True,
    },
    "seed": SEED,
}


def _site(subscription: str, name: str, region: str, utc_offset_hours: int) -> Site:
    workspace = workspace_document(
        subscription=subscription,
        group=f"rg-{name}",
        name=name,
        region=region,
        tags={"environment": "research" if name.endswith("lab") else "production"},
    )
    return Site(workspace=workspace, region=region, utc_offset_hours=utc_offset_hours)


VISION = _site(CLOUD_SUBSCRIPTION, "contoso-vision", "westeurope", 1)
FORECAST = _site(CLOUD_SUBSCRIPTION, "contoso-forecast", "northeurope", 0)
LAB = _site(LAB_SUBSCRIPTION, "contoso-lab", "swedencentral", 1)


HOUR = 3600

_V100_TRAINING = Need(cpu_cores=4.8, memory_gib=70, gpus=1, gpu_busy=0.85, gpu_memory_gib=13)
_T4_TRAINING = Need(cpu_cores=3.0, memory_gib=18, gpus=1, gpu_busy=0.75, gpu_memory_gib=12)

CLUSTERS = (
    Cluster(
        site=VISION,
        name="gpu-train",
        team="vision",
        sku="Standard_NC6s_v3",
        max_nodes=12,
        min_nodes=2,
        need=_V100_TRAINING,
        work=OfficeJobs(
            per_day=9,
            median_minutes=70,
            nodes=(1, 1, 1, 2),
            deadline=(date(2026, 11, 9), date(2026, 11, 13)),
        ),
    ),
    Cluster(
        site=VISION,
        name="gpu-sweeps",
        team="vision",
        sku="Standard_NC4as_T4_v3",
        max_nodes=16,
        idle_seconds=4 * HOUR,
        need=_T4_TRAINING,
        work=Sweeps(per_day=1.6, children=(6, 14), median_minutes=35),
    ),
    Cluster(
        site=VISION,
        name="a100-large",
        team="foundation",
        sku="Standard_NC24ads_A100_v4",
        max_nodes=6,
        min_nodes=1,
        idle_seconds=2 * HOUR,
        need=Need(cpu_cores=18, memory_gib=150, gpus=1, gpu_busy=0.93, gpu_memory_gib=68),
        work=OfficeJobs(per_day=4, median_minutes=110, nodes=(1, 1, 2), users=("noor", "sven")),
    ),
    Cluster(
        site=VISION,
        name="demo-warm",
        team="sales",
        sku="Standard_NC4as_T4_v3",
        max_nodes=4,
        min_nodes=2,
        tags=(("optimizer:warm-nodes", "2"),),
        need=_T4_TRAINING,
        work=OfficeJobs(per_day=5, median_minutes=4, users=("stage",)),
        decoy="Two nodes are kept warm for customer demonstrations, and its tag says so.",
    ),
    Cluster(
        site=VISION,
        name="prep-v100",
        team="vision-data",
        sku="Standard_NC6s_v3",
        max_nodes=4,
        need=Need(cpu_cores=5.2, memory_gib=40),
        work=OfficeJobs(per_day=4, median_minutes=45, users=("ines", "jon")),
        planted_for_later=(("cpu_work_on_gpu", "No job on it ever touches its GPUs."),),
    ),
    Cluster(
        site=FORECAST,
        name="nightly-etl",
        team="data-platform",
        sku="Standard_D16ds_v5",
        max_nodes=10,
        min_nodes=4,
        need=Need(cpu_cores=13, memory_gib=48),
        work=Nightly(hour=1.5, steps=((4, 40), (8, 55), (2, 25))),
    ),
    Cluster(
        site=FORECAST,
        name="feature-build",
        team="forecasting",
        sku="Standard_E8ds_v5",
        max_nodes=8,
        idle_seconds=24 * HOUR,
        need=Need(cpu_cores=6.4, memory_gib=50),
        work=OfficeJobs(per_day=14, median_minutes=18, users=("lars", "mei", "olu")),
    ),
    Cluster(
        site=FORECAST,
        name="batch-score",
        team="forecasting",
        sku="Standard_D8ds_v5",
        max_nodes=8,
        need=Need(cpu_cores=6.8, memory_gib=24),
        work=Nightly(hour=4.0, steps=((6, 130),)),
        planted_for_later=(
            ("dedicated_batch", "Nightly scoring could be interrupted and runs dedicated."),
        ),
    ),
    Cluster(
        site=FORECAST,
        name="month-end",
        team="finance",
        sku="Standard_D16ds_v5",
        max_nodes=6,
        idle_seconds=HOUR // 2,
        need=Need(cpu_cores=13, memory_gib=50),
        work=MonthEnd(nodes=5, median_minutes=100),
        decoy="It runs when the books are closed; a shorter idle time would save a few dollars.",
    ),
    Cluster(
        site=FORECAST,
        name="always-busy",
        team="simulation",
        sku="Standard_E8ds_v5",
        max_nodes=7,
        min_nodes=3,
        need=Need(cpu_cores=7.0, memory_gib=52),
        work=NeverEmpty(lanes=4, hours=6.0),
        decoy="Its minimum of three nodes is below what runs at any moment.",
    ),
    Cluster(
        site=LAB,
        name="lab-gpu",
        team="language",
        sku="Standard_NC8as_T4_v3",
        max_nodes=6,
        min_nodes=1,
        idle_seconds=HOUR,
        need=Need(cpu_cores=6.0, memory_gib=40, gpus=1, gpu_busy=0.7, gpu_memory_gib=13),
        work=OfficeJobs(per_day=6, median_minutes=40, nodes=(1, 1, 2), users=("pia", "raj")),
    ),
    Cluster(
        site=LAB,
        name="lab-quick",
        team="language",
        sku="Standard_D4ds_v5",
        max_nodes=6,
        idle_seconds=600,
        need=Need(cpu_cores=3.2, memory_gib=11),
        work=OfficeJobs(per_day=7, median_minutes=9, users=("pia", "tom")),
        decoy="Ten minutes of idle time on a cheap machine: there is next to nothing to gain.",
    ),
    Cluster(
        site=LAB,
        name="dr-standby",
        team="operations",
        sku="Standard_D8ds_v5",
        max_nodes=2,
        min_nodes=2,
        tags=(("optimizer:ignore", ""),),
        need=Need(cpu_cores=6.0, memory_gib=24),
        work=nothing,
        decoy="A standby for disaster recovery; its tag says to leave it alone.",
    ),
)

_STOPS = "Its user stops it every evening; a shutdown after an hour would find nothing to stop."
_FITS = "Its idle shutdown fits; open kernels block it now and then, which no setting cures."

INSTANCES = (
    # Left on, nights and weekends.
    Instance(
        site=VISION,
        name="ci-dana",
        user="dana",
        sku="Standard_NC4as_T4_v3",
        state="Running",
        planted=True,
        habit=OfficeDays(gpu_pct=30.0, via="vscode"),
    ),
    Instance(
        site=VISION,
        name="ci-emil",
        user="emil",
        sku="Standard_E4ds_v5",
        state="Running",
        planted=True,
        habit=OfficeDays(week_off=2),
    ),
    Instance(
        site=VISION,
        name="ci-fadi",
        user="fadi",
        sku="Standard_DS3_v2",
        state="Running",
        planted=True,
        habit=OfficeDays(days_a_week=3.0, via="vscode"),
    ),
    Instance(
        site=FORECAST,
        name="ci-lars",
        user="lars",
        sku="Standard_E4ds_v5",
        state="Running",
        planted=True,
        habit=OfficeDays(start_hour=8.0),
    ),
    Instance(
        site=FORECAST,
        name="ci-mei",
        user="mei",
        sku="Standard_D8ds_v5",
        state="Running",
        planted=True,
        habit=OfficeDays(days_a_week=2.5, week_off=5),
    ),
    Instance(
        site=FORECAST,
        name="ci-olu",
        user="olu",
        sku="Standard_DS3_v2",
        state="Running",
        planted=True,
        habit=OfficeDays(via="vscode"),
    ),
    Instance(
        site=LAB,
        name="ci-pia",
        user="pia",
        sku="Standard_NC4as_T4_v3",
        state="Running",
        planted=True,
        habit=OfficeDays(gpu_pct=25.0, days_a_week=4.0),
    ),
    Instance(
        site=LAB,
        name="ci-raj",
        user="raj",
        sku="Standard_D4ds_v5",
        state="Running",
        planted=True,
        habit=OfficeDays(start_hour=10.0, via="vscode"),
    ),
    # An idle shutdown that fits.
    *(
        Instance(
            site=site,
            name=f"ci-{user}",
            user=user,
            sku=sku,
            idle_shutdown=shutdown,
            decoy=_FITS,
            habit=OfficeDays(
                kernel_left_open=0.08, tidies=True, gpu_pct=gpu_pct, week_off=week_off
            ),
        )
        for site, user, sku, shutdown, gpu_pct, week_off in (
            (VISION, "noor", "Standard_NC4as_T4_v3", "PT60M", 35.0, None),
            (VISION, "sven", "Standard_NC4as_T4_v3", "PT30M", 30.0, 3),
            (VISION, "ines", "Standard_DS3_v2", "PT60M", 0.0, None),
            (VISION, "uma", "Standard_E4ds_v5", "PT1H", 0.0, 6),
            (FORECAST, "vik", "Standard_DS3_v2", "PT30M", 0.0, None),
            (FORECAST, "wei", "Standard_E4ds_v5", "PT60M", 0.0, None),
            (FORECAST, "xena", "Standard_DS3_v2", "PT45M", 0.0, 1),
            (LAB, "tom", "Standard_D4ds_v5", "PT60M", 0.0, None),
            (LAB, "yara", "Standard_D4ds_v5", "PT30M", 0.0, None),
        )
    ),
    # People who stop what they started.
    *(
        Instance(
            site=site,
            name=f"ci-{user}",
            user=user,
            sku=sku,
            decoy=_STOPS,
            habit=OfficeDays(stops=True, gpu_pct=gpu_pct, via=via),
        )
        for site, user, sku, gpu_pct, via in (
            (VISION, "jon", "Standard_DS3_v2", 0.0, "jupyter"),
            (VISION, "kai", "Standard_NC4as_T4_v3", 40.0, "vscode"),
            (FORECAST, "zoe", "Standard_DS3_v2", 0.0, "jupyter"),
            (FORECAST, "abel", "Standard_E4ds_v5", 0.0, "vscode"),
            (LAB, "bela", "Standard_D4ds_v5", 0.0, "jupyter"),
        )
    ),
    # What looks idle and is not.
    Instance(
        site=FORECAST,
        name="ci-poller",
        user="feeds",
        sku="Standard_DS3_v2",
        state="Running",
        habit=AroundTheClock(busy_minutes=(1, 2), pause_minutes=(8, 14), cpu_pct=70.0),
        decoy="One busy minute in ten around the clock: a low mean and no idle stretch.",
    ),
    Instance(
        site=VISION,
        name="ci-labeller",
        user="labels",
        sku="Standard_NC4as_T4_v3",
        state="Running",
        habit=AroundTheClock(
            busy_minutes=(25, 50),
            pause_minutes=(4, 10),
            cpu_pct=25.0,
            gpu_pct=20.0,
            memory_pct=92.0,
        ),
        decoy="It holds all GPU memory and computes little, yet it is in use day and night.",
    ),
    Instance(
        site=VISION,
        name="ci-cleo",
        user="cleo",
        sku="Standard_DS3_v2",
        state="Running",
        habit=OfficeDays(via="ssh", days_a_week=5.0),
        properties=(("sshSettings", {"sshPublicAccess": "Enabled", "adminUserName": "azureuser"}),),
        decoy="Its user works over SSH, which Azure's idle rule does not see.",
    ),
    Instance(
        site=LAB,
        name="ci-rstudio",
        user="duc",
        sku="Standard_D4ds_v5",
        state="Running",
        habit=OfficeDays(via="app", days_a_week=5.0),
        properties=(
            (
                "customServices",
                [
                    {
                        "name": "rstudio",
                        "image": {"type": "docker", "reference": "rocker/rstudio:4.4"},
                        "endpoints": [{"protocol": "http", "name": "ui", "target": 8787}],
                    }
                ],
            ),
        ),
        decoy="A custom application runs on it, which keeps Azure from ever calling it idle.",
    ),
    Instance(
        site=LAB,
        name="ci-showcase",
        user="elin",
        sku="Standard_D4ds_v5",
        state="Running",
        tags=(("optimizer:ignore", "no_idle_shutdown"),),
        habit=OfficeDays(days_a_week=1.0),
        decoy="Left on for visitors; its tag exempts it from this detector.",
    ),
    # Used in the first days and never again.
    *(
        Instance(
            site=site,
            name=f"ci-{user}",
            user=user,
            sku=sku,
            habit=OfficeDays(stops=True, until=date(2026, 10, 28), days_a_week=5.0),
            planted_for_later=(
                ("abandoned_compute", "Stopped since October; its disk and address go on billing."),
            ),
        )
        for site, user, sku in (
            (FORECAST, "gus", "Standard_E4ds_v5"),
            (LAB, "hana", "Standard_NC4as_T4_v3"),
            (VISION, "ivo", "Standard_DS3_v2"),
        )
    ),
)


def contoso() -> Estate:
    """Return the estate. Each compute has dice of its own, so that one more changes no other."""
    jobs = [job for cluster in CLUSTERS for job in cluster.work(cluster, _dice(cluster.name))]
    sessions = [
        session
        for instance in INSTANCES
        for session in instance.habit(instance, _dice(instance.name))
    ]
    return Estate(
        manifest=MANIFEST,
        resources=_resources(),
        jobs=sorted(jobs, key=lambda job: (job.submit_utc, job.job_id)),
        sessions=sorted(sessions, key=lambda session: (session.start_utc, session.resource_id)),
        prices=PRICES,
    )


def _dice(name: str) -> Random:
    return Random(f"{SEED}:{name}")  # noqa: S311 (fiction, not a secret)


def _resources() -> list[dict[str, Any]]:
    created_utc = HISTORY_START - timedelta(days=200)
    return [
        *(site.workspace for site in (VISION, FORECAST, LAB)),
        # The lab never sent its logs anywhere.
        *(diagnostic_setting_document(site.workspace) for site in (VISION, FORECAST)),
        *(
            cluster_document(
                cluster.site.workspace,
                cluster.name,
                sku=cluster.sku,
                min_nodes=cluster.min_nodes,
                max_nodes=cluster.max_nodes,
                idle_seconds=cluster.idle_seconds,
                created_utc=created_utc,
                tags={"team": cluster.team, **dict(cluster.tags)},
            )
            for cluster in CLUSTERS
        ),
        *(
            instance_document(
                instance.site.workspace,
                instance.name,
                sku=instance.sku,
                user=f"{instance.user}@contoso.example",
                created_utc=created_utc,
                tags={"owner": f"{instance.user}@contoso.example", **dict(instance.tags)},
                properties={
                    "state": instance.state,
                    **(
                        {"idleTimeBeforeShutdown": instance.idle_shutdown}
                        if instance.idle_shutdown
                        else {}
                    ),
                    **dict(instance.properties),
                },
            )
            for instance in INSTANCES
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the estate folder.

    Raises:
        SystemExit: it cannot be done; one sentence says why.
    """
    parser = argparse.ArgumentParser(prog="python -m sample_data.make_contoso")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "contoso")
    parser.add_argument("--truth", action="store_true", help="play the grid and write truth.json")
    parsed = parser.parse_args(arguments)
    try:
        write_estate(parsed.out, contoso())
        if parsed.truth:
            write_json(parsed.out / "truth.json", truth(parsed.out, CLUSTERS, INSTANCES))
    except (OptimizerError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
