import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword
from pydantic import SecretStr

from optimizer.analysis.anomalies import Anomaly, Part
from optimizer.analysis.forecast import MonthEnd
from optimizer.config import MailSettings
from optimizer.errors import MailError
from optimizer.model import Claim, Estimate, Gone, How, Problem
from optimizer.remediation.outcomes import Measured
from optimizer.report.mail import (
    render,
    render_html,
    render_text,
    send,
    write_preview,
)
from optimizer.report.weekly import WeeklyView, follow_command, weekly_view
from optimizer.store.ledger import Snooze
from tests.changes import NOW_UTC, THREE
from tests.reports import NO_CLAIMS, PARTS, analysis_of, claim_of, verification_of

PASSWORD = "correct horse"  # noqa: S105 - of a server that lives for one test


def view_of(**arguments: Any) -> WeeklyView:
    plain: dict[str, Any] = {"at_utc": NOW_UTC}
    verification = arguments.pop("verification", NO_CLAIMS)
    return weekly_view(arguments.pop("analysis", analysis_of()), verification, **plain | arguments)


# What it says


def test_the_subject_names_the_joint_saving_and_what_came() -> None:
    assert view_of().subject == "Azure Machine Learning: 250 USD a month to save"
    came = verification_of(measured=Measured(low=80, mid=95, high=105))
    assert view_of(verification=came).subject.endswith("to save, 95.00 USD measured")
    assert view_of(analysis=analysis_of([])).subject.endswith(": nothing to save")


def test_the_overview_has_week_month_saving_and_proof() -> None:
    came = verification_of(claim_of(Claim.APPLIED), measured=Measured(low=80, mid=95, high=105))
    figures = {f.label: (f.value, f.note) for f in view_of(verification=came).figures}
    assert figures["Spent in 7 days"] == (
        f"{sum(10 * d for d in range(18, 25)):,} USD",
        "to 2026-01-24, the last day billed in full",
    )
    assert figures["Spend a month"][0] == "1,000 USD"
    assert figures["Saving found, a month"] == (
        "250 USD",
        "80 % interval 200 to 301; 25.0 % of spend, nothing counted twice",
    )
    assert figures["Saving measured, a month"] == (
        "95.00 USD",
        "90 % interval 80.00 to 105; 1,140 USD a year; promised 100 USD; 1 applied",
    )


def test_the_month_to_come_and_a_day_out_of_the_ordinary_are_told() -> None:
    last = max(analysis_of().daily_spend)
    ended = MonthEnd(
        actual=100.0,
        total=Estimate(p10=900.0, p50=1000.0, p90=1200.0),
        method="flat7",
        wape=0.04,
        bias=0.0,
    )
    odd = Anomaly(day=last, actual=500.0, expected=240.0, z=9.0, level_shift=False)
    analysis = replace(analysis_of(), month_end=ended, anomalies=(odd,))
    figures = {f.label: (f.value, f.note) for f in view_of(analysis=analysis).figures}
    assert figures["Expected this month"] == (
        "1,000 USD",
        "900 to 1,200 USD at 80 %; by the level of the last week, 4% off on its own history",
    )
    assert figures[f"Out of the ordinary: {last:%A, %Y-%m-%d}"] == (
        "500 USD",
        "240 USD is usual on that weekday",
    )
    moved = Part(component="vm", resource_id="/computes/big", change=-90.0)
    told = replace(analysis, anomalies=(replace(odd, parts=(moved,)),))
    notes = [f.note for f in view_of(analysis=told).figures if f.label.startswith("Out of")]
    assert notes == [
        "240 USD is usual on that weekday; most of it big (vm), −90.00 USD",
    ]
    old = replace(odd, day=last - timedelta(days=7))
    labels = {f.label for f in view_of(analysis=replace(analysis, anomalies=(old,))).figures}
    assert not any(label.startswith("Out of") for label in labels)


def test_five_findings_are_shown_and_the_rest_counted() -> None:
    many = [replace(THREE[0], id=f"f{n}") for n in range(8)]
    view = view_of(analysis=analysis_of(many))
    assert (len(view.top), view.more) == (5, "3 more findings")
    assert view_of().more == ""


