"""Azure Resource Graph: every workspace of many subscriptions in one question."""

from collections.abc import Iterator, Sequence
from typing import Any

from azure.mgmt.resourcegraph import ResourceGraphClient
from azure.mgmt.resourcegraph.models import QueryRequest, QueryRequestOptions

from optimizer.azure.access import ARM_SCOPE, Access, azure_errors

_ROWS_A_PAGE = 1000


class Graph:
    """Asks Resource Graph. It leaves out, without a word, what the account may not see."""

    def __init__(self, access: Access) -> None:
        """Use `access`; nothing is sent yet."""
        self._client = ResourceGraphClient(
            access.credential,
            base_url=access.arm_url,
            credential_scopes=[ARM_SCOPE],
            **access.reading_options,
        )

    def query(self, kql: str, subscriptions: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield each row of an answer. Raises AzureError."""
        token: str | None = None
        while True:
            options = QueryRequestOptions(
                top=_ROWS_A_PAGE, skip_token=token, result_format="objectArray"
            )
            request = QueryRequest(query=kql, subscriptions=list(subscriptions), options=options)
            with azure_errors("Resource Graph"):
                answer = self._client.resources(request)
            yield from answer.data
            token = answer.skip_token
            if not token:
                return
