"""Azure Advisor's cost rules for virtual machines, re-implemented from their documentation.

MicrosoftDocs/azure-monitor-docs, articles/advisor/advisor-cost-recommendations.md: seven days;
savings at retail price. Outbound network is not told by compute, so its limits are taken as met.
Targets keep their GPUs here: the page does not speak of them.
"""

from benchmarks.peers.machines import Advice, Machine

NAME = "Azure Advisor (rules)"

DAYS = 7
IDLE_P95 = 0.03
IDLE_RECENT = 0.02
RECENT_DAYS = 3
INTERACTIVE = 0.40, 0.60
"""Most of the target's CPU (P95) and memory (highest) where users face the machine."""
OTHER = 0.80, 0.80


def shut_down(machine: Machine) -> Advice | None:
    """Advise to shut down what has next to no CPU use."""
    use = machine.use(DAYS)
    recent = machine.mean_by_hour(RECENT_DAYS)
    if use is None or use.cpu is None or not recent.size:
        return None
    if use.cpu.quantile(0.95) >= IDLE_P95 or not (recent[recent > 0] <= IDLE_RECENT).all():
        return None
    price = machine.price(machine.size) or 0.0
    return Advice(
        rule="shut down",
        resource_id=machine.resource_id,
        saving_per_month=price * machine.hours_per_month,
    )


def resize(machine: Machine) -> Advice | None:
    """Advise the cheapest size whose CPU and memory hold the last week's use."""
    use = machine.use(DAYS)
    own = machine.price(machine.size)
    if use is None or use.cpu is None or use.memory is None or own is None:
        return None
    most_cpu, most_memory = INTERACTIVE if machine.interactive else OTHER
    cores = use.cpu.quantile(0.95) * machine.size.vcpus
    memory = use.memory.peak * machine.size.memory_gib
    for price, size in machine.cheaper():
        if (
            (size.gpus, size.gpu_model) == (machine.size.gpus, machine.size.gpu_model)
            and cores <= most_cpu * size.vcpus
            and memory <= most_memory * size.memory_gib
        ):
            return Advice(
                rule="resize",
                resource_id=machine.resource_id,
                saving_per_month=(own - price) * machine.hours_per_month,
            )
    return None


RULES = (shut_down, resize)
