"""Costs from exported files, where Azure's own cost APIs are closed to the account or too slow.

Every file is read before anything is written. What it says of a subscription's days replaces
whatever the lake held of them, so that no dollar has two sources.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from optimizer.collectors.costs import both_metrics, distinct_tag, tag_of
from optimizer.collectors.exports import (
    OTHER_CURRENCY,
    Export,
    Metric,
    Row,
    loose_json,
    read_export,
)
from optimizer.collectors.inventory import subscription_of
from optimizer.errors import ImportRefusedError
from optimizer.model import Attribution, Resource, Window
from optimizer.store.lake import Coverage, Lake, start_of
from optimizer.store.tables import COSTS

_SUFFIXES = (".csv", ".csv.gz", ".parquet")
_MANIFEST = "manifest.json"
_COPIED_SHARE = 0.5
"""Partitions of one export share hardly a line."""
_METRICS = {"actualcost": Metric.ACTUAL, "amortizedcost": Metric.AMORTIZED}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import read, kept and set aside."""

    exports: tuple[Export, ...]
    same: tuple[Path, ...]
    """Files left out because another one has the same content."""
    costs: pd.DataFrame
    """The rows that the lake now holds, see `tables.COSTS`."""
    windows: Mapping[str, Window]
    """The days that the import now answers for, by subscription."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    file: Path
    metric: Metric | None
    """None: the file has to tell."""


class _Outside(BaseModel):
    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class _Blob(_Outside):
    name: str = Field(alias="blobName")


class _Config(_Outside):
    kind: str = Field("", alias="type")
    name: str = Field("", alias="exportName")


class _RunInfo(_Outside):
    submitted: datetime | None = Field(None, alias="submittedTime")
    start: str = Field("", alias="startDate")
    end: str = Field("", alias="endDate")


class _Manifest(_Outside):
    """The manifest that Cost Management writes beside the partitions of one run of an export."""

    config: _Config = Field(default_factory=_Config, alias="exportConfig")
    run: _RunInfo = Field(default_factory=_RunInfo, alias="runInfo")
    blobs: tuple[_Blob, ...]


def import_costs(
    paths: Sequence[Path],
    lake: Lake,
    *,
    metric: Metric | None,
    currency: str | None,
    computes: Sequence[Resource],
    progress: Callable[[str, int, int | None], None],
) -> ImportReport:
    """Read files of costs into the lake, and say what became of each of their rows.

    Args:
        paths: files, or folders of partitions with or without a manifest.
        lake: where they go.
        metric: of cost details that do not tell; None: see `read_export`.
        currency: the billing currency to keep, where the files have several.
        computes: those known, whose tags may tell whose a cost is.
        progress: called as files are read.

    Raises:
        ImportRefusedError: one of the files cannot be used; nothing was imported.
        LakeError: a file of the lake is damaged.
    """
    parts, same = _distinct(_parts(paths))
    exports = []
    for done, part in enumerate(parts):
        progress("files", done, len(parts))
        exports.append(read_export(part.file, metric=part.metric or metric, currency=currency))
    progress("files", len(parts), len(parts))
    _no_copies(exports)
    _one_currency(exports, currency)
    rows: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    spans: dict[str, list[date]] = defaultdict(list)
    for export in exports:
        for row in export.kept:
            subscription = subscription_of(row["workspace_id"])
            rows[subscription][export.layout].append(row)
            spans[subscription] += export.days or ()
    windows = {
        subscription: Window(
            start_utc=start_of(min(days)), end_utc=start_of(max(days) + timedelta(days=1))
        )
        for subscription, days in spans.items()
    }
    frames = []
    for subscription, window in windows.items():
        frame = _tagged(_joined(rows[subscription]), computes)
        scope = f"/subscriptions/{subscription}"
        lake.write(COSTS, frame, coverage=Coverage(scopes=[scope], window=window))
        frames.append(frame)
    return ImportReport(
        exports=tuple(exports),
        same=same,
        costs=pd.concat(frames) if frames else pd.DataFrame(columns=COSTS.schema.names),
        windows=windows,
    )


def _joined(by_layout: Mapping[str, list[Row]]) -> pd.DataFrame:
    """Return the rows of one subscription; FOCUS has both amounts, and stands alone."""
    actual = by_layout.get(f"{Metric.ACTUAL} cost details", [])
    amortized = by_layout.get(f"{Metric.AMORTIZED} cost details", [])
    focus = by_layout.get("FOCUS", [])
    if focus and (actual or amortized):
        raise ImportRefusedError(
            f"The files hold the costs of {subscription_of(focus[0]['workspace_id'])} twice, as "
            "FOCUS and as cost details: import one or the other."
        )
    return both_metrics(actual or focus, amortized)


def _no_copies(exports: Sequence[Export]) -> None:
    """Refuse two files of one layout that mostly hold the same costs, as two exports of a month.

    Raises:
        ImportRefusedError: names both.
    """
    whose: dict[tuple[object, ...], Export] = {}
    for export in exports:
        lines = {(export.layout, *row.values()) for row in export.kept}
        known = [whose[line] for line in lines if line in whose]
        if lines and len(known) > len(lines) * _COPIED_SHARE:
            raise ImportRefusedError(
                f"{export.file} and {known[0].file} hold the same costs, which would be counted "
                "twice: import one of them."
            )
        whose.update(dict.fromkeys(lines, export))


def _one_currency(exports: Sequence[Export], wanted: str | None) -> None:
    """Raise ImportRefusedError where there are several currencies, or not the one wanted."""
    found = {row["currency"] for export in exports for row in export.kept}
    if len(found) > 1:
        raise ImportRefusedError(
            f"The files bill Azure Machine Learning in {' and '.join(sorted(found))}, and amounts "
            "of different currencies are never added: choose one with --currency."
        )
    others = {a.currency for e in exports for a in e.set_aside if a.reason == OTHER_CURRENCY}
    if others and not found:
        said = " and ".join(sorted(filter(None, others)))
        raise ImportRefusedError(f"The files bill Azure Machine Learning in {said}, not {wanted}.")


def _tagged(frame: pd.DataFrame, computes: Sequence[Resource]) -> pd.DataFrame:
    """Give rows that name no pool to the compute whose tag they carry, where a tag tells."""
    tag = distinct_tag(computes)
    if tag is None or frame.empty:
        return frame
    by_tag = {(compute.workspace_id, tag_of(compute.tags, tag)): compute for compute in computes}
    records: list[Mapping[Any, Any]] = []
    for row in frame.to_dict("records"):
        key = (row["workspace_id"], tag_of(loose_json(row["tags"]), tag))
        owner = by_tag.get(key) if pd.isna(row["attribution"]) else None
        records.append(row | _owned(owner) if owner else row)
    return pd.DataFrame(records, columns=frame.columns)


def _owned(compute: Resource) -> Row:
    return {
        "resource_id": compute.resource_id,
        "compute_name": compute.name,
        "vm_size": compute.sku,
        "attribution": Attribution.TAG.value,
    }


# Which files


def _parts(paths: Sequence[Path]) -> list[_Part]:
    return [part for path in paths for part in _parts_of(path)]


def _parts_of(path: Path) -> list[_Part]:
    if path.name == _MANIFEST:
        return _partitions(path, _manifest(path))
    if not path.is_dir():
        return [_Part(file=path, metric=None)]
    manifests = {file: _manifest(file) for file in sorted(path.rglob(_MANIFEST))}
    if manifests:
        latest = _latest(manifests)
        return [part for file in latest for part in _partitions(file, manifests[file])]
    files = [f for f in sorted(path.rglob("*")) if f.name.lower().endswith(_SUFFIXES)]
    if not files:
        raise ImportRefusedError(
            f"{path} holds no file of costs: their names end in {', '.join(_SUFFIXES)}."
        )
    return [_Part(file=file, metric=None) for file in files]


def _latest(manifests: Mapping[Path, _Manifest]) -> list[Path]:
    """Return the last run of each export and period: an earlier one holds the same costs again."""
    last: dict[tuple[str, str, str, str], Path] = {}
    for file, manifest in sorted(manifests.items(), key=lambda each: (_when(each[1]), each[0])):
        run, config = manifest.run, manifest.config
        last[config.name, config.kind, run.start, run.end] = file
    return sorted(last.values())


def _when(manifest: _Manifest) -> float:
    return manifest.run.submitted.timestamp() if manifest.run.submitted else 0.0


def _manifest(file: Path) -> _Manifest:
    try:
        return _Manifest.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ImportRefusedError(f"{file} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the document"
        raise ImportRefusedError(
            f"{file} is no manifest of a cost export: {where} is not as Cost Management writes it."
        ) from error


def _partitions(file: Path, manifest: _Manifest) -> list[_Part]:
    metric = _METRICS.get(manifest.config.kind.lower())
    parts = [
        _Part(file=file.parent / blob.name.rpartition("/")[2], metric=metric)
        for blob in manifest.blobs
    ]
    if missing := [part.file for part in parts if not part.file.exists()]:
        raise ImportRefusedError(
            f"{missing[0]} is missing, which {file} says belongs to the export: copy the whole "
            "folder."
        )
    return parts


def _distinct(parts: Iterable[_Part]) -> tuple[list[_Part], tuple[Path, ...]]:
    """Leave out files whose content was there before: it would be counted twice."""
    seen: set[tuple[str, Metric | None]] = set()
    kept, same = [], []
    for part in parts:
        try:
            with part.file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError as error:
            raise ImportRefusedError(f"{part.file} cannot be read: {error.strerror}.") from error
        # Without a commitment, actual and amortised costs are the same to the letter.
        if (digest, part.metric) in seen:
            same.append(part.file)
        else:
            kept.append(part)
        seen.add((digest, part.metric))
    return kept, tuple(same)
