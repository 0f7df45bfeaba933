"""OptScale's three modules for instances, re-implemented from its code and its documentation.

hystax/optscale, bumiworker/modules/recommendations: abandoned_instances, instances_for_shutdown,
rightsizing_instances, as of October 2024. Network is not told by compute, so its limits are taken
as met. Their savings are added up as its service does. Memory and GPUs play no part in them.
"""

from math import ceil

import numpy as np

from benchmarks.peers.machines import Advice, Machine

NAME = "OptScale (rules)"

IDLE_MEAN = 0.05
ABANDONED_DAYS = 7
SCHEDULE_DAYS = 14
SIZE_DAYS = 3
TARGET_PERCENT = 80


def abandoned(machine: Machine) -> Advice | None:
    """Advise to delete what had a mean CPU use below 5 % for a week."""
    means = machine.mean_by_hour(ABANDONED_DAYS)
    if not means.size or float(np.nanmean(means)) >= IDLE_MEAN:
        return None
    return Advice(
        rule="delete",
        resource_id=machine.resource_id,
        saving_per_month=machine.cost_per_month,
    )


def schedule(machine: Machine) -> Advice | None:
    """Advise to switch off in hours of the day that were always below 5 % in two weeks."""
    means = machine.mean_by_hour(SCHEDULE_DAYS)
    on = ~np.isnan(means)
    idle = on.any(axis=0) & (np.where(on, means, 0.0) < IDLE_MEAN).all(axis=0)
    if not idle.any():
        return None
    share = float(on[:, idle].sum() / on.sum())
    return Advice(
        rule="schedule",
        resource_id=machine.resource_id,
        saving_per_month=share * machine.cost_per_month,
    )


def resize(machine: Machine) -> Advice | None:
    """Advise the cheapest size with CPUs for the 99th percentile at 80 %."""
    use = machine.use(SIZE_DAYS)
    own = machine.price(machine.size)
    if use is None or use.cpu is None or own is None:
        return None
    wanted = max(1, ceil(machine.size.vcpus / TARGET_PERCENT * use.cpu.quantile(0.99) * 100))
    if wanted >= machine.size.vcpus:
        return None
    for price, size in machine.cheaper():
        if wanted <= size.vcpus < machine.size.vcpus:
            return Advice(
                rule="resize",
                resource_id=machine.resource_id,
                saving_per_month=machine.cost_per_month * (1 - price / own),
            )
    return None


RULES = (abandoned, schedule, resize)
