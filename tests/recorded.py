"""Payloads that were recorded from Azure; tests of them are skipped where they are not at hand."""

import json
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).parent.parent.parent / "shared"


def recorded(path: str) -> Any:
    """Return a recorded JSON document, or skip the test."""
    file = SHARED / path
    if not file.exists():
        pytest.skip(f"the recorded payload {path} is not at hand")
    return json.loads(file.read_text(encoding="utf-8"))
