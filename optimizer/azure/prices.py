"""Azure Retail Prices: the public price list. Nobody needs to sign in."""

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
from azure.core import PipelineClient
from azure.core.pipeline.policies import RequestIdPolicy, RetryPolicy, UserAgentPolicy
from azure.core.rest import HttpRequest, HttpResponse

from optimizer.azure.access import Access, azure_errors, check, url

PRICES_API = "2023-01-01-preview"
"""The version that has savings-plan prices beside the others."""

_ONE_SIZE = (
    "serviceName eq 'Virtual Machines' and armRegionName eq 'eastus' "
    "and armSkuName eq 'Standard_DS3_v2'"
)


class RetailPrices:
    """Reads the price list, which has a page of 1,000 rows and says where the next is."""

    def __init__(self, access: Access) -> None:
        """Use `access`; nothing is sent yet."""
        self._base = access.prices_url
        self._client = PipelineClient(
            access.prices_url,
            policies=[
                RequestIdPolicy(),
                UserAgentPolicy(**access.options),
                RetryPolicy(**access.options),
            ],
            **access.options,
        )

    def items(self, filter_: str, *, currency: str) -> Iterator[dict[str, Any]]:
        """Yield each row of the price list that passes an OData filter. Raises AzureError."""
        link: str | None = self._first_page(filter_, currency)
        while link:
            page = orjson.loads(self._get(link).content)
            yield from page["Items"]
            link = page.get("NextPageLink")

    def now_utc(self) -> datetime:
        """Return the service's clock, from the `Date` of an answer. Raises AzureError."""
        answer = self._get(self._first_page(_ONE_SIZE, "USD"))
        return parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)

    def _first_page(self, filter_: str, currency: str) -> str:
        query = {"api-version": PRICES_API, "currencyCode": f"'{currency}'", "$filter": filter_}
        return self._base + url("/api/retail/prices", **query)

    def _get(self, link: str) -> HttpResponse:
        with azure_errors("Azure's price list"):
            response = self._client.send_request(HttpRequest("GET", link))
        check(response, "Azure's price list")
        return response
