"""The pictures: numbers in, a plotly figure out. Text in them is ours, never a customer's.

Blue is work, orange is waste, green is what a change leaves: Okabe and Ito's colours, which
colour-blind eyes tell apart and which stand on light and dark alike. Fonts and grid are the page's.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from optimizer.analysis.result import Series
from optimizer.model import Estimate
from optimizer.remediation.outcomes import ClaimReport
from optimizer.report.words import money, resource_name
from optimizer.scenarios import Scenario

BLUE, ORANGE, GREEN, GREY = "#2f86c1", "#e09b20", "#12936a", "#8793a0"
_ORANGE_FILL, _BLUE_FILL, _GREY_FILL = (
    "rgba(224,155,32,0.32)",
    "rgba(47,134,193,0.75)",
    "rgba(135,147,160,0.22)",
)
CONFIG = {"displayModeBar": False, "displaylogo": False}
"""How a page shows them: no tool bar over the picture, no maker's mark."""

_MARKS = (
    ("triangle-up", GREY),
    ("square", ORANGE),
    ("diamond", "#c2566b"),
    ("star", GREEN),
    ("circle-open", GREEN),
)
"""Shape and colour of choices beside a front: either tells them apart."""

_HEIGHT = 330
_BAR_HEIGHT = 36
_FINE_DAYS = 8
"""Up to this many days every step is drawn; beyond, the highest of each hour."""


def daily_spend(spend: Mapping[date, float], currency: str) -> go.Figure:
    """Return a bar for each whole billed day."""
    figure = go.Figure(
        go.Bar(
            x=list(spend),
            y=list(spend.values()),
            marker_color=BLUE,
            hovertemplate="%{x|%a %d %b}: %{y:,.2f} " + currency + "<extra></extra>",
        )
    )
    return _laid_out(figure, y_title=f"{currency} a day", height=_HEIGHT)


def waterfall(
    spend_per_month: float, by_detector: Mapping[str, Estimate], currency: str
) -> go.Figure:
    """Return what is spent, what each detector takes off it at p50, and what remains.

    From top to bottom, so that every name can be read. What saves nothing by itself has no bar.
    """
    savings = {name: each.p50 for name, each in by_detector.items() if each.p50 > 0}
    remains = spend_per_month - sum(savings.values())
    amounts = [spend_per_month, *(-saving for saving in savings.values()), remains]
    figure = go.Figure(
        go.Waterfall(
            orientation="h",
            y=["Spend today", *map(detector_words, savings), "What remains"],
            x=amounts,
            measure=["relative", *("relative" for _ in savings), "total"],
            text=[money(amount, currency) for amount in amounts],
            textposition="outside",
            constraintext="none",
            cliponaxis=False,
            connector={"line": {"color": GREY, "width": 1}},
            increasing={"marker": {"color": BLUE}},
            decreasing={"marker": {"color": ORANGE}},
            totals={"marker": {"color": GREEN}},
            hovertemplate="%{y}: %{text}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(
        range=[0, spend_per_month * 1.25], tickformat=",", title=f"{currency} a month"
    )
    height = max(_HEIGHT, _BAR_HEIGHT * len(amounts))
    return _laid_out(figure, y_title=None, height=height)


def nodes_over_time(series: Series, first: date, days: int, unit: str) -> go.Figure:
    """Return what was needed, what is paid today and what the change leaves, from `first` on.

    The area between needed and paid is idle. Stretches that nobody observed are shaded, not 0.
    """
    part = (
        _hourly_maximum(_days_of(series, first, days))
        if days > _FINE_DAYS
        else _days_of(series, first, days)
    )
    times = part.times_utc
    seen = ~np.isnan(part.needed)
    needed = np.where(seen, part.needed, 0.0)
    idle = np.where(seen, np.maximum(part.on_now - needed, 0.0), 0.0)
    figure = go.Figure(
        [
            _area(times, needed, "Needed", _BLUE_FILL),
            _area(times, idle, "Idle", _ORANGE_FILL),
            _line(times, part.on_now, "Paid today", ORANGE, "solid"),
            _line(times, part.on_changed, "With the new setting", GREEN, "dash"),
        ]
    )
    for start, end in _stretches(times, ~seen):
        figure.add_vrect(x0=start, x1=end, fillcolor=_GREY_FILL, line_width=0, layer="below")
    figure.update_layout(hovermode="x unified")
    figure.update_yaxes(rangemode="tozero", tickformat=",d", dtick=_whole_steps(part.on_now))
    return _laid_out(figure, y_title=unit, height=_HEIGHT, legend=True)


def promised_and_measured(claims: Sequence[ClaimReport], currency: str) -> go.Figure:
    """Return each claim's promise (p10 to p90) above its measurement (90 % interval)."""
    measured = [(c, c.measured_per_month) for c in claims if c.measured_per_month is not None]
    labels = [
        f"{i}. {_plain(resource_name(c.resource_id))}" for i, (c, _) in enumerate(measured, 1)
    ]
    promises = [claim.promised_per_month for claim, _ in measured]
    figure = go.Figure(
        [
            _whiskers(labels, [(p.p10, p.p50, p.p90) for p in promises], "Promised", BLUE),
            _whiskers(labels, [(m.low, m.mid, m.high) for _, m in measured], "Measured", GREEN),
        ]
    )
    figure.update_layout(scattermode="group")
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title_text=f"{currency} a month", rangemode="tozero")
    return _laid_out(figure, y_title=None, height=120 + 46 * len(labels), legend=True)


