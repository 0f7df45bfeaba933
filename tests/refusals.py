"""What Azure says when it refuses a write, as people report it, and what we say of it."""

from typing import Any

NO_QUOTA = "ask for more quota of this family in its region, or free some, and run this again."
NO_ROOM = "the region has no room for this size now: run this again later, or choose another size."
LIFT = "a lock forbids it: whoever holds the lock must lift it first."
ASK = "ask for a role that holds it, such as that of docs/roles/operator.json."
WRITE = "microsoft.machinelearningservices/workspaces/computes/write"
LOCKED = "The scope '/x' cannot perform write operation because following scope(s) are locked: '/x'"
NO_CORES = "Operation results in exceeding quota limits of Core"
NO_NODES = "Allocation failed"
NOT_SOLD = "The requested VM size is currently not available in this location"
_UNLOCK = "Please remove the lock and try again."
_MORE_CORES = "Maximum allowed: 10, Current in use: 10, Additional requested: 2."
_MORE_NODES = "We do not have sufficient capacity for the requested VM size in this region."

REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"status": 409, "code": "ScopeLocked", "message": f"{LOCKED}. {_UNLOCK}"},
        f"Azure answered 409 for {{id}} (ScopeLocked): {LOCKED}; {LIFT}",
    ),
    (
        {"status": 403},
        f"This account may not perform action '{WRITE}' on {{id}}: {ASK}",
    ),
    (
        {
            "fail_lro": True,
            "code": "ClusterCoreQuotaReached",
            "message": f"{NO_CORES}. {_MORE_CORES}",
        },
        f"Azure started the change of {{id}} but it failed: {NO_CORES}; {NO_QUOTA}",
    ),
    (
        {"status": 400, "code": "QuotaExceeded", "message": f"{NO_CORES}. {_MORE_CORES}"},
        f"Azure answered 400 for {{id}} (QuotaExceeded): {NO_CORES}; {NO_QUOTA}",
    ),
    (
        {"fail_lro": True, "code": "AllocationFailed", "message": f"{NO_NODES}. {_MORE_NODES}"},
        f"Azure started the change of {{id}} but it failed: {NO_NODES}; {NO_ROOM}",
    ),
    (
        {"status": 409, "code": "SkuNotAvailable", "message": f"{NOT_SOLD}."},
        f"Azure answered 409 for {{id}} (SkuNotAvailable): {NOT_SOLD}; {NO_ROOM}",
    ),
]
"""A fault of the emulator, and the one sentence it becomes; `id` is of what was to be written."""
