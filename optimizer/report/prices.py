"""What a refresh of the list prices brought, in words and as a document."""

from typing import Any

from optimizer.collectors.prices import PriceReport
from optimizer.report.documents import SCHEMA
from optimizer.report.words import count, day, printable
from optimizer.units import iso_utc


def prices_text(report: PriceReport) -> str:
    """Return how many prices were read, how old the oldest is, and what has none."""
    sizes = f"{report.places:,} of {report.asked:,} sizes asked for"
    age = count((report.as_of_utc.date() - report.oldest).days, "day")
    read = f"{count(report.rows, 'list price')} in {report.currency}, read {day(report.as_of_utc)}"
    lines = [
        f"{read}: {sizes} in {', '.join(report.regions)}.",
        f"The oldest list price kept is of {report.oldest} ({age} old).",
    ]
    if report.unpriced:
        lines.append("Not on Azure's price list:")
    lines += [f"  {printable(sku)} in {printable(region)}" for region, sku in report.unpriced]
    return "\n".join(lines)


def prices_document(report: PriceReport) -> dict[str, Any]:
    """Return the same as JSON; `unpriced` is what is in use or was named, and is not listed."""
    return {
        "schema": SCHEMA,
        "currency": report.currency,
        "as_of_utc": iso_utc(report.as_of_utc),
        "regions": list(report.regions),
        "prices": report.rows,
        "sizes_priced": report.places,
        "sizes_asked": report.asked,
        "oldest": report.oldest.isoformat(),
        "unpriced": [{"region": region, "sku": sku} for region, sku in report.unpriced],
    }
