"""A choice among the findings as an exact diff, and the button that makes it true."""

import json
from collections.abc import Iterator, Sequence

import streamlit as st

from optimizer.analysis.result import Analysis
from optimizer.app import data
from optimizer.app.words import (
    dateline,
    diff_text,
    errors_as_sentences,
    figure,
    literal,
)
from optimizer.remediation.approvals import APPROVAL_HOURS
from optimizer.remediation.outcomes import Outcome, Run
from optimizer.remediation.plan import Plan
from optimizer.report.changes import (
    approval_line,
    left_undone,
    outcome_line,
    plan_total,
    run_text,
    step_lines,
)
from optimizer.report.words import count, interval, money, printable, resource_name
from optimizer.store.ledger import Approval

_SCENARIO, _PICKED = "scenario", "picked"
_DEFAULT, _BY_HAND = "balanced", "by hand"
_SCENARIOS = {
    "conservative": "One click, low risk, counted at P10.",
    "balanced": "Up to medium risk, saves at P50.",
    "maximum": "Everything that was found.",
    _BY_HAND: "The findings you name.",
}
_FIGURE_WIDTH = 200
_LONG_LINES, _LONG_PIXELS = 16, 400


def plan() -> None:
    """Show a scenario as a plan, and apply it when told to."""
    found = data.analysis()
    st.title("Plan")
    st.caption(dateline(found))
    chosen = _choice(found)
    if chosen is None:
        st.info("Choose at least one finding.")
        return
    _totals(chosen)
    _steps(chosen)
    _advice(chosen)
    _left_out(chosen, found)


def choose_by_hand(*finding_ids: str) -> None:
    """Have the page open with these findings chosen."""
    st.session_state[_SCENARIO] = _BY_HAND
    st.session_state[_PICKED] = list(finding_ids)


def follow(told: Iterator[Outcome | Run], doing: str) -> None:
    """Show a run while it happens: a line for each step as it ends, then how it all ended."""
    with st.status(doing, expanded=True) as status, errors_as_sentences():
        for news in told:
            match news:
                case Outcome():
                    st.text(outcome_line(news))
                case Run():
                    undone = left_undone(news)
                    status.update(
                        label=literal(run_text(news)), state="error" if undone else "complete"
                    )


def show_in_dialog(diff: str) -> None:
    """Show a diff whole, and scrolling where it would push the buttons out of sight."""
    st.code(
        diff,
        language="diff",
        wrap_lines=True,
        height=_LONG_PIXELS if diff.count("\n") > _LONG_LINES else "content",
    )


def _choice(found: Analysis) -> Plan | None:
    scenario = (
        st.segmented_control(
            "Scenario",
            list(_SCENARIOS),
            format_func=str.capitalize,
            default=None if _SCENARIO in st.session_state else _DEFAULT,
            required=True,
            key=_SCENARIO,
            persist_state="session",
        )
        or _DEFAULT
    )
    st.caption(_SCENARIOS[scenario])
    if scenario != _BY_HAND:
        return data.plan(scenario, ())
    titles = {f.id: f"{printable(f.title)} ({f.id})" for f in found.findings}
    picked = st.multiselect(
        "Findings", list(titles), format_func=titles.__getitem__, key=_PICKED, placeholder="Choose"
    )
    return data.plan(_DEFAULT, tuple(picked)) if picked else None


def _totals(chosen: Plan) -> None:
    saving = chosen.totals.saving_per_month
    with st.grid(3, min_column_width=_FIGURE_WIDTH):
        figure(
            "Saving per month",
            money(saving.p50, chosen.currency),
            f"{interval(saving.p10, saving.p90)}, P10 to P90",
            explained="At P50, all its changes replayed together.",
        )
        figure("Changes", str(len(chosen.steps)), "made by one click")
        figure(
            "Findings left out",
            str(len(chosen.not_included)),
            f"{len(chosen.advice)} more for people to do",
        )


