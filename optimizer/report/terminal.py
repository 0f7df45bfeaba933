"""Tables and progress for a terminal. Foreign text is shown, never interpreted as markup."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from optimizer.analysis.result import Analysis
from optimizer.report.detectors import DetectorRow, threshold_words
from optimizer.report.findings import (
    FindingRow,
    finding_rows,
    gone_text,
    not_assessed_text,
    totals_text,
)
from optimizer.report.scenarios import scenario_rows, share_lines, would_add_words
from optimizer.report.words import UNKNOWN, count, printable, rates_words
from optimizer.scenarios import Scenario
from optimizer.scenarios.compare import Comparison
from optimizer.units import round_money

WIDTH_OF_A_PIPE = 160
"""Nobody reads a pipe's width; tables in files must not break for it."""

_WHOLE_FROM = 100
"""From this largest saving on, a table shows no cents."""

_CONFIDENCE_STYLES = {"high": "green", "medium": "yellow", "low": "dim"}

Advance = Callable[[str, int, int | None], None]


def print_analysis(analysis: Analysis) -> None:
    """Print findings with their totals on stdout, and below them what could not be judged."""
    if analysis.findings:
        print_findings(finding_rows(analysis.findings), analysis.currency)
    else:
        sys.stdout.write("No saving was found.\n\n")
    parts = (
        totals_text(analysis),
        rates_words(analysis.rate_savings),
        gone_text(analysis.gone),
        not_assessed_text(analysis.not_assessed),
    )
    sys.stdout.write("\n\n".join(filter(None, parts)) + "\n")


def print_findings(rows: Sequence[FindingRow], currency: str) -> None:
    """Print findings as a table on stdout."""
    table = _table("finding", "what", "owner", f"{currency} a month", "P10 to P90", "sure", "risk")
    table.columns[0].no_wrap = True
    for column in (3, 4):
        table.columns[column].justify = "right"
        table.columns[column].no_wrap = True
    digits = 0 if max((row["saving_p50"] or 0 for row in rows), default=0) >= _WHOLE_FROM else 2
    for row in rows:
        table.add_row(*_finding_cells(row, digits))
    _console(sys.stdout).print(table)


def print_comparison(analysis: Analysis, compared: Comparison) -> None:
    """Print scenarios side by side on stdout, then each team's share and what was left out."""
    currency, best = analysis.currency, compared.best
    console = _console(sys.stdout)
    console.print(_scenario_table((*compared.presets, best), currency))
    sys.stdout.write("The most that can be saved at each amount of waiting:\n")
    console.print(_scenario_table(compared.front.scenarios, currency))
    for title, lines in (
        (f"{best.name}, by owner:", share_lines(best, currency)),
        (
            f"Left out of {best.name}, and what each would add a month:",
            _left_out_lines(best, currency),
        ),
    ):
        if lines:
            sys.stdout.write(
                "\n".join([printable(title), *(f"  {line}" for line in lines), "", ""])
            )
    if compared.front.not_on_it:
        unknown = count(len(compared.front.not_on_it), "finding")
        sys.stdout.write(f"Not on the front, as their waiting is not known: {unknown}.\n")


def _left_out_lines(scenario: Scenario, currency: str) -> list[str]:
    return [
        f"{left.finding.id}  {printable(left.finding.title)}: {would_add_words(left, currency)}; "
        f"{printable(left.why)}"
        for left in scenario.left_out
    ]


def _scenario_table(scenarios: Sequence[Scenario], currency: str) -> Table:
    table = _table(
        "scenario",
        "changes",
        f"{currency} a month",
        "P10 to P90",
        "waiting, min",
        "restarts",
        "effort",
        "low/medium/high risk",
    )
    for column in range(1, 8):
        table.columns[column].justify = "right"
    for row in scenario_rows(scenarios):
        table.add_row(
            Text(row["name"]),
            str(row["changes"]),
            f"{round_money(row['saving_p50'], 0):,.0f}",
            f"{round_money(row['saving_p10'], 0):,.0f} to {round_money(row['saving_p90'], 0):,.0f}",
            f"{row['waiting_minutes']:,.0f}",
            f"{row['restarts']:,.0f}",
            f"{row['effort_points']:,.0f}",
            f"{row['low_risk']}/{row['medium_risk']}/{row['high_risk']}",
        )
    return table


def print_detectors(rows: Sequence[DetectorRow]) -> None:
    """Print the detectors as a table on stdout."""
    table = _table("detector", "rule", "remedy", "thresholds")
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(row["name"], row["asks"], row["remedy"], threshold_words(row["thresholds"]))
    _console(sys.stdout).print(table)


@contextmanager
def progress() -> Iterator[Advance]:
    """Yield what shows progress on stderr: bars on a terminal, a line for each stage elsewhere.

    Ctrl-C ends the work at the next step at the latest, whatever a library makes of it.
    """
    with _interrupted() as interrupted, _shown() as show:

        def advance(stage: str, done: int, total: int | None) -> None:
            if interrupted.is_set():
                raise KeyboardInterrupt
            show(stage, done, total)

        yield advance


@contextmanager
def _interrupted() -> Iterator[Event]:
    """Yield what remembers Ctrl-C: modules that are being imported may swallow the exception."""
    told = Event()

    def tell(*_: object) -> None:
        told.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, tell)
    try:
        yield told
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _shown() -> Iterator[Advance]:
    if not sys.stderr.isatty():
        yield _lines()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=_console(sys.stderr), transient=True) as bars:
        yield _bars(bars)


def _bars(bars: Progress) -> Advance:
    tasks = {}

    def advance(stage: str, done: int, total: int | None) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done, total=total)

    return advance


def _lines() -> Advance:
    said = set[str]()

    def advance(stage: str, _done: int, _total: int | None) -> None:
        if stage not in said:
            said.add(stage)
            sys.stderr.write(f"{stage} …\n")
            sys.stderr.flush()

    return advance


def _finding_cells(row: FindingRow, digits: int) -> tuple[str | Text, ...]:
    low, mid, high = (
        None if amount is None else f"{round_money(amount, digits):,.{digits}f}"
        for amount in (row["saving_p10"], row["saving_p50"], row["saving_p90"])
    )
    return (
        row["id"],
        Text(row["title"]),
        Text(row["owner"]),
        mid or UNKNOWN,
        f"{low} to {high}" if mid else "",
        Text(row["confidence"], style=_CONFIDENCE_STYLES.get(row["confidence"], "")),
        row["risk"],
    )


def _table(*titles: str) -> Table:
    return Table(*titles, box=SIMPLE_HEAD, pad_edge=False)


def _console(stream: TextIO) -> Console:
    width = None if stream.isatty() else WIDTH_OF_A_PIPE
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)
