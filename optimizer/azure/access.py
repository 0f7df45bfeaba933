"""What every client needs: credential, addresses, trust, retries, and our words for its errors."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from azure.core.credentials import AccessToken, TokenCredential
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.identity import DefaultAzureCredential

from optimizer.azure.throttle import Clock, Quotas, SystemClock, Throttle
from optimizer.config import AzureSettings
from optimizer.errors import (
    AzureError,
    ForbiddenError,
    NotFoundError,
    UnauthorizedError,
    UnreachableError,
)

T = TypeVar("T")
R = TypeVar("R")

ARM_SCOPE = "https://management.azure.com/.default"

_PUBLIC_ARM = "https://management.azure.com"
_PUBLIC_LOGS = "https://api.loganalytics.io"
_PUBLIC_PRICES = "https://prices.azure.com"

_YEAR_3000 = 32_503_680_000

_ACTION = re.compile(r"perform action '([^']+)'")
_QUOTA_OF = re.compile(r"\bvCPU quota of \d+\b")
"""So Azure says that a family has no cores for a new cluster; its code is a mere BadRequest."""
_SENTENCE_ENDS = re.compile(r"\.\s+(?=[A-Z])")
_NO_QUOTA = "ask for more quota of this family in its region, or free some, and run this again"
_NO_ROOM = "the region has no room for this size now: run this again later, or choose another size"
WAYS_OUT = {
    "ScopeLocked": "a lock forbids it: whoever holds the lock must lift it first",
    "QuotaExceeded": _NO_QUOTA,
    "OutOfQuota": _NO_QUOTA,
    "ClusterCoreQuotaReached": _NO_QUOTA,
    "AllocationFailed": _NO_ROOM,
    "ZonalAllocationFailed": _NO_ROOM,
    "SkuNotAvailable": _NO_ROOM,
}
"""What to do about Azure's error codes. Its pages list no codes of computes, so these are those
that people report; of any other code Azure's own words are all we say."""
_TOO_MANY = 429


class FixedToken:
    """A credential that needs nobody to sign in. No real Azure accepts it."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return the token, whatever it is asked for."""
        del scopes, options
        return AccessToken("emulator", _YEAR_3000)


class CostRetryAfter(SansIOHTTPPolicy):  # type: ignore[misc]
    """Tells the retry policy how long Cost Management wants us to wait.

    A 429 of Cost Management comes without `Retry-After`, and without it azure-core does not repeat
    a POST; the wait stands in headers of its own.
    """

    def on_response(self, request: PipelineRequest, response: PipelineResponse) -> None:
        """Copy the longest of the waits into `Retry-After`."""
        del request
        headers = response.http_response.headers
        if response.http_response.status_code != _TOO_MANY or "Retry-After" in headers:
            return
        if waits := [int(v) for k, v in headers.items() if _asks_to_wait(k) and v.isdigit()]:
            headers["Retry-After"] = str(max(waits))


class PostsThatRead(SansIOHTTPPolicy):  # type: ignore[misc]
    """Lets a POST be repeated after a lost connection; for clients whose every POST is a question.

    A connection that was kept for later may be closed by then, and azure-core repeats only what
    HTTP calls idempotent.
    """

    def on_request(self, request: PipelineRequest) -> None:
        """Tell the retry policy so."""
        request.context.options.setdefault("retry_on_methods", ("GET", "POST"))


class ReadWhole(SansIOHTTPPolicy):  # type: ignore[misc]
    """Reads a streamed body where the retry policy still sees that it broke off."""

    def on_response(self, request: PipelineRequest, response: PipelineResponse) -> None:
        """Read it; whoever asked for it finds it read."""
        del request
        response.http_response.read()


def _asks_to_wait(header: str) -> bool:
    name = header.lower()
    return name.startswith("x-ms-ratelimit-microsoft.costmanagement") and name.endswith(
        "retry-after"
    )


