"""One recommendation of the Well-Architected guide per file; being in this folder registers it.

A detector sees one case and proposes a policy, or says nothing. What the policy would have saved is
reckoned by the case, what is worth saying is decided in `find`: no detector does either.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, ClassVar, Generic, TypeVar

from optimizer.analysis.case import Assumptions, CannotAssessError, Case
from optimizer.errors import OptimizerError
from optimizer.model import Effort, How, Json, Kind, Level, Source

C = TypeVar("C", bound=Case[Any])

__all__ = [
    "GUIDE",
    "CannotAssessError",
    "Detector",
    "DetectorError",
    "Proposal",
    "about",
    "load_detectors",
]

GUIDE = (
    "https://learn.microsoft.com/azure/well-architected/service-guides/"
    "azure-machine-learning#cost-optimization"
)
"""The Well-Architected guide for Azure Machine Learning, its cost recommendations."""


class DetectorError(OptimizerError):
    """A file of the folder does not define exactly one detector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a detector would change, and what it saw."""

    setting: str
    """Path in the ARM document."""
    before: Json
    after: Json
    """As Azure spells it."""
    how: How
    overlay: Mapping[str, Any]
    """The fields of the case's settings that it changes."""
    title: str
    why: str
    """One sentence with numbers."""
    evidence: Mapping[str, float | int | str | None]
    effort: Effort = Effort.ONE_CLICK
    risk: Level = Level.LOW
    pillar_notes: tuple[str, ...] = ()
    sensitivity: tuple[str, ...] = field(default=())
    """What would change the answer."""
    confidence: Level = Level.HIGH
    """The most it may be trusted, whatever the history says."""
    exposure: bool = False
    """Worth saying although it saves nothing by itself."""
    stands_alone: bool = False
    """Nothing else is worth changing once this is done, such as deleting what nobody uses."""


@dataclass(frozen=True, kw_only=True)
class Detector(ABC, Generic[C]):
    """One recommendation, made into a question that the data can answer."""

    source: ClassVar[Source]
    remedy_words: ClassVar[str]
    """How the change reaches Azure, in a few words."""
    kinds: ClassVar[tuple[Kind, ...]]
    """What it is asked about."""
    order: ClassVar[int]
    """Place in the waterfall: usage before rates (methods §6)."""
    also_ignored_as: ClassVar[tuple[str, ...]] = ()
    """Detectors of the same question: a tag that exempts from one of them exempts from this."""
    beside_others: ClassVar[bool] = False
    """Counts only what it saves once the other findings of its resource are carried out, and only
    where even P10 is a saving."""

    min_observed_days: float = 14.0
    """Over fewer whole days the detector is not asked."""

    @property
    def name(self) -> str:
        """The name of the file this detector stands in."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def thresholds(self) -> dict[str, object]:
        """The thresholds in force, by name with unit."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @abstractmethod
    def propose(self, case: C, assumptions: Assumptions, /) -> Proposal | None:
        """Return the change that follows the advice, or None where it is followed already.

        Raises:
            CannotAssessError: the case does not hold what the question needs.
        """


def about(seconds: float) -> str:
    """Return a length of waiting in words.

    >>> about(350), about(10)
    ('about 6 min', 'less than a minute')
    """
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes else "less than a minute"


def load_detectors() -> tuple[Detector[Any], ...]:
    """Return one detector for each module of this package, in the order of the waterfall.

    Raises:
        DetectorError: a module does not define exactly one detector.
    """
    names = [f"{__name__}.{module.name}" for module in iter_modules(__path__)]
    detectors = (_only_detector(name) for name in names)
    return tuple(sorted(detectors, key=lambda detector: (detector.order, detector.name)))


def _only_detector(module_name: str) -> Detector[Any]:
    classes = [
        member
        for member in vars(import_module(module_name)).values()
        if isinstance(member, type)
        and issubclass(member, Detector)
        and member.__module__ == module_name
    ]
    if len(classes) != 1:
        raise DetectorError(f"{module_name} defines {len(classes)} detectors; it must be one")
    return classes[0]()
