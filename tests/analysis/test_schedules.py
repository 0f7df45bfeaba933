"""Weekly stops: chosen on one half of the history, they must hold on the other."""

from optimizer.analysis.case import Assumptions
from optimizer.analysis.detectors.no_schedule import NoSchedule
from tests.analysis.builders import instance, minutes_of

BY_DAY, ALWAYS = [(0, 480), (1, 600), (0, 360)], [(1, 1440)]


def test_stops_that_fail_on_the_other_half_are_not_proposed() -> None:
    settings = {"custom_applications": ["rstudio"]}
    steady = instance(minutes_of(BY_DAY) * 28, settings=settings)
    assert NoSchedule().propose(steady, Assumptions()) is not None
    changed = instance(minutes_of(BY_DAY) * 14 + minutes_of(ALWAYS) * 14, settings=settings)
    assert NoSchedule().propose(changed, Assumptions()) is None