def test_the_command_follows_the_finding() -> None:
    assert follow_command(THREE[0]) == (
        "optimizer plan --finding gpu-kept-minNodeCount --out plan.json "
        "&& optimizer apply plan.json"
    )
    advice = replace(THREE[0], change=replace(THREE[0].change, how=How.ADVICE))
    assert follow_command(advice) == "optimizer explain gpu-kept-minNodeCount"


def test_new_is_told_only_if_there_was_a_mail_before() -> None:
    assert view_of().new is None
    view = view_of(mailed_before={THREE[0].id, THREE[1].id})
    assert view.new == ("Change ci-forgotten: 100 USD (90.00 to 110) a month",)
    assert [finding.is_new for finding in view.top] == [False, False, True]


def test_a_saving_that_stayed_under_its_promise_is_named() -> None:
    back = "minNodeCount was put back to 2."
    short = claim_of(Claim.MEASURED, Measured(low=20, mid=40, high=60), shortfall=back)
    kept = claim_of(Claim.VERIFIED, Measured(low=80, mid=95, high=105))
    view = view_of(verification=verification_of(short, kept, claim_of(Claim.APPLIED)))
    (line,) = view.short
    assert line == (
        "gpu-kept: promised 100 USD (90.00 to 110) a month, "
        "measured 40.00 USD (20.00 to 60.00) a month. minNodeCount was put back to 2."
    )


def test_what_the_last_mail_told_and_has_gone_is_told_with_why() -> None:
    left = Gone(
        finding_id="f9",
        detector="min_nodes_kept",
        resource_id="/a",
        title="gpu-old keeps 2 nodes",
        why="The resource is no longer there.",
    )
    analysis = analysis_of(gone=(left, replace(left, finding_id="f8")))
    assert view_of(analysis=analysis).gone == ()
    view = view_of(analysis=analysis, mailed_before={"f9"})
    told = "gpu-old keeps 2 nodes (f9): The resource is no longer there."
    assert view.gone == (told,)
    assert told in render_text(view)


def test_what_changed_the_bill_is_told_in_its_parts() -> None:
    came = verification_of(claim_of(Claim.APPLIED), parts_per_month=PARTS)
    figures = {f.label: (f.value, f.note) for f in view_of(verification=came).figures}
    assert figures["Bill of what was changed, a month"] == (
        "-76.00 USD",
        "activity +20.00, settings -95.00, prices -1.00: -76.00 USD a month",
    )


def test_only_snoozes_that_end_this_week_are_told() -> None:
    soon, late = (
        Snooze(finding_id=f"f{n}", author="ana", reason="launch", until_utc=NOW_UTC + delay)
        for n, delay in enumerate((timedelta(days=6), timedelta(days=8)))
    )
    assert view_of(snoozes=[late, soon]).expiring == ("f0 until 2026-02-01, by ana: launch",)


def test_what_was_not_assessed_or_seen_is_summed_up() -> None:
    view = view_of(
        problems=[Problem(scope="sub-2", what="Refused.", permission="Microsoft.X/read")]
    )
    assert view.not_assessed == ("2 resources for slow_scale_down: no metrics",)
    assert view.unseen == ("sub-2: Refused. (needs Microsoft.X/read)",)


# How it is laid out


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.words += data


def parsed(html: str) -> _Tags:
    tags = _Tags()
    tags.feed(html)
    return tags


def full_view() -> WeeklyView:
    return view_of(
        verification=verification_of(claim_of(Claim.MEASURED, Measured(low=20, mid=40, high=60))),
        mailed_before=[],
        snoozes=[Snooze(finding_id="f", author="a", reason="launch", until_utc=NOW_UTC)],
        problems=[Problem(scope="sub-2", what="Refused.")],
        app_url="https://optimizer.contoso.com",
    )


@pytest.mark.parametrize("view", [view_of(), full_view(), view_of(analysis=analysis_of([]))])
def test_text_and_html_say_the_same(view: WeeklyView) -> None:
    text, html = render_text(view), parsed(render_html(view)).words
    said = [view.subject, *(f.value for f in view.figures), *view.not_assessed, *(view.new or ())]
    said += [word for f in view.top for word in (f.title, f.why, f.saving, f.command)]
    said += [*view.short, *view.expiring, *view.unseen]
    for words in said:
        assert words in text
        assert words in html


