"""Break each detector in its thresholds, formulas and minima of data: tests must notice.

    python -m benchmarks.mutations [--only NAME]

Every entry of `mutations.toml` is one change of one file. It is made in a copy of the package, the
tests of the analysis run against that copy, and the mutant must not survive. What became of it is
kept in `results/mutations.json`; a part of the list leaves what is known of the others.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
    results = RESULTS / "mutations.json"
    known = json.loads(results.read_text()) if results.exists() else []
    rows = {_mutant(row): row for row in known}
    tried = []
    every = []
    try:
        for file, changes in tomllib.loads(LIST.read_text(encoding="utf-8")).items():
            every += [{"file": file, **change} for change in changes]
            if parsed.only not in file:
                continue
            for change in changes:
                caught = is_caught(file, change["from"], change["to"], change["tests"])
                tried.append({"file": file, **change, "caught": caught})
                print(f"{'caught' if caught else 'SURVIVED':<9} {file}: {change['breaks']}")
    except OptimizerError as error:
        print(error, file=sys.stderr)
        return 1
    rows |= {_mutant(row): row for row in tried}
    write_json(results, [rows[_mutant(each)] for each in every if _mutant(each) in rows])
    survivors = sum(not row["caught"] for row in tried)
    print(f"{len(tried) - survivors} of {len(tried)} caught")
    return 1 if survivors else 0


def _mutant(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["file"], row["from"], row["to"]


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
