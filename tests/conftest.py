"""Fixtures that every test may use: a running emulator, small estates, and no outer network."""

import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from hypothesis import HealthCheck, settings

from optimizer.units import iso_utc, utc
from tests.estates import write_small_estate
from tests.postgres import Postgres, running_postgres

ROOT = Path(__file__).parent.parent

# A busy machine is no failure: how fast things are is for benchmarks to say.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """A running emulator of an estate."""

    url: str
    ca_file: Path
    now_utc: datetime
    """The virtual now when it began."""
    subscription_ids: tuple[str, ...]
    proxy: str | None
    """Where it plays Azure's own addresses, if asked to."""
    process: subprocess.Popen[str]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point the product at it."""
        return {
            "OPTIMIZER_AZURE_ENDPOINT": self.url,
            "OPTIMIZER_AZURE_CA_FILE": str(self.ca_file),
            "OPTIMIZER_AZURE_CREDENTIAL": "emulator",
        }

    def advance(self, hours: float) -> datetime:
        """Move the clock; return the new virtual now."""
        return utc(self.call("POST", "/emulator/advance", {"hours": hours})["now_utc"])

    def bill(self, start: datetime, end: datetime) -> dict[str, Any]:
        """Return the true cost of a period."""
        period = urlencode({"from": iso_utc(start), "to": iso_utc(end)})
        return self.call("GET", f"/emulator/bill?{period}")

    def requests(self) -> dict[str, Any]:
        """Return how often which API was called."""
        return self.call("GET", "/emulator/requests")

    def fault(self, **fault: Any) -> None:
        """Make requests fail: `status`, `path_contains`, `times`, `delay_lro`, `fail_lro` …"""
        self.call("POST", "/emulator/faults", fault)

    def heal(self) -> None:
        """End every failure that was asked for."""
        self.call("DELETE", "/emulator/faults")

    def refusal(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """Send a request that must be refused; return its status and Azure's error."""
        with pytest.raises(HTTPError) as caught:
            self.call(method, path, body)
        with caught.value as answer:
            return answer.code, json.loads(answer.read())["error"]

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Send one request with a token; return the JSON body of the answer."""
        request = Request(  # noqa: S310 - the address is our own server's
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": "Bearer token", "Content-Type": "application/json"},
        )
        trust = ssl.create_default_context(cafile=self.ca_file)
        with urlopen(request, context=trust) as answer:  # noqa: S310
            found: dict[str, Any] = json.loads(answer.read() or b"{}")
            return found


@contextmanager
def running(
    folder: Path, *arguments: str | Path, program: str = "optimizer.emulator"
) -> Iterator[Emulator]:
    """Play an estate folder in a process of its own while the context lasts."""
    command = [sys.executable, "-m", program, str(folder), *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            said = json.loads(process.stdout.readline())
            yield Emulator(
                url=said["url"],
                ca_file=Path(said["ca_file"]),
                now_utc=utc(said["now_utc"]),
                subscription_ids=tuple(said["subscription_ids"]),
                proxy=said.get("proxy"),
                process=process,
            )
        finally:
            process.send_signal(signal.SIGTERM)


@pytest.fixture(scope="session")
def emulator() -> Iterator[Callable[[Path], Emulator]]:
    """Start an emulator on a folder: `emulator(folder)`. It ends with the session."""
    with ExitStack() as stack:
        yield lambda folder: stack.enter_context(running(folder))


@pytest.fixture(scope="session")
def small_estate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the small estate that `tests.estates` describes."""
    return write_small_estate(tmp_path_factory.mktemp("estates") / "small")


@pytest.fixture(scope="session")
def small(emulator: Callable[[Path], Emulator], small_estate: Path) -> Emulator:
    """Return an emulator of the small estate, for tests that only read."""
    return emulator(small_estate)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Return a PostgreSQL server; it ends with the session."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where a new ledger may be kept, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    return request.getfixturevalue("postgres").new_database()  # type: ignore[no-any-return]


@pytest.fixture(scope="session", autouse=True)
def _no_outer_network() -> Iterator[None]:
    """Let no test leave this machine."""
    connect = socket.socket.connect
    connect_ex = socket.socket.connect_ex

    def guarded(self: socket.socket, address: Any) -> None:
        _check(address)
        connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:
        _check(address)
        return connect_ex(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        patch.setattr(socket.socket, "connect_ex", guarded_ex)
        yield


def _check(address: Any) -> None:
    if isinstance(address, tuple) and address[0] not in {"127.0.0.1", "::1", "localhost"}:
        pytest.fail(f"A test tried to reach {address[0]}.")
