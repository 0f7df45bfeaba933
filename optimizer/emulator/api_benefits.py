"""Cost Management: how far a billing account's commitments are used, day by day.

A commitment is a document of `resources.json` that the emulator alone knows; what it says is what
is served. The bill itself is on demand: nothing is covered by it.
"""

import re
from datetime import date, timedelta

from optimizer.emulator.wire import Answer, Call, Endpoint, Json, Refusal, page, same, stable_id

COMMITMENT = "Microsoft.CostManagement/commitments"
"""`properties`: billingAccountId, kind (SavingsPlan or Reservation), armSkuName, and
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
    if not mine:
        raise Refusal(404, "BillingAccountNotFound", f"Billing account '{account}' was not found.")
    found = [
        _summary(document, first + timedelta(days=day), account)
        for document in mine
        for day in range((last - first).days + 1)
    ]
    return Answer(body=page(call, found, SUMMARY_PAGE, key="$skiptoken"))


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
    return {
        "id": f"/providers/Microsoft.Billing/billingAccounts/{account}/providers"
        f"/Microsoft.CostManagement/benefitUtilizationSummaries/{name}",
        "name": name,
        "type": "Microsoft.CostManagement/benefitUtilizationSummaries",
        "kind": properties["kind"],
        "properties": {
            "armSkuName": properties["armSkuName"],
            "benefitId": f"{order}/savingsPlans/{benefit}",
            "benefitOrderId": order,
            "benefitType": properties["kind"],
            "usageDate": f"{day}T00:00:00Z",
            "avgUtilizationPercentage": used,
            "minUtilizationPercentage": used,
            "maxUtilizationPercentage": used,
        },
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
