"""Named choices of findings (design §8), each totalled by one joint replay."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from optimizer.analysis.result import Analysis, Combination, JointReplay
from optimizer.errors import ConfigError
from optimizer.model import Effort, Estimate, Finding, Level
from optimizer.scenarios import Scenario
from optimizer.scenarios.limits import RANK
from optimizer.scenarios.totals import replay_of, totalled

CHOSEN = "chosen"
"""The name of a scenario made of findings picked by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A rule that says why a finding is left out; None where it is in."""

    words: str
    leaves_out: Callable[[Finding], str | None]


def _conservative(finding: Finding) -> str | None:
    if finding.effort is not Effort.ONE_CLICK:
        return f"effort is {finding.effort.replace('_', ' ')}, not one click"
    if finding.risk is not Level.LOW:
        return f"risk is {finding.risk}, not low"
    if finding.saving_per_month is None or finding.saving_per_month.p10 <= 0:
        return "at P10 it saves nothing"
    return None


def _balanced(finding: Finding) -> str | None:
    if RANK[finding.risk] > RANK[Level.MEDIUM]:
        return "risk is high"
    if finding.saving_per_month is None:
        return "no price is known"
    if finding.saving_per_month.p50 <= 0:
        # A limit on what could be spent holds work up on the day that needs more.
        return "at P50 it saves nothing"
    return None


def _maximum(finding: Finding) -> str | None:  # noqa: ARG001 - takes everything
    return None


PRESETS: Mapping[str, Preset] = {
    "conservative": Preset(
        words="one click, low risk, saves even at P10", leaves_out=_conservative
    ),
    "balanced": Preset(words="up to medium risk, saves at P50", leaves_out=_balanced),
    "maximum": Preset(words="everything that was found", leaves_out=_maximum),
}


def preset(analysis: Analysis, name: str) -> Scenario:
    """Return a preset by name.

    Raises:
        ConfigError: there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"There is no scenario {name!r}; choose {', '.join(PRESETS)} or best.")
    reasons = {f.id: PRESETS[name].leaves_out(f) for f in analysis.findings}
    wanted = [key for key, reason in reasons.items() if reason is None]
    kept = _without_conflicts(replay_of(analysis), wanted)

    def why(finding: Finding, _: Estimate | None) -> str:
        return reasons[finding.id] or "another finding of the resource saves more in its place"

    return totalled(analysis, name, kept, why)


def chosen(analysis: Analysis, finding_ids: Collection[str]) -> Scenario:
    """Return the scenario of findings picked by id.

    Raises:
        ConfigError: one of them is not among the findings.
    """
    unknown = set(finding_ids) - {f.id for f in analysis.findings}
    if unknown:
        raise ConfigError(
            f"There is no finding {min(unknown)}; `optimizer findings` lists what there is."
        )
    return totalled(analysis, CHOSEN, finding_ids, lambda *_: "not chosen")


def _without_conflicts(joint: JointReplay, finding_ids: Collection[str]) -> list[str]:
    """Return findings that can all be followed: where some exclude others, what saves most."""
    every = frozenset(finding_ids)
    in_conflict = [key for key in finding_ids if joint.excludes(key, every)]
    if not in_conflict:
        return list(finding_ids)
    most: dict[str, Combination] = {}
    resources = {c.resource_id for c in joint.combinations(in_conflict)}
    for combination in joint.combinations(finding_ids):
        before = most.get(combination.resource_id)
        if before is None or combination.saving.p50 > before.saving.p50:
            most[combination.resource_id] = combination
    lost = {
        finding_id
        for combination in joint.combinations(finding_ids)
        if combination.resource_id in resources
        for finding_id in combination.finding_ids
        if finding_id not in most[combination.resource_id].finding_ids
    }
    return [key for key in finding_ids if key not in lost]
