"""Cost Management: the query API, and the cost details report with its file."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from typing import IO, Any

import orjson
from azure.core import PipelineClient
from azure.core.exceptions import (
    HttpResponseError,
    IncompleteReadError,
    ResourceNotFoundError,
)
from azure.core.pipeline.policies import RequestIdPolicy, RetryPolicy, UserAgentPolicy
from azure.core.rest import HttpRequest
from azure.mgmt.costmanagement import CostManagementClient

from optimizer.azure.access import (
    ARM_SCOPE,
    Access,
    CostRetryAfter,
    azure_errors,
    check,
    refusal,
    url,
)
from optimizer.errors import NotOfferedError, OperationFailedError
from optimizer.model import Json

COST_API = "2025-03-01"
_CLIENT_TYPE = {"ClientType": "optimizer"}
"""Callers that name themselves have a quota of their own."""
_DETAILS = "a file of cost details"
_NOT_OFFERED = frozenset({400, 404, 405, 409, 422})
"""Answers to asking for a report that asking again does not change."""
_WRITTEN = frozenset({"Completed", "NoDataFound"})
_DOWNLOADS = 5
"""How often a file is asked for whose connection breaks off."""


class CostManagement:
    """Reads what was billed. Every method raises the AzureError that fits."""

    def __init__(self, access: Access) -> None:
        """Use `access`; nothing is sent yet."""
        self._base = access.arm_url
        self._client = CostManagementClient(
            access.credential,
            base_url=access.arm_url,
            credential_scopes=[ARM_SCOPE],
            polling_interval=2,
            **access.reading_options | {"per_retry_policies": [CostRetryAfter(), access.throttle]},
        )
        # A report's link carries its own key, which a token beside it would make invalid.
        self._files = PipelineClient(
            "",
            policies=[
                RequestIdPolicy(),
                UserAgentPolicy(**access.options),
                RetryPolicy(**access.options),
            ],
            **access.options,
        )

    def query(self, scope: str, body: Mapping[str, Json]) -> Iterator[dict[str, Any]]:
        """Yield each row of a cost query by column name, over all pages.

        The SDK's own `query.usage` returns the first page only, so pages are followed here.
        """
        link: str | None = self._base + url(
            f"{scope}/providers/Microsoft.CostManagement/query", api_version=COST_API
        )
        what = f"the costs of {scope}"
        while link:
            request = HttpRequest("POST", link, json=body, headers=_CLIENT_TYPE)
            with azure_errors(what):
                response = self._client.send_request(request)
            check(response, what)
            if not response.content:  # 204: nothing was billed
                return
            properties = orjson.loads(response.content)["properties"]
            yield from rows_of(properties)
            link = properties.get("nextLink")

    def report(self, scope: str, first: date, last: date, *, metric: str) -> Sequence[str]:
        """Have the cost details of some days of one month written; return the links of its files.

        `metric` is ActualCost or AmortizedCost. A link is a secret: it opens the file to anybody.

        Raises:
            NotOfferedError: the subscription has no such report.
            OperationFailedError: Azure began to write it, and did not end.
        """
        body = {
            "metric": metric,
            "timePeriod": {"start": first.isoformat(), "end": last.isoformat()},
        }
        what = f"the cost details of {scope}"
        with azure_errors(what):
            try:
                poller = self._client.generate_cost_details_report.begin_create_operation(
                    scope.strip("/"), body, headers=_CLIENT_TYPE
                )
            except HttpResponseError as error:
                if error.status_code in _NOT_OFFERED:
                    said = refusal(error.status_code, error.response.body(), what)
                    raise NotOfferedError(str(said)) from error
                raise
        with azure_errors(what):
            try:
                result = poller.result()
            except ResourceNotFoundError as error:
                raise OperationFailedError(f"Azure lost {what} while it wrote them.") from error
        if result is not None and result.status not in _WRITTEN:
            raise OperationFailedError(f"Azure began {what} and did not finish: {result.status}.")
        manifest = result.manifest if result is not None else None
        return [blob.blob_link for blob in (manifest.blobs if manifest else None) or []]

    def download(self, link: str, file: IO[bytes]) -> None:
        """Write the file behind a link, piece by piece. The link is never part of a message."""
        with azure_errors(_DETAILS):
            # What breaks off between two pieces is past the retries of the pipeline.
            for _ in range(_DOWNLOADS - 1):
                with suppress(IncompleteReadError):
                    return self._download(link, file)
            return self._download(link, file)

    def _download(self, link: str, file: IO[bytes]) -> None:
        file.seek(0)
        file.truncate()
        response = self._files.send_request(HttpRequest("GET", link), stream=True)
        if response.status_code >= 400:  # noqa: PLR2004 - where HTTP's errors begin
            response.read()
            check(response, _DETAILS)
        for piece in response.iter_bytes():
            file.write(piece)


def rows_of(properties: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each row of one page of a cost query as a dictionary."""
    names = [column["name"] for column in properties["columns"]]
    return (dict(zip(names, row, strict=True)) for row in properties["rows"])
