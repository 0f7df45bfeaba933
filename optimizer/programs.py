"""The programs that the command line starts beside itself: the emulator and the app."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from optimizer.app.launch import (
    DEFAULT_PORT,
    app_url,
    health_url,
    streamlit_arguments,
    streamlit_environment,
)
from optimizer.errors import ConfigError, EstateError, OptimizerError

_PACKAGE = Path(__file__).parent
_DEMO_MARK = ".made-by-optimizer-demo"
_GRACE_SECONDS = 10.0
_APP_START_SECONDS = 60.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorAddress:
    """Where a running emulator answers."""

    url: str
    ca_file: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point the optimizer at it."""
        return {
            "OPTIMIZER_AZURE_ENDPOINT": self.url,
            "OPTIMIZER_AZURE_CA_FILE": str(self.ca_file),
            "OPTIMIZER_AZURE_CREDENTIAL": "emulator",
        }


def sample_estate() -> Path:
    """Return the estate folder of the demo: in the wheel, or beside the package in a checkout.

    Raises:
        EstateError: neither is there.
    """
    for root in (_PACKAGE, _PACKAGE.parent):
        folder = root / "sample_data" / "contoso"
        if (folder / "estate.json").exists():
            return folder
    raise EstateError("The sample estate is not part of this installation: install it again.")


def fresh_demo_home(home: Path) -> Path:
    """Return the demo's own home inside `home`, emptied of what the last demo left.

    Raises:
        ConfigError: something stands there that no demo made; it is left alone.
    """
    folder = home.resolve() / "demo"
    mark = folder / _DEMO_MARK
    if mark.exists():
        shutil.rmtree(folder)
    elif folder.exists() and any(folder.iterdir()):
        raise ConfigError(
            f"{folder} was not made by a demo: move it away or choose another --home."
        )
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return folder


def demo_environment(folder: Path) -> dict[str, str]:
    """Return the variables that keep everything in the demo's home, whatever is configured."""
    return {
        "OPTIMIZER_HOME": str(folder),
        "OPTIMIZER_LEDGER_URL": f"sqlite:///{folder / 'ledger.sqlite'}",
    }


def export_lines(environment: Mapping[str, str]) -> str:
    r"""Return variables as a POSIX shell takes them.

    >>> export_lines({"OPTIMIZER_HOME": "/my home"})
    "export OPTIMIZER_HOME='/my home'\n"
    """
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())


@contextmanager
def emulator(estate: Path) -> Iterator[EmulatorAddress]:
    """Play an estate folder in a process of its own while the context lasts.

    Raises:
        EstateError: it did not start; it has said why on stderr.
    """
    command = [sys.executable, "-m", "optimizer.emulator", str(estate)]
    with _running(command, {}, stdout=subprocess.PIPE) as process:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise EstateError(f"The emulator of {estate} did not start.")
        said = json.loads(line)
        yield EmulatorAddress(url=said["url"], ca_file=Path(said["ca_file"]))


def serve_app(
    home: Path, environment: Mapping[str, str], *, port: int, announce: Callable[[str], None]
) -> None:
    """Serve the app on `port` of this machine until Ctrl-C; `announce` its address once it answers.

    Raises:
        OptimizerError: it did not start, or ended by itself; it has said why on stderr.
    """
    variables = {**environment, **streamlit_environment(home)}
    with _running(streamlit_arguments(port), variables, stdout=subprocess.DEVNULL) as process:
        give_up = time.monotonic() + _APP_START_SECONDS
        while not _answers(health_url(port)):
            if process.poll() is not None or time.monotonic() > give_up:
                raise OptimizerError("The app did not start; its message stands above.")
            time.sleep(_POLL_SECONDS)
        announce(app_url(port))
        try:
            code = process.wait()
        except KeyboardInterrupt:
            return
        raise OptimizerError(f"The app ended with code {code}; its message stands above.")


def port_for_app(wanted: int | None) -> int:
    """Return the port to serve on: the one wanted, else the usual one or any that is free.

    Raises:
        ConfigError: the port wanted is taken.
    """
    if wanted is not None:
        if not _is_free(wanted):
            raise ConfigError(f"Port {wanted} is taken: choose another with --port.")
        return wanted
    return DEFAULT_PORT if _is_free(DEFAULT_PORT) else _any_free_port()


def end_cleanly_when_told() -> None:
    """Let SIGTERM and a closed terminal end this process as Ctrl-C does, children and all."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # Windows knows no SIGHUP
            signal.signal(getattr(signal, name), signal.default_int_handler)


@contextmanager
def _running(
    command: Sequence[str], environment: Mapping[str, str], *, stdout: int
) -> Iterator[subprocess.Popen[str]]:
    variables = {**os.environ, **environment}
    with subprocess.Popen(command, env=variables, stdout=stdout, text=True) as process:  # noqa: S603 - our own programs
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=1) as answer:  # noqa: S310 - an http address of this machine
            return bool(answer.status == 200)  # noqa: PLR2004 - OK
    except (URLError, TimeoutError, ConnectionError):
        return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _any_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
