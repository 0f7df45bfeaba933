"""Every finding, and the one chosen with the evidence drawn."""

from collections.abc import Sequence
from datetime import date, timedelta

import streamlit as st

from optimizer.analysis.result import Analysis, Series
from optimizer.app import charts, data
from optimizer.app.app_pages.plan import choose_by_hand, plan
from optimizer.app.words import RISK_COLOURS, dateline, literal
from optimizer.model import Finding, Kind, Level
from optimizer.report.findings import change_words, effect_lines, finding_rows, owner_words
from optimizer.report.words import count, money, money_range, printable, resource_name

ASKED = "finding"
"""The query parameter that names a finding to open."""

_FILTER_WIDTH = 170
_HALF_WIDTH = 420
_ROW_PIXELS, _TITLE_PIXELS = 35, 300
_MOST_ROWS = 10
_AMOUNT_PIXELS = 62
_SPANS = {"Day": 1, "Week": 7, "Whole window": None}


def findings() -> None:
    """Show what was found, narrowed by the filters, and the chosen finding beneath."""
    found = data.analysis()
    st.title("Findings")
    st.caption(dateline(found))
    if not found.findings:
        st.success("Nothing was found to save. What could not be judged is on the overview.")
        return
    shown = _filtered(found.findings)
    if not shown:
        st.info("No finding fits these filters.")
        return
    _one(found, _chosen(shown, found.currency))


def _filtered(every: Sequence[Finding]) -> list[Finding]:
    with st.grid(5, min_column_width=_FILTER_WIDTH):
        detectors = st.multiselect(
            "Detector",
            sorted({f.detector for f in every}),
            format_func=charts.detector_words,
            placeholder="All",
        )
        owners = st.multiselect(
            "Owner", sorted({owner_words(f.owner) for f in every}), placeholder="All"
        )
        workspaces = st.multiselect(
            "Workspace", sorted({f.workspace for f in every}), placeholder="All"
        )
        risks = st.multiselect(
            "Risk", [level.value for level in Level], format_func=str.capitalize, placeholder="All"
        )
        least = st.number_input("Least saving a month", min_value=0.0, step=50.0, format="%.0f")
    return [
        f
        for f in every
        if (not detectors or f.detector in detectors)
        and (not owners or owner_words(f.owner) in owners)
        and (not workspaces or f.workspace in workspaces)
        and (not risks or f.risk in risks)
        and (not least or (f.saving_per_month is not None and f.saving_per_month.p50 >= least))
    ]


def _chosen(shown: list[Finding], currency: str) -> Finding:
    rows = finding_rows(shown)
    asked = st.query_params.get(ASKED)
    first = next((i for i, finding in enumerate(shown) if finding.id == asked), 0)
    amount = st.column_config.NumberColumn(format="%,.0f", width=_AMOUNT_PIXELS)
    state = st.dataframe(
        [
            {
                "Finding": row["title"],
                f"Saving ({currency})": row["saving_p50"],
                "P10": row["saving_p10"],
                "P90": row["saving_p90"],
                "Risk": row["risk"],
                "Confidence": row["confidence"],
                "Owner": row["owner"],
                "Workspace": row["workspace"],
            }
            for row in rows
        ],
        key="findings",
        hide_index=True,
        height=_ROW_PIXELS * (min(len(rows), _MOST_ROWS) + 1) + 3,
        placeholder="unknown",
        column_config={
            "Finding": st.column_config.TextColumn(width=_TITLE_PIXELS),
            f"Saving ({currency})": st.column_config.NumberColumn(
                format="%,.0f", help="Per month at P50, of this change alone."
            ),
            "P10": amount,
            "P90": amount,
        },
        on_select="rerun",
        selection_mode="single-row-required",
        selection_default={"selection": {"rows": [first], "columns": [], "cells": []}},
        alt="The findings, largest saving first. Choose a row to see its evidence.",
    )
    st.caption(f"{count(len(rows), 'finding')}. Choose a row to see its evidence below.")
    chosen = state["selection"]["rows"]
    return shown[chosen[0] if chosen and chosen[0] < len(shown) else 0]


