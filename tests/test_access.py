import json
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from optimizer.azure.connect import Connection, connect
from optimizer.azure.monitor import MetricQuestion
from optimizer.config import AzureSettings
from optimizer.errors import UnreachableError
from optimizer.model import Window

NOW = datetime(2026, 1, 5, tzinfo=UTC)
DAY = Window(start_utc=NOW - timedelta(days=1), end_utc=NOW)
QUESTION = MetricQuestion(metrics=("Idle Nodes",), filter="", window=DAY, grain=timedelta(hours=1))
ANSWERS = {
    "metrics:getBatch": {"values": []},
    "/w/query": {"tables": [{"name": "PrimaryResult", "columns": [], "rows": []}]},
    "CostManagement/query": {"properties": {"columns": [], "rows": []}},
    "ResourceGraph": {"totalRecords": 0, "count": 0, "data": [], "resultTruncated": "false"},
}


class Dropping(ThreadingHTTPServer):
    """Hangs up on the first request of each path, and answers the next."""

    daemon_threads = True
    seen: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Dropping
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        self.server.seen.append(path)
        if self.server.seen.count(path) == 1:
            self.close_connection = True
            return
        body = json.dumps(next(a for part, a in ANSWERS.items() if part in path)).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def dropping(tmp_path: Path) -> Iterator[tuple[Dropping, Connection]]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with Dropping(("127.0.0.1", 0), Handler) as server:
        server.seen = []
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        settings = AzureSettings(
            endpoint=f"https://localhost:{server.server_port}",
            ca_file=tmp_path / "ca.pem",
            credential="emulator",
        )
        yield server, connect(settings)
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "ask",
    [
        lambda door: door.monitor.metrics("eastus", ["/subscriptions/s/w"], QUESTION),
        lambda door: door.monitor.logs("/subscriptions/s/w", "T", DAY),
        lambda door: list(door.costs.query("/subscriptions/s", {})),
        lambda door: list(door.graph.query("resources", ["s"])),
    ],
    ids=["metrics", "logs", "costs", "graph"],
)
def test_a_question_by_post_is_asked_again_when_the_connection_is_lost(
    ask: Callable[[Connection], list[Any]], dropping: tuple[Dropping, Connection]
) -> None:
    server, door = dropping
    assert ask(door) == []
    assert len(server.seen) == 2


def test_a_post_that_changes_something_is_never_sent_twice(
    dropping: tuple[Dropping, Connection],
) -> None:
    server, door = dropping
    with pytest.raises(UnreachableError):
        door.arm.post("/subscriptions/s/computes/c", "restart", None, api_version="1")
    assert len(server.seen) == 1
