"""What will be spent, and how much is used when: the method that did best on its own history.

Every candidate is judged by a rolling back-test in which it sees nothing of what it forecasts; the
best one is used and named (methods §5.5, §8).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from optimizer.model import Estimate

Floats = npt.NDArray[np.float64]

DAYS_PER_WEEK = 7
HOURS_PER_WEEK = 168
_DRIFT_DAMPING = 0.9
"""A day's share of the trend that is left the day after."""

# --- Spend of the days to come ------------------------------------------------------------------

Method = Callable[[Floats, int], Floats]
"""From a daily history and a number of days to the spend of each of these days."""


def flat(history: Floats, days: int, *, look_back: int) -> Floats:
    """Return the mean of the last days, in the rhythm of their week."""
    last = history[-look_back:]
    return _in_week(np.full(days, float(last.mean())), history)


def damped_drift(history: Floats, days: int) -> Floats:
    """Return the last week's level, drifting on as the last four weeks did, ever less."""
    span = min(4 * DAYS_PER_WEEK, history.size - DAYS_PER_WEEK)
    level = float(history[-DAYS_PER_WEEK:].mean())
    before = history[-DAYS_PER_WEEK - span :][:DAYS_PER_WEEK]
    a_day = (level - float(before.mean())) / span if span > 0 else 0.0
    path = level + a_day * np.cumsum(_DRIFT_DAMPING ** np.arange(1, days + 1))
    return _in_week(np.maximum(path, 0.0), history)


def holt_winters(history: Floats, days: int) -> Floats:
    """Return level, damped trend and weekly season, smoothed with the weights that fit best."""
    fits = [
        _smoothed(history, alpha, beta, gamma)
        for alpha in (0.1, 0.3, 0.6)
        for beta in (0.0, 0.1)
        for gamma in (0.1, 0.3)
    ]
    _, level, trend, season = min(fits, key=lambda fit: fit[0])
    ahead = np.arange(1, days + 1)
    path = level + trend * np.cumsum(_DRIFT_DAMPING**ahead)
    spend: Floats = np.maximum(path + season[(history.size + ahead - 1) % DAYS_PER_WEEK], 0.0)
    return spend


def median_of_methods(history: Floats, days: int) -> Floats:
    """Return the median of last week's level, the damped drift and Holt-Winters, day by day."""
    three = [METHODS[name](history, days) for name in ("flat7", "damped_drift", "holt_winters")]
    middle: Floats = np.median(three, axis=0)
    return middle


def _flat7(history: Floats, days: int) -> Floats:
    return flat(history, days, look_back=7)


def _flat28(history: Floats, days: int) -> Floats:
    return flat(history, days, look_back=28)


METHODS: Mapping[str, Method] = {
    "flat7": _flat7,
    "flat28": _flat28,
    "damped_drift": damped_drift,
    "holt_winters": holt_winters,
    "median": median_of_methods,
}
"""Simplest first: of equals the first is used."""


