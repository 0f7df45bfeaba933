"""The command line: parse, call the pipeline, print. Data on stdout, everything else on stderr.

Only typer is imported here; each command imports what it needs, so that `--help` is instant.
"""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from optimizer.errors import OptimizerError

INTERRUPTED = 130
HAS_CHANGES = 2

_NEXT = """
Try next{where}:
  . {script}
  optimizer explain {finding}
  optimizer plan --out plan.json
"""

app = typer.Typer(
    name="optimizer",
    help="Find what Azure Machine Learning compute wastes, change it, and prove it on the bill.",
    epilog="Start with `optimizer demo`: it needs no Azure account.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Home = Annotated[
    Path | None,
    typer.Option(help="Folder of collected data and of what was applied.  [default: ./.optimizer]"),
]
Port = Annotated[
    int | None,
    typer.Option(min=1, max=65535, help="Port of the web app.  [default: 8501, or a free one]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
MaxRisk = Annotated[
    str | None, typer.Option(help="Follow nothing of higher risk: low, medium or high.")
]
MaxHighRisks = Annotated[int | None, typer.Option(min=0, help="Of high risk at most so many.")]
MaxWaiting = Annotated[
    float | None, typer.Option(help="Extra waiting of people and jobs at most, minutes a month.")
]
MaxRestarts = Annotated[float | None, typer.Option(help="Extra restarts at most, a month.")]
MaxEffort = Annotated[
    float | None,
    typer.Option(
        help="Effort points at most: one click 1, purchase 4, recreate 8, code change 20 (a point "
        "is about half an hour)."
    ),
]
MaxChanges = Annotated[int | None, typer.Option(min=0, help="Follow at most so many findings.")]
Teams = Annotated[
    list[str] | None,
    typer.Option(
        "--team", help="Only what this owner has, `unowned` for nobody's; may be repeated."
    ),
]
MaxTeamChanges = Annotated[
    int | None, typer.Option(min=0, help="Of every owner at most so many findings.")
]
MaxTeamWaiting = Annotated[
    float | None, typer.Option(help="Extra waiting of every owner at most, minutes a month.")
]
MinTeamSaving = Annotated[
    list[str] | None,
    typer.Option(help="OWNER=AMOUNT: save at least so much a month there; may be repeated."),
]
Cautious = Annotated[bool, typer.Option("--cautious", help="Count savings at P10, not P50.")]
FindingId = Annotated[str, typer.Argument(help="Id of a finding, as `optimizer findings` shows.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an expected error is one sentence and exit code 1.

    `arguments` are those of the process where there are none.
    """
    try:
        code = app(arguments, prog_name="optimizer", standalone_mode=False)
    except (OptimizerError, typer.TyperException) as error:
        text = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        typer.echo(f"optimizer: {text}", err=True)
        code = 1
    except typer.Abort:
        typer.echo("optimizer: Interrupted; nothing was changed.", err=True)
        code = INTERRUPTED
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _command(name: str, example: str) -> Callable[[Any], Any]:
    return app.command(name=name, epilog=f"Example: {example}")


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's signature
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(version("optimizer"))
        except PackageNotFoundError:
            raise OptimizerError("This copy is not installed, so it has no version.") from None
        raise typer.Exit


def _metric(value: str | None) -> str | None:
    if value not in {None, "actual", "amortized"}:
        raise typer.BadParameter("it is actual or amortized")
    return value


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@_command("demo", "optimizer demo --no-app")
def demo(
    *,
    with_app: Annotated[
        bool, typer.Option("--app/--no-app", help="Open the web app afterwards, until Ctrl-C.")
    ] = True,
    port: Port = None,
    home: Home = None,
) -> None:
    """Try everything on a sample estate, without Azure.

    Nothing to configure. Starts an emulator of the Azure APIs, collects from it, shows what was
    found and serves the web app. Everything stays in the folder `demo` of the home.
    """
    from optimizer import pipeline, programs
    from optimizer.config import load_settings
    from optimizer.report.terminal import print_analysis, progress

    programs.end_cleanly_when_told()
    folder = programs.fresh_demo_home(load_settings(os.environ, home=home).home)
    with programs.emulator(programs.sample_estate()) as azure:
        environment = {**azure.environment, **programs.demo_environment(folder)}
        settings = load_settings({**os.environ, **environment}, home=folder)
        with progress() as advance:
            pipeline.collect(settings, progress=advance)
        analysis = pipeline.analyse(settings)
        print_analysis(analysis)
        first = analysis.findings[0].id if analysis.findings else "FINDING"
        if not with_app:  # the emulator is about to end
            environment = programs.demo_environment(folder)
        script = folder / "environment.sh"
        script.write_text(programs.export_lines(environment), encoding="utf-8")
        where = ", in a second terminal" if with_app else ""
        typer.echo(_NEXT.format(where=where, script=shlex.quote(str(script)), finding=first))
        if with_app:
            programs.serve_app(
                folder, environment, port=programs.port_for_app(port), announce=_say_address
            )


@_command("collect", "optimizer collect --days 28")
def collect(
    *,
    days: Annotated[int | None, typer.Option(min=14, max=93, help="How far back to look.")] = None,
    subscription: Annotated[
        list[str] | None,
        typer.Option(help="Subscription to look into; all that you may read by default."),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Read inventory, use and costs from Azure into the home. Changes nothing in Azure.

    Carries on from the last time. What could not be seen is said, with the permission it needs.
    """
    from optimizer import pipeline
    from optimizer.config import load_settings
    from optimizer.report.collected import collected_document, collected_text
    from optimizer.report.terminal import progress

    with progress() as advance:
        report = pipeline.collect(
            load_settings(os.environ, home=home),
            days=days,
            subscriptions=subscription or (),
            progress=advance,
        )
    _show(lambda: collected_document(report), lambda: collected_text(report), as_json=as_json)


_imports = typer.Typer(help="Read what was exported from Azure into the home.")
app.add_typer(_imports, name="import", no_args_is_help=True)


@_imports.command(
    "cost", epilog="Example: optimizer import cost exports/2026-01 --metric amortized"
)
def import_cost(
    files: Annotated[
        list[Path],
        typer.Argument(help="CSV, CSV.gz or Parquet files, or folders of an export's partitions."),
    ],
    *,
    metric: Annotated[
        str | None,
        typer.Option(
            help="actual or amortized, where a file of cost details does not tell.",
            callback=_metric,
        ),
    ] = None,
    currency: Annotated[
        str | None, typer.Option(help="Billing currency to keep, where the files have several.")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Read FOCUS, EA or MCA cost exports, where Azure's cost APIs are closed to you.

    What the files say of a subscription's days replaces what was known of them. Every row is
    accounted for: kept, or set aside with its reason and amount.
    """
    from optimizer import pipeline
    from optimizer.config import load_settings
    from optimizer.report.imported import imported_document, imported_text
    from optimizer.report.terminal import progress

    with progress() as advance:
        report = pipeline.import_costs(
            load_settings(os.environ, home=home),
            files,
            metric=metric,
            currency=currency,
            progress=advance,
        )
    _show(lambda: imported_document(report), lambda: imported_text(report), as_json=as_json)


_prices = typer.Typer(help="Read Azure's list prices.")
app.add_typer(_prices, name="prices", no_args_is_help=True)


@_prices.command("refresh", epilog="Example: optimizer prices refresh --region westeurope")
def prices_refresh(
    *,
    region: Annotated[
        list[str] | None, typer.Option(help="Only this region; may be repeated.")
    ] = None,
    sku: Annotated[
        list[str] | None, typer.Option(help="Only this VM size; may be repeated.")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Read Azure's list prices anew: of all sizes in use and of those that could replace them.

    In the currency of your bill. Nobody needs to be signed in.
    """
    from optimizer import pipeline
    from optimizer.config import load_settings
    from optimizer.report.prices import prices_document, prices_text

    report = pipeline.refresh_prices(
        load_settings(os.environ, home=home), regions=region or (), skus=sku or ()
    )
    _show(lambda: prices_document(report), lambda: prices_text(report), as_json=as_json)


@_command("findings", "optimizer findings --owner ana@contoso.com --min-saving 50")
def findings(
    *,
    detector: Annotated[
        list[str] | None, typer.Option(help="Ask only this detector; may be repeated.")
    ] = None,
    owner: Annotated[
        str | None, typer.Option(help="Only what this owner has; `unowned` for nobody's.")
    ] = None,
    min_saving: Annotated[
        float, typer.Option(help="Only what saves at least this much a month.")
    ] = 0.0,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show what is wasted, largest saving first.

    Reads what was last collected. Savings come from replaying your own history under the changed
    setting. The total replays all changes together, so that no saving is counted twice.
    """
    from optimizer.config import load_settings
    from optimizer.pipeline import analyse
    from optimizer.report.documents import findings_document
    from optimizer.report.terminal import print_analysis

    analysis = analyse(
        load_settings(os.environ, home=home),
        detectors=detector or (),
        owner=owner,
        min_saving=min_saving,
    )
    if as_json:
        _print_json(findings_document(analysis))
    else:
        print_analysis(analysis)


@_command("explain", "optimizer explain 3f9c2a7be1d0")
def explain(finding_id: FindingId, *, home: Home = None, as_json: AsJson = False) -> None:
    """Explain one finding: evidence, formula, what would change it."""
    from optimizer.config import load_settings
    from optimizer.errors import ConfigError
    from optimizer.pipeline import analyse
    from optimizer.report.documents import explanation_document
    from optimizer.report.findings import explain_text

    analysis = analyse(load_settings(os.environ, home=home))
    finding = analysis.finding(finding_id)
    if finding is None:
        raise ConfigError(
            f"There is no finding {finding_id}; `optimizer findings` lists what there is."
        )
    _show(
        lambda: explanation_document(analysis, finding),
        lambda: explain_text(analysis, finding),
        as_json=as_json,
    )


@_command("plan", "optimizer plan --scenario balanced --out plan.json")
def plan(  # noqa: PLR0913 - each may be left to its default
    *,
    scenario: Annotated[
        str,
        typer.Option(
            help="conservative (one click, low risk, saves even at P10), balanced (up to medium "
            "risk, saves at P50), maximum, or best: the most saving within the limits below."
        ),
    ] = "balanced",
    finding: Annotated[
        list[str] | None,
        typer.Option(help="Id of a finding to plan, instead of a scenario; may be repeated."),
    ] = None,
    max_risk: MaxRisk = None,
    max_high_risks: MaxHighRisks = None,
    max_waiting: MaxWaiting = None,
    max_restarts: MaxRestarts = None,
    max_effort: MaxEffort = None,
    max_changes: MaxChanges = None,
    team: Teams = None,
    max_team_changes: MaxTeamChanges = None,
    max_team_waiting: MaxTeamWaiting = None,
    min_team_saving: MinTeamSaving = None,
    cautious: Cautious = False,
    out: Annotated[
        Path | None, typer.Option(help="File to write the plan to, for `optimizer apply`.")
    ] = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 2 where there is something to change.")
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show which settings would change, and what that saves.

    Changes nothing. The file is what `optimizer apply` carries out, exactly as shown.
    """
    from optimizer.config import load_settings
    from optimizer.pipeline import make_plan
    from optimizer.remediation.plan import dump
    from optimizer.report.changes import plan_text

    limits = _limits(
        max_risk=max_risk,
        high_risks=max_high_risks,
        waiting_minutes=max_waiting,
        restarts=max_restarts,
        effort_points=max_effort,
        changes=max_changes,
        teams=team,
        team_changes=max_team_changes,
        team_waiting=max_team_waiting,
        team_savings=min_team_saving,
        cautious=cautious,
    )
    with _chatter_on_stderr():
        made = make_plan(
            load_settings(os.environ, home=home),
            scenario=scenario,
            finding_ids=finding or (),
            limits=limits,
        )
    _show(made.document, lambda: plan_text(made), as_json=as_json)
    if out is not None:
        dump(made, out)
        _say(f"Written to {out}; `optimizer apply {out}` carries it out.")
    if detailed_exitcode and made.steps:
        raise typer.Exit(HAS_CHANGES)


@_command("scenarios", "optimizer scenarios --max-waiting 600 --max-changes 10")
def scenarios(  # noqa: PLR0913 - each may be left to its default
    *,
    max_risk: MaxRisk = None,
    max_high_risks: MaxHighRisks = None,
    max_waiting: MaxWaiting = None,
    max_restarts: MaxRestarts = None,
    max_effort: MaxEffort = None,
    max_changes: MaxChanges = None,
    team: Teams = None,
    max_team_changes: MaxTeamChanges = None,
    max_team_waiting: MaxTeamWaiting = None,
    min_team_saving: MinTeamSaving = None,
    cautious: Cautious = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Compare presets with the most that your limits allow.

    Beneath them stands the front: how much more saving more waiting buys. Every line is one joint
    replay, so no saving counts twice. `optimizer plan` with the same limits plans the best.
    """
    from optimizer import pipeline
    from optimizer.config import load_settings
    from optimizer.report.documents import comparison_document
    from optimizer.report.terminal import print_comparison

    limits = _limits(
        max_risk=max_risk,
        high_risks=max_high_risks,
        waiting_minutes=max_waiting,
        restarts=max_restarts,
        effort_points=max_effort,
        changes=max_changes,
        teams=team,
        team_changes=max_team_changes,
        team_waiting=max_team_waiting,
        team_savings=min_team_saving,
        cautious=cautious,
    )
    with _chatter_on_stderr():
        analysis, compared = pipeline.compare(load_settings(os.environ, home=home), limits)
    if as_json:
        _print_json(comparison_document(analysis, compared))
    else:
        print_comparison(analysis, compared)


@_command("apply", "optimizer apply plan.json --yes")
def apply(
    plan_file: Annotated[Path, typer.Argument(help="File that `optimizer plan --out` wrote.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: change it.")] = False,
    max_steps: Annotated[
        int, typer.Option(min=1, help="Refuse a plan of more steps than this.")
    ] = 25,
    confirm_delete: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEP_ID",
            help="Id of a step that deletes something, to make it too; may be repeated.",
        ),
    ] = None,
    require_approval: Annotated[
        bool,
        typer.Option(
            "--require-approval", help="Refuse a plan that no second person approved in time."
        ),
    ] = False,
    parallel: Annotated[
        int | None,
        typer.Option(min=1, max=16, help="Resources that are changed at once.  [default: 4]"),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Carry out a plan in Azure. Without --yes it is a dry run, or asks on a terminal.

    A setting that somebody changed since the plan was made is left alone, and what lies outside its
    maintenance window waits. Everything done is kept with its inverse for `optimizer rollback`. Run
    it again after an interruption: it carries on. Ctrl-C lets the changes under way end first.
    What deletes something is made only where its step is named, or its name typed when asked.
    """
    from optimizer import pipeline
    from optimizer.config import load_settings
    from optimizer.remediation.plan import load
    from optimizer.report.changes import left_undone, outcome_line, plan_text, run_text
    from optimizer.report.documents import run_document
    from optimizer.report.words import resource_name

    settings = load_settings(os.environ, home=home)
    agreed = load(plan_file)
    typer.echo(plan_text(agreed), err=as_json)
    if not agreed.steps:
        return
    if not yes and not _agreed_to(len(agreed.steps)):
        _say("Dry run: nothing was changed. Add --yes to change it.")
        return
    confirmed = set(confirm_delete or ())
    if not yes:
        doomed = [s for s in agreed.steps if s.destructive and s.id not in confirmed]
        confirmed |= {step.id for step in doomed if _typed(resource_name(step.resource_id))}
    run = pipeline.apply(
        settings,
        agreed,
        max_steps=max_steps,
        confirmed=confirmed,
        require_approval=require_approval,
        parallel=parallel,
        who=settings.who,
        on_outcome=lambda outcome: typer.echo(outcome_line(outcome), err=as_json),
    )
    _show(lambda: run_document(run), lambda: run_text(run), as_json=as_json)
    _say(f"`optimizer rollback {run.id}` puts it back; `optimizer verify` proves the saving.")
    _complain_of(left_undone(run), len(run.outcomes))


@_command("approve", "optimizer approve plan.json --comment 'agreed on Monday'")
def approve(
    plan_file: Annotated[Path, typer.Argument(help="File that `optimizer plan --out` wrote.")],
    *,
    hours: Annotated[
        float, typer.Option(min=0.1, max=24 * 90, help="For how long it holds.")
    ] = 72.0,
    comment: Annotated[str, typer.Option(help="Why, for whoever asks later.")] = "",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Agree to a plan that somebody else is to apply.

    Holds for exactly this file: a plan that is made anew needs a new word. Who you are is what
    OPTIMIZER_USER says, or the user signed in to this machine; nothing proves it.
    """
    from optimizer import pipeline
    from optimizer.config import load_settings
    from optimizer.remediation.plan import load
    from optimizer.report.changes import approval_line, plan_text
    from optimizer.report.documents import approval_document

    settings = load_settings(os.environ, home=home)
    agreed = load(plan_file)
    typer.echo(plan_text(agreed), err=as_json)
    given = pipeline.approve(settings, agreed, who=settings.who, hours=hours, comment=comment)
    _show(lambda: approval_document(given), lambda: approval_line(given), as_json=as_json)


@_command("rollback", "optimizer rollback apply-20260105-3f9c2a")
def rollback(
    run_id: Annotated[str, typer.Argument(help="Id of a run, as `optimizer history` shows.")],
    *,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Put back what a run changed. A setting that was changed again since is left alone."""
    from optimizer import pipeline
    from optimizer.config import load_settings
    from optimizer.report.changes import left_undone, outcome_line, run_text
    from optimizer.report.documents import run_document

    settings = load_settings(os.environ, home=home)
    run = pipeline.rollback(
        settings,
        run_id,
        who=settings.who,
        on_outcome=lambda outcome: typer.echo(outcome_line(outcome), err=as_json),
    )
    _show(lambda: run_document(run), lambda: run_text(run), as_json=as_json)
    _complain_of(left_undone(run), len(run.outcomes))


@_command("verify", "optimizer verify --json")
def verify(*, home: Home = None, as_json: AsJson = False) -> None:
    """Compare applied changes with the bill: did the money come?

    Replays the old settings on what was run since, and compares with what was billed. Collect
    first. Each saving climbs from Estimated over Applied and Measured to Verified.
    """
    from optimizer import pipeline
    from optimizer.config import load_settings
    from optimizer.report.changes import verification_text
    from optimizer.report.documents import verification_document

    found = pipeline.verify(load_settings(os.environ, home=home))
    _show(lambda: verification_document(found), lambda: verification_text(found), as_json=as_json)


@_command("history", "optimizer history")
def history(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Prove that no entry was changed or taken out.")
    ] = False,
    head: Annotated[
        str | None,
        typer.Option(help="With --check: the head you noted once; nothing up to it is missing."),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show what was applied and rolled back, and by whom.

    With --check, follows the chain of all entries of the ledger instead, and prints its head: the
    one hash that stands for them all. Note it elsewhere: a later --check with it also tells if
    entries at the end were taken away.
    """
    from optimizer import pipeline
    from optimizer.config import load_settings
    from optimizer.errors import LedgerError
    from optimizer.report.changes import checked_text, history_text, misfit_text
    from optimizer.report.documents import checked_document, history_document

    settings = load_settings(os.environ, home=home)
    if head is not None and not check:
        raise typer.BadParameter("--head needs --check")
    if check:
        found = pipeline.check_history(settings, noted_head=(head or "").strip().lower())
        if found.misfit is None or as_json:
            _show(lambda: checked_document(found), lambda: checked_text(found), as_json=as_json)
        if found.misfit is not None:
            raise LedgerError(misfit_text(found))
        return
    runs = pipeline.history(settings)
    _show(lambda: history_document(runs), lambda: history_text(runs), as_json=as_json)


@_command("snooze", "optimizer snooze 3f9c2a --until 2026-06-30 --reason launch")
def snooze(
    finding_id: FindingId,
    *,
    until: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d"], help="Day on which it is shown again.")
    ],
    reason: Annotated[str, typer.Option(help="Why, for whoever wonders.")],
    home: Home = None,
) -> None:
    """Keep a finding silent until a day, with your reason."""
    from optimizer import pipeline
    from optimizer.config import load_settings

    settings = load_settings(os.environ, home=home)
    end = until.replace(tzinfo=UTC)
    pipeline.snooze(settings, finding_id, until=end, reason=reason, author=settings.who)
    _say(f"{finding_id} is silent until {end:%Y-%m-%d}.")


@_command("detectors", "optimizer detectors --markdown")
def detectors(
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the README's table.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what is looked for, with thresholds and sources."""
    from optimizer.report.detectors import detector_rows, detector_table_markdown
    from optimizer.report.terminal import print_detectors

    rows = detector_rows()
    if as_json:
        _print_json({"schema": 1, "detectors": rows})
    elif markdown:
        typer.echo(detector_table_markdown(rows))
    else:
        print_detectors(rows)


@_command("weekly", "optimizer weekly --preview mail.html")
def weekly(
    *,
    send: Annotated[bool, typer.Option("--send", help="Send it as configured.")] = False,
    preview: Annotated[
        Path | None, typer.Option(help="Write it to this file (.html, .txt or .eml), not sent.")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Collect, find and verify, and put the week into one mail. Prints it unless told otherwise.

    For --send, set OPTIMIZER_SMTP_HOST, OPTIMIZER_MAIL_FROM and OPTIMIZER_MAIL_TO.
    """
    from dataclasses import asdict

    from optimizer import pipeline
    from optimizer.config import load_settings
    from optimizer.report import mail
    from optimizer.report.terminal import progress
    from optimizer.report.weekly import weekly_view

    settings = load_settings(os.environ, home=home)
    with progress() as advance:
        report = pipeline.collect(settings, progress=advance)
    analysis = pipeline.analyse(settings)
    view = weekly_view(
        analysis,
        pipeline.verify(settings),
        at_utc=analysis.window.end_utc,
        snoozes=pipeline.snoozes(settings),
        problems=report.problems,
        mailed_before=pipeline.mailed_before(settings),
        app_url=settings.mail.app_url,
    )
    if preview is not None:
        mail.write_preview(view, preview)
        _say(f"Written to {preview}.")
    if send:
        mail.send(mail.render(view), settings.mail)
        pipeline.remember_mailed(settings, analysis)
        _say(f"Sent to {', '.join(settings.mail.recipients)}.")
    if as_json or not (send or preview):
        _show(lambda: asdict(view), lambda: mail.render_text(view), as_json=as_json)


@_command("app", "optimizer app --port 8600")
def web_app(*, port: Port = None, home: Home = None) -> None:
    """Serve the web app on this machine, until Ctrl-C."""
    from optimizer import programs
    from optimizer.config import load_settings

    programs.end_cleanly_when_told()
    folder = load_settings(os.environ, home=home).home
    programs.serve_app(folder, {}, port=programs.port_for_app(port), announce=_say_address)


@_command("emulator", "optimizer emulator sample_data/contoso --port 8443")
def emulator(
    estate: Annotated[Path, typer.Argument(help="Folder of the estate to play.")],
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    proxy: Annotated[
        bool,
        typer.Option(
            "--proxy", help="Also lead clients here that know Azure's own addresses only."
        ),
    ] = False,
    today: Annotated[
        bool,
        typer.Option("--today", help="Move the estate's dates by whole weeks, so that now is now."),
    ] = False,
) -> None:
    """Serve the Azure APIs for an estate folder, until Ctrl-C.

    The first line on stdout says as JSON where it answers: set OPTIMIZER_AZURE_ENDPOINT to its url,
    OPTIMIZER_AZURE_CA_FILE to its ca_file and OPTIMIZER_AZURE_CREDENTIAL to emulator. With --proxy,
    a client that takes HTTPS_PROXY and REQUESTS_CA_BUNDLE needs no other setting.
    """
    from optimizer.emulator.server import serve

    serve(
        estate,
        port=port,
        with_proxy=proxy,
        now_utc=datetime.now(UTC) if today else None,
        # A line that a waiting program cannot see yet helps nobody: typer.echo flushes.
        announce=lambda said: typer.echo(json.dumps(said)),
    )


@_command("doctor", "optimizer doctor")
def doctor(
    *,
    subscription: Annotated[
        list[str] | None, typer.Option(help="Subscription to check; all by default.")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Check credential, permissions, throttling and data freshness."""
    from optimizer import pipeline
    from optimizer.config import load_settings
    from optimizer.report.collected import checks_document, checks_text

    checks = pipeline.doctor(load_settings(os.environ, home=home), subscriptions=subscription or ())
    _show(lambda: checks_document(checks), lambda: checks_text(checks), as_json=as_json)
    if failed := sum(check.ok is False for check in checks):
        raise OptimizerError(f"{failed} of {len(checks)} checks failed.")


def _limits(  # noqa: PLR0913 - one for each option
    *,
    max_risk: str | None,
    high_risks: int | None,
    waiting_minutes: float | None,
    restarts: float | None,
    effort_points: float | None,
    changes: int | None,
    teams: Sequence[str] | None,
    team_changes: int | None,
    team_waiting: float | None,
    team_savings: Sequence[str] | None,
    cautious: bool,
) -> Any:
    from dataclasses import replace

    from optimizer.model import Level
    from optimizer.scenarios.limits import Budget, Limits

    if max_risk is not None and max_risk not in set(Level):
        raise typer.BadParameter("--max-risk is low, medium or high")
    each = Budget(changes=team_changes, waiting_minutes=team_waiting)
    asked = dict(map(_team_saving, team_savings or ()))
    return Limits(
        budget=Budget(
            waiting_minutes=waiting_minutes,
            restarts=restarts,
            effort_points=effort_points,
            high_risks=high_risks,
            changes=changes,
        ),
        max_risk=Level(max_risk or Level.HIGH),
        only_teams=tuple(teams or ()),
        each_team=each,
        teams={name: replace(each, least_saving=amount) for name, amount in asked.items()},
        cautious=cautious,
    )


def _team_saving(text: str) -> tuple[str, float]:
    owner, _, amount = text.rpartition("=")
    try:
        saving = float(amount)
    except ValueError:
        saving = float("nan")
    if not owner or not saving >= 0:
        raise typer.BadParameter(f"--min-team-saving is OWNER=AMOUNT, not {text!r}")
    return owner.lower(), saving


@contextmanager
def _chatter_on_stderr() -> Iterator[None]:
    """Send to stderr what HiGHS prints past Python (its bug): stdout is for data."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _show(document: Callable[[], object], text: Callable[[], str], *, as_json: bool) -> None:
    if as_json:
        _print_json(document())
    else:
        typer.echo(text())


def _print_json(document: object) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _agreed_to(steps: int) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    typed: str = typer.prompt(
        f"Type yes to make {steps} change(s) in Azure", default="", show_default=False, err=True
    )
    return typed.strip().lower() == "yes"


def _typed(name: str) -> bool:
    """Ask for the name of what is to be deleted; without a terminal nobody typed it."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    typed: str = typer.prompt(
        f"Type {name} to delete it for good, or nothing to keep it",
        default="",
        show_default=False,
        err=True,
    )
    return typed.strip() == name


def _complain_of(undone: int, steps: int) -> None:
    if undone:
        raise OptimizerError(f"{undone} of {steps} changes were not made; each says why above.")


def _say_address(url: str) -> None:
    typer.echo(f"The app answers at {url} (Ctrl-C ends it).")
