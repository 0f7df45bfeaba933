"""Cloud Custodian as it comes from PyPI, run against the emulator through its proxy.

    python -m benchmarks.real_client [--estate sample_data/contoso] [--venv DIR]

Custodian has no setting for Azure's address, so nothing of it is told of the emulator but a proxy
and an authority (docs/other-clients.md). It is installed into an environment of its own: its SDKs
are older than ours.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from benchmarks.closed_loop import RESULTS, Emulator, LoopError, emulator
from benchmarks.estate_files import write_json

CLIENT = ("c7n==0.9.53", "c7n-azure==0.7.52")
POLICIES = Path(__file__).with_name("real_client.yml")
_TENANT = "72f988bf-0000-4000-8000-2d7cd011db47"
_COST_DAYS = 7
"""As the policy on costs has it."""
_LAG = timedelta(hours=24)
"""After which a cost of the sample estate reaches the bill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one policy took, and what it found."""

    policy: str
    seconds: float
    """With the start of the program."""
    requests: Mapping[str, int]
    """By API."""
    versions: Mapping[str, int]
    """By api-version and request."""
    matched: tuple[str, ...]
    """Workspaces."""
    costs: Mapping[str, float]
    """What it took each workspace to cost, where it asked."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Install the client, run each policy, print and keep what happened."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_client")
    parser.add_argument("--estate", type=Path, default=Path("sample_data/contoso"))
    parser.add_argument("--venv", type=Path, help="where the client is, or is to be, installed")
    parsed = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            custodian = installed(parsed.venv or Path(scratch) / "venv")
            with emulator(parsed.estate, "--proxy", "--today") as azure:
                runs = [run(custodian, azure, policy) for policy in policies(custodian)]
                truth = true_costs(azure)
    except (LoopError, OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{'policy':34}{'seconds':>8}{'requests':>10}  matched")
    for each in runs:
        total = sum(each.requests.values())
        print(f"{each.policy:34}{each.seconds:>8.1f}{total:>10}  {', '.join(each.matched)}")
    for name, cost in {n: c for each in runs for n, c in each.costs.items()}.items():
        print(f"{name}: {cost:,.2f} as the client adds it up, {truth.get(name, 0):,.2f} billed")
    for version, number in sorted(sum((Counter(r.versions) for r in runs), Counter()).items()):
        print(f"{number:>4} x {version}")
    RESULTS.mkdir(exist_ok=True)
    kept = {
        "client": CLIENT,
        "estate": parsed.estate.name,
        "runs": [asdict(each) for each in runs],
        "billed": truth,
    }
    write_json(RESULTS / "real_client.json", kept)
    return 0


def installed(folder: Path) -> Path:
    """Return Custodian's program, installed into an environment where it is not yet."""
    program = folder / "bin" / "custodian"
    if not program.exists():
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *CLIENT]
        subprocess.run(pip, check=True)
    return program


def policies(custodian: Path) -> list[str]:
    """Return the names of the policies, once Custodian has found nothing wrong with them."""
    subprocess.run([str(custodian), "validate", str(POLICIES)], check=True, capture_output=True)
    lines = POLICIES.read_text(encoding="utf-8").splitlines()
    return [line.partition("name:")[2].strip() for line in lines if line.startswith("  - name:")]


def run(custodian: Path, azure: Emulator, policy: str) -> Run:
    """Run one policy and return what it took."""
    requests, versions = azure.requests(), azure.versions()
    with tempfile.TemporaryDirectory() as out:
        command = [str(custodian), "run", "--cache-period", "0", "-s", out, "-p", policy]
        begun = time.perf_counter()
        env = os.environ | variables(azure)
        subprocess.run([*command, str(POLICIES)], env=env, check=True, capture_output=True)
        seconds = time.perf_counter() - begun
        resources = json.loads((Path(out) / policy / "resources.json").read_text("utf-8"))
    return Run(
        policy=policy,
        seconds=round(seconds, 2),
        requests=_since(requests, azure.requests()),
        versions=_since(versions, azure.versions()),
        matched=tuple(each["name"] for each in resources),
        costs={
            each["name"]: each["c7n:cost"]["PreTaxCost"] for each in resources if "c7n:cost" in each
        },
    )


def variables(azure: Emulator) -> dict[str, str]:
    """Return what docs/other-clients.md sets."""
    return {
        "HTTPS_PROXY": azure.proxy or "",
        "NO_PROXY": "localhost",
        "REQUESTS_CA_BUNDLE": azure.ca_file,
        "AZURE_ACCESS_TOKEN": "any",
        "AZURE_TENANT_ID": _TENANT,
        "AZURE_SUBSCRIPTION_ID": azure.subscription_ids[0],
    }


def true_costs(azure: Emulator) -> dict[str, float]:
    """Return what each workspace was billed in the days the client asked for, but for the lag."""
    midnight = azure.now_utc.replace(hour=0, minute=0, second=0, microsecond=0)
    bill = azure.bill(midnight - timedelta(days=_COST_DAYS), azure.now_utc - _LAG)
    costs: Counter[str] = Counter()
    for resource_id, cost in bill.items():
        costs[resource_id.split("/")[8]] += cost  # type: ignore[assignment]
    return {name: round(cost, 4) for name, cost in costs.items()}


def _since(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    counted = Counter(after)
    counted.subtract(before)
    return {name: number for name, number in counted.items() if number}


if __name__ == "__main__":
    sys.exit(main())
