from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from optimizer.errors import LakeError
from optimizer.model import Window
from optimizer.store.lake import Coverage, Lake
from optimizer.store.tables import COSTS, JOBS, NODE_MINUTES, SAMPLES, TABLES

MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)
NOON_OF_DAY_2 = MIDNIGHT + timedelta(days=1, hours=12)
WINDOW = Window(start_utc=MIDNIGHT, end_utc=NOON_OF_DAY_2)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def node_minutes(**active: float) -> pd.DataFrame:
    """Return rows of one cluster; `h30=2` means two active nodes 30 hours after midnight."""
    times = [MIDNIGHT + timedelta(hours=int(name[1:])) for name in active]
    values = list(active.values())
    return pd.DataFrame({"resource_id": "/ws/c", "minute_utc": times, "active": values})


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda t: t.name)
def test_a_table_without_rows_has_its_columns(lake: Lake, table: object) -> None:
    frame = lake.read(table)  # type: ignore[arg-type]
    assert list(frame.columns) == table.schema.names  # type: ignore[attr-defined]
    assert frame.empty


def test_types_do_not_depend_on_nulls(lake: Lake) -> None:
    empty = lake.read(SAMPLES).dtypes
    lake.write(
        SAMPLES,
        pd.DataFrame(
            {"resource_id": ["/a", "/b"], "minute_utc": MIDNIGHT, "cpu_avg": [7, None]}
        ).convert_dtypes(),
    )
    frame = lake.read(SAMPLES)
    assert (frame.dtypes == empty).all()
    assert frame["cpu_avg"].tolist() == [7, pd.NA]
    assert frame["minute_utc"][0] == MIDNIGHT


def test_the_later_collection_wins(lake: Lake) -> None:
    lake.write(NODE_MINUTES, node_minutes(h1=1, h2=1))
    lake.write(NODE_MINUTES, node_minutes(h2=5, h3=5))
    assert lake.read(NODE_MINUTES)["active"].tolist() == [1, 5, 5]


def test_writing_twice_changes_nothing(lake: Lake) -> None:
    for _ in range(2):
        assert lake.write(NODE_MINUTES, node_minutes(h1=1, h30=2)) == 2
    assert len(lake.read(NODE_MINUTES)) == 2
    assert lake.days(NODE_MINUTES) == [date(2026, 1, 1), date(2026, 1, 2)]


def test_null_is_a_value_of_a_key(lake: Lake) -> None:
    row = {"resource_id": "/ws", "charge_date": MIDNIGHT, "meter": "D2", "billed_cost": 1.0}
    for cost in (1.0, 2.0):
        lake.write(COSTS, pd.DataFrame([row | {"billed_cost": cost}]))
    assert lake.read(COSTS)["billed_cost"].tolist() == [2.0]


def test_a_window_leaves_its_end_out(lake: Lake) -> None:
    lake.write(NODE_MINUTES, node_minutes(h0=1, h35=2, h36=3))
    assert lake.read(NODE_MINUTES, WINDOW, ["active"])["active"].tolist() == [1, 2]


def test_a_covered_window_drops_what_is_no_longer_there(lake: Lake) -> None:
    lake.write(NODE_MINUTES, node_minutes(h1=1, h30=2, h40=3))
    lake.write(NODE_MINUTES, node_minutes(h2=9), coverage=Coverage(scopes=["/ws"], window=WINDOW))
    assert lake.read(NODE_MINUTES)["active"].tolist() == [9, 3]


@pytest.mark.parametrize("scope", ["/other", "/w"])
def test_a_covered_window_leaves_other_scopes_alone(lake: Lake, scope: str) -> None:
    lake.write(NODE_MINUTES, node_minutes(h1=1))
    lake.write(NODE_MINUTES, node_minutes(), coverage=Coverage(scopes=[scope], window=WINDOW))
    assert lake.read(NODE_MINUTES)["active"].tolist() == [1]


def test_the_lake_knows_how_far_it_got(lake: Lake) -> None:
    later = Window(start_utc=MIDNIGHT, end_utc=MIDNIGHT + timedelta(days=9))
    assert lake.missing_from(NODE_MINUTES, "/ws", later) == MIDNIGHT
    lake.write(NODE_MINUTES, node_minutes(), coverage=Coverage(scopes=["/ws"], window=WINDOW))
    assert lake.missing_from(NODE_MINUTES, "/ws", later) == NOON_OF_DAY_2
    assert lake.missing_from(NODE_MINUTES, "/ws", WINDOW) == NOON_OF_DAY_2
    assert lake.missing_from(NODE_MINUTES, "/new", later) == MIDNIGHT


