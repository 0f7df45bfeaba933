"""The HTTPS server: an estate behind the addresses that the Azure SDKs call."""

import re
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import format_datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qsl

import trustme
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from optimizer.emulator import (
    api_activity,
    api_arm,
    api_benefits,
    api_costs,
    api_graph,
    api_logs,
    api_metrics,
    api_prices,
    api_quotas,
    control,
    dates,
    permissions,
    proxy,
)
from optimizer.emulator.documents import WriteError
from optimizer.emulator.estate import load_estate
from optimizer.emulator.wire import (
    Answer,
    Call,
    Endpoint,
    Refusal,
    Service,
    error_body,
    stable_id,
)
from optimizer.emulator.world import World
from optimizer.units import iso_utc

OPEN_APIS = frozenset({"emulator", "blob", "retail_prices"})
"""What answers without a token: prices are public, a blob's address is its key."""
RESOURCE_MANAGER_APIS = frozenset({"arm", "metrics", "activity_log"})
WRITING_APIS = frozenset({"arm", "emulator"})
EXPIRED_TOKEN = "expired"  # noqa: S105 - the one token that is refused

_KEEP_ALIVE_SECONDS = 240
"""Azure's load balancers drop what is silent for four minutes."""
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    endpoint: Endpoint
    pattern: re.Pattern[str]


def serve(
    folder: Path,
    *,
    port: int = 0,
    with_proxy: bool = False,
    now_utc: datetime | None = None,
    announce: Callable[[dict[str, Any]], None],
) -> None:
    """Play an estate folder and serve it on localhost until SIGTERM or SIGINT.

    Args:
        folder: the estate folder.
        port: 0 takes a free one.
        with_proxy: also lead clients here that know Azure's own addresses only.
        now_utc: move the estate's dates so that this is its now; None: as the folder says.
        announce: called once the server answers, with `url`, `ca_file` (PEM of the authority to
            trust, there while the server runs), `now_utc`, `subscription_ids` and, where asked
            for, the `proxy`'s address.

    Raises:
        EstateError: the folder cannot be played.
    """
    estate = load_estate(folder)
    world = World(dates.at(estate, now_utc) if now_utc else estate)
    with (
        TemporaryDirectory(prefix="optimizer-emulator-") as scratch,
        socket.create_server(("127.0.0.1", port)) as listener,
    ):
        url = f"https://localhost:{listener.getsockname()[1]}"
        service = Service(world=world)
        authority = trustme.CA()
        ca_file = Path(scratch) / "ca.pem"
        authority.cert_pem.write_to_path(str(ca_file))
        config = uvicorn.Config(
            application(service),
            log_config=None,
            access_log=False,
            date_header=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        config.load()
        config.ssl = _tls(authority)
        said = {
            "url": url,
            "ca_file": str(ca_file),
            "now_utc": iso_utc(world.now_utc),
            "subscription_ids": service.subscriptions(),
        }
        proxied_port = listener.getsockname()[1] if with_proxy else None
        server = _Server(config, said=said, proxied_port=proxied_port, announce=announce)
        # uvicorn raises the signal that ended it once more; being asked to end is no failure.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server that says when it answers, and may have a proxy beside it."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        said: dict[str, Any],
        proxied_port: int | None,
        announce: Callable[[dict[str, Any]], None],
    ) -> None:
        super().__init__(config)
        self._said = said
        self._proxied_port = proxied_port
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._proxied_port is not None:
            # It ends with the loop that it runs in.
            listening = await proxy.start(self._proxied_port)
            port = listening.sockets[0].getsockname()[1]
            self._said["proxy"] = f"http://localhost:{port}"
        self._announce(self._said)


def _tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1", *proxy.AZURE_HOSTS).configure_cert(context)
    return context


def application(service: Service) -> Starlette:
    """Return the ASGI application that answers for a world."""
    routes = _routes()
    # The world is not thread-safe, and one client's write is every other client's truth.
    lock = threading.Lock()

    async def answer(request: Request) -> Response:
        content = await request.body()

        def work() -> Answer:
            with lock:
                return _answer(service, routes, request, content)

        found = await run_in_threadpool(work)
        while found.silent and (await request.receive())["type"] != "http.disconnect":
            pass
        return _response(service, found)

    return Starlette(routes=[Route("/{path:path}", answer, methods=_METHODS)])


def _response(service: Service, answer: Answer) -> Response:
    headers = {
        # Clients read the service's clock here, and it is the virtual one.
        "Date": format_datetime(service.world.now_utc, usegmt=True),
        "x-ms-request-id": f"{service.by_api.total():032x}",
        **answer.headers,
    }
    if answer.body is not None:
        headers.setdefault("Content-Type", "application/json; charset=utf-8")
    kind = _CutShort if answer.cut_short else Response
    return kind(answer.encoded(), status_code=answer.status, headers=headers)


