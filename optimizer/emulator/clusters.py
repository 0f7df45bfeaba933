"""One AmlCompute cluster, played event by event.

Time is whole seconds. What happens in one second happens in this order: jobs end, nodes change
state, jobs arrive, the queue is served, missing nodes are asked for, idle nodes are let go. So a
job that arrives in the second in which a node would leave still gets that node.
"""

from array import array
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import blake2b
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from optimizer.emulator.physics import Physics, allocation_seconds, eviction_seconds
from optimizer.emulator.records import Ints, NodeCounts, Spans

_LOG_COLUMNS = 10
_SPAN_COLUMNS = 4
_OPEN = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The scale settings of a cluster."""

    min_nodes: int
    max_nodes: int
    idle_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterJob:
    """A job as its cluster sees it."""

    index: int
    """The row in `Estate.jobs`."""
    submit_s: int
    run_seconds: int
    """On this cluster's VM size."""
    nodes: int
    checkpoint_seconds: int | None
    """None: an eviction undoes all of its work."""
    fails: bool
    times_out: bool = False
    """Whether its time limit ends it."""


class NodeState(IntEnum):
    """Where a node stands; the order is that of the log."""

    ACTIVE = 0
    IDLE = 1
    PREPARING = 2
    LEAVING = 3
    PREEMPTED = 4


@dataclass(slots=True, eq=False)
class Node:
    """A virtual machine, from allocation to release."""

    ordinal: int
    state: NodeState
    idle_since_s: int = 0
    running: "JobState | None" = None
    span: int = 0
    """Where its open row of the occupancy log begins."""


@dataclass(slots=True, eq=False)
class JobState:
    """How far a job has come."""

    job: ClusterJob
    status: str = "Queued"
    started_s: int | None = None
    ended_s: int | None = None
    restarts: int = 0
    saved_seconds: int = 0
    """Work that an eviction cannot undo."""
    attempt_start_s: int = 0
    attempt_end_s: int = 0
    """When the present attempt began, and when it will end if nothing stops it."""
    nodes: list[Node] = field(default_factory=list)


class _Event(IntEnum):
    """What the heap holds; within a second the lower comes first."""

    JOB_END = 0
    NODE_READY = 1
    NODE_EVICTED = 2
    NODE_GONE = 3


