"""Writes to a ledger from a process of its own, when told to.

`python -m tests.ledger_driver URL NAME COUNT`: says `ready`, waits for a line on stdin, then writes
a run with COUNT steps, a snooze after each, and says each number once it is kept.
"""

import sys
from dataclasses import replace

from optimizer.store.ledger import Ledger, Snooze
from tests.changes import NOW_UTC
from tests.ledgers import RUN, STEP


def main(url: str, name: str, count: str) -> None:
    """Write when told to."""
    ledger = Ledger(url)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    ledger.start_run(replace(RUN, id=name, who=name), plan={"id": "plan-1"}, baseline=name)
    for number in range(int(count)):
        ledger.add_step(replace(STEP, run_id=name, step_id=str(number)))
        ledger.snooze(
            Snooze(finding_id=f"{name}-{number}", author=name, reason="", until_utc=NOW_UTC),
            NOW_UTC,
        )
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
    ledger.end_run(name, NOW_UTC, who=name)


if __name__ == "__main__":
    main(*sys.argv[1:])
