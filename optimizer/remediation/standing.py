"""Whether a setting that was changed still stands, and who or when if it does not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from optimizer.analysis.assemble import Estate
from optimizer.model import How, Json
from optimizer.remediation.causes import Standing
from optimizer.remediation.documents import same, value_at
from optimizer.remediation.outcomes import AppliedChange
from optimizer.remediation.overlays import UNUSED_SETTINGS, overlay_of, setting_key


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What became of a setting."""

    standing: Standing
    now: Json = None
    seen_utc: datetime | None = None
    """When the inventory first showed it; None: not known."""
    seen_by: str | None = None
    """Who changed the resource last, where Azure says."""

    @property
    def stands(self) -> bool:
        """Whether nothing happened to it."""
        return self.standing is Standing.STANDS


def state_of(change: AppliedChange, estate: Estate) -> State:
    """Return what became of a change that nobody rolled back."""
    resource = estate.resources.get(change.resource_id.lower())
    if setting_key(change.setting) in UNUSED_SETTINGS or change.how == How.RECREATE:
        # A resource that was to go is gone, one that was stopped may be started by its user, and
        # the old one of a pair keeps its machines: none of that is a change taken back.
        return State(standing=Standing.STANDS)
    if resource is None:
        return State(standing=Standing.GONE)
    if not setting_key(change.setting) or change.setting.startswith("autoscaleSettings"):
        return State(standing=Standing.STANDS)  # stands in a document of its own
    now = value_at(resource.arm, change.setting)
    if same(now, change.after):
        return State(standing=Standing.STANDS)
    return State(
        standing=Standing.REVERTED if same(now, change.before) else Standing.DRIFTED,
        now=now,
        seen_utc=_first_seen(change, estate),
        seen_by=_by(resource.arm),
    )


def _first_seen(change: AppliedChange, estate: Estate) -> datetime | None:
    """Return when the value of now was first collected after the change."""
    wanted = overlay_of(change.setting, change.after)
    case = estate.cases.get(change.resource_id.lower())
    policies = getattr(getattr(case, "features", None), "policies", ())
    if wanted is None or not policies:
        return None
    seen = None
    for since, settings in _newest_first(policies):
        if since <= change.applied_utc or _holds(settings, wanted):
            break
        seen = since
    return seen


def _newest_first(policies: Any) -> Iterator[tuple[datetime, Any]]:
    yield from reversed(policies)


def _holds(settings: Any, wanted: Mapping[str, Any]) -> bool:
    return all(getattr(settings, name, None) == value for name, value in wanted.items())


def _by(document: Mapping[str, Any]) -> str | None:
    told = value_at(document, "systemData.lastModifiedBy")
    return str(told) if told else None
