"""What was changed, how it ended, what it saved, and the way back."""

from collections.abc import Sequence

import streamlit as st

from optimizer.app import charts, data
from optimizer.app.app_pages.plan import follow, show_in_dialog
from optimizer.app.words import literal
from optimizer.model import Claim
from optimizer.remediation.outcomes import Outcome, Run, Status, Verification
from optimizer.report.changes import (
    measured_words,
    parts_words,
    per_year_words,
    report_words,
    run_text,
)
from optimizer.report.words import (
    count,
    day,
    minute,
    money_range,
    printable,
    resource_name,
    setting_name,
    setting_value,
)


def history() -> None:
    """Show how far every saving has come, and every run with the way back."""
    st.title("History")
    runs = data.history()
    if not runs:
        st.info("Nothing was applied yet. The Plan page is where a change is made.")
        return
    _claims(data.verification())
    st.header("Runs")
    for run in runs:
        _run(run, undoable=_undoable(run, runs))


def _claims(verification: Verification) -> None:
    st.header("Savings, from estimate to proof")
    st.caption(
        "Estimated by replay → Applied: the setting was seen changed → Measured against the bill, "
        "with a 90 % interval → Verified: 28 days, calibrated, and the interval excludes zero."
    )
    currency = verification.currency
    for claim in verification.claims:
        if claim.shortfall is not None:
            name, why = resource_name(claim.resource_id), printable(claim.shortfall)
            st.error(literal(f"{name} did not save what was promised. {why}"))
    st.dataframe(
        [
            {
                "Resource": resource_name(claim.resource_id),
                "Applied": day(claim.applied_utc),
                "Level": _ladder(claim.level),
                "Promised a month": money_range(claim.promised_per_month, currency),
                "Measured a month": measured_words(claim.measured_per_month, currency),
                "Report": "" if claim.report is None else report_words(claim.report),
                "Change of the bill": (
                    ""
                    if claim.parts_per_month is None
                    else parts_words(claim.parts_per_month, currency)
                ),
                "Why": printable(claim.why),
            }
            for claim in verification.claims
        ],
        hide_index=True,
        alt="Every applied change with what was promised and what was measured.",
    )
    if verification.parts_per_month is not None:
        st.text(f"Together: {parts_words(verification.parts_per_month, currency)}.")
    if year := per_year_words(verification):
        st.text(f"Measured: {year}.")
    for said in verification.suggested_events:
        st.info(literal(f"{said} If that is outside routine, date it under verify.events."))
    if any(claim.measured_per_month is not None for claim in verification.claims):
        st.plotly_chart(
            charts.promised_and_measured(verification.claims, currency),
            config=charts.CONFIG,
            alt="Promised and measured saving of each change, with their intervals.",
        )


def _run(run: Run, *, undoable: bool) -> None:
    with st.container(border=True):
        st.subheader(literal(f"{run.kind.capitalize()} of {minute(run.started_utc)}"))
        st.text(f"{run_text(run)} By {printable(run.who)}, scenario {printable(run.scenario)}.")
        if run.ended_utc is None:
            st.warning("It was interrupted; applying the same plan again carries on.")
        st.dataframe(
            [_outcome_row(outcome) for outcome in run.outcomes],
            hide_index=True,
            alt="How each step ended.",
        )
        if undoable and st.button("Roll back…", key=f"undo-{run.id}", icon=":material/undo:"):
            _confirm(run)


def _outcome_row(outcome: Outcome) -> dict[str, str]:
    return {
        "Resource": resource_name(outcome.resource_id),
        "Setting": setting_name(outcome.setting),
        "Before": setting_value(outcome.before),
        "After": setting_value(outcome.after),
        "Ended": outcome.status.value,
        "Detail": printable(outcome.detail),
    }


def _ladder(level: Claim) -> str:
    steps = list(Claim)
    reached = steps.index(level) + 1
    return f"{'●' * reached}{'○' * (len(steps) - reached)} {level.value}"


def _undoable(run: Run, newest_first: Sequence[Run]) -> bool:
    """Say whether something this run changed still stands."""
    later = newest_first[: newest_first.index(run)]
    rolled_back = any(r.kind == "rollback" and r.plan_id == run.plan_id for r in later)
    return run.kind == "apply" and not rolled_back and bool(_changed(run))


def _changed(run: Run) -> list[Outcome]:
    return [outcome for outcome in run.outcomes if outcome.status is Status.DONE]


@st.dialog("Put these settings back in Azure?", width="large")
def _confirm(run: Run) -> None:
    show_in_dialog(
        "\n\n".join(
            f"{resource_name(o.resource_id)}\n"
            f"- {o.setting}: {setting_value(o.after)}\n"
            f"+ {o.setting}: {setting_value(o.before)}"
            for o in reversed(_changed(run))
        )
    )
    settings = count(len(_changed(run)), "setting")
    agreed = st.checkbox(f"I want {settings} put back in Azure now")
    if st.button(f"Put {settings} back", type="primary", disabled=not agreed):
        follow(data.roll_back(run.id), "Putting settings back…")