def test_a_deleted_day_is_collected_again(lake: Lake, tmp_path: Path) -> None:
    lake.write(NODE_MINUTES, node_minutes(), coverage=Coverage(scopes=["/ws"], window=WINDOW))
    (tmp_path / "lake/node_minutes/2026-01-01.parquet").unlink()
    assert lake.missing_from(NODE_MINUTES, "/ws", WINDOW) == MIDNIGHT


def test_a_table_of_one_file_is_laid_over(lake: Lake) -> None:
    job = pd.DataFrame({"job_id": ["/ws/j1", "/ws/j2"], "status": "Running"})
    lake.write(JOBS, job, coverage=Coverage(scopes=["/ws"], window=WINDOW))
    lake.write(JOBS, job[:1].assign(status="Completed"))
    assert lake.read(JOBS)["status"].tolist() == ["Completed", "Running"]
    assert lake.missing_from(JOBS, "/ws", WINDOW) == NOON_OF_DAY_2


@pytest.mark.parametrize("kept_bytes", [0, 10, 1000])
def test_a_truncated_file_is_named(lake: Lake, tmp_path: Path, kept_bytes: int) -> None:
    lake.write(NODE_MINUTES, node_minutes(h1=1))
    file = tmp_path / "lake/node_minutes/2026-01-01.parquet"
    file.write_bytes(file.read_bytes()[:kept_bytes])
    with pytest.raises(LakeError, match=r"2026-01-01\.parquet is damaged.*collect"):
        lake.read(NODE_MINUTES)


def test_a_column_nobody_knows_is_refused(lake: Lake) -> None:
    with pytest.raises(LakeError, match="node_minutes has no column colour"):
        lake.write(NODE_MINUTES, node_minutes(h1=1).assign(colour="red"))


def test_what_is_set_aside_is_laid_over_at_once(lake: Lake, tmp_path: Path) -> None:
    both = Lake(tmp_path / "both")
    earlier, later = node_minutes(h1=1, h5=1, h30=1), node_minutes(h1=7, h31=7)
    for each in (lake, both):
        each.write(NODE_MINUTES, earlier)
    both.write(NODE_MINUTES, later, coverage=Coverage(scopes=["/ws"], window=WINDOW))
    lake.set_aside(NODE_MINUTES, later.iloc[:1])
    lake.set_aside(NODE_MINUTES, later.iloc[1:])
    lake.set_aside(NODE_MINUTES, later.iloc[:0], coverage=Coverage(scopes=["/ws"], window=WINDOW))
    assert lake.read(NODE_MINUTES)["active"].tolist() == [1, 1, 1]
    assert lake.settle(NODE_MINUTES) == [date(2026, 1, 1), date(2026, 1, 2)]
    assert lake.read(NODE_MINUTES)["active"].tolist() == [7, 7]
    pd.testing.assert_frame_equal(lake.read(NODE_MINUTES), both.read(NODE_MINUTES))
    assert lake.missing_from(NODE_MINUTES, "/ws", WINDOW) == WINDOW.end_utc
    assert lake.settle(NODE_MINUTES) == []


def test_settling_that_was_cut_short_is_done_again(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coverage = Coverage(scopes=["/ws"], window=WINDOW)
    lake.set_aside(NODE_MINUTES, node_minutes(h1=1, h30=2), coverage=coverage)

    def no_room(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        save, day = lake._save, tmp_path / "lake" / "node_minutes" / "2026-01-02.parquet"
        patch.setattr(
            lake,
            "_save",
            lambda table, file, *rest: (no_room if file == day else save)(table, file, *rest),
        )
        with pytest.raises(OSError, match="No space"):
            lake.settle(NODE_MINUTES)
    assert lake.read(NODE_MINUTES)["active"].tolist() == [1]
    lake.settle(NODE_MINUTES)
    assert lake.read(NODE_MINUTES)["active"].tolist() == [1, 2]


def test_days_without_rows_are_remembered_once_settled(lake: Lake) -> None:
    coverage = Coverage(scopes=["/ws"], window=WINDOW)
    lake.set_aside(NODE_MINUTES, pd.DataFrame(), coverage=coverage)
    lake.settle(NODE_MINUTES)
    assert lake.missing_from(NODE_MINUTES, "/ws", WINDOW) == WINDOW.end_utc
    assert lake.days(NODE_MINUTES) == [date(2026, 1, 1), date(2026, 1, 2)]
