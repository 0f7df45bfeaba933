"""Choices side by side: what each saves and costs, what limits allow, and one picked by hand."""

from collections.abc import Sequence
from math import ceil

import streamlit as st

from optimizer.analysis.result import Analysis, Felt
from optimizer.app import charts, data
from optimizer.app.app_pages.plan import choose_by_hand, plan
from optimizer.app.words import dateline, figure, literal
from optimizer.model import Level
from optimizer.report.findings import finding_rows, owner_words
from optimizer.report.scenarios import scenario_rows, share_lines, would_add_words
from optimizer.report.words import count, interval, money, printable
from optimizer.scenarios import Scenario
from optimizer.scenarios.limits import UNOWNED, Budget, Limits
from optimizer.scenarios.presets import PRESETS

_FILTER_WIDTH, _FIGURE_WIDTH = 190, 200
_ROW_PIXELS, _TITLE_PIXELS, _AMOUNT_PIXELS = 35, 300, 70
_MOST_ROWS = 12
_WITHIN = "Within your limits"
_PICKED = "Picked below"


def scenarios() -> None:
    """Compare presets with the best within limits, pick by hand, and lead on to the plan."""
    found = data.analysis()
    st.title("Scenarios")
    st.caption(dateline(found))
    if not found.findings:
        st.success("Nothing was found to save, so there is nothing to choose.")
        return
    limits = _limits(found)
    best = data.best(limits)
    above = st.container()  # what is picked beneath decides what stands there
    picked = _pick(found, best)
    with above:
        _figures(picked, found.currency)
        _compare(limits, best, picked, found.currency)
    _left_out(picked, found.currency)


