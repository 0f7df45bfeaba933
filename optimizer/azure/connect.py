"""The door: every client of Azure, made from one set of settings when it is first asked for."""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TypeVar

from optimizer.azure.access import Access
from optimizer.azure.arm import Arm
from optimizer.azure.costs import CostManagement
from optimizer.azure.graph import Graph
from optimizer.azure.monitor import Monitor
from optimizer.azure.prices import RetailPrices
from optimizer.azure.throttle import Clock
from optimizer.config import AzureSettings

T = TypeVar("T")
R = TypeVar("R")


class Connection:
    """All of Azure that we talk to. Making one sends nothing and signs nobody in."""

    def __init__(self, settings: AzureSettings, clock: Clock | None = None) -> None:
        """Use `settings` for every client, and time from `clock` (None: the system's)."""
        self.access = Access(settings, clock)

    @cached_property
    def arm(self) -> Arm:
        """Azure Resource Manager."""
        return Arm(self.access)

    @cached_property
    def graph(self) -> Graph:
        """Azure Resource Graph."""
        return Graph(self.access)

    @cached_property
    def monitor(self) -> Monitor:
        """Metrics, activity log and resource logs."""
        return Monitor(self.access)

    @cached_property
    def costs(self) -> CostManagement:
        """What was billed."""
        return CostManagement(self.access)

    @cached_property
    def prices(self) -> RetailPrices:
        """The public price list."""
        return RetailPrices(self.access)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Return `function` of each item, in order, with several requests under way at once."""
        return self.access.map(function, items)


def connect(settings: AzureSettings, clock: Clock | None = None) -> Connection:
    """Return the connection that `settings` describe; nothing is sent yet."""
    return Connection(settings, clock)
