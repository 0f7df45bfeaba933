"""An estate at another time: for clients that look at their own clock."""

from dataclasses import replace
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from optimizer.emulator.estate import Estate

_WEEK = timedelta(weeks=1)


def at(estate: Estate, now_utc: datetime) -> Estate:
    """Return an estate whose now is `now_utc`, all that happens moved by the same whole weeks.

    Weekdays stay what they were. The last days of its history, less than a week, are then to come.
    """
    by = -((estate.now_utc - now_utc) // _WEEK) * _WEEK
    return replace(
        estate,
        history_start_utc=estate.history_start_utc + by,
        now_utc=now_utc.replace(microsecond=0),
        changes=tuple(replace(each, at_utc=each.at_utc + by) for each in estate.changes),
        jobs=_moved(estate.jobs, by),
        sessions=_moved(estate.sessions, by),
        requests=_moved(estate.requests, by),
    )


def _moved(table: pa.Table, by: timedelta) -> pa.Table:
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            moved = pc.add(table[field.name], pa.scalar(by, pa.duration("us")))
            table = table.set_column(place, field, moved.cast(field.type))
    return table
