"""VM sizes of a region, how many cores may be used there, and how many are."""

from collections import Counter
from collections.abc import Iterator, Mapping

from optimizer.emulator import arm, skus
from optimizer.emulator.api_arm import known_subscription
from optimizer.emulator.quotas import limit_of, place_of, quotas
from optimizer.emulator.telemetry import COMPUTES, price_of
from optimizer.emulator.wire import PROVIDER, Answer, Call, Endpoint, Json, same

NO_LIMIT = -1
"""What Azure says of low-priority cores by family, and what is said where no document tells."""

_TOTALS = ("totalCores", "dedicatedCores", "lowPriorityCores")
_LOCATION = f"/subscriptions/{{subscription}}/providers/{PROVIDER}/locations/{{location}}"


def _vm_sizes(call: Call) -> Answer:
    known_subscription(call)
    value = [
        {
            "name": price.sku,
            "family": skus.family(price.sku),
            "vCPUs": price.vcpus,
            "gpus": price.gpus,
            "memoryGB": price.memory_gib,
            "osVhdSizeMB": 1047552,
            "maxResourceVolumeMB": 0,
            "lowPriorityCapable": price.low_priority_per_hour is not None,
            "premiumIO": True,
            "estimatedVMPrices": {
                "billingCurrency": price.currency,
                "unitOfMeasure": "OneHour",
                "values": [
                    {"retailPrice": amount, "osType": "Linux", "vmTier": tier}
                    for tier, amount in (
                        ("Standard", price.list_per_hour),
                        ("LowPriority", price.low_priority_per_hour),
                    )
                    if amount is not None
                ],
            },
            "supportedComputeTypes": ["AmlCompute", "ComputeInstance"],
        }
        for price in call.world.estate.prices.values()
        if same(price.region, call.parts["location"])
    ]
    return Answer(body={"value": value})


def _usages(call: Call) -> Answer:
    """List the usage of the subscription, of its families, workspaces and clusters."""
    subscription = known_subscription(call)
    root = f"/subscriptions/{subscription}"
    limits = {
        (place_of(each).lower(), each["name"].lower()): limit_of(each) for each in _quotas(call)
    }
    clusters = 0
    total: Counter[bool] = Counter()
    by_place: dict[tuple[str, str, str, bool], int] = {}
    for compute in _located_computes(call, subscription):
        low = arm.is_low_priority(compute)
        family = skus.family_words(arm.vm_size(compute))
        cores = _cores(call, compute)
        clusters += arm.is_cluster(compute)
        total[low] += cores
        for kind, place in (
            ("vmFamily", root),
            ("workspaces", arm.workspace_id(compute["id"])),
            ("workspaces/computes", compute["id"]),
        ):
            if kind == "vmFamily" or not low:
                key = (kind, place, family, low)
                by_place[key] = by_place.get(key, 0) + cores
    value = [
        _usage(root, "totalCores", "Clusters", clusters),
        _usage(root, "dedicatedCores", "Total Cluster Dedicated Regional vCPUs", total[False]),
        _usage(root, "lowPriorityCores", "Total Cluster LowPriority Regional vCPUs", total[True]),
    ]
    for (kind, place, family, low), cores in sorted(by_place.items()):
        limit = limits.get((place.lower(), family.lower()), NO_LIMIT)
        name = _name(family, is_low_priority=low)
        value.append(_usage(place, kind, name, cores, limit=NO_LIMIT if low else limit))
    return Answer(body={"value": value})


def _quota_list(call: Call) -> Answer:
    known_subscription(call)
    value = [
        {
            "id": f"{place_of(each)}/quotas/{_name(each['name']).replace(' ', '_')}",
            "type": f"{PROVIDER}/{kind}/quotas",
            "limit": limit_of(each),
            "name": _both(_name(each["name"])),
            "unit": "Count",
        }
        for each in _quotas(call)
        for kind in ["workspaces" if "/workspaces/" in each["id"].lower() else "vmFamily"]
    ]
    return Answer(body={"value": value})


def _usage(place: str, kind: str, name: str, used: int, *, limit: int = NO_LIMIT) -> Json:
    # As documented: the id of a total has no name.
    ending = "" if kind in _TOTALS else f"/{name.replace(' ', '_')}"
    return {
        "id": f"{place}/usages{ending}",
        "type": f"{PROVIDER}/{kind}/usages",
        "currentValue": used,
        "limit": limit,
        "name": _both(name),
        "unit": "Count",
    }


def _name(family: str, *, is_low_priority: bool = False) -> str:
    return f"{family} Cluster {'LowPriority' if is_low_priority else 'Dedicated'} vCPUs"


def _both(name: str) -> Mapping[str, str]:
    return {"value": name, "localizedValue": name}


def _cores(call: Call, compute: Json) -> int:
    settings = arm.settings(compute)
    price = price_of(call.world, compute)
    nodes = int(settings.get("currentNodeCount") or settings.get("state") == "Running")
    return nodes * int((price.vcpus if price else None) or 0)


def _located_computes(call: Call, subscription: str) -> Iterator[Json]:
    """Yield what uses cores of the region: clusters and instances, not what is attached."""
    return (
        compute
        for compute in call.world.documents(COMPUTES)
        if arm.is_played(compute)
        and same(compute["id"].split("/")[2], subscription)
        and same(compute["location"], call.parts["location"])
    )


def _quotas(call: Call) -> list[Json]:
    return quotas(call.world, call.parts["subscription"], call.parts["location"])


ENDPOINTS = tuple(
    Endpoint(api="arm", method="GET", template=f"{_LOCATION}/{what}", handle=handle)
    for what, handle in (("vmSizes", _vm_sizes), ("usages", _usages), ("quotas", _quota_list))
)
