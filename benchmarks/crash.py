"""Applies a plan that is killed at a random moment, applies it again, and looks what became of it.

    python -m benchmarks.crash [ESTATE] [--points 60] [--seed S] [--scenario maximum] [--plan FILE]

A moment is the instant before or after a request to Azure, or before or after a row of the ledger:
between two steps, between an intent and its write, and inside the long-running operation that a
write starts. Operations are under way for some looks, and take effect only when they end, which is
the hardest case: whoever looks too early sees the old value. `kill -9` ends the process there, with
one resource changed at a time or four. Then the same plan is applied once more, and everything is
held against a run that nobody disturbed: the documents of the estate, the number of writes of each
kind, how each step ended in the ledger. Its chain is followed to the end after both runs.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from azure.core.pipeline import PipelineRequest, PipelineResponse

from benchmarks.closed_loop import RESULTS, Cli, Emulator
from benchmarks.estate_files import write_json
from optimizer.azure.access import Access
from optimizer.azure.arm import Arm
from optimizer.azure.throttle import SystemClock, Throttle
from optimizer.config import AzureSettings
from optimizer.emulator.server import serve
from optimizer.errors import OptimizerError
from optimizer.remediation.apply import Rules, apply
from optimizer.remediation.history import records
from optimizer.remediation.plan import Plan, load
from optimizer.store.ledger import Ledger, StepRow
from optimizer.units import utc

LOOKS = 2
"""At an operation that find it under way."""
PARALLEL = (1, 4)
_PROVIDER = "Microsoft.MachineLearningServices/workspaces"
_WRITES = frozenset({"PATCH", "PUT", "DELETE", "POST"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a plan that was applied leaves behind."""

    documents: Mapping[str, Any]
    writes: Mapping[str, int]
    """Requests that change something, by kind."""
    steps: Mapping[str, str]
    """How each ended."""
    runs: int
    open_runs: int
    dones: int
    """Rows that say that a step was done."""
    broken: str
    """Where the chain of the ledger breaks; empty where it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One kill, and what a second `apply` made of it."""

    number: int
    """Of the moment, counted from 1."""
    moment: str
    parallel: int
    faults: tuple[str, ...]
    """How what is left differs from an undisturbed run; none is what we want."""


class Reaper:
    """Counts the moments of this process, and kills it at one of them."""

    def __init__(self, number: int | None, telling: Callable[[str], None]) -> None:
        """Kill at moment `number`; None: live on, and tell each moment's name."""
        self._number = number
        self._telling = telling
        self._seen = 0
        self._lock = Lock()

    def at(self, moment: str) -> None:
        """Count a moment."""
        with self._lock:
            self._seen += 1
            if self._number is None or self._seen == self._number:
                self._telling(moment)
            if self._seen == self._number:
                os.kill(os.getpid(), signal.SIGKILL)


class MortalAccess(Access):
    """Every request of it is two moments."""

    def __init__(self, settings: AzureSettings, reaper: Reaper) -> None:
        """Ask `reaper` at each moment."""
        super().__init__(settings, _Hurried())
        self._reaper = reaper

    @property
    def throttle(self) -> Throttle:
        """The last thing of ours that a request passes, and the first that its answer does."""
        return _MortalThrottle(self, self._reaper)


class MortalLedger(Ledger):
    """Every row of it is two moments."""

    def __init__(self, url: str, reaper: Reaper) -> None:
        """Ask `reaper` at each moment."""
        super().__init__(url)
        self._reaper = reaper

    def add_step(self, step: StepRow) -> None:
        """Append one row."""
        self._reaper.at(f"before row {step.status}")
        super().add_step(step)
        self._reaper.at(f"after row {step.status}")


class _MortalThrottle(Throttle):
    def __init__(self, access: Access, reaper: Reaper) -> None:
        super().__init__(access.quotas)
        self._reaper = reaper

    def send(self, request: PipelineRequest) -> PipelineResponse:
        method, url = request.http_request.method, request.http_request.url
        operation = "computeOperationsStatus" in url
        what = "operation" if operation else "clock" if "/subscriptions?" in url else "resource"
        self._reaper.at(f"before {method} {what}")
        response = super().send(request)
        self._reaper.at(f"after {method} {what}")
        return response


