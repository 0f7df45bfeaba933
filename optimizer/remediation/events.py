"""Dated events outside routine: the only reason for which a baseline is touched (methods §9)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from optimizer.model import Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What somebody says has happened, such as a migration or a move of another team's work."""

    start: date
    until: date | None
    """The last day of an event that passed: its days count for neither side. None: it lasts, and
    the replay is calibrated anew on the days from `start` on."""
    where: str
    """A resource or a workspace by its name or id; empty: all of the estate."""
    reason: str

    def touches(self, resource: Resource) -> bool:
        """Tell whether a resource is meant."""
        where = self.where.lower()
        workspace = resource.workspace_id.lower()
        return where in {
            "",
            resource.resource_id.lower(),
            resource.name.lower(),
            workspace,
            workspace.rpartition("/")[2],
        }

    def holds(self, day: date) -> bool:
        """Tell whether a day is one of an event that passed."""
        return self.until is not None and self.start <= day <= self.until


def lasting_since(events: Iterable[Event], *, before: date) -> date | None:
    """Return when the last lasting event before a day began; None where there is none."""
    return max((e.start for e in events if e.until is None and e.start < before), default=None)