def _one(found: Analysis, finding: Finding) -> None:
    st.divider()
    st.header(literal(finding.title))
    _badges(finding)
    st.text(
        f"{resource_name(finding.resource_id)} in {printable(finding.workspace)}, "
        + ("unowned" if finding.owner is None else f"owned by {printable(finding.owner)}")
    )
    st.text(printable(finding.why))
    if st.button("Plan this change", type="primary", icon=":material/checklist:"):
        choose_by_hand(finding.id)
        st.switch_page(st.Page(plan))
    if series := found.series.get(finding.id):
        _picture(series, finding)
    with st.grid(2, min_column_width=_HALF_WIDTH) as grid:
        with grid.cell():
            _saving(found, finding)
        with grid.cell():
            _evidence(finding)
    _by_hand(finding)


def _badges(finding: Finding) -> None:
    with st.container(horizontal=True, gap="small"):
        st.badge(finding.claim.value, color="blue")
        st.badge(f"{finding.risk} risk", color=RISK_COLOURS[finding.risk])
        st.badge(f"{finding.confidence} confidence", color="gray")
        st.badge(charts.detector_words(finding.detector), color="gray")


_UNITS = {Kind.CLUSTER: "Nodes", Kind.POOL: "Machines", Kind.COMMITMENT: "Machines"}


def _picture(series: Series, finding: Finding) -> None:
    first_day: date = series.times_utc[0].astype("datetime64[D]").item()
    last_day: date = series.times_utc[-1].astype("datetime64[D]").item()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        span = st.segmented_control("Show", list(_SPANS), default="Week", required=True)
        days = _SPANS[span]
        if days is None:
            first, days = first_day, (last_day - first_day).days + 1
        else:
            first = st.date_input(
                "From (UTC)",
                value=charts.most_changed_day(series, days),
                min_value=first_day,
                max_value=max(first_day, last_day - timedelta(days=days - 1)),
                key=f"from-{finding.id}-{days}",
                width=160,
            )
    unit = _UNITS.get(finding.kind, "Running")
    st.plotly_chart(
        charts.nodes_over_time(series, first, days, unit),
        config=charts.CONFIG,
        key="picture",
        alt=f"{unit} over time: needed, paid for today, and paid for with the new setting.",
    )


def _saving(found: Analysis, finding: Finding) -> None:
    st.subheader("What changes")
    st.code(change_words(finding.change), language=None, wrap_lines=True)
    saving, spend = finding.saving_per_month, finding.spend_per_month
    st.text(
        f"Saves {money_range(saving, found.currency)} a month, "
        f"of {money(spend, found.currency)} spent."
    )
    if formula := found.formulas.get(finding.id):
        st.code(formula, language=None, wrap_lines=True)
    st.text("\n".join(effect_lines(finding.effects)))
    _listed("What would change the answer", found.sensitivity.get(finding.id, ()))
    _listed("Mind", finding.pillar_notes)


def _evidence(finding: Finding) -> None:
    st.subheader("Evidence")
    st.dataframe(
        [
            {"What": name.replace("_", " "), "Value": _value(value)}
            for name, value in finding.evidence.items()
        ],
        hide_index=True,
        height="content",
        alt="The figures that the finding rests on.",
    )
    st.markdown(f"Source: [{literal(finding.source.title)}]({finding.source.url})")


def _by_hand(finding: Finding) -> None:
    with st.expander("The same in a terminal"):
        st.code(
            f"optimizer explain {finding.id}\n"
            f"optimizer plan --finding {finding.id} --out plan.json\n"
            "optimizer apply plan.json",
            language="bash",
        )


def _listed(title: str, lines: Sequence[str]) -> None:
    if lines:
        st.markdown(f"**{title}**")
        st.text("\n".join(f"• {printable(line)}" for line in lines))


def _value(value: float | str | None) -> str:
    if value is None:
        return "not observed"
    if isinstance(value, str):
        return printable(value)
    return f"{value:.4g}" if abs(value) < 1 else f"{value:,.2f}".rstrip("0").rstrip(".")
