"""The command line: its help, its exit codes, and the loop from collect to rollback."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from optimizer import cli
from optimizer.remediation.apply import MAX_STEPS
from optimizer.remediation.plan import load
from optimizer.store.ledger import Ledger
from optimizer.store.memory import recall
from optimizer.units import utc
from tests.conftest import Emulator
from tests.ledgers import RUN, STEP, meddle
from tests.postgres import free_port

ROOT = Path(__file__).parents[1]
HEAVY = ("azure", "pandas", "numpy", "sklearn", "scipy", "plotly", "streamlit", "pydantic", "rich")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON on stdout."""
        return json.loads(self.out)


Run = Callable[..., Answer]


@pytest.fixture
def optimizer(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def run(*arguments: str | Path) -> Answer:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Answer(code=int(ended.value.code or 0), out=printed.out, err=printed.err)

    return run


def commands() -> dict[str, Any]:
    group: Any = get_command(cli.app)
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        inner = getattr(command, "commands", {})
        found |= {f"{name} {each}": inner[each] for each in inner} or {name: command}
    return found


# Help


def test_the_commands_are_those_of_the_contract() -> None:
    assert list(commands()) == [
        *("demo", "collect", "findings", "explain", "plan", "scenarios", "apply", "approve"),
        *("rollback", "verify"),
        *("history", "snooze", "detectors", "weekly", "app", "emulator", "doctor", "import cost"),
        "prices refresh",
    ]


@pytest.mark.parametrize("name", commands())
def test_every_command_has_help_and_an_example_of_itself(name: str, optimizer: Run) -> None:
    answer = optimizer(*name.split(), "--help")
    assert answer.code == 0
    assert f"Usage: optimizer {name}" in answer.out
    assert f"Example: optimizer {name}" in " ".join(answer.out.split())
    for parameter in commands()[name].params:
        assert parameter.help, parameter.name


@pytest.mark.parametrize("name", commands())
def test_every_example_is_understood(name: str) -> None:
    _, _, example = commands()[name].epilog.partition(f"optimizer {name}")
    assert commands()[name].make_context(name, shlex.split(example)).info_name == name


@pytest.mark.parametrize("name", commands())
def test_every_command_stands_in_the_readme(name: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"`{name}`|optimizer {name}\b", readme)


def test_whatever_prints_data_can_print_json() -> None:
    without = {name for name, command in commands().items() if not _has_json(command)}
    assert without == {"demo", "snooze", "app", "emulator"}


def _has_json(command: Any) -> bool:
    return any("--json" in parameter.opts for parameter in command.params)


def test_the_list_of_commands_cuts_no_sentence(optimizer: Run) -> None:
    answer = optimizer("--help")
    assert "..." not in answer.out.partition("Commands:")[2]
    assert optimizer().out == answer.out


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "optimizer", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & set(HEAVY)


def test_the_fuse_in_the_help_is_the_fuse_in_force() -> None:
    (fuse,) = (p for p in commands()["apply"].params if p.name == "max_steps")
    assert fuse.default == MAX_STEPS


# Exit codes and sentences


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("plan", "--bad"), "No such option: --bad"),
        (("plna",), "No such command 'plna'"),
        (("plan", "--max-risk", "some"), "--max-risk is low, medium or high"),
        (("scenarios", "--min-team-saving", "ana"), "--min-team-saving is OWNER=AMOUNT"),
        (("snooze", "x", "--until", "soon", "--reason", "r"), "'soon' does not match"),
    ],
)
def test_a_slip_of_the_pen_is_one_sentence_and_never_exit_2(
    arguments: Sequence[str], sentence: str, optimizer: Run
) -> None:
    answer = optimizer(*arguments)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("optimizer: ")
    assert sentence in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize("command", ["findings", "plan", "weekly --preview x.html", "explain x"])