def _in_week(path: Floats, history: Floats) -> Floats:
    """Shape a path of levels by the median share that each day of the week had lately."""
    weeks = min(8, history.size // DAYS_PER_WEEK)
    if weeks < 2:  # noqa: PLR2004 - one week tells a day's chance from its habit as little as none
        return path
    last = history[-weeks * DAYS_PER_WEEK :].reshape(weeks, DAYS_PER_WEEK)
    level = last.mean(axis=1, keepdims=True)
    shares = np.median(np.divide(last, level, out=np.ones_like(last), where=level > 0), axis=0)
    if shares.sum() <= 0:
        return path
    shaped: Floats = path * np.resize(shares / shares.mean(), path.size)
    return shaped


def _smoothed(
    history: Floats, alpha: float, beta: float, gamma: float
) -> tuple[float, float, float, Floats]:
    """Return squared error, level, trend and season of damped additive Holt-Winters."""
    first = history[:DAYS_PER_WEEK]
    level, trend, season = float(first.mean()), 0.0, np.resize(first - first.mean(), DAYS_PER_WEEK)
    error = 0.0
    for day in range(DAYS_PER_WEEK, history.size):
        at, seen = day % DAYS_PER_WEEK, float(history[day])
        expected = level + _DRIFT_DAMPING * trend
        error += (seen - expected - season[at]) ** 2
        before = level
        level = alpha * (seen - season[at]) + (1 - alpha) * expected
        trend = beta * (level - before) + (1 - beta) * _DRIFT_DAMPING * trend
        season[at] = gamma * (seen - level) + (1 - gamma) * season[at]
    return error, level, trend, season


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How a method did where it could not see the days it forecast."""

    wape: float
    """Σ |forecast − actual| ÷ Σ actual of the sums over each horizon: days of nothing are no
    trouble to it."""
    bias: float
    """Σ (forecast − actual) ÷ Σ actual; negative: it forecast too little."""
    errors: tuple[float, ...]
    """Actual ÷ forecast of each origin."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpendForecast:
    """The spend of some days to come."""

    method: str
    daily: Floats
    total: Estimate
    """P10 and P90 from the errors of the back-test of the same length."""
    accuracy: Accuracy | None
    """None: the history is too short for a back-test, so P10 and P90 are as wide as P50."""


def accuracy(
    history: Floats, method: Method, *, days: int, first: int = 14, every: int = 7
) -> Accuracy | None:
    """Judge a method at rolling origins; None where no origin has enough before and after it.

    Args:
        history: spend of each day.
        method: sees only the days before each origin.
        days: how far ahead.
        first: days before the first origin.
        every: from origin to origin.
    """
    pairs = np.array(
        [
            (method(history[:at], days).sum(), history[at : at + days].sum())
            for at in range(first, history.size - days + 1, every)
        ]
    )
    if not pairs.size or pairs[:, 1].sum() <= 0:
        return None
    forecast, actual = pairs[:, 0], pairs[:, 1]
    known = forecast > 0
    return Accuracy(
        wape=float(np.abs(forecast - actual).sum() / actual.sum()),
        bias=float((forecast - actual).sum() / actual.sum()),
        errors=tuple((actual[known] / forecast[known]).tolist()),
    )


def forecast_spend(history: Floats, days: int) -> SpendForecast | None:
    """Return the spend of the coming days by the method with the least WAPE on this history.

    None where less than a week is known: nothing says what a week looks like.

    Args:
        history: spend of each whole day, oldest first; the next day is forecast first.
        days: how many, at least one.
    """
    if history.size < DAYS_PER_WEEK:
        return None
    judged = {name: accuracy(history, method, days=days) for name, method in METHODS.items()}
    known = {name: each for name, each in judged.items() if each is not None}
    best = min(known, key=lambda name: known[name].wape) if known else "flat7"
    daily = METHODS[best](history, days)
    total = float(daily.sum())
    errors = known[best].errors if best in known else ()
    if not errors:
        return SpendForecast(
            method=best,
            daily=daily,
            total=Estimate(p10=0.0, p50=total, p90=2 * total),
            accuracy=None,
        )
    low, high = np.quantile(errors, [0.1, 0.9])
    return SpendForecast(
        method=best,
        daily=daily,
        total=Estimate(
            p10=total * min(1.0, float(low)), p50=total, p90=total * max(1.0, float(high))
        ),
        accuracy=known[best],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthEnd:
    """What a calendar month will have cost."""

    actual: float
    """Of the days that are billed whole."""
    total: Estimate
    """Actual and the rest."""
    method: str
    wape: float | None
    bias: float | None


def month_end(
    daily: Mapping[date, float],
) -> MonthEnd | None:
    """Return the month of the day after the last one known: actual to date and the rest forecast.

    Args:
        daily: spend of whole billed days, without a gap.
    """
    if not daily:
        return None
    last = max(daily)
    next_day = last + timedelta(days=1)
    first = next_day.replace(day=1)
    end = (first + timedelta(days=31)).replace(day=1)
    rest = forecast_spend(
        np.array([daily[day] for day in sorted(daily)], dtype=np.float64), (end - next_day).days
    )
    if rest is None:
        return None
    actual = sum(spend for day, spend in daily.items() if day >= first)
    return MonthEnd(
        actual=actual,
        total=Estimate(
            p10=actual + rest.total.p10, p50=actual + rest.total.p50, p90=actual + rest.total.p90
        ),
        method=rest.method,
        wape=rest.accuracy.wape if rest.accuracy else None,
        bias=rest.accuracy.bias if rest.accuracy else None,
    )


# --- Quantiles of hourly demand -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HourlyForecast:
    """Quantiles of demand in each hour to come, by the method that did better."""

    method: str
    """`hour_of_week` or `gradient_boosting`."""
    quantiles: Floats
    """Quantile × hour; never falls from one quantile to the next."""
    losses: Mapping[str, float]
    """Mean pinball loss of each method in the back-test; empty where there was none."""


def pinball(actual: Floats, quantiles: Floats, levels: Sequence[float]) -> float:
    """Return the mean pinball loss of quantile × hour.

    >>> pinball(np.array([10.0]), np.array([[8.0]]), [0.9])
    1.8
    """
    over = actual - quantiles
    at = np.asarray(levels)[:, None]
    return float(np.maximum(at * over, (at - 1) * over).mean())


def hour_of_week(history: Floats, hours: int, levels: Sequence[float]) -> Floats:
    """Return quantiles of each hour of the week, relative to its week, × the last week's level."""
    ratios, level = _ratios(history)
    table = np.quantile(ratios.reshape(-1, HOURS_PER_WEEK), levels, axis=0)
    quantiles: Floats = level * np.tile(table, -(-hours // HOURS_PER_WEEK))[:, :hours]
    return quantiles


def gradient_boosting(history: Floats, hours: int, levels: Sequence[float]) -> Floats:
    """Return what scikit-learn's histogram gradient boosting makes of hour and day of the week.

    The target is the ratio to the level of the week before, which is what a forecast knows; the
    settings are those of methods §5.5.
    """
    # A second of import, for this alone.
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415

    whole = history[history.size % HOURS_PER_WEEK :].reshape(-1, HOURS_PER_WEEK)
    means = whole.mean(axis=1)
    known = means[:-1] > 0
    level = float(means[-1])
    if level <= 0 or not known.any():
        return np.zeros((len(levels), hours))
    target = (whole[1:][known] / means[:-1][known][:, None]).ravel()
    features = _calendar(np.arange(HOURS_PER_WEEK))
    ahead = _calendar(np.arange(hours))
    # So little data: threads that wait for each other would take most of the time.
    with threadpool_limits(1):
        rows = [
            HistGradientBoostingRegressor(
                loss="quantile",
                quantile=at,
                max_iter=200,
                learning_rate=0.05,
                max_leaf_nodes=15,
                min_samples_leaf=40,
                early_stopping=False,
                random_state=0,
            )
            .fit(np.tile(features, (int(known.sum()), 1)), target)
            .predict(ahead)
            for at in levels
        ]
    return level * np.sort(np.maximum(rows, 0.0), axis=0)


def _calendar(hours: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return hour and day, counted from the start of the history's whole weeks."""
    return np.stack((hours % 24, hours // 24 % DAYS_PER_WEEK), axis=1)


def _ratios(history: Floats) -> tuple[Floats, float]:
    """Return each hour relative to its week, of whole weeks, and the last week's level."""
    whole = history[history.size % HOURS_PER_WEEK :].reshape(-1, HOURS_PER_WEEK)
    means = whole.mean(axis=1, keepdims=True)
    ratios = np.divide(whole, means, out=np.zeros_like(whole), where=means > 0)
    return ratios[means[:, 0] > 0] if (means > 0).any() else ratios, float(means[-1, 0])


HOURLY_METHODS = {"hour_of_week": hour_of_week, "gradient_boosting": gradient_boosting}
"""Simplest first: of equals the first is used."""


def forecast_hours(
    history: Floats,
    hours: int,
    levels: Sequence[float],
    *,
    first_weeks: int = 4,
    back_test_weeks: int = 1,
) -> HourlyForecast | None:
    """Return quantiles of the hours to come by the method with the least pinball loss.

    None where less than two whole weeks are known.

    Args:
        history: demand of each hour, oldest first.
        hours: how many to come.
        levels: quantiles between 0 and 1, rising.
        first_weeks: history before the first origin of the back-test.
        back_test_weeks: length of each test, and from origin to origin.
    """
    if history.size < 2 * HOURS_PER_WEEK:
        return None
    step = back_test_weeks * HOURS_PER_WEEK
    origins = range(first_weeks * HOURS_PER_WEEK, history.size - step + 1, step)
    losses = {
        name: float(
            np.mean(
                [
                    pinball(history[at : at + step], method(history[:at], step, levels), levels)
                    for at in origins
                ]
            )
        )
        for name, method in HOURLY_METHODS.items()
        if origins
    }
    best = min(losses, key=lambda name: losses[name]) if losses else "hour_of_week"
    return HourlyForecast(
        method=best, quantiles=HOURLY_METHODS[best](history, hours, levels), losses=losses
    )
