"""One compute instance, played event by event under Azure's own idle rule.

An instance is not idle while a Jupyter session or terminal or a VS Code connection is open; after
a Jupyter session that leaves its kernel open, until the instance stops; after a VS Code session for
three hours, when Azure ends the connection; once a custom application runs on it. SSH is not seen:
an instance is idle under a person who works over SSH. Source:
https://learn.microsoft.com/azure/machine-learning/how-to-create-compute-instance

Whoever has more than ten minutes of work left when the instance stops under him starts it again at
once, whatever stopped it; with less left, he calls it a day.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from heapq import heappop, heappush

import numpy as np

from optimizer.emulator.physics import Physics
from optimizer.emulator.records import Operation, SessionSpans
from optimizer.emulator.schedules import Schedule

VSCODE_HOLDS_SECONDS = 3 * 3600
"""How long a VS Code connection outlives its last activity."""

WORTH_RESTARTING_SECONDS = 600

SERVICE = "Azure Machine Learning"
"""Who does what a schedule or the idle rule asks for."""

_FOREVER_S = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSettings:
    """What decides when an instance stops and starts by itself."""

    idle_seconds: int | None
    """None: idleness never stops it."""
    schedules: tuple[Schedule, ...] = ()
    has_custom_services: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A person at work."""

    index: int
    """The row in `Estate.sessions`."""
    user: str
    start_s: int
    end_s: int
    via: str
    """jupyter, vscode, ssh or app."""
    keeps_kernel_open: bool
    user_stops: bool
    cpu_pct: float
    gpu_pct: float
    memory_pct: float


@dataclass(slots=True)
class _Played:
    """A stretch of a session that really took place; `end_s` is None while it lasts."""

    session: Session
    start_s: int
    end_s: int | None = None


class _Event(IntEnum):
    """What the heap holds; within a second the lower comes first."""

    SESSION_START = 0
    SESSION_END = 1
    SCHEDULE = 2


