"""Named choices of findings (design §8), each totalled by one joint replay."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from optimizer.analysis.result import Analysis
from optimizer.errors import ConfigError, NoDataError
from optimizer.model import Effort, Finding, Level
from optimizer.scenarios import LeftOut, Scenario, ScenarioStep

_RANK = {Level.LOW: 0, Level.MEDIUM: 1, Level.HIGH: 2}

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
    if _RANK[finding.risk] > _RANK[Level.MEDIUM]:
        return "risk is high"
    if finding.saving_per_month is None:
        return "no price is known"
    return None


def _maximum(finding: Finding) -> str | None:  # noqa: ARG001 - takes everything
    return None


PRESETS: Mapping[str, Preset] = {
    "conservative": Preset(
        words="one click, low risk, saves even at P10", leaves_out=_conservative
    ),
    "balanced": Preset(words="up to medium risk", leaves_out=_balanced),
    "maximum": Preset(words="everything that was found", leaves_out=_maximum),
}


def preset(analysis: Analysis, name: str) -> Scenario:
    """Return a preset by name.

    Raises:
        ConfigError: there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"There is no scenario {name!r}; choose {', '.join(PRESETS)}.")
    reasons = {f.id: PRESETS[name].leaves_out(f) for f in analysis.findings}
    return _scenario(analysis, name, reasons)


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
    reasons = {f.id: None if f.id in finding_ids else "not chosen" for f in analysis.findings}
    return _scenario(analysis, CHOSEN, reasons)


def _scenario(analysis: Analysis, name: str, reasons: Mapping[str, str | None]) -> Scenario:
    if analysis.joint is None:
        raise NoDataError("This analysis holds no replay; run `optimizer collect` first.")
    by_id = {finding.id: finding for finding in analysis.findings}
    together = analysis.joint.together([key for key, why in reasons.items() if why is None])
    return Scenario(
        name=name,
        steps=tuple(
            ScenarioStep(finding=by_id[finding_id], marginal=marginal)
            for finding_id, marginal in together.marginal.items()
        ),
        total=together.total,
        left_out=tuple(
            LeftOut(finding=by_id[key], why=why) for key, why in reasons.items() if why is not None
        ),
    )
