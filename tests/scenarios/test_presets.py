"""What the named choices take and leave, and the word they have for it."""

import pytest

from optimizer.errors import ConfigError
from optimizer.scenarios.presets import preset
from tests.analysis.builders import cluster, judged
from tests.scenarios.estates import named, small_estate


def test_a_limit_that_saves_nothing_is_left_to_who_wants_everything() -> None:
    # Two nodes for an hour a day, and room for fifty: a smaller maximum would hold up the work of
    # the day that needs more.
    roomy = cluster(([2.0] * 60 + [0.0] * 1380) * 28, min_nodes=1, max_nodes=50, idle_minutes=5)
    analysis = judged(named(roomy, "roomy"))
    maximum = {f.id: f.detector for f in analysis.findings}
    assert set(maximum.values()) == {"min_nodes_kept", "open_ended_maximum"}
    taken = {maximum[key] for key in preset(analysis, "balanced").finding_ids}
    assert taken == {"min_nodes_kept"}
    left = {maximum[each.finding.id]: each.why for each in preset(analysis, "balanced").left_out}
    assert left == {"open_ended_maximum": "at P50 it saves nothing"}
    assert set(preset(analysis, "maximum").finding_ids) == set(maximum)


def test_another_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="choose conservative, balanced, maximum or best"):
        preset(small_estate(), "safe")
