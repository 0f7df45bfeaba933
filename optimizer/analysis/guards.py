"""What the other pillars of the Well-Architected guide ask of a resource, as its tags tell it.

A saving that breaks reliability, security or performance is none (design §7).
"""

import re

from optimizer.model import Resource

_STANDBY = re.compile(r"\b(dr|disaster|failover|standby|stand-by)\b")
_PRODUCTION = re.compile(r"\b(prod|production|live|sla)\b")


def _words(resource: Resource) -> str:
    """Return its tags as words: `dr-standby` and `DR_standby` alike."""
    text = " ".join(f"{name} {value}" for name, value in resource.tags.items())
    return re.sub(r"[^a-z0-9]+", " ", text.lower())


def stands_by(resource: Resource) -> bool:
    """Tell whether it is kept for the day that another one fails."""
    return bool(_STANDBY.search(_words(resource)))


def in_production(resource: Resource) -> bool:
    """Tell whether customers depend on it."""
    return bool(_PRODUCTION.search(_words(resource)))
