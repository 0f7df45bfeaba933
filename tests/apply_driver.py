"""Applies a plan in a process of its own and dies where it is told to, as `kill -9` would.

`python -m tests.apply_driver PLAN LEDGER_URL MOMENT NUMBER` with OPTIMIZER_AZURE_… set. MOMENT:
`meant` (intent NUMBER is kept and not yet sent), `sent` (write NUMBER has reached Azure and its
outcome is not kept), `told` (outcome NUMBER is kept).
"""

import os
import signal
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from optimizer.azure.access import Access
from optimizer.azure.arm import ML_API, Arm
from optimizer.config import load_settings
from optimizer.model import Json
from optimizer.remediation.plan import load
from optimizer.store.ledger import Ledger
from tests.changes import apply_here


class Reaper:
    """Kills this process when a moment has come for the given time."""

    def __init__(self, moment: str, number: int) -> None:
        self._moment = moment
        self._left = number

    def at(self, moment: str) -> None:
        if moment == self._moment:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class MortalDoor:
    """The real door, with the reaper beside it."""

    def __init__(self, arm: Arm, reaper: Reaper) -> None:
        self._arm = arm
        self._reaper = reaper

    def now_utc(self) -> datetime:
        return self._arm.now_utc()

    def get(self, resource_id: str, *, api_version: str = ML_API) -> dict[str, Any]:
        return self._arm.get(resource_id, api_version=api_version)

    def list(
        self, path: str, *, api_version: str = ML_API, **query: str
    ) -> Iterator[dict[str, Any]]:
        return self._arm.list(path, api_version=api_version, **query)

    def settled(self, resource_id: str) -> dict[str, Any]:
        return self._arm.settled(resource_id)

    def patch(self, resource_id: str, body: Json) -> dict[str, Any]:
        self._reaper.at("meant")
        answer = self._arm.patch(resource_id, body)
        self._reaper.at("sent")
        return answer

    def put(self, resource_id: str, body: Json, *, api_version: str = ML_API) -> dict[str, Any]:
        self._reaper.at("meant")
        answer = self._arm.put(resource_id, body, api_version=api_version)
        self._reaper.at("sent")
        return answer

    def delete(self, resource_id: str, *, api_version: str = ML_API, **query: str) -> None:
        self._reaper.at("meant")
        self._arm.delete(resource_id, api_version=api_version, **query)
        self._reaper.at("sent")

    def post(self, resource_id: str, action: str, body: Json | None, *, api_version: str) -> Json:
        self._reaper.at("meant")
        answer = self._arm.post(resource_id, action, body, api_version=api_version)
        self._reaper.at("sent")
        return answer


def main(plan: str, ledger_url: str, moment: str, number: str) -> None:
    """Apply the plan, or die on the way."""
    reaper = Reaper(moment, int(number))
    door = MortalDoor(Arm(Access(load_settings(os.environ).azure)), reaper)
    loaded = load(Path(plan))
    apply_here(
        loaded,
        door,
        Ledger(ledger_url),
        known=[{"id": step.resource_id} for step in loaded.steps],
        on_outcome=lambda _: reaper.at("told"),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