def test_html_fetches_nothing_and_runs_nothing() -> None:
    tags = parsed(render_html(full_view()))
    assert not {"script", "img", "link", "iframe"} & set(tags.tags)
    assert set(tags.addresses) <= {"https://optimizer.contoso.com"}


def test_html_escapes_foreign_text() -> None:
    hostile = replace(THREE[0], title="<script>alert(1)</script>", owner='"><b>')
    tags = parsed(render_html(view_of(analysis=analysis_of([hostile]))))
    assert not {"script", "b"} & set(tags.tags)
    assert "<script>alert(1)</script>" in tags.words


def test_plain_text_escapes_nothing() -> None:
    assert "a && b <c>" in render_text(
        view_of(analysis=analysis_of([replace(THREE[0], title="a && b <c>")]))
    )


def test_the_mail_offers_plain_text_before_html() -> None:
    message = render(view_of())
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == [
        "text/plain",
        "text/html",
    ]


@pytest.mark.parametrize("suffix", [".html", ".txt", ".eml"])
def test_a_preview_is_what_would_be_sent(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"mail{suffix}"
    write_preview(view_of(), file)
    assert "250 USD a month to save" in file.read_text()


def test_a_preview_needs_a_known_suffix_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(MailError, match=r"must end in \.html, \.txt or \.eml"):
        write_preview(view_of(), tmp_path / "mail.pdf")
    with pytest.raises(MailError, match="cannot be written"):
        write_preview(view_of(), tmp_path / "missing" / "mail.txt")


# How it leaves


@dataclass(slots=True)
class Mailbox:
    """What an SMTP server took, and whether the way to it was encrypted."""

    mails: list[tuple[EmailMessage, list[str]]] = field(default_factory=list)
    refused: frozenset[str] = frozenset()

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name and arguments
        self, _server: Any, session: Any, envelope: Envelope, address: str, _options: Any
    ) -> str:
        if session.ssl is None:
            return "530 Must issue a STARTTLS command first"
        if address in self.refused:
            return "550 No such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append((mail, list(envelope.rcpt_tos)))
        return "250 OK"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return file


