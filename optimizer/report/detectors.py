"""The detectors as a table: what each asks, whose advice that is and what would follow."""

from collections.abc import Iterable
from typing import Any, TypedDict

from optimizer.analysis.detectors import Detector, load_detectors


class DetectorRow(TypedDict):
    """One detector."""

    name: str
    asks: str
    remedy: str
    thresholds: dict[str, object]
    source_title: str
    source_url: str


def detector_rows() -> list[DetectorRow]:
    """Return every detector, in the order in which their savings are added up."""
    return [_row(detector) for detector in load_detectors()]


def detector_table_markdown(rows: Iterable[DetectorRow]) -> str:
    """Return the table as it stands in the README."""
    lines = [
        "| detector | rule | remedy | thresholds | advice it rests on |",
        "|---|---|---|---|---|",
        *(_markdown_line(row) for row in rows),
    ]
    return "\n".join(lines)


def threshold_words(thresholds: dict[str, object]) -> str:
    """Return thresholds as they are named.

    >>> threshold_words({"min_observed_days": 14.0, "shutdown_minutes": 60})
    'min observed days 14, shutdown minutes 60'
    """
    return ", ".join(
        f"{name.replace('_', ' ')} {value:g}"
        if isinstance(value, float)
        else f"{name.replace('_', ' ')} {value}"
        for name, value in thresholds.items()
    )


def _row(detector: Detector[Any]) -> DetectorRow:
    return DetectorRow(
        name=detector.name,
        asks=(type(detector).__doc__ or "").strip().partition("\n")[0],
        remedy=detector.remedy_words,
        thresholds=detector.thresholds,
        source_title=detector.source.title,
        source_url=detector.source.url,
    )


def _markdown_line(row: DetectorRow) -> str:
    cells = (
        f"`{row['name']}`",
        row["asks"],
        row["remedy"],
        threshold_words(row["thresholds"]),
        f"[{row['source_title']}]({row['source_url']})",
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
