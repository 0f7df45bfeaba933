"""What was committed to, and how much of it is used: where a billing account is named."""

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import pandas as pd

from optimizer.azure.benefits import Benefits
from optimizer.azure.connect import Connection
from optimizer.model import Window

_KINDS = {"savingsplan", "reservation"}
"""Included quantities are no commitment of ours."""
_LATEST = timedelta(days=28)


def collect_commitments(
    connection: Connection, billing_account: str, window: Window
) -> pd.DataFrame:
    """Return the rows of `tables.COMMITMENTS` of a billing account.

    The summaries tell a benefit's size and use; its term, quantity and expiry are null, as
    they stand with the orders, which take roles of their own.

    Raises:
        AzureError: the summaries cannot be read.
    """
    first = max(window.start_utc, window.end_utc - _LATEST).date()
    days = Benefits(connection.access).by_day(billing_account, first, window.end_utc.date())
    return commitment_rows(days)


def commitment_rows(summaries: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Turn daily summaries into a row for each benefit: its use by day and on the mean.

    Use is a share of 1. A day that tells none does not count; a benefit without any has null.
    """
    used: dict[str, dict[str, float]] = {}
    rows: dict[str, dict[str, Any]] = {}
    for summary in summaries:
        properties = summary.get("properties") or {}
        benefit = str(properties.get("benefitId") or "").lower()
        if not benefit or str(summary.get("kind")).lower() not in _KINDS:
            continue
        rows[benefit] = {
            "id": benefit,
            "scope": properties.get("benefitOrderId"),
            "sku": properties.get("armSkuName"),
        }
        share, day = properties.get("avgUtilizationPercentage"), properties.get("usageDate")
        if share is not None and day:
            used.setdefault(benefit, {})[str(day)[:10]] = float(share) / 100
    return pd.DataFrame(
        row
        | {
            "utilisation": sum(used[key].values()) / len(used[key]) if key in used else None,
            "by_day": json.dumps(used[key], sort_keys=True) if key in used else None,
        }
        for key, row in rows.items()
    )