@contextmanager
def smtp_server(mailbox: Mailbox, **options: Any) -> Iterator[int]:
    """Serve on a free port of this machine; yield the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    controller = Controller(mailbox, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def settings(ca_file: Path) -> Callable[..., MailSettings]:
    def make(port: int, **fields: Any) -> MailSettings:
        plain: dict[str, Any] = {
            "host": "localhost",
            "port": port,
            "sender": "optimizer@contoso.com",
            "recipients": ("ana@contoso.com", "bo@contoso.com"),
            "ca_file": ca_file,
        }
        return MailSettings(**plain | fields)

    return make


def refusal(settings: MailSettings) -> str:
    with pytest.raises(MailError) as refused:
        send(render(view_of()), settings)
    return str(refused.value)


def test_a_mail_arrives_whole_over_an_encrypted_connection(
    authority: trustme.CA, settings: Callable[..., MailSettings]
) -> None:
    mailbox = Mailbox()
    with smtp_server(mailbox, tls_context=tls(authority), require_starttls=True) as port:
        send(render(view_of()), settings(port))
    ((mail, recipients),) = mailbox.mails
    assert recipients == ["ana@contoso.com", "bo@contoso.com"]
    assert mail["Subject"] == "Azure Machine Learning: 250 USD a month to save"
    assert mail["From"] == "optimizer@contoso.com"
    assert mail["Message-ID"].endswith("@contoso.com>")
    sent_utc = mail["Date"].datetime
    assert abs(datetime.now(UTC) - sent_utc) < timedelta(minutes=5)
    html = mail.get_body(("html",))
    assert html is not None
    assert html.get_content().splitlines() == render_html(view_of()).splitlines()


def test_a_user_signs_in_only_after_encryption(
    authority: trustme.CA, settings: Callable[..., MailSettings]
) -> None:
    mailbox = Mailbox()
    options = {"tls_context": tls(authority), "authenticator": _authenticate}
    with smtp_server(mailbox, auth_required=True, **options) as port:
        send(render(view_of()), settings(port, username="optimizer", password=SecretStr(PASSWORD)))
        wrong = refusal(settings(port, username="optimizer", password=SecretStr("wrong")))
    assert len(mailbox.mails) == 1
    assert wrong == f"The SMTP server localhost:{port} refused the user optimizer or the password."


def _authenticate(_server: Any, _session: Any, _envelope: Any, _how: str, data: Any) -> AuthResult:
    assert isinstance(data, LoginPassword)
    return AuthResult(success=data.password == PASSWORD.encode(), handled=False)


def test_a_certificate_nobody_vouches_for_is_refused(
    authority: trustme.CA, settings: Callable[..., MailSettings]
) -> None:
    with smtp_server(Mailbox(), tls_context=tls(authority)) as port:
        sentence = refusal(settings(port, ca_file=None))
    assert "has a certificate that is not trusted" in sentence
    assert sentence.endswith("name its authority in OPTIMIZER_SMTP_CA_FILE.")


def test_a_server_without_starttls_gets_nothing(settings: Callable[..., MailSettings]) -> None:
    mailbox = Mailbox()
    with smtp_server(mailbox) as port:
        assert refusal(settings(port)).startswith("localhost offers no STARTTLS: ")
    assert mailbox.mails == []


def test_a_password_is_never_sent_in_the_clear(settings: Callable[..., MailSettings]) -> None:
    fields = {"username": "u", "password": SecretStr(PASSWORD), "starttls": False}
    assert refusal(settings(1, **fields)).startswith("A password is not sent in the clear")


def test_refused_recipients_are_named(
    authority: trustme.CA, settings: Callable[..., MailSettings]
) -> None:
    mailbox = Mailbox(refused=frozenset({"bo@contoso.com"}))
    with smtp_server(mailbox, tls_context=tls(authority)) as port:
        assert refusal(settings(port)) == (
            "localhost refused bo@contoso.com; everybody else has the mail."
        )
        assert refusal(settings(port, recipients=("bo@contoso.com",))) == (
            f"The SMTP server localhost:{port} refused bo@contoso.com."
        )
    assert [recipients for _, recipients in mailbox.mails] == [["ana@contoso.com"]]


def test_nobody_there_is_said(settings: Callable[..., MailSettings]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        assert "does not answer: check OPTIMIZER_SMTP_HOST" in refusal(settings(port))


def test_an_unknown_name_is_said(settings: Callable[..., MailSettings]) -> None:
    sentence = refusal(settings(587, host="no such host"))
    assert sentence.startswith("The SMTP server no such host:587 is not known by this name")


def test_a_ca_file_that_is_none_is_said(
    settings: Callable[..., MailSettings], tmp_path: Path
) -> None:
    missing, empty = tmp_path / "missing.pem", tmp_path / "empty.pem"
    empty.touch()
    for file in (missing, empty):
        assert refusal(settings(1, ca_file=file)) == (
            f"{file} holds no certificate in PEM: check OPTIMIZER_SMTP_CA_FILE."
        )


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ({"host": None}, "The mail has no server: set OPTIMIZER_SMTP_HOST."),
        ({"sender": None}, "The mail has no sender: set OPTIMIZER_MAIL_FROM."),
        ({"recipients": ()}, "The mail has no recipients: set OPTIMIZER_MAIL_TO."),
    ],
)
def test_what_is_not_configured_is_named(
    settings: Callable[..., MailSettings], missing: dict[str, Any], sentence: str
) -> None:
    assert refusal(settings(1, **missing)) == sentence


def test_no_sentence_holds_the_password(
    authority: trustme.CA, settings: Callable[..., MailSettings]
) -> None:
    secret = SecretStr("hunter2-secret")
    with smtp_server(Mailbox(), tls_context=tls(authority)) as port:
        sentence = refusal(settings(port, username="u", password=secret))
    assert "hunter2" not in sentence + repr(settings(port, password=secret))
