"""What the README says is what the program does."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_detector_table_is_what_the_program_prints() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "optimizer", "detectors", "--markdown"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert printed.stdout.strip() in README


def test_every_link_into_the_repository_leads_somewhere() -> None:
    targets = [part.split(")")[0] for part in README.split("](")[1:]]
    local = [target for target in targets if not target.startswith("https://")]
    assert [target for target in local if not (ROOT / target).exists()] == []
    assert len(local) >= 4