def test_nothing_collected_yet_says_what_to_do(
    command: str, optimizer: Run, tmp_path: Path, small: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command.startswith("weekly"):
        monkeypatch.setenv("OPTIMIZER_AZURE_ENDPOINT", "https://localhost:1")
        monkeypatch.setenv("OPTIMIZER_AZURE_CREDENTIAL", "emulator")
        monkeypatch.setenv("OPTIMIZER_AZURE_CA_FILE", str(small.ca_file))
    answer = optimizer(*command.split(), "--home", tmp_path / "empty")
    assert (answer.code, answer.out) == (1, "")
    assert "optimizer: " in answer.err
    assert "Traceback" not in answer.err


def test_a_wrong_setting_is_named(
    optimizer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIMIZER_SMTP_PORT", "many")
    answer = optimizer("findings", "--home", tmp_path)
    assert answer.code == 1
    assert answer.err.startswith("optimizer: The setting mail.port cannot be used: ")


def test_a_missing_plan_is_named(optimizer: Run, tmp_path: Path) -> None:
    answer = optimizer("apply", tmp_path / "plan.json", "--home", tmp_path)
    assert answer.code == 1
    assert "There is no plan at" in answer.err


def test_no_history_is_no_error(optimizer: Run, tmp_path: Path) -> None:
    assert optimizer("history", "--home", tmp_path).out == "Nothing was applied yet.\n"
    assert optimizer("history", "--home", tmp_path, "--json").document == {"schema": 1, "runs": []}


@pytest.fixture
def ledger_home(
    tmp_path: Path, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Ledger]:
    """Return a home whose ledger, of either kind, has four entries."""
    if not ledger_url.startswith("sqlite"):
        monkeypatch.setenv("OPTIMIZER_LEDGER_URL", ledger_url)
    ledger = Ledger(ledger_url)
    ledger.start_run(RUN, plan={}, baseline=None)
    ledger.add_step(STEP)
    return tmp_path, ledger


def test_a_history_that_fits_says_its_length_and_its_head(
    optimizer: Run, ledger_home: tuple[Path, Ledger]
) -> None:
    home, ledger = ledger_home
    checked = optimizer("history", "--check", "--home", home)
    assert (checked.code, checked.err) == (0, "")
    assert checked.out == f"4 entries of the ledger fit; their head is {ledger.head()}\n"
    assert optimizer("history", "--check", "--json", "--home", home).document == {
        "schema": 1,
        "fits": True,
        "entries": 4,
        "head": ledger.head(),
        "misfit": None,
    }
    noted = ledger.head()
    ledger.add_step(STEP)
    assert optimizer("history", "--check", "--head", noted.upper(), "--home", home).code == 0


def test_a_history_that_was_changed_names_the_first_entry_that_does_not_fit(
    optimizer: Run, ledger_home: tuple[Path, Ledger], ledger_url: str
) -> None:
    home, _ = ledger_home
    meddle(ledger_url, "UPDATE ledger_entries SET who = 'eve' WHERE number = 2")
    checked = optimizer("history", "--check", "--home", home)
    assert (checked.code, checked.out) == (1, "")
    assert checked.err == (
        "optimizer: The ledger was changed by other hands: entry 2 is not as it was written in "
        "this place; compare it with a backup.\n"
    )
    told = optimizer("history", "--check", "--json", "--home", home)
    assert (told.code, told.err) == (1, checked.err)
    assert (told.document["fits"], told.document["entries"]) == (False, 1)
    assert told.document["misfit"] == "entry 2 is not as it was written in this place"


def test_a_history_that_was_cut_short_is_told_by_the_head_that_was_noted(
    optimizer: Run, ledger_home: tuple[Path, Ledger], ledger_url: str
) -> None:
    home, ledger = ledger_home
    noted = ledger.head()
    meddle(ledger_url, "DELETE FROM ledger_entries WHERE number = 4")
    assert optimizer("history", "--check", "--home", home).code == 0
    checked = optimizer("history", "--check", "--head", noted, "--home", home)
    assert (checked.code, f"no entry has the hash {noted}" in checked.err) == (1, True)


def test_a_ledger_without_entries_fits_and_a_head_is_for_a_check(
    optimizer: Run, tmp_path: Path
) -> None:
    assert optimizer("history", "--check", "--home", tmp_path).out == "The ledger is empty.\n"
    alone = optimizer("history", "--head", "3f9c", "--home", tmp_path)
    assert (alone.code, "--head needs --check" in alone.err) == (1, True)


def test_a_ledger_that_cannot_be_reached_is_one_sentence_without_its_password(
    optimizer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = f"127.0.0.1:{free_port()}/ledger"
    monkeypatch.setenv("OPTIMIZER_LEDGER_URL", f"postgresql://ana:sesame@{where}")
    for command in ("history", "verify"):
        answer = optimizer(command, "--home", tmp_path)
        assert (answer.code, answer.out) == (1, "")
        assert answer.err == (
            f"optimizer: The ledger postgresql://{where} cannot be reached: Connection refused; "
            "check OPTIMIZER_LEDGER_URL and the server.\n"
        )


def test_detectors_print_the_same_in_every_form(optimizer: Run) -> None:
    names = [row["name"] for row in optimizer("detectors", "--json").document["detectors"]]
    table, markdown = optimizer("detectors").out, optimizer("detectors", "--markdown").out
    assert {"min_nodes_kept", "slow_scale_down", "no_idle_shutdown"} <= set(names)
    for name in names:
        assert name in table
        assert f"| `{name}` |" in markdown


# The loop, against the emulator


@pytest.fixture(scope="module")
def estate(emulator: Callable[[Path], Emulator], small_estate: Path) -> Emulator:
    """Return an emulator that these tests may change."""
    return emulator(small_estate)


@pytest.fixture(scope="module")
def collected(estate: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home into which the estate was collected, and the command's own words."""
    home = tmp_path_factory.mktemp("collected")
    done = subprocess.run(
        [sys.executable, "-m", "optimizer", "collect", "--json", "--home", str(home)],
        cwd=ROOT,
        env=os.environ | estate.environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    (home / "collected.json").write_text(done.stdout)
    return home


@pytest.fixture
def home(
    collected: Path, estate: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Return a copy of that home, and point the optimizer at it and at the estate."""
    for name, value in estate.environment.items():
        monkeypatch.setenv(name, value)
    folder = shutil.copytree(collected, tmp_path / "home")
    monkeypatch.setenv("OPTIMIZER_HOME", str(folder))
    return folder


def test_collect_says_what_it_wrote(home: Path) -> None:
    document = json.loads((home / "collected.json").read_text())
    assert list(document) == ["schema", "window", "subscriptions", "rows", "problems"]
    assert document["rows"]["resources"] == 8
    assert len(document["subscriptions"]) == 2


@pytest.mark.usefixtures("home")
def test_findings_name_the_planted_waste(optimizer: Run) -> None:
    document = optimizer("findings", "--json").document
    found = {(f["detector"], f["resource_id"].rpartition("/")[2]) for f in document["findings"]}
    assert found >= {("min_nodes_kept", "gpu-kept"), ("no_idle_shutdown", "ci-forgotten")}
    p50 = document["totals"]["saving_per_month"]["p50"]
    assert 0 < p50 < document["totals"]["spend_per_month"]


@pytest.mark.usefixtures("home")
def test_findings_can_be_narrowed(optimizer: Run) -> None:
    everything = optimizer("findings", "--json").document["findings"]
    narrowed = optimizer("findings", "--json", "--owner", "ana", "--detector", "min_nodes_kept")
    assert [f["owner"] for f in narrowed.document["findings"]] == ["ana"]
    assert len(everything) > 1
    assert optimizer("findings", "--json", "--min-saving", "1e9").document["findings"] == []
    assert optimizer("findings", "--detector", "nonsense").code == 1


@pytest.mark.usefixtures("home")
def test_the_table_shows_what_the_json_says(optimizer: Run) -> None:
    document, table = optimizer("findings", "--json").document, optimizer("findings").out
    for finding in document["findings"]:
        assert finding["id"] in table
        assert f"{finding['saving_per_month']['p50']:,.0f}" in table
    assert f"Saving  {document['totals']['saving_per_month']['p50']:,.0f} USD" in table


@pytest.mark.usefixtures("home")
def test_explain_shows_the_formula(optimizer: Run) -> None:
    first = optimizer("findings", "--json").document["findings"][0]
    document = optimizer("explain", first["id"], "--json").document
    text = optimizer("explain", first["id"]).out
    assert document["finding"] == first
    assert document["formula"] in text
    assert optimizer("explain", "nonsense").err.startswith("optimizer: There is no finding nonsen")


def test_plan_shows_writes_and_tells_by_exit_code(home: Path, optimizer: Run) -> None:
    file = home / "plan.json"
    answer = optimizer("plan", "--out", file, "--detailed-exitcode")
    assert answer.code == 2
    assert "  - minNodeCount: 2\n  + minNodeCount: 0\n" in answer.out
    assert str(file) in answer.err
    plan = load(file)
    assert optimizer("plan", "--json").document["id"] == plan.id
    steps = sum(step.saving_per_month.p50 for step in plan.steps)
    assert steps == pytest.approx(plan.totals.saving_per_month.p50, abs=0.01)


@pytest.mark.usefixtures("home")
def test_scenarios_stand_side_by_side_and_the_best_can_be_planned(optimizer: Run) -> None:
    limits = ("--max-changes", "2", "--max-risk", "low")
    document = optimizer("scenarios", "--json", *limits).document
    names = [each["name"] for each in document["scenarios"]]
    assert names == [
        "conservative",
        "balanced",
        "maximum",
        "best (risk up to low, up to 2 changes)",
    ]
    best = document["scenarios"][-1]
    assert best["changes"] == len(best["findings"]) <= 2
    assert best["risks"] == {"low": best["changes"], "medium": 0, "high": 0}
    shares = sum(team["saving_per_month"]["p50"] for team in best["teams"])
    assert shares == pytest.approx(best["saving_per_month"]["p50"], abs=0.05)
    saved = [point["saving_per_month"]["p50"] for point in document["front"]]
    assert saved == sorted(saved)
    assert saved[-1] == best["saving_per_month"]["p50"]

    planned = optimizer("plan", "--scenario", "best", *limits, "--json").document
    assert planned["totals"]["saving_per_month"]["p50"] == pytest.approx(saved[-1], abs=0.01)
    left = {item["finding"]: item for item in best["not_included"]}
    assert {item["finding"] for item in planned["not_included"]} == left.keys()
    for item in planned["not_included"]:
        adds = item["would_add_per_month"]
        assert adds["p50"] == pytest.approx(
            left[item["finding"]]["would_add_per_month"]["p50"], abs=0.01
        )
    table = optimizer("scenarios", *limits).out
    assert all(finding_id in table for finding_id in left)
    refused = optimizer("plan", *limits)
    assert refused.err == "optimizer: Limits go with `--scenario best`: a preset has its own.\n"
    assert refused.code == 1


@pytest.mark.usefixtures("home")
def test_snoozing_everything_leaves_nothing_to_change(optimizer: Run) -> None:
    for finding in optimizer("findings", "--json").document["findings"]:
        until = ("--until", "2026-12-31", "--reason", "launch")
        assert optimizer("snooze", finding["id"], *until).code == 0
    answer = optimizer("plan", "--detailed-exitcode")
    assert (answer.code, answer.out.splitlines()[-1]) == (0, "Nothing to change.")
    document = optimizer("findings", "--json").document
    silent, left = document["not_assessed"], document["gone"]
    assert any("Snoozed until 2026-12-31" in item["reason"] for item in silent)
    assert left
    assert all(item["why"].startswith("Snoozed until 2026-12-31") for item in left)
    assert optimizer("snooze", "nonsense", *until).code == 1


def test_apply_is_a_dry_run_then_changes_and_rollback_puts_back(
    home: Path, estate: Emulator, optimizer: Run
) -> None:
    file = home / "plan.json"
    optimizer("plan", "--out", file)
    writes = _writes(estate)

    dry = optimizer("apply", file)
    assert (dry.code, "Dry run: nothing was changed" in dry.err) == (0, True)
    assert _writes(estate) == writes

    fused = optimizer("apply", file, "--yes", "--max-steps", "1")
    assert (fused.code, "--max-steps" in fused.err) == (1, True)
    assert _writes(estate) == writes

    unsure = optimizer("apply", file, "--yes", "--confirm-delete", "step-1")
    assert (unsure.code, "has no step step-1 that deletes" in unsure.err) == (1, True)
    assert _writes(estate) == writes

    run = optimizer("apply", file, "--yes", "--json").document
    assert {outcome["status"] for outcome in run["outcomes"]} == {"done"}
    again = optimizer("apply", file, "--yes", "--json")
    assert (again.code, f"as run {run['id']}" in again.err) == (1, True)

    claims = optimizer("verify", "--json").document["claims"]
    assert {claim["level"] for claim in claims} == {"Applied"}
    assert list(claims[0]) == [
        *("finding_id", "resource_id", "applied_utc", "level"),
        *("promised_per_month", "measured_per_month", "why", "shortfall"),
        *("parts_per_month", "volume_per_month", "report"),
    ]

    back = optimizer("rollback", run["id"], "--json")
    assert back.code == 0
    assert optimizer("history", "--check", "--json").document["fits"] is True
    assert {outcome["status"] for outcome in back.document["outcomes"]} == {"done"}
    assert run["id"] in optimizer("history").out


def test_a_plan_waits_for_a_second_person_and_for_its_window(
    home: Path, optimizer: Run, estate: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home / "plan.json"
    optimizer("plan", "--out", file)
    writes = _writes(estate)
    monkeypatch.setenv("OPTIMIZER_USER", "ana")
    alone = optimizer("apply", file, "--yes", "--require-approval")
    assert (alone.code, "needs a second person to approve it" in alone.err) == (1, True)

    monkeypatch.setenv("OPTIMIZER_USER", "ben")
    given = optimizer("approve", file, "--comment", "agreed", "--hours", "1", "--json").document
    assert (given["who"], given["comment"]) == ("ben", "agreed")
    assert given["plan_digest"] == load(file).digest
    assert utc(given["until_utc"]) - utc(given["at_utc"]) == timedelta(hours=1)

    monkeypatch.setenv("OPTIMIZER_USER", "ana")
    monkeypatch.setenv("OPTIMIZER_REQUIRE_APPROVAL", "true")
    monkeypatch.setenv("OPTIMIZER_MAINTENANCE", "Sat 00:00-06:00")  # it is Monday midnight there
    early = optimizer("apply", file, "--yes", "--parallel", "2")
    assert early.code == 1
    assert early.out.count("the next opens on Sat 2026-01-31 00:00 UTC") == len(load(file).steps)
    assert _writes(estate) == writes

    monkeypatch.setenv("OPTIMIZER_MAINTENANCE", "Mon 00:00-06:00")
    run = optimizer("apply", file, "--yes", "--json").document
    assert {outcome["status"] for outcome in run["outcomes"]} == {"done"}
    assert run["who"] == "ana"
    assert optimizer("rollback", run["id"]).code == 0


def _writes(estate: Emulator) -> dict[str, int]:
    requests = estate.requests()["by_request"]
    return {
        name: number
        for name, number in requests.items()
        if name.startswith(("PATCH", "PUT")) or "updateIdleShutdownSetting" in name
    }


def test_a_drifted_setting_is_left_alone_and_exit_1(
    home: Path, optimizer: Run, estate: Emulator
) -> None:
    file = home / "plan.json"
    optimizer("plan", "--out", file)
    (step, *_) = (s for s in load(file).steps if s.setting.endswith("minNodeCount"))
    path = f"{step.resource_id}?api-version=2025-12-01"
    scale = {"minNodeCount": 1, "maxNodeCount": 6, "nodeIdleTimeBeforeScaleDown": "PT120S"}
    body = {"properties": {"properties": {"scaleSettings": scale}}}
    estate.call("PATCH", path, body)
    try:
        answer = optimizer("apply", file, "--yes")
    finally:
        estate.call(
            "PATCH",
            path,
            {"properties": {"properties": {"scaleSettings": {**scale, "minNodeCount": 2}}}},
        )
    assert answer.code == 1
    assert "changed by someone since the plan, so left alone" in answer.out
    assert f"1 of {len(load(file).steps)} changes were not made" in answer.err


def _scale(*, minimum: int) -> dict[str, Any]:
    scale = {"minNodeCount": minimum, "maxNodeCount": 6, "nodeIdleTimeBeforeScaleDown": "PT120S"}
    return {"properties": {"properties": {"scaleSettings": scale}}}


def test_weekly_writes_a_preview_and_sends_nothing(home: Path, optimizer: Run) -> None:
    file = home / "mail.html"
    answer = optimizer("weekly", "--preview", file)
    assert (answer.code, answer.out) == (0, "")
    assert "Worth doing first" in file.read_text()
    unsent = optimizer("weekly", "--send")
    assert (unsent.code, "OPTIMIZER_SMTP_HOST" in unsent.err) == (1, True)
    assert recall(home / "memory.json").mailed is None


@pytest.mark.usefixtures("home")
def test_prices_refresh_reads_what_is_in_use_and_what_could_replace_it(optimizer: Run) -> None:
    document = optimizer("prices", "refresh", "--json").document
    assert list(document) == [
        *("schema", "currency", "as_of_utc", "regions", "prices", "sizes_priced", "sizes_asked"),
        *("oldest", "unpriced"),
    ]
    assert (document["prices"], document["sizes_priced"], document["unpriced"]) == (8, 2, [])
    assert document["sizes_asked"] >= 120
    answer = optimizer("prices", "refresh", "--sku", "Standard_Odd", "--sku", "standard_nc6s_v3")
    assert "4 list prices in USD" in answer.out
    assert "  Standard_Odd in eastus" in answer.out
    assert "(0 days old)" in answer.out


def test_prices_of_nowhere_are_one_sentence(home: Path, optimizer: Run) -> None:
    nowhere = optimizer("prices", "refresh", "--region", "nowhere")
    assert (nowhere.code, nowhere.out) == (1, "")
    assert "check how --region and --sku are spelled" in nowhere.err
    nothing = optimizer("prices", "refresh", "--home", home / "empty")
    assert nothing.code == 1
    assert "name one with --region or run `optimizer collect` first" in nothing.err


@pytest.mark.usefixtures("home")
def test_doctor_finds_the_emulator_well(optimizer: Run) -> None:
    document = optimizer("doctor", "--json").document
    assert {check["ok"] for check in document["checks"]} <= {True, None}
    assert "✓" in optimizer("doctor").out


# Programs that stay


def test_the_emulator_says_first_where_it_answers_and_ends_when_told(small_estate: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "optimizer", "emulator", str(small_estate)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    assert list(said) == ["url", "ca_file", "now_utc", "subscription_ids"]


def test_an_estate_that_is_none_is_one_sentence(optimizer: Run, tmp_path: Path) -> None:
    answer = optimizer("emulator", tmp_path)
    assert answer.code == 1
    assert answer.err.startswith("optimizer: ")


def test_ctrl_c_ends_with_130_and_no_traceback(tmp_path: Path, small: Emulator) -> None:
    small.call("GET", "/emulator/requests")
    with subprocess.Popen(
        [sys.executable, "-m", "optimizer", "collect", "--home", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | small.environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "inventory …\n"
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait() == 130
    assert "Traceback" not in rest


def test_a_demo_empties_only_what_a_demo_made(optimizer: Run, tmp_path: Path) -> None:
    precious = tmp_path / "demo" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    answer = optimizer("demo", "--no-app", "--home", tmp_path)
    assert (answer.code, "was not made by a demo" in answer.err) == (1, True)
    assert precious.read_text() == "years of work"
