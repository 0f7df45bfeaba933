"""Text on a page: what customers wrote is shown as they wrote it and never interpreted."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import streamlit as st

from optimizer.analysis.result import Analysis
from optimizer.errors import OptimizerError
from optimizer.model import Level
from optimizer.remediation.plan import Step
from optimizer.report.words import day, minute, printable, resource_name, setting_value

MONTH = "a month is 730 h"

Colour: TypeAlias = Literal["green", "orange", "red"]
RISK_COLOURS: dict[Level, Colour] = {
    Level.LOW: "green",
    Level.MEDIUM: "orange",
    Level.HIGH: "red",
}

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def literal(text: str) -> str:
    r"""Return text that Markdown shows as it stands: no links, emoji, formulas or colours.

    Longer foreign text goes through `st.text`, which interprets nothing at all.

    >>> literal("a_b [c](d) :smile:")
    'a\\_b \\[c\\]\\(d\\) \\:smile\\:'
    """
    return _PUNCTUATION.sub(r"\\\1", printable(text))


def dateline(analysis: Analysis) -> str:
    """Return what every amount on a page rests on."""
    start, end = analysis.window.start_utc, analysis.window.end_utc
    return (
        f"Collected {minute(end)} · seen from {day(start)} to {day(end)} "
        f"({analysis.window.days:.0f} days) · amounts in {literal(analysis.currency)} · {MONTH}"
    )


def figure(label: str, value: str, beneath: str, *, explained: str | None = None) -> None:
    """Draw one figure in a frame; what stands beneath wraps where the frame is narrow."""
    with st.container(border=True, height="stretch", gap="xxsmall"):
        st.metric(label, value, help=explained)
        st.caption(literal(beneath))


def diff_text(steps: Iterable[Step]) -> str:
    """Return steps as a diff, each under the name of its resource."""
    return "\n\n".join(
        f"{resource_name(step.resource_id)}\n"
        f"- {step.setting}: {setting_value(step.before)}\n"
        f"+ {step.setting}: {setting_value(step.after)}"
        for step in steps
    )


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Show an error of ours as the one sentence it is; any other is a defect and stays one."""
    try:
        yield
    except OptimizerError as error:
        st.error(literal(str(error)), icon=":material/error:")
