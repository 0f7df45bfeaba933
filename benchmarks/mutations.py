"""Break each detector in its thresholds, formulas and minima of data: tests must notice.

    python -m benchmarks.mutations [--only NAME]

Every entry of `mutations.toml` is one change of one file. It is made in a copy of the package, the
tests of the analysis run against that copy, and the mutant must not survive.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.estate_files import write_json
from optimizer.errors import OptimizerError

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
LIST = Path(__file__).parent / "mutations.toml"


class MutationError(OptimizerError):
    """A mutation that no longer fits the code it breaks."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what became of each mutant; exit 1 where one survived."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutations")
    parser.add_argument("--only", default="", help="mutants of files whose path holds this")
    parsed = parser.parse_args(arguments)
    rows = []
    try:
        for file, changes in tomllib.loads(LIST.read_text(encoding="utf-8")).items():
            if parsed.only not in file:
                continue
            for change in changes:
                caught = is_caught(file, change["from"], change["to"], change["tests"])
                rows.append({"file": file, **change, "caught": caught})
                print(f"{'caught' if caught else 'SURVIVED':<9} {file}: {change['breaks']}")
    except OptimizerError as error:
        print(error, file=sys.stderr)
        return 1
    if not parsed.only:
        write_json(RESULTS / "mutations.json", rows)
    survivors = sum(not row["caught"] for row in rows)
    print(f"{len(rows) - survivors} of {len(rows)} caught")
    return 1 if survivors else 0


def is_caught(file: str, old: str, new: str, tests: Sequence[str]) -> bool:
    """Tell whether the tests fail on a copy of the project in which `old` became `new`.

    Raises:
        MutationError: `old` does not stand exactly once in the file, or the tests cannot run.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("optimizer", "tests", "pyproject.toml"):
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / part)
        path = copy / "optimizer" / file
        text = path.read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise MutationError(f"{file} holds {old!r} {text.count(old)} times; mend the list.")
        path.write_text(text.replace(old, new), encoding="utf-8")
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider"]
            + [f"tests/{test}" for test in tests],
            cwd=copy,
            env={"PYTHONPATH": str(copy), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
    if run.returncode not in (0, 1):
        raise MutationError(f"The tests of {file} could not run: {run.stdout[-300:]}")
    return run.returncode == 1


if __name__ == "__main__":
    sys.exit(main())
