"""Predict, apply, wait, verify, and compare every figure with the emulator's own bill.

    python -m benchmarks.closed_loop ESTATE [--scenario balanced] [--days 28] [--work DIR]

The product is driven as a user would: through its command line, against emulators reached over
HTTPS. Two of them play the same estate: one is changed by `apply`, one keeps the old settings. What
replay says of each finding alone, of those that are applied and of all at once is held against
the bill of the estate that had the changes from the first day (`benchmarks.truth`).

A cluster that is made anew saves when people send their jobs to it, and nobody does so here: such
findings are replayed, but not applied.
"""

import argparse
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from benchmarks.estate_files import read_estate, write_json
from benchmarks.truth import Judge, Replayed, all_changed
from optimizer.errors import OptimizerError
from optimizer.units import HOURS_PER_MONTH, iso_utc, utc

RESULTS = Path(__file__).parent / "results"


class LoopError(OptimizerError):
    """A step of the loop ended with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A stated range and its middle, a month."""

    low: float
    mid: float
    high: float

    def holds(self, amount: float) -> bool:
        """Return whether the amount lies within."""
        return self.low <= amount <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was said about one compute, and what was true. Money in the estate's currency."""

    compute: str
    detectors: tuple[str, ...]
    changes: dict[str, tuple[Any, Any]]
    spend_observed: float
    """Billed over the window that the findings rest on."""
    predicted_observed: float
    """The saving that replay says this window would have seen."""
    true_observed: float
    promised_per_month: Interval
    true_per_month: float
    """Bill under the old settings less the bill after `apply`, over the same days."""
    level: str
    measured_per_month: Interval | None
    true_settled_per_month: float
    """As `true_per_month`, over the days of the report that it was measured in."""
    why: str

    @property
    def replay_error(self) -> float | None:
        """Return how far the prediction is off, as a share of the truth."""
        return _error(self.predicted_observed, self.true_observed)

    @property
    def promise_error(self) -> float | None:
        """Return how far the promise is off, as a share of the truth."""
        return _error(self.promised_per_month.mid, self.true_per_month)

    @property
    def measured_error(self) -> float | None:
        """Return how far the measurement is off, as a share of the truth of the same days."""
        if self.measured_per_month is None:
            return None
        return _error(self.measured_per_month.mid, self.true_settled_per_month)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone(Replayed):
    """One finding, played by itself."""

    compute: str
    detector: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """How the findings compare with what was planted, as `compute detector`."""

    found: tuple[str, ...]
    missed: tuple[str, ...]
    false: tuple[str, ...]
    """Findings of the planted detectors on computes where nothing of the kind was planted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """What a closed loop showed."""

    rows: tuple[Row, ...]
    """One for each compute that the plan changes, largest saving first."""
    alone: tuple[Alone, ...]
    """One for each finding that saves something, most first."""
    together: tuple[float, float]
    """What all of them save at once over the window: said and true."""
    planted: Planted | None
    """None: the estate has no `truth.json`."""
    found_again: tuple[str, ...]
    """Findings of the applied detectors on the computes they changed, after the wait."""


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running emulator, reached by its control API."""

    url: str
    ca_file: str
    now_utc: datetime
    subscription_ids: tuple[str, ...] = ()
    proxy: str | None = None

    def advance(self, hours: float) -> None:
        """Move its clock forward."""
        self._call("POST", "/emulator/advance", json.dumps({"hours": hours}))

    def wait(self, seconds: float) -> None:
        """Move on the clock of its limits on requests alone."""
        self._call("POST", "/emulator/wait", json.dumps({"seconds": seconds}))

    def fault(self, **fault: Any) -> None:
        """Make requests or operations go wrong, as its control API describes."""
        self._call("POST", "/emulator/faults", json.dumps(fault))

    def by_request(self) -> dict[str, int]:
        """Return how often each request came, by method and path without its names."""
        return dict(self._call("GET", "/emulator/requests")["by_request"])

    def refused(self) -> dict[str, int]:
        """Return how many requests each API refused because they were over a limit."""
        return dict(self._call("GET", "/emulator/requests")["refused"])

    def refused_again(self) -> int:
        """Return how many requests were refused that had been refused before."""
        return int(self._call("GET", "/emulator/requests")["refused_again"])

    def bill(self, start_utc: datetime, end_utc: datetime) -> dict[str, float]:
        """Return the true cost of each compute, by lower-case id."""
        query = urlencode({"from": iso_utc(start_utc), "to": iso_utc(end_utc)})
        answer = self._call("GET", f"/emulator/bill?{query}")
        return {key.lower(): float(amount) for key, amount in answer["by_resource"].items()}

    def requests(self) -> dict[str, int]:
        """Return how many requests each API had so far, its own control left out."""
        answer = self._call("GET", "/emulator/requests")
        return {api: n for api, n in answer["by_api"].items() if api != "emulator"}

    def versions(self) -> dict[str, int]:
        """Return how many requests came with which api-version, so far."""
        return dict(self._call("GET", "/emulator/requests")["by_version"])

    def _call(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        trusted = ssl.create_default_context(cafile=self.ca_file)
        connection = HTTPSConnection(urlsplit(self.url).netloc, context=trusted)
        with closing(connection):
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        if answer.status != HTTPStatus.OK:
            raise LoopError(f"the emulator answered {answer.status} to {method} {path}")
        return dict(json.loads(text))


@contextmanager
def emulator(estate: Path, *options: str) -> Iterator[Emulator]:
    """Run an emulator on an estate folder, with options of its command; it ends with the block.

    Raises:
        LoopError: it did not start.
    """
    command = [sys.executable, "-m", "optimizer", "emulator", str(estate), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise LoopError(f"the emulator did not start on {estate}")
            said = json.loads(line)
            yield Emulator(
                said["url"],
                said["ca_file"],
                utc(said["now_utc"]),
                tuple(said["subscription_ids"]),
                said.get("proxy"),
            )
        finally:
            process.terminate()


@dataclass(frozen=True, slots=True)
class Cli:
    """The command line of the product, pointed at one emulator."""

    target: Emulator
    home: Path
    folder: Path | None = None
    """Where it is run, with an `optimizer.toml` or none; None: here."""

    def __call__(self, *arguments: str) -> str:
        """Run a command, say how long it took, and return what it printed.

        Raises:
            LoopError: it ended with an error.
        """
        environment = os.environ | {
            "OPTIMIZER_AZURE_ENDPOINT": self.target.url,
            "OPTIMIZER_AZURE_CA_FILE": self.target.ca_file,
            "OPTIMIZER_AZURE_CREDENTIAL": "emulator",
            "OPTIMIZER_HOME": str(self.home),
        }
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "optimizer", *arguments],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        print(f"optimizer {arguments[0]}: {time.monotonic() - began:.1f} s", file=sys.stderr)
        if done.returncode:
            raise LoopError(f"optimizer {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the loop, print the table and keep it as JSON; 1 after one sentence if it cannot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.closed_loop")
    parser.add_argument("estate", type=Path)
    parser.add_argument("--scenario", default="balanced")
    parser.add_argument("--days", type=int, default=28, help="how long to wait before verify")
    parser.add_argument("--work", type=Path, help="keep lake, plan and copy here")
    parser.add_argument("--name", help="of the result; default: the folder's")
    parsed = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            work = parsed.work or Path(scratch)
            loop = close_loop(parsed.estate, work, scenario=parsed.scenario, days=parsed.days)
    except (OptimizerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(table_of_each(loop.alone))
    said, true = loop.together
    print(f"All at once: {said:,.0f} / {true:,.0f}, {_percent(_error(said, true))}.\n")
    print(table(loop.rows))
    if loop.planted:
        print(
            f"Planted: {len(loop.planted.found)} found, missed {_listed(loop.planted.missed)}, "
            f"false {_listed(loop.planted.false)}."
        )
    print(f"Found again after applying: {_listed(loop.found_again)}.")
    RESULTS.mkdir(exist_ok=True)
    name = parsed.name or parsed.estate.resolve().name
    write_json(RESULTS / f"closed_loop_{name}.json", asdict(loop))
    return 0


def close_loop(estate: Path, work: Path, *, scenario: str, days: int) -> Loop:
    """Predict, apply, wait, verify; then find out what was true.

    Raises:
        LoopError: a command failed, or the plan changes nothing.
    """
    stands = read_estate(estate)
    work.mkdir(parents=True, exist_ok=True)
    plan_file = work / "plan.json"
    with emulator(estate) as applied:
        optimizer = Cli(applied, work / "home")
        optimizer("collect")
        findings = json.loads(optimizer("findings", "--json"))
        optimizer("plan", "--scenario", scenario, "--out", str(plan_file))
        chosen = in_place(json.loads(plan_file.read_text())["steps"])
        if not chosen:
            raise LoopError(f"the plan for {estate} changes nothing, so there is nothing to verify")
        picked = (word for each in chosen for word in ("--finding", each))
        optimizer("plan", *picked, "--out", str(plan_file))
        plan = json.loads(plan_file.read_text())
        steps = len(plan["steps"])
        optimizer("apply", str(plan_file), "--yes", "--max-steps", str(steps))
        applied.advance(24 * days)
        optimizer("collect")
        verified = json.loads(optimizer("verify", "--json"))
        again = json.loads(optimizer("findings", "--json"))
        reported = _reported(verified["claims"], applied.now_utc, days)
        truth = _Truth.after(applied, days, reported)
    with emulator(estate) as old:
        old.advance(24 * days)
        unchanged = _Truth.after(old, days, reported)
    judge = Judge.of(stands, findings, work, throws=False)
    applied_only = [each for each in judge.saving if each["id"] in chosen]
    would_have_spent = judge.play(all_changed(judge.estate, applied_only)).seen
    rows = [
        _row(
            resource_id,
            [step for step in plan["steps"] if step["resource_id"] == resource_id],
            findings=findings["findings"],
            claims=[c for c in verified["claims"] if c["resource_id"] == resource_id],
            observed_months=judge.months,
            spent=judge.before.seen.get(resource_id.lower(), 0.0),
            would_have_spent=would_have_spent.get(resource_id.lower(), 0.0),
            true_per_month=unchanged.less(truth, resource_id.lower()),
        )
        for resource_id in dict.fromkeys(step["resource_id"] for step in plan["steps"])
    ]
    answered = {
        _label(finding)
        for step in plan["steps"]
        for finding in findings["findings"]
        if finding["id"] in step["finding_ids"]
    }
    truth_file = estate / "truth.json"
    return Loop(
        rows=tuple(sorted(rows, key=lambda row: -row.true_per_month)),
        alone=tuple(
            Alone(
                compute=finding["resource_id"].rpartition("/")[2],
                detector=finding["detector"],
                **asdict(judge.replayed(finding)),
            )
            for finding in judge.saving
        ),
        together=(
            findings["totals"]["saving_per_month"]["p50"] * judge.months,
            judge.together(),
        ),
        planted=(
            compare(findings["findings"], json.loads(truth_file.read_text()))
            if truth_file.exists()
            else None
        ),
        found_again=tuple(sorted(answered & {_label(finding) for finding in again["findings"]})),
    )


def compare(findings: Sequence[Mapping[str, Any]], truth: Mapping[str, Any]) -> Planted:
    """Return which planted wastes were found; waste of other detectors is not judged."""
    planted = {_label(waste) for waste in truth["planted"] if "+" not in waste["detector"]}
    judged = {label.split()[1] for label in planted}
    found = {_label(finding) for finding in findings if finding["detector"] in judged}
    return Planted(
        found=tuple(sorted(planted & found)),
        missed=tuple(sorted(planted - found)),
        false=tuple(sorted(found - planted)),
    )


def in_place(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the findings of a plan that need no new compute, in its order."""
    anew = {each for step in steps if step["how"] == "recreate" for each in step["finding_ids"]}
    ids = dict.fromkeys(each for step in steps for each in step["finding_ids"])
    return [each for each in ids if each not in anew]


def table_of_each(rows: Sequence[Alone]) -> str:
    """Return what each finding would have saved and cost, as a Markdown table."""
    titles = (
        "compute",
        "finding",
        "replayed / true over the window",
        "error",
        "restarts",
        "waiting minutes",
        "stretch",
    )
    lines = [
        f"| {' | '.join(titles)} |",
        f"|{'---|' * len(titles)}",
    ]
    for row in rows:
        felt = (
            "–" if pair is None else f"{pair[0]:,.0f} / {pair[1]:,.0f}"
            for pair in (row.restarts, row.waiting_minutes)
        )
        best_worst = "–"
        if row.stretch:
            best, worst, true = row.stretch
            best_worst = f"{best:.2f} to {worst:.2f} / {true:.2f}"
        cells = (
            row.compute,
            row.detector,
            f"{row.said:,.0f} / {row.true:,.0f}",
            _percent(_error(row.said, row.true)),
            *felt,
            best_worst,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, and one line that counts them."""
    titles = (
        "compute",
        "replayed / true over the window",
        "error",
        "promised P10 / P50 / P90",
        "true a month",
        "held",
        "measured low / mid / high",
        "true, settled",
        "error",
        "held",
        "claim",
    )
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for row in rows:
        promised, measured = row.promised_per_month, row.measured_per_month
        cells = (
            row.compute,
            f"{row.predicted_observed:,.0f} / {row.true_observed:,.0f}",
            _percent(row.replay_error),
            _range(promised),
            f"{row.true_per_month:,.0f}",
            _yes(promised.holds(row.true_per_month)),
            _range(measured) if measured else "not measured",
            f"{row.true_settled_per_month:,.0f}",
            _percent(row.measured_error),
            _yes(measured.holds(row.true_settled_per_month)) if measured else "–",
            row.level,
        )
        lines.append(f"| {' | '.join(cells)} |")
    promises = sum(row.promised_per_month.holds(row.true_per_month) for row in rows)
    measured_rows = [row for row in rows if row.measured_per_month]
    held = sum(
        bool(row.measured_per_month and row.measured_per_month.holds(row.true_settled_per_month))
        for row in rows
    )
    lines.append(
        f"\nOf {len(rows)} computes the promise held for {promises}; of {len(measured_rows)} "
        f"measured the 90 % interval held the truth for {held}."
    )
    return "\n".join(lines)


def _reported(
    claims: Sequence[Mapping[str, Any]], now_utc: datetime, days: int
) -> tuple[datetime, datetime]:
    """Return the stretch that the claims were measured over; all of it where none was."""
    reports = [claim["report"] for claim in claims if claim["report"]]
    if not reports:
        return now_utc, now_utc + timedelta(days=days)
    starts, ends = ([report[end] for report in reports] for end in ("start", "end"))
    return utc(f"{min(starts)}T00:00:00Z"), utc(f"{max(ends)}T00:00:00Z")


@dataclass(frozen=True, slots=True)
class _Truth:
    """What each compute cost since the plan, and in the days of the report, a month."""

    whole: Mapping[str, float]
    settled: Mapping[str, float]

    @classmethod
    def after(cls, played: Emulator, days: int, reported: tuple[datetime, datetime]) -> "_Truth":
        start = played.now_utc
        return cls(
            _per_month(played, start, start + timedelta(days=days)),
            _per_month(played, *reported),
        )

    def less(self, other: "_Truth", key: str) -> tuple[float, float]:
        """Return what `other` costs less a month: over all days, and over the settled ones."""
        return (
            self.whole.get(key, 0.0) - other.whole.get(key, 0.0),
            self.settled.get(key, 0.0) - other.settled.get(key, 0.0),
        )


def _per_month(played: Emulator, start: datetime, end: datetime) -> dict[str, float]:
    months = (end - start) / timedelta(hours=HOURS_PER_MONTH)
    return {key: amount / months for key, amount in played.bill(start, end).items()}


def _row(
    resource_id: str,
    steps: Sequence[Mapping[str, Any]],
    *,
    findings: Sequence[Mapping[str, Any]],
    claims: Sequence[Mapping[str, Any]],
    observed_months: float,
    spent: float,
    would_have_spent: float,
    true_per_month: tuple[float, float],
) -> Row:
    ids = {finding_id for step in steps for finding_id in step["finding_ids"]}
    promised = _summed([step["saving_per_month"] for step in steps], ("p10", "p50", "p90"))
    measured = [claim["measured_per_month"] for claim in claims if claim["measured_per_month"]]
    return Row(
        compute=resource_id.rsplit("/", 1)[-1],
        detectors=tuple(sorted({f["detector"] for f in findings if f["id"] in ids})),
        changes={
            step["setting"].rsplit(".")[-1]: (step["before"], step["after"]) for step in steps
        },
        spend_observed=spent,
        predicted_observed=promised.mid * observed_months,
        true_observed=spent - would_have_spent,
        promised_per_month=promised,
        true_per_month=true_per_month[0],
        level=" ".join(sorted({claim["level"] for claim in claims})) or "no claim",
        measured_per_month=_summed(measured, ("low", "mid", "high")) if measured else None,
        true_settled_per_month=true_per_month[1],
        why=" ".join(sorted({claim["why"] for claim in claims})),
    )


def _summed(parts: Sequence[Mapping[str, float]], keys: tuple[str, str, str]) -> Interval:
    low, mid, high = (sum(part[key] for part in parts) for key in keys)
    return Interval(low=low, mid=mid, high=high)


def _label(waste: Mapping[str, Any]) -> str:
    return f"{waste['resource_id'].rpartition('/')[2].lower()} {waste['detector']}"


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels) or "nothing"


def _error(said: float, true: float) -> float | None:
    return (said - true) / true if true else None


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:+.1%}"


def _range(interval: Interval) -> str:
    return f"{interval.low:,.0f} / {interval.mid:,.0f} / {interval.high:,.0f}"


def _yes(held: bool) -> str:  # noqa: FBT001 (a cell)
    return "yes" if held else "no"


if __name__ == "__main__":
    sys.exit(main())
