"""A proxy for clients that know Azure by its own addresses only, and lets them find the emulator.

It answers CONNECT for the names of the services that are played here, and for nothing else: what
goes through it never leaves this machine. TLS stays between the client and the emulator, whose
certificate holds these names.
"""

import asyncio
from contextlib import suppress
from fnmatch import fnmatch

AZURE_HOSTS = (
    "management.azure.com",
    "api.loganalytics.io",
    "prices.azure.com",
    "*.metrics.monitor.azure.com",
)

_LOST = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
_PIECE = 1 << 16


async def start(emulator_port: int) -> asyncio.Server:
    """Return a proxy that listens on a free port of this machine and leads to the emulator's."""

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(*_LOST):
            if await _is_led(reader, writer):
                inside = await asyncio.open_connection("127.0.0.1", emulator_port)
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await asyncio.gather(_pass_on(reader, inside[1]), _pass_on(inside[0], writer))
        writer.close()

    return await asyncio.start_server(lead, "127.0.0.1", 0)


def is_played(host: str) -> bool:
    """Return whether a host of Azure is played here.

    >>> is_played("eastus.metrics.monitor.azure.com"), is_played("login.microsoftonline.com")
    (True, False)
    """
    return any(fnmatch(host.lower(), known) for known in AZURE_HOSTS)


async def _is_led(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Read the head of a request, and refuse all but a CONNECT to a host that is played."""
    head = await reader.readuntil(b"\r\n\r\n")
    method, _, rest = head.decode("latin-1").partition(" ")
    host, _, port = rest.partition(" ")[0].rpartition(":")
    if method == "CONNECT" and port == "443" and is_played(host):
        return True
    writer.write(b"HTTP/1.1 403 Not played here\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    return False


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(*_LOST):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
    writer.close()
