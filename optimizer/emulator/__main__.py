"""`python -m optimizer.emulator FOLDER`: serve an estate until told to end."""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optimizer.emulator.server import serve
from optimizer.errors import OptimizerError


def main() -> int:
    """Serve the estate named on the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m optimizer.emulator", description="Serve an estate folder as Azure would."
    )
    parser.add_argument("folder", type=Path, help="the estate folder")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--proxy", action="store_true", help="play Azure's own addresses too")
    parser.add_argument("--today", action="store_true", help="move the estate's dates to today")
    options = parser.parse_args()
    try:
        serve(
            options.folder,
            port=options.port,
            with_proxy=options.proxy,
            now_utc=datetime.now(UTC) if options.today else None,
            announce=_print,
        )
    except OptimizerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _print(announcement: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(announcement)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
