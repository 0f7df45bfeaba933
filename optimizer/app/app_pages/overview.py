"""What is spent, what could be saved, what was proved to be saved."""

import streamlit as st

from optimizer.analysis.result import Analysis
from optimizer.app import charts, data
from optimizer.app.words import dateline, figure
from optimizer.model import Claim, Gone, NotAssessed
from optimizer.remediation.outcomes import Verification
from optimizer.report.changes import measured_words
from optimizer.report.findings import anomaly_words, gone_lines, month_end_words
from optimizer.report.words import (
    count,
    interval,
    money,
    printable,
    rates_words,
    resource_name,
    share,
)

_FIGURE_WIDTH = 200
_CHART_WIDTH = 440


def overview() -> None:
    """Show the estate's money at a glance."""
    found = data.analysis()
    st.title("Overview")
    st.caption(dateline(found))
    _figures(found, data.verification())
    if words := rates_words(found.rate_savings):
        st.caption(words)
    _charts(found)
    gone(found.gone)
    _not_assessed(found.not_assessed)


def _figures(found: Analysis, verification: Verification) -> None:
    currency, saving = found.currency, found.saving_per_month
    with st.grid(3, min_column_width=_FIGURE_WIDTH):
        figure(
            "Spend per month",
            money(found.spend_per_month, currency),
            f"from {count(len(found.daily_spend), 'whole billed day')}",
            explained="Of the whole billed days in the window, scaled to a month of 730 h.",
        )
        figure(
            "Saving found",
            money(saving.p50, currency),
            f"{interval(saving.p10, saving.p90)} per month, P10 to P90; "
            # A percentage is not parted from its sign where the card is narrow.
            f"{share(saving.p50, found.spend_per_month)} of spend".replace(
                " %", "\N{NO-BREAK SPACE}%"
            ),
            explained="Per month at P50. All findings are replayed together on your own history, "
            "so no amount counts twice.",
        )
        figure(
            "Saving verified",
            money(_verified(verification), currency) if verification.claims else "none yet",
            _verified_words(verification),
            explained="Per month. Verified: at least 28 billed days since the change, and the "
            "90 % interval of what the bill shows excludes zero.",
        )


def _charts(found: Analysis) -> None:
    with st.grid(2, min_column_width=_CHART_WIDTH) as grid:
        with grid.cell():
            st.subheader("From spend to what remains")
            st.plotly_chart(
                charts.waterfall(found.spend_per_month, found.by_detector, found.currency),
                config=charts.CONFIG,
                alt="Spend per month, what each detector takes off it, and what remains.",
            )
        with grid.cell():
            st.subheader("Daily spend")
            st.plotly_chart(
                charts.daily_spend(found.daily_spend, found.currency),
                config=charts.CONFIG,
                alt="Spend of each whole billed day of the window.",
            )
            if ended := found.month_end:
                expected = money(ended.total.p50, found.currency)
                st.caption(
                    f"Expected this month: {expected}, {month_end_words(ended, found.currency)}."
                )
            for odd in found.anomalies:
                st.caption(
                    f"Out of the ordinary: {odd.day:%A, %Y-%m-%d} at "
                    f"{money(odd.actual, found.currency)}; {anomaly_words(odd, found.currency)}."
                )


def gone(items: tuple[Gone, ...]) -> None:
    """Show which findings are no longer there, and why."""
    if not items:
        return
    with st.expander(f"{count(len(items), 'finding')} no longer there, and why"):
        for line in gone_lines(items):
            st.text(line)


def _not_assessed(items: tuple[NotAssessed, ...]) -> None:
    if not items:
        st.caption("Every resource was assessed by every detector that concerns it.")
        return
    with st.expander(f"{count(len(items), 'question')} could not be answered, and why"):
        st.dataframe(
            [
                {
                    "Resource": resource_name(item.resource_id),
                    "Question": charts.detector_words(item.detector),
                    "Why there is no answer": printable(item.reason),
                }
                for item in items
            ],
            hide_index=True,
            column_config={"Why there is no answer": st.column_config.TextColumn(width="large")},
        )


def _verified(verification: Verification) -> float:
    return sum(
        claim.measured_per_month.mid
        for claim in verification.claims
        if claim.level is Claim.VERIFIED and claim.measured_per_month is not None
    )


def _verified_words(verification: Verification) -> str:
    if not verification.claims:
        return "nothing was applied yet"
    verified = sum(claim.level is Claim.VERIFIED for claim in verification.claims)
    measured = measured_words(verification.measured_per_month, verification.currency)
    return f"{verified} of {count(len(verification.claims), 'change')}; measured {measured}"
