"""A server that answers what was recorded from Azure, word for word but for its own address."""

import json
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import trustme

from optimizer.azure.connect import Connection, connect
from optimizer.config import AzureSettings

_AZURE = "https://management.azure.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One recorded answer, and to what."""

    method: str
    path: str
    """As it ends, whatever its case; without the query."""
    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@contextmanager
def playing(folder: Path, *recordings: Recording) -> Iterator[Connection]:
    """Return a connection to a server that gives each answer once, in their order.

    Anything else is answered 404, as a region without the batch API of metrics would.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(list(recordings)))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield connect(
            AzureSettings(
                endpoint=f"https://localhost:{server.server_port}",
                ca_file=folder / "ca.pem",
                credential="emulator",
            )
        )
        server.shutdown()
        thread.join()


def _handler(left: list[Recording]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._answer()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _answer(self) -> None:
            found = _next(left, self.command, urlsplit(self.path).path)
            here = f"https://{self.headers['Host']}"
            text = "" if found.body is None else json.dumps(found.body).replace(_AZURE, here)
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value.replace(_AZURE, here))
            self.send_header("Content-Length", str(len(text.encode())))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(text.encode())

    return Handler


def _next(left: list[Recording], method: str, path: str) -> Recording:
    for each in left:
        if each.method == method and path.lower().endswith(each.path.lower()):
            left.remove(each)
            return each
    error = {"error": {"code": "NotFound", "message": f"Nothing is recorded for {path}."}}
    return Recording(method=method, path=path, status=404, body=error)


def recordings(conversation: Sequence[dict[str, Any]]) -> Iterator[Recording]:
    """Yield the answers of a conversation as the examples keep it."""
    for each in conversation:
        yield Recording(
            method=each["request"]["method"],
            path=urlsplit(each["request"]["uri"]).path,
            body=each["response"]["body"],
            status=each["response"]["status"]["code"],
        )
