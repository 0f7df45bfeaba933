"""What was found before, so that it can be said what is new and where the rest has gone.

One small JSON file in the home, written whole or not at all.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from optimizer.errors import LakeError
from optimizer.model import Finding, Json
from optimizer.units import iso_utc, utc


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """As much of a finding as it takes to say later why it has gone."""

    finding_id: str
    detector: str
    resource_id: str
    title: str
    setting: str
    before: Json
    after: Json
    saving_per_month: float | None
    """At P50, in the billing currency; None: no price was known."""
    spend_per_month: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The findings of the last two collections and of the last mail, by id."""

    as_of_utc: datetime | None = None
    """The collection that `last` is of; None: nothing was analysed yet."""
    last: Mapping[str, Remembered] = field(default_factory=dict)
    before: Mapping[str, Remembered] = field(default_factory=dict)
    """Of the collection before it."""
    mailed: Mapping[str, Remembered] | None = None
    """None: no mail was sent yet."""

    def found(self, findings: Iterable[Finding], as_of_utc: datetime) -> "Memory":
        """Return it with what was found in a collection.

        The same one may be analysed twice, with other exclusions: all that was found in it stays.
        """
        again = self.as_of_utc == as_of_utc
        return Memory(
            as_of_utc=as_of_utc,
            last={**(self.last if again else {}), **_by_id(findings)},
            before=self.before if again else self.last,
            mailed=self.mailed,
        )

    def known(self) -> dict[str, Remembered]:
        """Return all that was found or told lately: what of it is not there now has gone."""
        return {**(self.mailed or {}), **self.before, **self.last}

    def sent(self, findings: Iterable[Finding]) -> "Memory":
        """Return it with what a mail told."""
        return Memory(
            as_of_utc=self.as_of_utc, last=self.last, before=self.before, mailed=_by_id(findings)
        )


def recall(file: Path) -> Memory:
    """Return what was found before; nothing where the file is not there yet.

    Raises:
        LakeError: the file is damaged.
    """
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        mailed = known["mailed"]
        return Memory(
            as_of_utc=utc(known["as_of_utc"]) if known["as_of_utc"] else None,
            last=_read(known["last"]),
            before=_read(known["before"]),
            mailed=None if mailed is None else _read(mailed),
        )
    except FileNotFoundError:
        return Memory()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LakeError(
            f"{file} cannot be read: delete it; then no finding counts as new or gone."
        ) from error


def remember(file: Path, memory: Memory) -> None:
    """Keep a memory; readers see the one before it or this one, never a part.

    Raises:
        LakeError: the file cannot be written.
    """
    document = {
        "as_of_utc": iso_utc(memory.as_of_utc) if memory.as_of_utc else None,
        "last": _document(memory.last),
        "before": _document(memory.before),
        "mailed": None if memory.mailed is None else _document(memory.mailed),
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: the app and the command line may both be at it.
        with NamedTemporaryFile(
            "w", encoding="utf-8", dir=file.parent, prefix=file.name, suffix=".part", delete=False
        ) as unfinished:
            json.dump(document, unfinished, ensure_ascii=False)
        Path(unfinished.name).replace(file)
    except OSError as error:
        raise LakeError(f"{file} cannot be written: {error.strerror}.") from error


def _by_id(findings: Iterable[Finding]) -> dict[str, Remembered]:
    return {
        finding.id: Remembered(
            finding_id=finding.id,
            detector=finding.detector,
            resource_id=finding.resource_id,
            title=finding.title,
            setting=finding.change.setting,
            before=finding.change.before,
            after=finding.change.after,
            saving_per_month=finding.saving_per_month.p50 if finding.saving_per_month else None,
            spend_per_month=finding.spend_per_month,
        )
        for finding in findings
    }


def _document(findings: Mapping[str, Remembered]) -> list[dict[str, Any]]:
    return [asdict(each) for _, each in sorted(findings.items())]


def _read(rows: list[dict[str, Any]]) -> dict[str, Remembered]:
    return {row["finding_id"]: Remembered(**row) for row in rows}
