"""Tables become the few arrays that a detector may see."""

from dataclasses import replace
from pathlib import Path

from optimizer.analysis.features import Frames, instance_features
from optimizer.model import Kind, Resource
from optimizer.store import tables
from optimizer.store.lake import Lake
from tests.analysis.builders import resource, window


def empty_frames(lake: Lake) -> Frames:
    return Frames(
        window=window(14),
        resources=lake.read(tables.RESOURCES),
        node_minutes=lake.read(tables.NODE_MINUTES),
        intervals=lake.read(tables.INTERVALS),
        instance_events=lake.read(tables.INSTANCE_EVENTS),
        jobs=lake.read(tables.JOBS),
        costs=lake.read(tables.COSTS),
        prices=lake.read(tables.PRICES),
    )


def stopped_instance() -> Resource:
    return replace(resource(Kind.INSTANCE), state="Stopped", created_utc=None)


def test_an_instance_that_never_ran_was_never_on(tmp_path: Path) -> None:
    frames = empty_frames(Lake(tmp_path))
    seen = instance_features(frames, stopped_instance(), [(window(14).start_utc, {})])
    assert seen is not None
    assert (int(seen.on.sum()), seen.unknown_hours, seen.idle_stops) == (0, 0.0, 0)