class Cluster:
    """A cluster in motion: `run_until` moves it, `configure` changes its settings at its now."""

    def __init__(
        self,
        resource_id: str,
        scale: Scale,
        jobs: Iterable[ClusterJob],
        *,
        low_priority: bool,
        physics: Physics,
        seed: int,
        start_s: int,
    ) -> None:
        """Begin at `start_s` with the minimum of nodes, idle since then.

        `jobs` are all that will ever be submitted, the future included, in order of submission.
        """
        self.now_s = start_s
        self.scale = scale
        self._dice = (seed, resource_id)
        self._physics = physics
        self.low_priority = low_priority
        self._arrivals = deque(jobs)
        self._submitted: list[JobState] = []
        self._queue: deque[JobState] = deque()
        self._queued_nodes = 0
        self._idle: deque[Node] = deque()  # the longest idle first
        self._counts = [0] * len(NodeState)
        self._events: list[tuple[int, _Event, int, Node | JobState]] = []
        self._events_made = 0
        self._nodes_made = 0
        self._node_names: list[str] = []  # by ordinal, of those that were asked for
        self._log = array("q")
        self._spans = array("q")
        self._last_row: tuple[int, ...] = ()
        self._target = 0
        self._next_release_s: int | None = None
        for _ in range(scale.min_nodes):
            self._come_up(self._new_node())
        self._settle()

    # -- what moves it ---------------------------------------------------------------------------

    def run_until(self, end_s: int) -> None:
        """Play everything up to and including the second `end_s`."""
        while (second := self._next_s()) is not None and second <= end_s:
            self.now_s = second
            while self._events and self._events[0][0] == second:
                _, event, _, subject = heappop(self._events)
                self._happen(event, subject)
            while self._arrivals and self._arrivals[0].submit_s == second:
                self._submit(self._arrivals.popleft())
            self._settle()
        self.now_s = max(self.now_s, end_s)

    def configure(self, scale: Scale) -> None:
        """Put other settings in force now; idle nodes have been idle since they became so."""
        self.scale = scale
        self._settle()
        self.run_until(self.now_s)

    def delete(self) -> None:
        """Delete the cluster now: its nodes go at once, what has not ended is canceled."""
        for state in self._submitted:
            if state.ended_s is None:
                self._leave_nodes(state)
                state.status, state.ended_s = "Canceled", self.now_s
        self._queued_nodes = self._target = 0
        self._next_release_s = None
        for things in (self._arrivals, self._queue, self._idle, self._events):
            things.clear()
        self._counts = [0] * len(NodeState)
        self._record()

    # -- what it tells ---------------------------------------------------------------------------

    @property
    def current_nodes(self) -> int:
        """The nodes it has, in whatever state."""
        return sum(self._counts)

    @property
    def target_nodes(self) -> int:
        """The nodes it steers towards: running plus queued need, within min and max."""
        return self._target

    @property
    def changed_s(self) -> int:
        """When its nodes or settings last changed."""
        return self._log[-_LOG_COLUMNS]

    def nodes_in(self, state: NodeState) -> int:
        """Return how many nodes are in `state` now."""
        return self._counts[state]

    def jobs(self) -> list[JobState]:
        """Return the jobs submitted so far, in that order."""
        return self._submitted

    def node_counts(self) -> NodeCounts:
        """Return the history of its nodes and settings."""
        rows = np.array(self._log, dtype=np.int64).reshape(-1, _LOG_COLUMNS)
        return NodeCounts(
            at_s=rows[:, 0],
            active=rows[:, 1],
            idle=rows[:, 2],
            preparing=rows[:, 3],
            leaving=rows[:, 4],
            preempted=rows[:, 5],
            unusable=np.zeros(len(rows), dtype=np.int64),
            target=rows[:, 6],
            min_nodes=rows[:, 7],
            max_nodes=rows[:, 8],
            idle_seconds=rows[:, 9],
        )

    def occupancy(self) -> Spans:
        """Return which node ran which job when."""
        rows = np.array(self._spans, dtype=np.int64).reshape(-1, _SPAN_COLUMNS)
        return Spans(
            node_id=self._node_ids(rows[:, 0]),
            job_index=rows[:, 1],
            start_s=rows[:, 2],
            end_s=np.where(rows[:, 3] == _OPEN, self.now_s, rows[:, 3]),
        )

    def _node_ids(self, ordinals: Ints) -> NDArray[np.str_]:
        suffix = "p" if self.low_priority else "d"
        for ordinal in range(len(self._node_names), self._nodes_made):
            self._node_names.append(f"tvmps_{_digest(*self._dice, 'node', ordinal)}_{suffix}")
        return np.array(self._node_names, dtype=np.str_)[ordinals]

    # -- the clockwork ---------------------------------------------------------------------------

    def _next_s(self) -> int | None:
        moments = [self._events[0][0]] if self._events else []
        if self._arrivals:
            moments.append(self._arrivals[0].submit_s)
        if self._next_release_s is not None:
            moments.append(self._next_release_s)
        return min(moments, default=None)

    def _schedule(self, after_seconds: int, event: _Event, subject: Node | JobState) -> None:
        self._events_made += 1
        heappush(self._events, (self.now_s + after_seconds, event, self._events_made, subject))

    def _happen(self, event: _Event, subject: Node | JobState) -> None:
        match event, subject:
            case _Event.JOB_END, JobState() as state:
                # The end of an attempt that was cut short comes to nothing.
                if state.status == "Running" and state.attempt_end_s == self.now_s:
                    self._finish(state)
            case _Event.NODE_READY, Node() as node:
                self._come_up(node)
            case _Event.NODE_EVICTED, Node() as node:
                # A node that left by itself can no longer be taken away.
                if node.state in (NodeState.ACTIVE, NodeState.IDLE):
                    self._evict(node)
            case _Event.NODE_GONE, Node() as node:
                self._counts[node.state] -= 1

    def _settle(self) -> None:
        while self._queue and self._queue[0].job.nodes <= len(self._idle):
            self._begin(self._queue.popleft())
        wanted = self._counts[NodeState.ACTIVE] + self._queued_nodes
        self._target = max(self.scale.min_nodes, min(self.scale.max_nodes, wanted))
        self._allocate()
        self._release()
        self._record()

    # -- jobs ------------------------------------------------------------------------------------

    def _submit(self, job: ClusterJob) -> None:
        state = JobState(job)
        self._submitted.append(state)
        self._queue.append(state)
        self._queued_nodes += job.nodes

    def _begin(self, state: JobState) -> None:
        job = state.job
        self._queued_nodes -= job.nodes
        state.status = "Running"
        if state.started_s is None:
            state.started_s = self.now_s
        state.attempt_start_s = self.now_s
        state.attempt_end_s = self.now_s + job.run_seconds - state.saved_seconds
        take = self._idle.pop if self._physics.node_choice == "lifo" else self._idle.popleft
        state.nodes = [take() for _ in range(job.nodes)]
        for node in state.nodes:
            self._move(node, NodeState.ACTIVE)
            node.running = state
            node.span = len(self._spans)
            self._spans.extend((node.ordinal, job.index, self.now_s, _OPEN))
        self._schedule(state.attempt_end_s - self.now_s, _Event.JOB_END, state)

    def _finish(self, state: JobState) -> None:
        for node in self._leave_nodes(state):
            self._rest(node)
        over_time = "Canceled" if state.job.times_out else "Completed"
        state.status = "Failed" if state.job.fails else over_time
        state.ended_s = self.now_s

    def _leave_nodes(self, state: JobState) -> list[Node]:
        nodes, state.nodes = state.nodes, []
        for node in nodes:
            self._spans[node.span + _SPAN_COLUMNS - 1] = self.now_s
            node.running = None
        return nodes

    def _interrupt(self, state: JobState) -> list[Node]:
        """Send a job back to the head of the queue, with what its last checkpoint saved."""
        done = state.saved_seconds + self.now_s - state.attempt_start_s
        step = state.job.checkpoint_seconds
        state.saved_seconds = done // step * step if step else 0
        state.status = "Queued"
        state.restarts += 1
        self._queue.appendleft(state)
        self._queued_nodes += state.job.nodes
        return self._leave_nodes(state)

    # -- nodes -----------------------------------------------------------------------------------

    def _new_node(self) -> Node:
        node = Node(ordinal=self._nodes_made, state=NodeState.PREPARING)
        self._nodes_made += 1
        self._counts[node.state] += 1
        return node

    def _move(self, node: Node, state: NodeState) -> None:
        self._counts[node.state] -= 1
        self._counts[state] += 1
        node.state = state

    def _rest(self, node: Node) -> None:
        self._move(node, NodeState.IDLE)
        node.idle_since_s = self.now_s
        self._idle.append(node)

    def _allocate(self) -> None:
        """Ask for the nodes that are missing, as far as the maximum allows.

        An evicted node's place is not filled while Azure has none to give, and a node that is
        leaving still counts towards the maximum.
        """
        coming_or_here = self.current_nodes - self._counts[NodeState.LEAVING]
        missing = self._target - coming_or_here
        for _ in range(min(missing, self.scale.max_nodes - self.current_nodes)):
            node = self._new_node()
            delay = allocation_seconds(self._physics, *self._dice, "allocation", node.ordinal)
            self._schedule(delay, _Event.NODE_READY, node)

    def _come_up(self, node: Node) -> None:
        self._rest(node)
        if not self.low_priority:
            return
        lifetime = eviction_seconds(self._physics, *self._dice, "eviction", node.ordinal)
        if lifetime is not None:
            self._schedule(lifetime, _Event.NODE_EVICTED, node)

    def _evict(self, node: Node) -> None:
        if node.running is None:
            self._idle.remove(node)
        else:
            for freed in self._interrupt(node.running):
                if freed is not node:
                    self._rest(freed)
        self._move(node, NodeState.PREEMPTED)
        self._schedule(self._physics.preempted_seconds, _Event.NODE_GONE, node)

    def _release(self) -> None:
        """Let go nodes idle for long enough that neither the target nor the queue holds back."""
        idle_seconds = self.scale.idle_seconds
        above_target = self._counts[NodeState.ACTIVE] + self._counts[NodeState.PREPARING]
        above_target += len(self._idle) - self._target
        spare = min(above_target, len(self._idle) - self._queued_nodes)
        while spare > 0 and self._idle[0].idle_since_s + idle_seconds <= self.now_s:
            node = self._idle.popleft()
            self._move(node, NodeState.LEAVING)
            self._schedule(self._physics.leaving_seconds, _Event.NODE_GONE, node)
            spare -= 1
        self._next_release_s = self._idle[0].idle_since_s + idle_seconds if spare > 0 else None

    def _record(self) -> None:
        """Log how things stand; of several states in one second only the last one lasted."""
        scale = self.scale
        limits = (scale.min_nodes, scale.max_nodes, scale.idle_seconds)
        row = (*self._counts, self._target, *limits)
        if row == self._last_row:
            return
        if self._log and self._log[-_LOG_COLUMNS] == self.now_s:
            del self._log[-_LOG_COLUMNS:]
        self._log.append(self.now_s)
        self._log.extend(row)
        self._last_row = row


def _digest(*key: int | str) -> str:
    return blake2b("/".join(map(str, key)).encode(), digest_size=32).hexdigest()