def _routes() -> Sequence[_Route]:
    families = (
        control,
        permissions,
        api_arm,
        api_quotas,
        api_metrics,
        api_logs,
        api_activity,
        api_costs,
        api_benefits,
        api_prices,
        api_graph,
    )
    return [
        _Route(endpoint=endpoint, pattern=endpoint.pattern())
        for family in families
        for endpoint in family.ENDPOINTS
    ]


def _answer(service: Service, routes: Sequence[_Route], request: Request, content: bytes) -> Answer:
    # Clients join addresses with one slash too many; Azure does not mind.
    path = re.sub(r"/{2,}", "/", request.url.path).rstrip("/") or "/"
    method = request.method
    endpoint, parts = _found(routes, method, path)
    service.by_api[endpoint.api if endpoint else "unknown"] += 1
    asked = f"{request.method} {endpoint.template if endpoint else path}"
    service.by_request[asked] += 1
    query = parse_qsl(request.url.query, keep_blank_values=True)
    call = Call(
        service=service,
        method=request.method,
        path=path,
        parts=parts,
        query={name.lower(): value for name, value in query},
        content=content,
        base_url=f"https://{request.url.netloc}",
    )
    if version := call.query.get("api-version"):
        service.by_version[f"{version} {asked}"] += 1
    try:
        found = _handled(endpoint, call, request.headers.get("authorization", ""))
    except Refusal as refusal:
        if refusal.status == 429:  # noqa: PLR2004
            service.refusals[f"{method} {request.url} {stable_id(content.decode())}"] += 1
        return Answer(
            body=error_body(refusal.code, refusal.message),
            status=refusal.status,
            headers=refusal.headers,
        )
    return replace(
        found,
        cut_short=any(f.cut_short and f.strikes(method, path) for f in service.faults),
        silent=any(f.silent and f.strikes(method, path) for f in service.faults),
    )


class _CutShort(Response):
    """A response whose connection is lost half way through its body."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the first half of the body, and hang up."""
        del scope, receive
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})


def _handled(endpoint: Endpoint | None, call: Call, authorization: str) -> Answer:
    if endpoint is None or endpoint.api not in OPEN_APIS:
        _check_token(authorization)
    if endpoint is None or endpoint.api != "emulator":
        for fault in call.service.faults:
            if fault.status is not None and fault.strikes(call.method, call.path):
                return control.struck(fault, call.method, call.path)
    if endpoint is None:
        raise Refusal(404, "NotFound", f"No service answers {call.method} {call.path}.")
    if endpoint.versioned and not call.query.get("api-version"):
        raise Refusal(
            400,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
    try:
        told = _admitted(endpoint, call)
        if endpoint.api not in OPEN_APIS:
            permissions.check_allowed(call, endpoint.api)
        found = endpoint.handle(call)
        return replace(found, headers={**told, **found.headers})
    except WriteError as error:
        raise Refusal(400, "BadRequest", f"{error}.") from error
    finally:
        if endpoint.api in WRITING_APIS and call.method != "GET":
            call.service.jobs.clear()


def _admitted(endpoint: Endpoint, call: Call) -> Mapping[str, str]:
    """Return what the answer says of the limit that the request falls under.

    Cost queries are weighed by what they read, so their limit is kept where they are understood.
    """
    service = call.service
    if endpoint.api in RESOURCE_MANAGER_APIS and "subscription" in call.parts:
        verdict = service.limits.resource_manager(call.parts["subscription"].lower(), call.method)
        return service.admit(endpoint.api, "SubscriptionRequestsThrottled", verdict)
    if endpoint.api == "resource_graph":
        return service.admit(endpoint.api, "RateLimiting", service.limits.graph())
    if endpoint.api == "log_analytics":
        return service.admit(endpoint.api, "ThrottledError", service.limits.logs())
    return {}


def _found(
    routes: Sequence[_Route], method: str, path: str
) -> tuple[Endpoint | None, dict[str, str]]:
    for route in routes:
        if route.endpoint.method == method and (match := route.pattern.fullmatch(path)):
            return route.endpoint, match.groupdict()
    return None, {}


def _check_token(authorization: str) -> None:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Refusal(
            401,
            "AuthenticationFailed",
            "Authentication failed. The 'Authorization' header is missing.",
        )
    if token == EXPIRED_TOKEN:
        raise Refusal(
            401,
            "ExpiredAuthenticationToken",
            "The access token expiry UTC time is earlier than the current UTC time.",
        )
