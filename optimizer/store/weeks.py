"""What each compute used: its node-days pooled, whole weeks of them kept as one.

What is asked of use (histograms, counts, maxima) adds up over machines and days. A window is read
as its whole weeks and the days at either end, so that a year costs little more than a week.
"""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from optimizer.model import Window
from optimizer.store.histograms import coded, summed
from optimizer.store.lake import Lake, days_of, start_of
from optimizer.store.tables import NODE_DAYS, USE_WEEKS

DAYS_PER_WEEK = 7

HISTOGRAMS = ("cpu_histogram", "memory_histogram", "gpu_histogram", "gpu_memory_histogram")

_TOTALS = {
    "minutes": ("minutes", "sum"),
    "busy_minutes": ("busy_minutes", "sum"),
    "cpu_sum": ("cpu_sum", "sum"),
    "gpus_seen": ("gpus_seen", "max"),
    "gpus_used": ("gpus_used", "max"),
}
_OF_NODE_DAYS = _TOTALS | {"days": ("day", "count_distinct"), "machine_days": ("day", "count")}
_OF_WEEKS = _TOTALS | {"days": ("days", "sum"), "machine_days": ("machine_days", "sum")}

_COLUMNS = ("resource_id", *HISTOGRAMS, *dict.fromkeys(c for c, _ in _OF_NODE_DAYS.values()))
_USE = pa.schema([field for field in USE_WEEKS.schema if field.name != "week"])


def monday_of(day: date) -> date:
    """Return the day that a day's week begins with."""
    return day - timedelta(days=day.weekday())


def drop_weeks(lake: Lake, days: Collection[date]) -> None:
    """Forget the weeks of days that are about to change: cut short, nothing stale is left."""
    for monday in {monday_of(day) for day in days}:
        lake.drop(USE_WEEKS, monday)


def refresh_weeks(lake: Lake, days: Collection[date], *, threads: int = 2) -> None:
    """Pool the weeks of some days anew. Raises LakeError."""

    def refresh(monday: date) -> None:
        use = _pooled([_use_on(lake, day) for day in _week(monday)], _OF_WEEKS)
        week = pa.array([start_of(monday)] * use.num_rows, USE_WEEKS.schema.field("week").type)
        lake.replace(USE_WEEKS, monday, use.append_column("week", week))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(refresh, sorted({monday_of(day) for day in days})))


def read_use(lake: Lake, window: Window) -> pd.DataFrame:
    """Return what each compute used on the days that begin inside a window.

    Shape: a row for each compute by its id, with the columns of `tables.USE_WEEKS` but for the
    week. A histogram is an array of minutes by per mille, None where nothing was observed.

    Raises:
        LakeError: a file is damaged, or of an earlier version.
    """
    days = {day for day in days_of(window) if start_of(day) >= window.start_utc}
    weeks = {
        monday: lake.read_day(USE_WEEKS, monday, _USE.names).cast(_USE)
        for monday in lake.days(USE_WEEKS)
        if days.issuperset(_week(monday))
    }
    # A week that another process has just dropped is empty: its days tell it.
    whole = {monday: use for monday, use in weeks.items() if use.num_rows}
    loose = sorted(days.difference(*map(_week, whole)))
    return _frame(_pooled([*whole.values(), *(_use_on(lake, day) for day in loose)], _OF_WEEKS))


def use_in(node_days: pa.Table) -> pd.DataFrame:
    """Return what `read_use` does, of these rows of `tables.NODE_DAYS`."""
    return _frame(_pooled([node_days], _OF_NODE_DAYS))


def _use_on(lake: Lake, day: date) -> pa.Table:
    return _pooled([lake.read_day(NODE_DAYS, day, _COLUMNS)], _OF_NODE_DAYS)


def _week(monday: date) -> list[date]:
    return [monday + timedelta(days=n) for n in range(DAYS_PER_WEEK)]


def _pooled(parts: Sequence[pa.Table], totals: Mapping[str, tuple[str, str]]) -> pa.Table:
    """Return one row for each compute; `totals` says of which column each is made, and how."""
    rows = pa.concat_tables(parts) if parts else _USE.empty_table()
    ids = rows["resource_id"].cast(pa.string())
    found = rows.set_column(0, "resource_id", ids).group_by("resource_id", use_threads=False)
    told = found.aggregate(list(totals.values()))
    known = told["resource_id"].combine_chunks()
    group = pc.index_in(ids, value_set=known).to_numpy()
    columns = {
        "resource_id": known,
        **{name: told[f"{column}_{how}"] for name, (column, how) in totals.items()},
        **{name: coded(summed(rows[name], group, len(known))) for name in HISTOGRAMS},
    }
    return pa.table(columns).select(_USE.names).cast(_USE)


def _frame(use: pa.Table) -> pd.DataFrame:
    """Return the rows by id with their histograms as arrays."""
    frame: pd.DataFrame = use.drop_columns(HISTOGRAMS).to_pandas()
    each = np.arange(use.num_rows)
    for name in HISTOGRAMS:
        minutes = summed(use[name], each, use.num_rows)
        frame[name] = [one if one.any() else None for one in minutes]
    return frame.set_index("resource_id").sort_index()
