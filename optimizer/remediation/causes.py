"""Why a saving did not come as promised: the likely cause, in one sentence."""

from dataclasses import dataclass
from datetime import date
from enum import Enum, auto

MAX_VERIFIED_NMBE = 0.05
MAX_VERIFIED_CV_RMSE = 0.20
"""Beyond them a replay proves nothing (methods §9)."""

MOVED = 0.10
"""Share by which activity or prices must have moved to be called a cause."""


class Standing(Enum):
    """What became of a setting since it was changed."""

    STANDS = auto()
    REVERTED = auto()
    """It is again what it was."""
    DRIFTED = auto()
    """It is something else."""
    GONE = auto()
    """The resource is no longer there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What is known of a claim whose saving is less than was promised."""

    standing: Standing
    setting: str
    """Its name, as people know it."""
    now: str
    """What it is now, in words."""
    seen_on: date | None
    """When the inventory first showed that; None: not known."""
    seen_by: str | None
    """Who changed it, where Azure says."""
    days: int
    """Billed days that count."""
    needed_days: int
    nmbe: float | None
    cv_rmse: float | None
    volume: float | None
    """Cost of the old settings on the new activity ÷ cost before; None: not measured."""
    price: float | None
    """Price of an hour since ÷ price before; None: not measured."""


def cause(signs: Signs) -> str:
    """Return the likely cause, the surest kind first: what was seen before what was reckoned."""
    return _setting(signs) or _evidence(signs) or _world(signs) or _UNKNOWN


_UNKNOWN = (
    "No cause is seen: the setting stands, activity and prices are as they were, so too much was "
    "promised."
)


def _setting(signs: Signs) -> str | None:
    when = "" if signs.seen_on is None else f", first seen on {signs.seen_on:%Y-%m-%d}"
    whom = "" if signs.seen_by is None else f", by {signs.seen_by}"
    match signs.standing:
        case Standing.REVERTED:
            return f"{signs.setting} was put back to {signs.now}{when}{whom}."
        case Standing.DRIFTED:
            return f"{signs.setting} was changed again, to {signs.now}{when}{whom}."
        case Standing.GONE:
            return f"The resource is no longer there{when}{whom}, so nothing is left to save on."
        case Standing.STANDS:
            return None


def _evidence(signs: Signs) -> str | None:
    if signs.nmbe is not None and abs(signs.nmbe) > MAX_VERIFIED_NMBE:
        return f"The replay missed the bill by {signs.nmbe:+.1%} even before the change."
    if signs.cv_rmse is not None and signs.cv_rmse > MAX_VERIFIED_CV_RMSE:
        return (
            f"The replay missed the bill by {signs.cv_rmse:.0%} from day to day even before the "
            "change."
        )
    if signs.days < signs.needed_days:
        return f"Only {signs.days} of {signs.needed_days} days are billed, so it may yet come."
    return None


def _world(signs: Signs) -> str | None:
    moved = {
        name: factor - 1
        for name, factor in (("volume", signs.volume), ("price", signs.price))
        if factor is not None and abs(factor - 1) >= MOVED
    }
    if not moved:
        return None
    most = max(moved, key=lambda name: abs(moved[name]))
    if most == "price":
        return f"The price of an hour changed by {moved[most]:+.0%}, and with it what one saves."
    return (
        f"Demand moved: under the old settings the activity since would have cost "
        f"{1 + moved[most]:.0%} of what it cost before."
    )
