"""Entries that hold one another in place: the hash of each covers the hash of the one before.

So no entry can be changed, taken out, put in or moved without a trace. What a chain alone cannot
tell is that entries are missing at its end, or that somebody wrote it anew from some entry on:
for that its head must have been noted elsewhere.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from optimizer.model import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One fact that was written down, as it is kept."""

    number: int
    """1, 2, 3 … without a gap."""
    kind: str
    subject: str
    """What it is about: the id of a run or of a finding, the digest of a plan."""
    who: str
    at_utc: str | None
    """ISO 8601; None: an earlier version kept no moment."""
    document: str
    """The rest, as canonical JSON."""
    hash: str
    """SHA-256, in hex, of all of the above and of the hash of the entry before."""

    @classmethod
    def after(
        cls,
        previous: "Entry | None",
        *,
        kind: str,
        subject: str,
        who: str,
        at_utc: str | None,
        document: str,
    ) -> Self:
        """Return the entry that follows `previous`; None: the first one."""
        number, head = (1, "") if previous is None else (previous.number + 1, previous.hash)
        # What a meddling hand put there need not be text.
        covered = json.dumps(
            [head, number, kind, subject, who, at_utc, document],
            separators=(",", ":"),
            default=repr,
        )
        return cls(
            number=number,
            kind=kind,
            subject=subject,
            who=who,
            at_utc=at_utc,
            document=document,
            hash=hashlib.sha256(covered.encode()).hexdigest(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a look along the chain found."""

    entries: int
    """How many fit, from the first on."""
    head: str
    """The hash of the last that fits; empty where there is none."""
    misfit: str | None
    """The first that does not fit, in words; None: all do."""


def canonical(document: Json) -> str:
    r"""Return JSON that is the same for the same value, in ASCII that every database can keep.

    >>> canonical({"b": 1, "a": [None, "é"]})
    '{"a":[null,"\\u00e9"],"b":1}'
    """
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def check(entries: Iterable[Entry], *, noted_head: str = "") -> Checked:
    """Follow the chain from its first entry.

    Args:
        entries: in the order of their numbers.
        noted_head: the hash of an entry that was the last once; empty: none was noted.
    """
    last: Entry | None = None
    count, head, seen = 0, "", not noted_head
    misfit = None
    for entry in entries:
        if misfit := _misfit(last, entry):
            break
        last, count, head = entry, entry.number, entry.hash
        seen = seen or head == noted_head
    if misfit is None and not seen:
        misfit = (
            f"no entry has the hash {noted_head}: entries at the end are missing, or all were "
            "written anew"
        )
    return Checked(entries=count, head=head, misfit=misfit)


def _misfit(last: Entry | None, entry: Entry) -> str | None:
    fitting = Entry.after(
        last,
        kind=entry.kind,
        subject=entry.subject,
        who=entry.who,
        at_utc=entry.at_utc,
        document=entry.document,
    )
    if entry.number != fitting.number:
        return f"entry {fitting.number} is missing"
    if entry.hash != fitting.hash:
        return f"entry {entry.number} is not as it was written in this place"
    return None
