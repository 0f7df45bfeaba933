"""Rows of a ledger to write, and a hand that meddles with what was written."""

import sqlalchemy as sa

from optimizer.store.ledger import INTENDED, RunRow, StepRow
from tests.changes import NOW_UTC

RUN = RunRow(
    id="apply-1",
    kind="apply",
    plan_id="plan-1",
    plan_digest="d1",
    undoes=None,
    scenario="balanced",
    who="ana",
    started_utc=NOW_UTC,
    ended_utc=None,
)
STEP = StepRow(
    run_id="apply-1",
    step_id="step-1",
    resource_id="/subscriptions/1/computes/gpu",
    setting="minNodeCount",
    before=2,
    after=0,
    how="patch",
    inverse={"value": 2},
    status=INTENDED,
    detail="",
    who="ana",
    at_utc=NOW_UTC,
)


def meddle(ledger_url: str, *statements: str) -> None:
    """Do what no ledger does: change what is kept."""
    address = sa.make_url(ledger_url)
    if address.get_backend_name() == "postgresql":
        address = address.set(drivername="postgresql+psycopg")
    with sa.create_engine(address, poolclass=sa.NullPool).begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
