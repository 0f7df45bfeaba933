"""Cost Management's summaries of how far savings plans and reservations are used."""

from collections.abc import Iterator
from datetime import date
from typing import Any

from azure.mgmt.costmanagement import CostManagementClient

from optimizer.azure.access import ARM_SCOPE, Access, CostRetryAfter, azure_errors


class Benefits:
    """Reads what a billing account committed to. It takes a role on that account."""

    def __init__(self, access: Access) -> None:
        """Use `access`; nothing is sent yet."""
        self._client = CostManagementClient(
            access.credential,
            base_url=access.arm_url,
            credential_scopes=[ARM_SCOPE],
            **access.reading_options | {"per_retry_policies": [CostRetryAfter(), access.throttle]},
        )

    def by_day(self, billing_account: str, first: date, last: date) -> Iterator[dict[str, Any]]:
        """Yield the use of each benefit on each day, as Azure writes it. Raises AzureError."""
        days = f"properties/usageDate ge {first} and properties/usageDate le {last}"
        with azure_errors(f"the commitments of billing account {billing_account}"):
            summaries = self._client.benefit_utilization_summaries.list_by_billing_account_id(
                billing_account, grain_parameter="Daily", filter=days
            )
            for summary in summaries:
                yield summary.as_dict()
