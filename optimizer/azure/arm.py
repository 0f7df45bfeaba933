"""Azure Resource Manager as it speaks: whole documents, nothing dropped.

The entities of azure-ai-ml leave out node states, allocation state and unknown properties, and
their update of a cluster is a PUT that loses the virtual network; so clusters are read and written
here (facts §2.7).
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline import PipelineResponse
from azure.core.pipeline.policies import (
    HeadersPolicy,
    RequestIdPolicy,
    RetryPolicy,
    UserAgentPolicy,
)
from azure.core.polling import LROPoller
from azure.core.rest import HttpRequest, HttpResponse
from azure.mgmt.core import ARMPipelineClient
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy
from azure.mgmt.core.polling.arm_polling import ARMPolling

from optimizer.azure.access import ARM_SCOPE, Access, azure_errors, check, url, with_way_out
from optimizer.azure.throttle import Clock
from optimizer.errors import NotEndedError, OperationFailedError
from optimizer.model import Json

ML_API = "2025-12-01"
"""The newest stable version of Microsoft.MachineLearningServices."""

IDLE_SHUTDOWN_API = "2025-01-01-preview"
"""No stable version has updateIdleShutdownSetting."""

SUBSCRIPTIONS_API = "2022-12-01"

_POLL_SECONDS = 2
"""How often a long-running operation is asked after where Azure does not say."""

_AT_REST = frozenset({"succeeded", "failed", "canceled", "unknown", ""})
"""Of a resource's `provisioningState`; any other word is of an operation under way."""


class Arm:
    """Raw reads and writes. Every method raises the AzureError that fits."""

    def __init__(self, access: Access) -> None:
        """Use `access`; nothing is sent yet."""
        self._base = access.arm_url
        self._clock = access.clock
        self._patience_seconds = 60 * access.settings.operation_minutes
        self._client = ARMPipelineClient(
            base_url=access.arm_url,
            policies=[
                RequestIdPolicy(),
                HeadersPolicy(),
                UserAgentPolicy(**access.options),
                RetryPolicy(**access.options),
                access.throttle,
                ARMChallengeAuthenticationPolicy(access.credential, ARM_SCOPE),
            ],
            **access.options,
        )

    def now_utc(self) -> datetime:
        """Return the service's clock, from the `Date` of an answer; ours may be wrong."""
        response = self._send("GET", url("/subscriptions", api_version=SUBSCRIPTIONS_API))
        check(response, "the list of subscriptions")
        return parsedate_to_datetime(response.headers["Date"]).astimezone(UTC)

    def get(self, resource_id: str, *, api_version: str = ML_API) -> dict[str, Any]:
        """Return one document."""
        response = self._send("GET", url(resource_id, api_version=api_version))
        check(response, resource_id)
        document: dict[str, Any] = orjson.loads(response.content)
        return document

    def settled(self, resource_id: str, *, api_version: str = ML_API) -> dict[str, Any]:
        """Return one document once no operation on it is under way.

        Raises:
            NotEndedError: one still is, after `operation_minutes`.
        """
        patience = _Patience(resource_id, self._clock, self._patience_seconds)
        while _under_way(document := self.get(resource_id, api_version=api_version)):
            patience.wait(_POLL_SECONDS)
        return document

    def list(
        self, path: str, *, api_version: str = ML_API, **query: str
    ) -> Iterator[dict[str, Any]]:
        """Yield every document under a collection, page after page."""
        for page in self.pages(path, api_version=api_version, **query):
            yield from page

    def pages(
        self, path: str, *, api_version: str = ML_API, **query: str
    ) -> Iterator[Sequence[dict[str, Any]]]:
        """Yield the pages of a collection; a page is asked for when it is reached."""
        link: str | None = url(path, api_version=api_version, **query)
        while link:
            response = self._send("GET", link)
            check(response, path)
            body = orjson.loads(response.content)
            yield body.get("value") or []
            link = body.get("nextLink")

    def patch(self, resource_id: str, body: Json, *, api_version: str = ML_API) -> dict[str, Any]:
        """Merge `body` into a resource, wait, and return the document as it then stands."""
        self._write("PATCH", url(resource_id, api_version=api_version), body, resource_id)
        return self.get(resource_id, api_version=api_version)

    def put(self, resource_id: str, body: Json, *, api_version: str = ML_API) -> dict[str, Any]:
        """Make a resource what `body` says, wait, and return the document as it then stands."""
        self._write("PUT", url(resource_id, api_version=api_version), body, resource_id)
        return self.get(resource_id, api_version=api_version)

    def delete(self, resource_id: str, *, api_version: str = ML_API, **query: str) -> None:
        """Delete a resource, and wait until it is gone."""
        self._write("DELETE", url(resource_id, api_version=api_version, **query), None, resource_id)

    def post(self, resource_id: str, action: str, body: Json | None, *, api_version: str) -> Json:
        """Run an action of a resource, wait, and return its answer; None where it is empty."""
        path = url(f"{resource_id}/{action}", api_version=api_version)
        return self._write("POST", path, body, resource_id)

    def _write(self, method: str, path: str, body: Json | None, what: str) -> Json:
        """Send a write and wait for the operation that Azure starts for it.

        Raises:
            OperationFailedError: it ended Failed or Canceled.
            NotEndedError: it had not ended after `operation_minutes`.
        """
        patience = _Patience(what, self._clock, self._patience_seconds)
        with azure_errors(what):
            started = self._client.send_request(
                HttpRequest(method, f"{self._base}{path}", json=body),
                _return_pipeline_response=True,
            )
        check(started.http_response, what)
        with azure_errors(what):
            try:
                poller = LROPoller(self._client, started, _said, _PatientPolling(patience))
                result: Json = poller.result()
            except HttpResponseError as error:
                if error.response is None or error.status_code < 400:  # noqa: PLR2004
                    raise _failed(error, what) from error
                raise
        return result

    def _send(self, method: str, link: str) -> HttpResponse:
        address = link if link.startswith("https://") else f"{self._base}{link}"
        with azure_errors(link.partition("?")[0]):
            return self._client.send_request(HttpRequest(method, address))


class _Patience:
    """How long the end of an operation is waited for."""

    def __init__(self, what: str, clock: Clock, seconds: float) -> None:
        self._what = what
        self._clock = clock
        self._seconds = seconds
        self._until = clock.now() + seconds

    def wait(self, seconds: float) -> None:
        """Let some time pass, if there is as much left."""
        if self._clock.now() + seconds > self._until:
            raise NotEndedError(
                f"The change of {self._what} has not ended after {self._seconds / 60:.0f} min; "
                "it may yet take effect, and the same command looks again."
            )
        self._clock.sleep(seconds)


class _PatientPolling(ARMPolling):  # type: ignore[misc]
    """Azure's own way to ask after an operation, with an end."""

    def __init__(self, patience: _Patience) -> None:
        super().__init__(timeout=_POLL_SECONDS)
        self._patience = patience

    def _delay(self) -> None:
        self._patience.wait(self._extract_delay())


def _under_way(document: dict[str, Any]) -> bool:
    state = (document.get("properties") or {}).get("provisioningState") or ""
    return str(state).lower() not in _AT_REST


def _said(response: PipelineResponse) -> Json:
    content = response.http_response.content
    return orjson.loads(content) if content else None


def _failed(error: HttpResponseError, what: str) -> OperationFailedError:
    reason = getattr(error.error, "message", None) or "Azure gave no reason"
    code = str(getattr(error.error, "code", ""))
    return OperationFailedError(
        f"Azure started the change of {what} but it failed: {with_way_out(reason, code)}"
    )
