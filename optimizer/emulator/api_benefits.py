"""Cost Management: how far a billing account's commitments are used, day by day.

Reservations of `estate.json` cover the machines that are played, and their use is that of the bill,
told as late as the bill is. Of a savings plan it is not known whether it covers Azure Machine
Learning, so one is a document of `resources.json` that the emulator alone knows: what it says of
its use is what is served, and the bill knows nothing of it.
"""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from optimizer.emulator.estate import Reservation
from optimizer.emulator.records import Floats
from optimizer.emulator.wire import (
    Answer,
    Call,
    Endpoint,
    Json,
    Refusal,
    epoch,
    page,
    same,
    stable_id,
)

COMMITMENT = "Microsoft.CostManagement/commitments"
"""`properties`: billingAccountId, kind (SavingsPlan or IncludedQuantity), armSkuName, and
utilizationPercentage, the same for every day; the id lies below a subscription."""
SUMMARY_PAGE = 100

_DAYS = re.compile(
    r"^properties/usageDate ge (?P<first>[\d-]{10}) "
    r"and properties/usageDate le (?P<last>[\d-]{10})$"
)


def _summaries(call: Call) -> Answer:
    if not same(call.query.get("grainparameter", "Daily"), "Daily"):
        raise Refusal(400, "BadRequest", "Only the grain Daily is served here.")
    first, last = _days(call)
    account = call.parts["account"]
    mine = [
        document
        for document in call.world.documents(COMMITMENT)
        if same(document["properties"]["billingAccountId"], account)
    ]
    reservations = [
        (place, each)
        for place, each in enumerate(call.world.estate.billing.reservations)
        if same(each.billing_account, account)
    ]
    if not mine and not reservations:
        raise Refusal(404, "BillingAccountNotFound", f"Billing account '{account}' was not found.")
    days = [first + timedelta(days=day) for day in range((last - first).days + 1)]
    found = [_summary(document, day, account) for document in mine for day in days]
    if call.world.estate.telemetry.reservation_summaries:
        found += _of_reservations(call, reservations, days, account)
    return Answer(body=page(call, found, SUMMARY_PAGE, key="$skiptoken"))


def _of_reservations(
    call: Call, reservations: Sequence[tuple[int, Reservation]], days: Sequence[date], account: str
) -> list[Json]:
    """Return the summaries of whole days that are billed and on which something was reserved."""
    world = call.world
    billed_until = world.now_utc - timedelta(hours=world.estate.billing.lag_hours)
    found = []
    for day in days:
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        end = start + timedelta(days=1)
        if not world.estate.history_start_utc <= start < end <= billed_until:
            continue
        settled = world.settled(epoch(start), epoch(end))
        for place, each in reservations:
            reserved, used = settled.reserved[place], settled.used[place]
            hours = reserved > 0
            if hours.any():
                shares = 100 * used[hours] / reserved[hours]
                found.append(_reservation_summary(each, day, account, shares))
    return found


def _reservation_summary(reservation: Reservation, day: date, account: str, shares: Floats) -> Json:
    order = reservation.id.split("/reservations/")[0]
    return _document(
        "Reservation",
        str(stable_id(reservation.id, f"{day}")),
        account,
        {
            "armSkuName": reservation.sku,
            "benefitId": reservation.id,
            "benefitOrderId": order,
            "benefitType": "Reservation",
            "usageDate": f"{day}T00:00:00Z",
            "avgUtilizationPercentage": round(float(shares.mean()), 2),
            "minUtilizationPercentage": round(float(shares.min()), 2),
            "maxUtilizationPercentage": round(float(shares.max()), 2),
        },
    )


def _days(call: Call) -> tuple[date, date]:
    """Return the first and the last day that are asked about, none of them in the future."""
    asked = _DAYS.match(call.parameter("filter"))
    if asked is None:
        raise Refusal(
            400, "BadRequest", "The filter must bound properties/usageDate on both sides."
        )
    first, last = (date.fromisoformat(asked[name]) for name in ("first", "last"))
    return first, min(last, call.world.now_utc.date())


def _summary(document: Json, day: date, account: str) -> Json:
    properties, name = document["properties"], str(stable_id(document["id"], f"{day}"))
    benefit = stable_id("benefit", document["id"])
    order = f"/providers/Microsoft.BillingBenefits/savingsPlanOrders/{stable_id(document['id'])}"
    used = properties["utilizationPercentage"]
    return _document(
        properties["kind"],
        name,
        account,
        {
            "armSkuName": properties["armSkuName"],
            "benefitId": f"{order}/savingsPlans/{benefit}",
            "benefitOrderId": order,
            "benefitType": properties["kind"],
            "usageDate": f"{day}T00:00:00Z",
            "avgUtilizationPercentage": used,
            "minUtilizationPercentage": used,
            "maxUtilizationPercentage": used,
        },
    )


def _document(kind: str, name: str, account: str, properties: Json) -> Json:
    return {
        "id": f"/providers/Microsoft.Billing/billingAccounts/{account}/providers"
        f"/Microsoft.CostManagement/benefitUtilizationSummaries/{name}",
        "name": name,
        "type": "Microsoft.CostManagement/benefitUtilizationSummaries",
        "kind": kind,
        "properties": properties,
    }


ENDPOINTS = (
    Endpoint(
        api="cost_management",
        method="GET",
        template="/providers/Microsoft.Billing/billingAccounts/{account}/providers"
        "/Microsoft.CostManagement/benefitUtilizationSummaries",
        handle=_summaries,
    ),
)