class _Hurried(SystemClock):
    """Lets no real time pass: an operation of the emulator ends by looks."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def now(self) -> float:
        return super().now() + self._ahead

    def sleep(self, seconds: float) -> None:
        self._ahead += seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, apply again and compare, print and keep what was seen; 1 where anything differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crash")
    parser.add_argument("estate", type=Path, nargs="?", default=Path("sample_data/contoso"))
    parser.add_argument("--points", type=int, default=60)
    parser.add_argument("--seed", type=int, default=None, help="random where none is given")
    parser.add_argument("--scenario", default="maximum")
    parser.add_argument("--plan", type=Path, help="apply this plan instead of making one")
    parser.add_argument("--out", type=Path, default=RESULTS / "crash.json")
    parsed = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(2**32) if parsed.seed is None else parsed.seed
    print(f"seed {seed}")
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            plan = parsed.plan or planned(parsed.estate, Path(scratch), parsed.scenario)
            points = crash(parsed.estate, load(plan), points=parsed.points, seed=seed)
            steps = len(load(plan).steps)
    except OptimizerError as error:
        print(error, file=sys.stderr)
        return 1
    failed = [point for point in points if point.faults]
    for moment, number in sorted(Counter(point.moment for point in points).items()):
        print(f"{number:>4} x {moment}")
    for point in failed:
        print(f"moment {point.number} ({point.moment}, {point.parallel} at once): {point.faults}")
    print(f"{len(points)} kills in a plan of {steps} steps, {len(failed)} left something wrong.")
    kept = {
        "estate": parsed.estate.name,
        "scenario": parsed.scenario,
        "seed": seed,
        "steps": steps,
        "kills": len(points),
        "inside_operations": sum("operation" in point.moment for point in points),
        "left_something_wrong": len(failed),
        "seconds": round(time.monotonic() - began),
        "points": [asdict(point) for point in points],
    }
    parsed.out.parent.mkdir(exist_ok=True)
    write_json(parsed.out, kept)
    return 1 if failed else 0


def planned(estate: Path, folder: Path, scenario: str) -> Path:
    """Return the file of the plan that the product makes of an estate.

    Raises:
        LoopError: a command failed.
    """
    with emulator(estate) as target:
        optimizer = Cli(target, folder / "home")
        optimizer("collect")
        optimizer("plan", "--scenario", scenario, "--out", str(folder / "plan.json"))
    return folder / "plan.json"


def crash(estate: Path, plan: Plan, *, points: int, seed: int) -> tuple[Point, ...]:
    """Return what became of a plan killed at so many moments, drawn from all there are."""
    draw = random.Random(seed)  # noqa: S311 - a sample, no secret
    undisturbed = {parallel: _undisturbed(estate, plan, parallel) for parallel in PARALLEL}
    moments = [(n, p) for p, (_, count) in undisturbed.items() for n in range(1, count + 1)]
    chosen = draw.sample(moments, min(points, len(moments)))
    return tuple(
        kill(estate, plan, number=number, parallel=parallel, against=undisturbed[parallel][0])
        for number, parallel in sorted(chosen)
    )


def _undisturbed(estate: Path, plan: Plan, parallel: int) -> tuple[Left, int]:
    with tempfile.TemporaryDirectory() as folder, slow_emulator(estate) as target:
        told = _apply_in_a_child(plan, target, Path(folder), parallel, kill_at=None)
        return left_behind(target, Path(folder)), len(told)


def kill(estate: Path, plan: Plan, *, number: int, parallel: int, against: Left) -> Point:
    """Apply a plan, kill it at a moment, apply it again, and compare."""
    with tempfile.TemporaryDirectory() as folder, slow_emulator(estate) as target:
        told = _apply_in_a_child(plan, target, Path(folder), parallel, kill_at=number)
        broken = Ledger(_ledger_url(Path(folder))).check().misfit
        _apply_in_a_child(plan, target, Path(folder), parallel, kill_at=None)
        left = left_behind(target, Path(folder))
    # Threads take turns as they like: the last moments of one run may be none of another.
    moment = told[-1] if told else "after the end"
    faults = [f"ledger of the killed: {broken}"] if broken else []
    faults += _differences(left, against)
    return Point(number=number, moment=moment, parallel=parallel, faults=tuple(faults))


def _differences(left: Left, against: Left) -> Iterator[str]:
    for name in ("documents", "writes", "steps", "runs", "open_runs", "dones", "broken"):
        one, other = getattr(left, name), getattr(against, name)
        if one != other and isinstance(one, Mapping):
            keys = sorted(
                key for key in one.keys() | other.keys() if one.get(key) != other.get(key)
            )
            yield f"{name}: {', '.join(keys)}"
        elif one != other:
            yield f"{name}: {one} instead of {other}"


def left_behind(target: Emulator, folder: Path) -> Left:
    """Return the state of estate and ledger."""
    ledger = Ledger(_ledger_url(folder))
    every = records(ledger)
    return Left(
        documents=_documents(target),
        writes={
            request: number
            for request, number in target.by_request().items()
            if request.partition(" ")[0] in _WRITES and "/emulator/" not in request
        },
        steps={id_: row.status for record in every for id_, row in record.steps.items()},
        runs=len(every),
        open_runs=sum(record.run.ended_utc is None for record in every),
        dones=sum(row.status == "done" for row in ledger.steps()),
        broken=ledger.check().misfit or "",
    )


def _documents(target: Emulator) -> dict[str, Any]:
    arm = Arm(Access(_settings(target)))
    found: list[dict[str, Any]] = []
    for subscription in target.subscription_ids:
        for workspace in arm.list(f"/subscriptions/{subscription}/providers/{_PROVIDER}"):
            found += arm.list(f"{workspace['id']}/computes")
            for endpoint in arm.list(f"{workspace['id']}/onlineEndpoints"):
                found += arm.list(f"{endpoint['id']}/deployments")
    return {document["id"].lower(): document for document in found}


@contextmanager
def slow_emulator(estate: Path) -> Iterator[Emulator]:
    """Play an estate whose operations take some looks, and take effect when they end."""
    with emulator(estate) as target:
        target.fault(delay_lro=LOOKS, late_lro=True)
        yield target


@contextmanager
def emulator(estate: Path) -> Iterator[Emulator]:
    """Play an estate in a child of this process, which has nothing to import any more."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        serve(estate, announce=lambda said: _tell(writing, json.dumps(said)))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        said = json.loads(told.readline())
        try:
            subscriptions = tuple(said["subscription_ids"])
            yield Emulator(said["url"], said["ca_file"], utc(said["now_utc"]), subscriptions)
        finally:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)


