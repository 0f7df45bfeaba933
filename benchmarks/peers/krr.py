"""KRR's simple strategy, re-implemented from its documentation, with sizes in place of requests.

robusta-dev/krr, README and strategies/simple.py: CPU at the 95th percentile, memory at the highest
use plus 15 %, two weeks. It reckons no money and leaves GPUs alone.
"""

from benchmarks.peers.machines import Advice, Machine

NAME = "KRR (simple strategy)"

DAYS = 14
CPU_QUANTILE = 0.95
MEMORY_BUFFER = 1.15


def resize(machine: Machine) -> Advice | None:
    """Advise the cheapest size that holds both requests, where a cheaper one does."""
    use = machine.use(DAYS)
    if use is None or use.cpu is None or use.memory is None:
        return None
    cores = use.cpu.quantile(CPU_QUANTILE) * machine.size.vcpus
    memory = use.memory.peak * machine.size.memory_gib * MEMORY_BUFFER
    for _, size in machine.cheaper():
        gpus = size.gpus, size.gpu_model
        fits = cores <= size.vcpus and memory <= size.memory_gib
        if gpus == (machine.size.gpus, machine.size.gpu_model) and fits:
            return Advice(rule="resize", resource_id=machine.resource_id, saving_per_month=None)
    return None


RULES = (resize,)