def _steps(chosen: Plan) -> None:
    if not chosen.steps:
        st.info("There is nothing to change by one click.")
        return
    why_not = data.why_not_approved(chosen)
    _approvals(data.approvals(chosen), why_not)
    with st.container(horizontal=True):
        changes = count(len(chosen.steps), "change")
        if st.button(f"Apply {changes}…", type="primary", disabled=why_not is not None):
            _confirm(chosen)
        if st.button(f"Approve {changes}…"):
            _approve(chosen)
        st.download_button(
            "Download plan.json",
            lambda: json.dumps(chosen.document(), indent=2, ensure_ascii=False),
            file_name="plan.json",
            mime="application/json",
        )
    st.subheader("Exactly what changes")
    st.code(diff_text(chosen.steps), language="diff", wrap_lines=True)
    with st.expander("Each change: saving, permissions, and the same by hand"):
        st.code(
            "\n\n".join("\n".join(step_lines(step, chosen.currency)) for step in chosen.steps),
            language=None,
            wrap_lines=True,
        )


def _approvals(given: Sequence[Approval], why_not: str | None) -> None:
    for approval in given:
        st.text(approval_line(approval))
    if why_not is not None:
        st.info(literal(why_not))


def _advice(chosen: Plan) -> None:
    if chosen.advice:
        st.subheader("For people to do")
        st.dataframe(
            [
                {
                    "Advice": printable(item.title),
                    f"{chosen.currency} a month": item.saving_per_month.p50,
                    "Why": printable(item.why),
                }
                for item in chosen.advice
            ],
            column_config={
                f"{chosen.currency} a month": st.column_config.NumberColumn(format="%,.0f")
            },
            hide_index=True,
        )


def _left_out(chosen: Plan, found: Analysis) -> None:
    if chosen.not_included:
        st.subheader("Left out")
        st.dataframe(
            [
                {
                    "Finding": printable(finding.title)
                    if (finding := found.finding(item.finding))
                    else item.finding,
                    "Resource": resource_name(item.resource_id),
                    "Why it is left out": printable(item.why),
                }
                for item in chosen.not_included
            ],
            hide_index=True,
        )


@st.dialog("Approve these changes?", width="large")
def _approve(chosen: Plan) -> None:
    st.text(plan_total(chosen))
    show_in_dialog(diff_text(chosen.steps))
    st.caption(
        "Somebody else may then apply exactly this plan. One that is made anew, from other data or "
        f"other findings, needs a new word. You are {printable(data.settings().who)} here."
    )
    hours = st.number_input("Hours it holds", min_value=1.0, max_value=2160.0, value=APPROVAL_HOURS)
    comment = st.text_input("Comment", placeholder="Why, for whoever asks later")
    changes = count(len(chosen.steps), "change")
    if st.button(f"I approve {changes}", type="primary"):
        with errors_as_sentences():
            data.approve(chosen, hours=hours, comment=comment)
            st.rerun()


@st.dialog("Change these settings in Azure?", width="large")
def _confirm(chosen: Plan) -> None:
    st.text(plan_total(chosen))
    show_in_dialog(diff_text(chosen.steps))
    st.caption(
        "Each setting is read again first; one that somebody changed since is left alone. "
        "A rollback is one click on the History page."
    )
    if doomed := [step.id for step in chosen.steps if step.destructive]:
        words = " ".join(f"--confirm-delete {step_id}" for step_id in doomed)
        st.caption(
            "Deletions are withheld here, as nothing brings them back: "
            f"`optimizer apply plan.json {words}` makes them."
        )
    changes = count(len(chosen.steps), "change")
    agreed = st.checkbox(f"I want {changes} made in Azure now")
    if st.button(f"Make {changes}", type="primary", disabled=not agreed):
        follow(
            data.apply(chosen, max_steps=len(chosen.steps)),
            "Changing settings…",
        )
