"""Estates in which waste is planted in the settings alone, so that its size is known.

Needs (what work truly takes) and settings (what the customer chose) are drawn apart. Most computes
have one fault, some have none, and some look like waste and are none. Nothing here knows how the
product looks for any of it.
"""

from datetime import UTC, datetime, timedelta

import numpy as np

from benchmarks.planted_maker import START_UTC, Need, Planted
from benchmarks.planted_serving import Serving
from optimizer.units import iso_utc

GPU_BUSY = "Its GPU trains while its CPUs wait."


class Faults(Serving):
    """Computes and deployments with a fault each, and decoys."""

    # -- clusters ----------------------------------------------------------------------------------

    def kept_nodes(self, name: str) -> None:
        """Plant nodes that a minimum keeps."""
        kept = int(self.rng.integers(1, 4))
        made = self.cluster(name, "Standard_D8ds_v5", least=kept, most=kept + 2)
        self.office(made, Need(cpu=6.5, memory_gib=24), nodes=kept)
        self.plant(made, ("min_nodes_kept",), {"minNodeCount": 0})

    def slow_to_scale_down(self, name: str) -> None:
        """Plant an idle time of hours."""
        made = self.cluster(
            name, "Standard_NC4as_T4_v3", idle_minutes=float(self.rng.choice([60, 120, 240]))
        )
        self.office(made, Need(cpu=3.4, memory_gib=20, gpus=1, gpu_busy=0.7, gpu_memory_gib=9))
        self.plant(made, ("slow_scale_down",), {"nodeIdleTimeBeforeScaleDown": "PT5M"})

    def cpu_work(self, name: str) -> None:
        """Plant work without GPUs on a machine with one."""
        made = self.cluster(name, "Standard_NC6s_v3")
        self.office(made, Need(cpu=5.0, memory_gib=20))
        self.plant(made, ("cpu_work_on_gpu",), {"vmSize": "Standard_D8s_v5"})

    def unused_gpus(self, name: str) -> None:
        """Plant machines with twice the GPUs that any job takes."""
        made = self.cluster(name, "Standard_NC24s_v3")
        need = Need(cpu=8.0, memory_gib=90, gpus=2, gpu_busy=0.8, gpu_memory_gib=11)
        self.office(made, need)
        self.plant(made, ("unused_gpus",), {"vmSize": "Standard_NC12s_v3"})

    def too_large(self, name: str) -> None:
        """Plant machines of four times the CPUs that are needed."""
        made = self.cluster(name, "Standard_D16ds_v5", most=5)
        self.office(made, Need(cpu=3.0, memory_gib=9), nodes=3)
        self.plant(made, ("oversized_sku",), {"vmSize": "Standard_D4ds_v5"})

    def old_generation(self, name: str) -> None:
        """Plant machines whose successor costs less."""
        made = self.cluster(name, "Standard_DS4_v2", most=8)
        self.office(made, Need(cpu=7.5, memory_gib=25), nodes=4)
        self.plant(made, ("old_generation_sku",), {"vmSize": "Standard_D8s_v5"})

    def interruptible(self, name: str) -> None:
        """Plant nightly scoring on dedicated machines."""
        nodes = int(self.rng.integers(2, 5))
        made = self.cluster(name, "Standard_D8ds_v5", most=nodes + 2)
        self.nightly(made, Need(cpu=7.2, memory_gib=27), nodes=nodes, kind="batch")
        self.plant(made, ("dedicated_batch",), {"vmPriority": "LowPriority"})

    def hung_jobs(self, name: str) -> None:
        """Plant runs that hang for most of a day and then fail."""
        made = self.cluster(name, "Standard_NC6s_v3")
        need = Need(cpu=5.5, memory_gib=95, gpus=1, gpu_busy=0.8, gpu_memory_gib=12)
        self.office(made, need, minutes=(55, 65))
        # Some before the look, as what never happened yet nobody can find; after it as chance has
        # it at the same rate: the same number again would be kept to by no work.
        seen = self.seen_days
        before, after = np.arange(9, seen - 1), np.arange(seen, self.days - 1)
        to_come = min(after.size, int(self.rng.poisson(3 * after.size / before.size)))
        for days, times in ((before, 3), (after, to_come)):
            for day in self.rng.choice(days, times, replace=False):
                at = START_UTC + timedelta(days=int(day), hours=20)
                self.job(made, at, 36_000, need, fails=True)
        self.plant(made, ("job_without_time_limit",), exposes=("failed_work",))

    def starved(self, name: str) -> None:
        """Plant work for eight CPUs on a machine with memory enough and four."""
        nodes = int(self.rng.integers(8, 13))
        made = self.cluster(name, "Standard_DS12_v2", most=nodes + 2)
        cpu, memory = self.rng.uniform(7, 8), self.rng.uniform(18, 24)
        self.office(made, Need(cpu=float(cpu), memory_gib=float(memory)), nodes=nodes)
        self.plant(made, ("undersized_sku",), {"vmSize": "Standard_D8s_v5"})

    def large_nodes_for_trials(self, name: str) -> None:
        """Plant trials that use somewhat more than half of a machine."""
        made = self.cluster(name, "Standard_D16ds_v5", most=20)
        cpu, memory = self.rng.uniform(8.5, 11), self.rng.uniform(10, 15)
        need = Need(cpu=float(cpu), memory_gib=float(memory))
        self.sweeps(made, need, nodes=2, policy="MedianStopping")
        self.plant(made, ("serial_training",), {"vmSize": "Standard_D8s_v5"})

    def trials_without_policy(self, name: str) -> None:
        """Plant sweeps that end no trial early."""
        made = self.cluster(name, "Standard_NC4as_T4_v3")
        need = Need(cpu=3.5, memory_gib=20, gpus=1, gpu_busy=0.85, gpu_memory_gib=12)
        self.sweeps(made, need)
        self.plant(made, (), exposes=("sweep_without_early_termination",))

    def far_maximum(self, name: str) -> None:
        """Plant a maximum of many times what was ever needed."""
        most, nodes = int(self.rng.integers(20, 100)), int(self.rng.integers(1, 3))
        made = self.cluster(name, "Standard_D8ds_v5", most=most)
        self.office(made, Need(cpu=7.0, memory_gib=26), nodes=nodes)
        self.plant(made, (), exposes=("open_ended_maximum",))

    def often_fails(self, name: str) -> None:
        """Plant work of which a fifth fails at its end."""
        made = self.cluster(name, "Standard_NC6s_v3")
        need = Need(cpu=5.5, memory_gib=95, gpus=1, gpu_busy=0.8, gpu_memory_gib=12)
        self.office(made, need, failing=float(self.rng.uniform(0.15, 0.3)))
        self.plant(made, (), exposes=("failed_work",))

    def rarely_fails(self, name: str) -> None:
        """Make a cluster on which a job fails now and then."""
        made = self.cluster(name, "Standard_D8ds_v5")
        self.office(made, Need(cpu=7.0, memory_gib=26), failing=0.015)
        self.plant(made, (), why="Now and then a job fails.")

    def trials_with_policy(self, name: str) -> None:
        """Make sweeps that end poor trials early."""
        made = self.cluster(name, "Standard_NC4as_T4_v3")
        need = Need(cpu=3.5, memory_gib=20, gpus=1, gpu_busy=0.85, gpu_memory_gib=12)
        self.sweeps(made, need, policy="Bandit")
        self.plant(made, (), why="Its sweeps have a policy.")

    def memory_reserved(self, name: str) -> None:
        """Make a cluster whose framework takes all memory of its GPUs, which compute by half."""
        made = self.cluster(name, "Standard_NC24s_v3", idle_minutes=2)
        need = Need(cpu=14, memory_gib=300, gpus=4, gpu_busy=0.5, gpu_memory_gib=15.9)
        self.office(made, need)
        self.plant(made, (), why="Its framework takes all memory of the GPUs beforehand.")

    def untold_cluster(self, name: str) -> None:
        """Make a cluster of which neither logs nor metrics arrive."""
        made = self.cluster(name, "Standard_D8ds_v5", least=2)
        self.office(made, Need(cpu=7.0, memory_gib=26))
        self.silent.append(name)
        self.plant(made, (), why="Nothing tells what it does.")

    def fine_cluster(self, name: str) -> None:
        """Make a cluster that fits its work."""
        made = self.cluster(name, "Standard_D8ds_v5", most=4)
        self.office(made, Need(cpu=7.0, memory_gib=26), nodes=2)
        self.plant(made, (), why="It fits its work.")

    def warm_pool(self, name: str) -> None:
        """Make a warm pool that a tag asks for."""
        made = self.cluster(name, "Standard_D4ds_v5", least=1, tags={"optimizer:warm-nodes": "1"})
        self.office(made, Need(cpu=3.5, memory_gib=13))
        self.plant(made, (), why="A node is kept warm for a demo, as its tag says.")

    def standby(self, name: str) -> None:
        """Make a standby for a disaster."""
        tags = {"role": "dr-standby", "optimizer:ignore": "all"}
        made = self.cluster(name, "Standard_D4ds_v5", least=1, tags=tags)
        self.plant(made, (), why="It stands by for a disaster.")

    def month_end(self, name: str) -> None:
        """Make a cluster that works once a month."""
        made = self.cluster(name, "Standard_E8ds_v5", most=3)
        need = Need(cpu=7.5, memory_gib=50)
        for hour in range(3):
            at = datetime(2026, 3, 31, 6 + 3 * hour, tzinfo=UTC)
            self.job(made, at, 7000, need, nodes=3, kind="pipeline")
        self.plant(made, (), why="It closes the books.")

    def low_priority_already(self, name: str) -> None:
        """Make a cluster that is low priority already: what evictions are learnt from."""
        made = self.cluster(name, "Standard_D4ds_v5", most=6)
        made["properties"]["properties"]["vmPriority"] = "LowPriority"
        need = Need(cpu=3.6, memory_gib=13)
        for hour in (0, 6, 12, 18):
            self.nightly(made, need, nodes=4, kind="batch", hour=hour, minutes=180, saved=10)
        self.plant(made, (), why="It is low priority already.")

    def gpu_trainer(self, name: str) -> None:
        """Make a cluster that keeps its GPU busy and its CPUs idle: half of a peer's idle rules."""
        made = self.cluster(name, "Standard_NC4as_T4_v3")
        need = Need(cpu=0.1, memory_gib=20, gpus=1, gpu_busy=0.95, gpu_memory_gib=13)
        self.office(made, need, minutes=(120, 240))
        self.plant(made, (), why=GPU_BUSY)

    # -- instances ---------------------------------------------------------------------------------

    def left_on(self, name: str) -> None:
        """Plant an instance that nothing stops at night."""
        made = self.instance(name, "Standard_E4ds_v5")
        self.used_on_workdays(made)
        self.plant(made, ("no_idle_shutdown",), {"idleTimeBeforeShutdown": "PT60M"})

    def kernel_open(self, name: str) -> None:
        """Plant an idle shutdown that open kernels hold up for good."""
        made = self.instance(name, "Standard_D8ds_v5", shutdown="PT60M")
        self.used_on_workdays(made, kernel=1.0)
        self.plant(made, ("ineffective_idle_shutdown", "no_schedule"))

    def custom_application(self, name: str) -> None:
        """Plant an instance that a custom application keeps on, used at regular hours."""
        service = {"name": "rstudio", "image": {"type": "docker", "reference": "rocker/rstudio"}}
        made = self.instance(name, "Standard_D8ds_v5", customServices=[service])
        self.used_on_workdays(made, via="app", regular=True)
        self.plant(made, ("no_schedule",), {"schedules": _STOPS_AT_EIGHT})

    def stopped_long_ago(self, name: str) -> None:
        """Plant a stopped instance whose disk is still paid."""
        made = self.instance(name, "Standard_D4ds_v5", state="Stopped")
        made["properties"]["properties"]["lastOperation"] = {
            "operationName": "Stop",
            "operationTime": iso_utc(START_UTC - timedelta(days=20)),
            "operationStatus": "Succeeded",
            "operationTrigger": "User",
        }
        self.plant(made, ("abandoned_compute",))

    def gpu_instance_without_gpu_work(self, name: str) -> None:
        """Plant an instance with a GPU that nobody uses, stopped every evening."""
        made = self.instance(name, "Standard_NC4as_T4_v3")
        self.used_on_workdays(made, stops=True, cpu=30.0, memory=40.0)
        self.plant(made, ("cpu_work_on_gpu",), {"vmSize": "Standard_D4ds_v5"})

    def stopped_by_user(self, name: str) -> None:
        """Make an instance that its user stops every evening."""
        made = self.instance(name, "Standard_E4ds_v5")
        self.used_on_workdays(made, stops=True)
        self.plant(made, (), why="Its user stops it.")

    def fine_instance(self, name: str) -> None:
        """Make an instance with an idle shutdown that works."""
        made = self.instance(name, "Standard_E4ds_v5", shutdown="PT30M")
        self.used_on_workdays(made)
        self.plant(made, (), why="Its idle shutdown works.")

    def bursty(self, name: str) -> None:
        """Make an instance that is busy one minute in fifteen, around the clock."""
        made = self.instance(name, "Standard_E4ds_v5")
        at = START_UTC + timedelta(minutes=1)
        while at < START_UTC + timedelta(days=self.days):
            self.session(made, at, at + timedelta(minutes=1), cpu=95.0, memory=70.0)
            at += timedelta(minutes=15)
        self.plant(made, (), why="It polls: a low mean, and never idle for long.")

    def memory_held(self, name: str) -> None:
        """Make an instance that holds its GPU's memory and computes now and then."""
        made = self.instance(name, "Standard_NC4as_T4_v3", shutdown="PT60M")
        self.used_on_workdays(made, cpu=75.0, memory=85.0, gpu=25.0)
        self.plant(made, (), why="Its GPU computes, if little.")

    def over_ssh(self, name: str) -> None:
        """Make an instance used over SSH alone, which Azure's idle rule does not see."""
        made = self.instance(name, "Standard_E4ds_v5")
        for day in self.workdays():
            begin = day + timedelta(hours=float(self.rng.uniform(5, 6)))
            end = day + timedelta(hours=float(self.rng.uniform(21, 23)))
            self.session(made, begin, end, cpu=45.0, memory=70.0, via="ssh", stops=True)
        self.plant(made, (), why="Its user works over SSH.")

    def untold_instance(self, name: str) -> None:
        """Make an instance of which no metrics arrive."""
        made = self.instance(name, "Standard_D8ds_v5")
        self.used_on_workdays(made)
        self.silent.append(name)
        self.plant(made, (), why="Nothing tells what it does.")

    # -- all of them -------------------------------------------------------------------------------

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
            self.starved,
            self.large_nodes_for_trials,
            self.trials_without_policy,
            self.far_maximum,
            self.often_fails,
            self.fine_cluster,
            self.warm_pool,
            self.standby,
            self.month_end,
            self.low_priority_already,
            self.gpu_trainer,
            self.rarely_fails,
            self.trials_with_policy,
            self.memory_reserved,
            self.untold_cluster,
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
            self.over_ssh,
            self.untold_instance,
            self.unasked,
            self.too_many,
            self.fixed_for_peak,
            self.scales_the_wrong_way,
            self.never_scales_in,
            self.two_for_production,
            self.stands_by_for_another,
            self.scales_well,
            self.busy_minutes,
        ):
            plant(f"{plant.__name__.replace('_', '-')}-{len(self.plants)}")
        return self.made()


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


def planted(seed: int) -> Planted:
    """Return the estate of a seed; the same seed gives the same estate."""
    return Faults(seed).planted()
