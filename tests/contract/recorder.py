"""Plays an estate as the emulator does, and keeps every request and its answer.

`python -m tests.contract.recorder FOLDER FILE`: a line of JSON in FILE for each exchange, written
before the answer goes out.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from optimizer.emulator import server
from optimizer.emulator.wire import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its answer."""

    method: str
    address: str
    """The path and the query, as sent."""
    path: str
    query: list[tuple[str, str]]
    body: Any
    """JSON; None = empty."""
    status: int
    links: list[str]
    """Where the answer's headers say to look next."""
    answer: Any
    """JSON; None = empty, and the first characters of anything else."""


def exchanges(file: Path) -> list[Exchange]:
    """Return what a recorder kept."""
    return [Exchange(**json.loads(line)) for line in file.read_text("utf-8").splitlines()]


class Recorder:
    """An ASGI application that passes everything on, and writes it down."""

    def __init__(self, app: ASGIApp, file: Path) -> None:
        self._app = app
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent, answered = bytearray(), bytearray()
        start: Message = {}

        async def listen() -> Message:
            message = await receive()
            sent.extend(message.get("body", b""))
            return message

        async def speak(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            answered.extend(message.get("body", b""))
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._keep(scope, bytes(sent), start, bytes(answered))
            await send(message)

        await self._app(scope, listen, speak)

    def _keep(self, scope: Scope, sent: bytes, start: Message, answered: bytes) -> None:
        query = scope["query_string"].decode()
        headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        exchange = Exchange(
            method=scope["method"],
            address=f"{scope['raw_path'].decode()}?{query}",
            path=scope["path"],
            query=parse_qsl(query, keep_blank_values=True),
            body=_document(sent),
            status=start["status"],
            links=[
                headers[name] for name in ("location", "azure-asyncoperation") if name in headers
            ],
            answer=_document(answered),
        )
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(asdict(exchange))}\n")


def _document(content: bytes) -> Any:
    try:
        return json.loads(content) if content else None
    except ValueError:
        return content[:100].decode(errors="replace")


def main(folder: Path, file: Path) -> None:
    """Serve until told to end."""
    application = server.application

    def recorded(service: Service) -> Recorder:
        return Recorder(application(service), file)

    with patch.object(server, "application", recorded):
        server.serve(folder, announce=lambda said: print(json.dumps(said), flush=True))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