def _apply_in_a_child(
    plan: Plan, target: Emulator, folder: Path, parallel: int, *, kill_at: int | None
) -> list[str]:
    """Return the moments that the child told: the one it died at, or all if it was let live."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            reaper = Reaper(kill_at, lambda moment: _tell(writing, moment))
            apply(
                plan,
                door=Arm(MortalAccess(_settings(target), reaper)),
                ledger=MortalLedger(_ledger_url(folder), reaper),
                who="crash",
                known_resources={step.resource_id.lower() for step in plan.steps},
                baseline=None,
                on_outcome=lambda _: None,
                rules=Rules(max_steps=len(plan.steps), parallel=parallel),
            )
            code = 0
        finally:
            if code:
                traceback.print_exc()
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as told:
        moments = told.read().splitlines()
    _, status = os.waitpid(child, 0)
    died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not died and os.waitstatus_to_exitcode(status) != 0:
        raise OptimizerError(f"The plan {plan.id} could not be applied; why stands above.")
    return moments


def _tell(pipe: int, line: str) -> None:
    os.write(pipe, f"{line}\n".encode())


def _settings(target: Emulator) -> AzureSettings:
    return AzureSettings(endpoint=target.url, ca_file=Path(target.ca_file), credential="emulator")


def _ledger_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'ledger.sqlite'}"


if __name__ == "__main__":
    sys.exit(main())