class Instance:
    """An instance in motion: `run_until` moves it; every other act takes place at its now."""

    def __init__(
        self,
        resource_id: str,
        settings: InstanceSettings,
        sessions: Iterable[Session],
        *,
        running: bool,
        physics: Physics,
        start_s: int,
    ) -> None:
        """Begin at `start_s`, either stopped or up and idle since then."""
        self.now_s = start_s
        self.settings = settings
        self.operations: list[Operation] = []
        self._resource_id = resource_id
        self._physics = physics
        self._on: list[tuple[int, int]] = []
        self._on_since_s: int | None = start_s if running else None
        self._usable_s = start_s
        self._busy_until_s = start_s
        self._settings_since_s = start_s
        self._open: dict[int, _Played] = {}
        self._played: list[_Played] = []
        self._events: list[tuple[int, _Event, int, Session | Schedule]] = []
        self._events_made = 0
        for session in sessions:
            self._schedule(session.start_s, _Event.SESSION_START, session)
        self._arm_schedules()
        if running:
            self._hold_by_services()

    # -- what moves it ---------------------------------------------------------------------------

    def run_until(self, end_s: int) -> None:
        """Play everything up to and including the second `end_s`."""
        while (second := self._next_s()) is not None and second <= end_s:
            self.now_s = second
            while self._events and self._events[0][0] == second:
                _, event, _, subject = heappop(self._events)
                self._happen(event, subject)
            if self._idle_deadline_s() == second:
                self._turn_off("IdleShutdown", SERVICE)
        self.now_s = max(self.now_s, end_s)

    def configure(self, settings: InstanceSettings) -> None:
        """Put other settings in force now; another idle time starts the idle clock afresh."""
        if settings.idle_seconds != self.settings.idle_seconds:
            self._settings_since_s = self.now_s
        self.settings = settings
        self._events = [event for event in self._events if event[1] is not _Event.SCHEDULE]
        self._events.sort()
        self._arm_schedules()
        if self._on_since_s is not None:
            self._hold_by_services()

    def start(self, caller: str) -> None:
        """Start it for `caller`, if it is stopped."""
        self._turn_on("User", caller)

    def stop(self, caller: str) -> None:
        """Stop it for `caller`, if it runs."""
        self._turn_off("User", caller)

    def delete(self) -> None:
        """Delete it now: it bills no more, and nobody comes back to it."""
        for played in self._open.values():
            played.end_s = self.now_s
        self._open.clear()
        self._events.clear()
        self._close_billing()

    # -- what it tells ---------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """Stopped, Starting or Running."""
        if self._on_since_s is None:
            return "Stopped"
        return "Starting" if self.now_s < self._usable_s else "Running"

    def on_spans(self) -> list[tuple[int, int]]:
        """Return when it ran, each from its start until its stop or now."""
        running = [] if self._on_since_s is None else [(self._on_since_s, self.now_s)]
        return self._on + running

    def sessions_played(self) -> SessionSpans:
        """Return when people really worked on it, in the order of starting."""
        rows = [
            (played.session, played.start_s, self.now_s if played.end_s is None else played.end_s)
            for played in self._played
        ]
        spans = [row for row in rows if row[2] > row[1]]
        return SessionSpans(
            session_index=np.array([session.index for session, _, _ in spans], dtype=np.int64),
            start_s=np.array([start_s for _, start_s, _ in spans], dtype=np.int64),
            end_s=np.array([end_s for _, _, end_s in spans], dtype=np.int64),
            cpu_pct=np.array([session.cpu_pct for session, _, _ in spans], dtype=np.float64),
            gpu_pct=np.array([session.gpu_pct for session, _, _ in spans], dtype=np.float64),
            memory_pct=np.array([session.memory_pct for session, _, _ in spans], dtype=np.float64),
        )

    # -- the clockwork ---------------------------------------------------------------------------

    def _next_s(self) -> int | None:
        moments = [self._events[0][0]] if self._events else []
        deadline_s = self._idle_deadline_s()
        return min([*moments, *([] if deadline_s is None else [deadline_s])], default=None)

    def _schedule(self, at_s: int, event: _Event, subject: Session | Schedule) -> None:
        self._events_made += 1
        heappush(self._events, (at_s, event, self._events_made, subject))

    def _arm_schedules(self) -> None:
        for schedule in self.settings.schedules:
            self._arm(schedule)

    def _arm(self, schedule: Schedule) -> None:
        if (at_s := schedule.next_s(self.now_s)) is not None:
            self._schedule(at_s, _Event.SCHEDULE, schedule)

    def _happen(self, event: _Event, subject: Session | Schedule) -> None:
        match event, subject:
            case _Event.SESSION_START, Session() as session:
                self._turn_on("User", session.user)
                self._schedule(session.end_s, _Event.SESSION_END, session)
                self._begin(session)
            case _Event.SESSION_END, Session() as session:
                self._end(session)
            case _Event.SCHEDULE, Schedule() as schedule:
                turn = self._turn_on if schedule.action == "Start" else self._turn_off
                turn("Schedule", SERVICE)
                self._arm(schedule)

    # -- sessions --------------------------------------------------------------------------------

    def _begin(self, session: Session) -> None:
        played = _Played(session, max(self.now_s, self._usable_s))
        self._open[session.index] = played
        self._played.append(played)
        if session.via == "app":
            self._busy_until_s = _FOREVER_S

    def _end(self, session: Session) -> None:
        played = self._open.pop(session.index, None)
        if played is None:
            return  # its instance stopped under it, and it was not worth starting again
        played.end_s = self.now_s
        self._busy_until_s = max(self._busy_until_s, _held_until_s(session, self.now_s))
        if session.user_stops and not self._open:
            self._turn_off("User", session.user)

    # -- on and off ------------------------------------------------------------------------------

    def _turn_on(self, trigger: str, caller: str) -> None:
        if self._on_since_s is not None:
            return
        self._on_since_s = self.now_s
        self._usable_s = self._busy_until_s = self.now_s + self._physics.start_seconds
        self._hold_by_services()
        self._note("Start", trigger, caller, seconds=self._physics.start_seconds)

    def _turn_off(self, trigger: str, caller: str) -> None:
        if self._on_since_s is None:
            return
        if self.now_s < self._usable_s:
            begun = self.operations[-1]
            self.operations[-1] = replace(begun, seconds=self.now_s - begun.at_s)
        self._close_billing()
        self._note("Stop", trigger, caller)
        interrupted = [played.session for played in self._open.values()]
        for played in self._open.values():
            played.end_s = self.now_s
        self._open.clear()
        for session in interrupted:
            if session.end_s - self.now_s > WORTH_RESTARTING_SECONDS:
                self._turn_on("User", session.user)
                self._begin(session)

    def _close_billing(self) -> None:
        if self._on_since_s is not None:
            self._on.append((self._on_since_s, self.now_s))
            self._on_since_s = None

    def _hold_by_services(self) -> None:
        if self.settings.has_custom_services:
            self._busy_until_s = _FOREVER_S

    def _idle_deadline_s(self) -> int | None:
        """Return when idleness will stop it if nobody comes; None = not while things stay so."""
        idle_seconds = self.settings.idle_seconds
        if idle_seconds is None or self._on_since_s is None or self._busy_until_s == _FOREVER_S:
            return None
        if any(played.session.via != "ssh" for played in self._open.values()):
            return None
        return max(self._busy_until_s, self._settings_since_s) + idle_seconds

    def _note(self, name: str, trigger: str, caller: str, *, seconds: int = 0) -> None:
        self.operations.append(
            Operation(
                at_s=self.now_s,
                resource_id=self._resource_id,
                name=name,
                trigger=trigger,
                status="Succeeded",
                caller=caller,
                seconds=seconds,
            )
        )


def _held_until_s(session: Session, end_s: int) -> int:
    """Return until when Azure takes an instance to be in use because of a session that ended."""
    match session.via:
        case "jupyter" if session.keeps_kernel_open:
            return _FOREVER_S
        case "jupyter":
            return end_s
        case "vscode":
            return end_s + VSCODE_HOLDS_SECONDS
        case _:
            return 0
