"""How the app is started: the arguments and the environment of its process."""

import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("streamlit_app.py")
DEFAULT_PORT = 8501


def streamlit_arguments(port: int = DEFAULT_PORT) -> list[str]:
    """Return the command that serves the app on `port` of this machine.

    Looks and privacy (no telemetry, loopback only) stand in `.streamlit/config.toml` beside the
    script, where Streamlit finds them from any working directory.
    """
    return [sys.executable, "-m", "streamlit", "run", str(SCRIPT), f"--server.port={port}"]


def streamlit_environment(home: Path) -> dict[str, str]:
    """Return what to lay over the caller's environment: the home, wherever the app runs."""
    return {"OPTIMIZER_HOME": str(home.resolve())}


def app_url(port: int = DEFAULT_PORT) -> str:
    """Return the address a person opens."""
    return f"http://127.0.0.1:{port}"


def health_url(port: int = DEFAULT_PORT) -> str:
    """Return the address that answers 200 once the app does."""
    return f"{app_url(port)}/_stcore/health"
