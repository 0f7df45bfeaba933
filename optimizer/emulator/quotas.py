"""How many cores of a family may be used, and the refusal of what they cannot hold."""

from collections.abc import Mapping
from typing import Any

from optimizer.emulator import arm, skus
from optimizer.emulator.wire import PROVIDER, Json, Refusal, same
from optimizer.emulator.world import World

QUOTAS = f"{PROVIDER}/locations/quotas"
"""A document of `resources.json` that the emulator alone knows: `name` is a family such as
`Standard DSv2 Family`, `properties.limit` the cores; its id lies below a subscription, or below
the workspace that has a quota of its own."""


def quotas(world: World, subscription: str, location: str) -> list[Json]:
    """Return the quotas of a region of a subscription, and of the workspaces in it."""
    return [
        document
        for document in world.documents(QUOTAS)
        if same(document["id"].split("/")[2], subscription) and same(document["location"], location)
    ]


def limit_of(quota: Json) -> int:
    """Return the cores of a quota."""
    return int(quota["properties"]["limit"])


def place_of(quota: Json) -> str:
    """Return the subscription or the workspace that a quota is of."""
    return arm.workspace_id(quota["id"]) if _is_of_workspace(quota) else _root(quota)


def check_room(world: World, workspace: Json, compute: Mapping[str, Any]) -> None:
    """Refuse a new compute of which a quota could not hold a single node, or its minimum.

    What others use of the quota does not count here: nodes that find none left are not allocated,
    and the cluster stands. Azure's pages name no code, so words and code are those that people
    report. Low-priority cores are of no family, and none is told here.
    """
    if arm.is_low_priority(compute):
        return
    size, location = arm.vm_size(compute), compute.get("location") or workspace["location"]
    price = world.estate.prices.get((location.lower(), size.lower()))
    nodes = max(1, (arm.settings(compute).get("scaleSettings") or {}).get("minNodeCount") or 0)
    cores = nodes * int((price.vcpus if price else None) or 0)
    family = skus.family_words(size)
    for quota in quotas(world, workspace["id"].split("/")[2], location):
        binds = place_of(quota).lower() in {workspace["id"].lower(), _root(quota).lower()}
        if binds and same(quota["name"], family) and limit_of(quota) < cores:
            words = f"{family.removesuffix(' Family')} family vCPU quota"
            raise Refusal(
                400,
                "BadRequest",
                f"The specified subscription has a {words} of {limit_of(quota)} and cannot "
                f"accomodate for at least {nodes} requested managed compute node which maps to "
                f"{cores} vCPUs. Talk to your Subscription Admin or refer to "
                "https://docs.microsoft.com/azure/machine-learning/how-to-manage-quotas"
                f"#request-quota-increases to increase the {words}",
            )


def _is_of_workspace(quota: Json) -> bool:
    return "/workspaces/" in quota["id"].lower()


def _root(quota: Json) -> str:
    return "/".join(quota["id"].split("/")[:3])