class Access:
    """Where Azure is, who asks, and how patiently. Every client is made from one of these."""

    def __init__(self, settings: AzureSettings, clock: Clock | None = None) -> None:
        """Use `settings`, and time from `clock` (None: the system's); nothing is asked yet."""
        self.settings = settings
        self.clock = clock or SystemClock()
        self.quotas = Quotas(self.clock)

    @cached_property
    def credential(self) -> TokenCredential:
        """Whoever is signed in; the emulator takes anybody."""
        if self.settings.credential == "emulator":
            return FixedToken()
        return DefaultAzureCredential()

    @property
    def arm_url(self) -> str:
        """The address of Azure Resource Manager."""
        return self._url(_PUBLIC_ARM)

    @property
    def logs_url(self) -> str:
        """The address of Log Analytics."""
        return self._url(_PUBLIC_LOGS)

    @property
    def prices_url(self) -> str:
        """The address of the Retail Prices API."""
        return self._url(_PUBLIC_PRICES)

    def metrics_url(self, region: str) -> str:
        """Return the address of the metrics batch API, which has one for each region."""
        return self._url(f"https://{region}.metrics.monitor.azure.com")

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments that every client is made with.

        A refused connection is tried twice, so that a wrong address is known within seconds;
        throttling is waited out as Azure asks.
        """
        trust: str | bool = str(self.settings.ca_file) if self.settings.ca_file else True
        return {
            "connection_verify": trust,
            "connection_timeout": 10,
            "read_timeout": self.settings.read_timeout_seconds,
            "connection_data_block_size": 1 << 18,
            "retry_total": 8,
            "retry_connect": 1,
            "retry_backoff_factor": 0.4,
            "user_agent": "optimizer",
        }

    @property
    def reading_options(self) -> dict[str, Any]:
        """The same for clients that only read, by POST too."""
        return self.options | {
            "per_call_policies": [PostsThatRead()],
            "per_retry_policies": [self.throttle],
        }

    @property
    def bulk_options(self) -> dict[str, Any]:
        """The same for clients whose answers are large, and read as they come."""
        return self.reading_options | {"per_retry_policies": [self.throttle, ReadWhole()]}

    @property
    def throttle(self) -> Throttle:
        """What holds requests back until Azure's limits have room; sent again, they count again."""
        return Throttle(self.quotas)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Return `function` of each item, in order, with several requests under way at once."""
        with ThreadPoolExecutor(self.settings.max_concurrency) as threads:
            return list(threads.map(function, items))

    def _url(self, public: str) -> str:
        return (self.settings.endpoint or public).rstrip("/")


def url(path: str, **query: str) -> str:
    """Return a path with its query, quoted as Azure reads it.

    >>> url("/x", api_version="1", filter="a eq 'b c'")
    '/x?api-version=1&filter=a%20eq%20%27b%20c%27'
    """
    named = {name.replace("_", "-"): value for name, value in query.items()}
    return f"{path}?{urlencode(named, quote_via=quote)}" if query else path


@contextmanager
def azure_errors(what: str) -> Iterator[None]:
    """Turn whatever an SDK raises into one of our errors; `what` was being read or changed.

    Raises:
        AzureError: or the class below it that fits.
    """
    try:
        yield
    except HttpResponseError as error:
        raise _from_response(error, what) from error
    except (ServiceRequestError, ServiceResponseError) as error:
        raise _unreachable(error, what) from error


def check(response: Any, what: str) -> None:
    """Raise the AzureError that a raw answer deserves; return where it deserves none."""
    if response.status_code >= 400:  # noqa: PLR2004 - where HTTP's errors begin
        raise refusal(response.status_code, response.content, what)


def refusal(status: int, body: bytes | str, what: str) -> AzureError:
    """Return our error for Azure's answer.

    >>> refusal(404, b'{"error": {"code": "ResourceNotFound", "message": "Gone."}}', "/a/b")
    NotFoundError('Azure has no /a/b (ResourceNotFound): Gone.')
    """
    code, message = _code_and_message(body)
    said = f"({code}): {message}" if message else f"(HTTP {status})."
    match status:
        case 401:
            return UnauthorizedError(
                f"Azure refused the sign-in for {what} {said} Sign in with `az login`, or check "
                "the credential of this machine."
            )
        case 403:
            return _forbidden(what, message)
        case 404:
            return NotFoundError(f"Azure has no {what} {said}")
        case 429:
            return AzureError(f"Azure is throttling {what} {said} Try again later.")
        case _:
            return AzureError(f"Azure answered {status} for {what} {with_way_out(said, code)}")


def with_way_out(said: str, code: str) -> str:
    """Return Azure's words with what can be done about them, where we know.

    What we know takes the place of all that Azure says behind its first sentence.

    >>> with_way_out("It is locked. Please remove it.", "ScopeLocked")
    'It is locked; a lock forbids it: whoever holds the lock must lift it first.'
    >>> with_way_out("(Odd): No.", "Odd")
    '(Odd): No.'
    """
    way_out = WAYS_OUT.get(code) or (_NO_QUOTA if _QUOTA_OF.search(said) else None)
    if way_out is None:
        return said
    first, *_ = _SENTENCE_ENDS.split(said, maxsplit=1)
    return f"{first.rstrip('.')}; {way_out}."


def permission_of(error: ForbiddenError) -> str | None:
    """Return the Azure action that was missing, where Azure named it."""
    found = _ACTION.search(str(error))
    return found[1] if found else None


def _forbidden(what: str, message: str) -> ForbiddenError:
    if found := _ACTION.search(message):
        role = "Reader" if found[1].endswith("/read") else "that of docs/roles/operator.json"
        return ForbiddenError(
            f"This account may not perform action '{found[1]}' on {what}: "
            f"ask for a role that holds it, such as {role}."
        )
    return ForbiddenError(f"This account may not read {what}: ask for the role Reader there.")


def _from_response(error: HttpResponseError, what: str) -> AzureError:
    if error.response is None:  # the credential gave up before anything was sent
        if isinstance(error, ClientAuthenticationError):
            return UnauthorizedError(
                "Nobody is signed in to Azure: run `az login`, or give this machine an identity."
            )
        return AzureError(f"Azure's answer for {what} could not be read: {error.reason}.")
    return refusal(error.status_code, _body(error), what)


def _body(error: HttpResponseError) -> bytes | str:
    try:
        return bytes(error.response.body())
    except AttributeError:  # a response of azure.core.rest
        return bytes(error.response.content)


def _unreachable(error: Exception, what: str) -> UnreachableError:
    text = str(error)
    host = re.search(r"host='([^']+)', port=(\d+)", text)
    where = f"{host[1]}:{host[2]}" if host else urlsplit(what).netloc or "Azure"
    if "CERTIFICATE_VERIFY_FAILED" in text or "SSLError" in text:
        return UnreachableError(
            f"The certificate of {where} is not trusted: set OPTIMIZER_AZURE_CA_FILE to the PEM "
            "file of its authority."
        )
    return UnreachableError(
        f"{where} does not answer: check the network and OPTIMIZER_AZURE_ENDPOINT."
    )


def _code_and_message(body: bytes | str) -> tuple[str, str]:
    """Read Azure's error shape; only its first sentence is kept, so that no link gets out."""
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        return "no reason given", ""
    error = document.get("error", document) if isinstance(document, dict) else {}
    if not isinstance(error, dict):
        return str(error), ""
    message = str(error.get("message", "")).split("\n", maxsplit=1)[0]
    return str(error.get("code", "no code")), message