def _limits(found: Analysis) -> Limits:
    """Ask for limits; their ends are what following everything would take."""
    most = data.scenario("maximum")
    waiting = _rounded_up(most.felt.extra_waiting_minutes_per_month, 60)
    effort = _rounded_up(most.effort_points, 5)
    changes = max(1, len(most.steps))
    st.subheader("Limits")
    with st.grid(5, min_column_width=_FILTER_WIDTH):
        risk = st.select_slider(
            "Risk up to",
            [level.value for level in Level],
            value=Level.HIGH.value,
            format_func=str.capitalize,
        )
        minutes = st.slider(
            "Extra waiting",
            0,
            waiting,
            waiting,
            step=max(1, waiting // 60),
            format="%d min",
            help="Minutes a month, of people and jobs together.",
        )
        points = st.slider(
            "Effort",
            0,
            effort,
            effort,
            format="%d points",
            help="One click is 1 point, a purchase 4, a recreated compute 8, a change of code 20: "
            "a point is about half an hour of somebody's time.",
        )
        findings = st.slider("Changes", 0, changes, changes, format="%d")
        teams = st.multiselect(
            "Only owners", sorted({owner_words(f.owner) for f in found.findings}), placeholder="All"
        )
    # At its end a slider is no limit: what nobody knows the waiting of stays a choice.
    return Limits(
        budget=Budget(
            waiting_minutes=minutes if minutes < waiting else None,
            effort_points=points if points < effort else None,
            changes=findings if findings < changes else None,
        ),
        max_risk=Level(risk),
        only_teams=tuple(
            {f.owner or UNOWNED for f in found.findings if owner_words(f.owner) in teams}
        ),
    )


def _pick(found: Analysis, best: Scenario) -> Scenario:
    """Show every finding, those of the best chosen; return what is chosen now."""
    st.subheader("Findings in the choice")
    rows = finding_rows(found.findings)
    held = set(best.finding_ids)
    amount = st.column_config.NumberColumn(format="%,.0f", width=_AMOUNT_PIXELS)
    state = st.dataframe(
        [
            {
                "Finding": row["title"],
                f"Saving ({found.currency})": row["saving_p50"],
                "Waiting": finding.effects.extra_waiting_minutes_per_month,
                "Restarts": finding.effects.extra_restarts_per_month,
                "Risk": row["risk"],
                "Effort": row["effort"],
                "Owner": row["owner"],
            }
            for row, finding in zip(rows, found.findings, strict=True)
        ],
        # Other limits choose anew; a pick by hand lasts until then.
        key=f"choice-{hash(best.finding_ids)}",
        hide_index=True,
        height=_ROW_PIXELS * (min(len(rows), _MOST_ROWS) + 1) + 3,
        placeholder="unknown",
        column_config={
            "Finding": st.column_config.TextColumn(width=_TITLE_PIXELS),
            f"Saving ({found.currency})": st.column_config.NumberColumn(
                format="%,.0f", help="Per month at P50, of this change alone."
            ),
            "Waiting": st.column_config.NumberColumn(
                format="%,.0f", width=_AMOUNT_PIXELS, help="Extra minutes a month."
            ),
            "Restarts": amount,
        },
        on_select="rerun",
        selection_mode="multi-row",
        selection_default={
            "selection": {
                "rows": [i for i, f in enumerate(found.findings) if f.id in held],
                "columns": [],
                "cells": [],
            }
        },
        alt="The findings, largest saving first. Tick those to follow.",
    )
    st.caption("Ticked: the best within the limits. Tick others and every figure follows.")
    picked = tuple(found.findings[i].id for i in state["selection"]["rows"] if i < len(rows))
    if set(picked) == held or not picked:
        return best
    return data.picked(picked)


def _figures(picked: Scenario, currency: str) -> None:
    saving = picked.total
    with st.grid(3, min_column_width=_FIGURE_WIDTH):
        figure(
            "Saving per month",
            money(saving.p50, currency),
            f"{interval(saving.p10, saving.p90)}, P10 to P90",
            explained="At P50, all changes of the choice replayed together.",
        )
        figure(
            "Extra waiting per month",
            f"{picked.felt.extra_waiting_minutes_per_month:,.0f} min",
            _felt_besides(picked.felt),
        )
        risks = ", ".join(f"{number} {level}" for level, number in picked.risks.items() if number)
        figure(
            "Changes",
            str(len(picked.steps)),
            f"risk: {risks or 'none'}; effort {picked.effort_points:,.0f} points",
        )
    if picked.steps and st.button(
        f"Plan {count(len(picked.steps), 'change')}", type="primary", icon=":material/checklist:"
    ):
        choose_by_hand(*picked.finding_ids)
        st.switch_page(st.Page(plan))


def _compare(limits: Limits, best: Scenario, picked: Scenario, currency: str) -> None:
    st.subheader("Side by side")
    front = data.front(limits)
    named = {name.capitalize(): data.scenario(name) for name in PRESETS}
    named[_WITHIN] = best
    if picked is not best:
        named[_PICKED] = picked
    st.plotly_chart(
        charts.saving_against_waiting(front.scenarios, named, currency),
        config=charts.CONFIG,
        key="front",
        alt="The most that can be saved at each amount of extra waiting, and each scenario.",
    )
    st.dataframe(
        [
            {
                "Scenario": name,
                "Changes": row["changes"],
                f"Saving ({currency})": row["saving_p50"],
                "P10": row["saving_p10"],
                "P90": row["saving_p90"],
                "Waiting": row["waiting_minutes"],
                "Restarts": row["restarts"],
                "Effort": row["effort_points"],
                "Low risk": row["low_risk"],
                "Medium": row["medium_risk"],
                "High": row["high_risk"],
            }
            for name, row in zip(named, scenario_rows(named.values()), strict=True)
        ],
        hide_index=True,
        column_config={
            name: st.column_config.NumberColumn(format="%,.0f", help=explained)
            for name, explained in (
                (f"Saving ({currency})", "Per month at P50, by joint replay."),
                ("P10", "Of the saving per month."),
                ("P90", "Of the saving per month."),
                ("Waiting", "Extra minutes a month."),
                ("Restarts", "Extra, a month."),
                ("Effort", "Points of about half an hour."),
            )
        },
        alt="Scenarios side by side, amounts per month.",
    )
    st.caption(
        literal(" · ".join(f"{name.capitalize()}: {rule.words}" for name, rule in PRESETS.items()))
    )
    if unknown := front.not_on_it:
        st.caption(f"Not on the line: {count(len(unknown), 'finding')} of unknown waiting.")
    with st.expander("Each owner's share of the choice"):
        _lines(share_lines(picked, currency))


def _left_out(picked: Scenario, currency: str) -> None:
    if not picked.left_out:
        return
    st.subheader("What the findings left out would add")
    rows = sorted(
        picked.left_out,
        key=lambda left: -(left.would_add_per_month.p50 if left.would_add_per_month else 0.0),
    )
    st.dataframe(
        [
            {
                "Finding": printable(left.finding.title),
                "Would add a month": would_add_words(left, currency),
                "Why it is left out": printable(left.why),
            }
            for left in rows
        ],
        hide_index=True,
        column_config={
            "Finding": st.column_config.TextColumn(width=_TITLE_PIXELS),
            "Why it is left out": st.column_config.TextColumn(width="large"),
        },
        alt="Findings left out, what each would add by joint replay, and why it is left out.",
    )


def _felt_besides(felt: Felt) -> str:
    restarts = f"and {felt.extra_restarts_per_month:,.0f} restarts"
    unknown = felt.waiting_not_known
    return f"{restarts}; not known for {count(unknown, 'resource')}" if unknown else restarts


def _lines(lines: Sequence[str]) -> None:
    st.text("\n".join(lines) or "Nothing is chosen.")


def _rounded_up(amount: float, step: int) -> int:
    return max(step, ceil(amount / step) * step)