def saving_against_waiting(
    front: Sequence[Scenario], others: Mapping[str, Scenario], currency: str
) -> go.Figure:
    """Return the front as steps, and other choices as named marks on it or below it."""
    waiting, saving = zip(*map(_point, front), strict=True) if front else ((), ())
    figure = go.Figure(
        go.Scatter(
            x=waiting,
            y=saving,
            name="Most that can be saved",
            mode="lines+markers",
            line={"color": BLUE, "width": 2, "shape": "hv"},
            marker={"color": BLUE, "size": 7},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [s.total.p90 - s.total.p50 for s in front],
                "arrayminus": [s.total.p50 - s.total.p10 for s in front],
                "color": BLUE,
                "thickness": 1,
                "width": 3,
            },
            customdata=[len(s.steps) for s in front],
            hovertemplate="%{y:,.0f} " + currency + " for %{x:,.0f} min, %{customdata} changes"
            "<extra></extra>",
        )
    )
    looks = zip(others.items(), _MARKS, strict=False)
    for (name, scenario), (symbol, colour) in looks:
        figure.add_trace(
            go.Scatter(
                x=[_point(scenario)[0]],
                y=[_point(scenario)[1]],
                name=name,
                mode="markers",
                marker={"symbol": symbol, "color": colour, "size": 13},
                customdata=[len(scenario.steps)],
                hovertemplate="%{y:,.0f} " + currency + " for %{x:,.0f} min, %{customdata} changes",
            )
        )
    figure.update_xaxes(
        title_text="Extra waiting, minutes a month", rangemode="tozero", tickformat=","
    )
    figure.update_yaxes(rangemode="tozero", tickformat=",")
    return _laid_out(figure, y_title=f"{currency} saved a month", height=_HEIGHT + 40, legend=True)


def _point(scenario: Scenario) -> tuple[float, float]:
    return scenario.felt.extra_waiting_minutes_per_month, scenario.total.p50


def most_changed_day(series: Series, days: int) -> date:
    """Return the first of those `days` over which the change takes off most."""
    cut = np.maximum(series.on_now - series.on_changed, 0.0)
    all_days, index = np.unique(series.times_utc.astype("datetime64[D]"), return_inverse=True)
    per_day = np.bincount(index, weights=cut)
    sums = np.convolve(per_day, np.ones(min(days, per_day.size)), mode="valid")
    first: date = all_days[int(np.argmax(sums))].item()
    return first


def detector_words(name: str) -> str:
    """Return a detector's name as words.

    >>> detector_words("min_nodes_kept")
    'Min nodes kept'
    """
    return name.replace("_", " ").capitalize()


def _days_of(series: Series, first: date, days: int) -> Series:
    inside = (series.times_utc >= np.datetime64(first)) & (
        series.times_utc < np.datetime64(first + timedelta(days=days))
    )
    return Series(
        times_utc=series.times_utc[inside],
        needed=series.needed[inside],
        on_now=series.on_now[inside],
        on_changed=series.on_changed[inside],
    )


def _hourly_maximum(series: Series) -> Series:
    hours, starts = np.unique(series.times_utc.astype("datetime64[h]"), return_index=True)
    # fmax: an hour is unseen only where none of its steps was seen.
    return Series(
        times_utc=hours.astype("datetime64[s]"),
        needed=np.fmax.reduceat(series.needed, starts),
        on_now=np.fmax.reduceat(series.on_now, starts),
        on_changed=np.fmax.reduceat(series.on_changed, starts),
    )


def _stretches(
    times: npt.NDArray[np.datetime64], where: npt.NDArray[np.bool_]
) -> list[tuple[np.datetime64, np.datetime64]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], where, [False])).astype(int)))
    return [
        (times[start], times[min(end, times.size - 1)])
        for start, end in zip(edges[::2], edges[1::2], strict=True)
    ]


def _area(
    times: npt.NDArray[np.datetime64], nodes: npt.NDArray[np.float64], name: str, fill: str
) -> go.Scatter:
    return go.Scatter(
        x=times,
        y=nodes,
        name=name,
        stackgroup="on",
        line={"width": 0, "shape": "hv"},
        fillcolor=fill,
        hovertemplate="%{y:.0f}",
    )


def _line(
    times: npt.NDArray[np.datetime64],
    nodes: npt.NDArray[np.float64],
    name: str,
    colour: str,
    dash: str,
) -> go.Scatter:
    return go.Scatter(
        x=times,
        y=nodes,
        name=name,
        mode="lines",
        line={"color": colour, "width": 2, "shape": "hv", "dash": dash},
        hovertemplate="%{y:.0f}",
    )


def _whiskers(
    labels: list[str], intervals: list[tuple[float, float, float]], name: str, colour: str
) -> go.Scatter:
    return go.Scatter(
        x=[middle for _, middle, _ in intervals],
        y=labels,
        name=name,
        mode="markers",
        marker={"color": colour, "size": 9},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [high - middle for _, middle, high in intervals],
            "arrayminus": [middle - low for low, middle, _ in intervals],
            "color": colour,
            "thickness": 2,
        },
        hovertemplate="%{x:,.2f}",
    )


def _laid_out(
    figure: go.Figure, *, y_title: str | None, height: int, legend: bool = False
) -> go.Figure:
    return figure.update_layout(
        height=height,
        margin={"l": 0, "r": 0, "t": 30 if legend else 12, "b": 0},
        showlegend=legend,
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "traceorder": "normal"},
        yaxis_title=y_title,
    )


def _whole_steps(nodes: npt.NDArray[np.float64]) -> int | None:
    """Return 1 where so few nodes are drawn that an axis would number halves."""
    return 1 if np.nanmax(nodes, initial=0.0) < 6 else None  # noqa: PLR2004


def _plain(text: str) -> str:
    """Return text that plotly draws as it stands, tags and all."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
