"""The weekly mail: rendered as HTML and plain text from one view, and handed to an SMTP server."""

import smtplib
import socket
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from optimizer.config import MailSettings
from optimizer.errors import MailError
from optimizer.report.weekly import WeeklyView

TIMEOUT_SECONDS = 30.0

T = TypeVar("T")


def render(view: WeeklyView) -> EmailMessage:
    """Return the mail, without sender and recipients: plain text first, HTML as the better one."""
    message = EmailMessage()
    message["Subject"] = view.subject
    message.set_content(render_text(view))
    message.add_alternative(render_html(view), subtype="html")
    return message


def render_text(view: WeeklyView) -> str:
    """Return the plain text."""
    return _templates().get_template("email.txt.j2").render(view=view)


def render_html(view: WeeklyView) -> str:
    """Return the HTML: no script, nothing fetched, every foreign text escaped."""
    return _templates().get_template("email.html.j2").render(view=view)


def write_preview(view: WeeklyView, file: Path) -> None:
    """Write the mail to look at: HTML to `.html`, plain text to `.txt`, all of it to `.eml`.

    Raises:
        MailError: the file has another suffix or cannot be written.
    """
    match file.suffix:
        case ".html":
            content = render_html(view).encode()
        case ".txt":
            content = render_text(view).encode()
        case ".eml":
            content = render(view).as_bytes()
        case _:
            raise MailError(f"{file} must end in .html, .txt or .eml.")
    try:
        file.write_bytes(content)
    except OSError as error:
        raise MailError(f"{file} cannot be written: {error.strerror}.") from error


def send(message: EmailMessage, settings: MailSettings) -> None:
    """Hand a mail to the SMTP server, over a connection encrypted by STARTTLS.

    Raises:
        MailError: a setting is missing, the server cannot be reached or trusted, or refuses.
    """
    host = _needed(settings.host, "server", "OPTIMIZER_SMTP_HOST")
    sender = _needed(settings.sender, "sender", "OPTIMIZER_MAIL_FROM")
    recipients = _needed(settings.recipients, "recipients", "OPTIMIZER_MAIL_TO")
    if settings.username and not settings.starttls:
        raise MailError("A password is not sent in the clear: set mail.starttls to true.")
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Date"] = formatdate(usegmt=True)
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2].rstrip(">"))
    try:
        _hand_over(message, settings, host)
    except (smtplib.SMTPException, OSError) as error:
        raise MailError(_sentence(error, settings, f"{host}:{settings.port}")) from error


def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("optimizer.report", "."),
        autoescape=select_autoescape(("html.j2",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _needed(value: T | None, what: str, variable: str) -> T:
    if not value:
        raise MailError(f"The mail has no {what}: set {variable}.")
    return value


def _trust(settings: MailSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise MailError(
            f"{settings.ca_file} holds no certificate in PEM: check OPTIMIZER_SMTP_CA_FILE."
        ) from error


def _hand_over(message: EmailMessage, settings: MailSettings, host: str) -> None:
    context = _trust(settings)
    with smtplib.SMTP(host, settings.port, timeout=TIMEOUT_SECONDS) as server:
        if settings.starttls:
            _encrypt(server, context, host)
        if settings.username:
            password = settings.password.get_secret_value() if settings.password else ""
            server.login(settings.username, password)
        refused = server.send_message(message)
    if refused:
        raise MailError(f"{host} refused {', '.join(refused)}; everybody else has the mail.")


def _encrypt(server: smtplib.SMTP, context: ssl.SSLContext, host: str) -> None:
    server.ehlo_or_helo_if_needed()
    if not server.has_extn("starttls"):
        raise MailError(
            f"{host} offers no STARTTLS: use another port, or set mail.starttls to false if the "
            "way to it needs no encryption."
        )
    server.starttls(context=context)


def _sentence(error: OSError, settings: MailSettings, server: str) -> str:
    match error:
        case socket.gaierror():
            what = "is not known by this name: check OPTIMIZER_SMTP_HOST"
        case ConnectionRefusedError():
            what = "does not answer: check OPTIMIZER_SMTP_HOST and OPTIMIZER_SMTP_PORT"
        case TimeoutError():
            what = f"did not answer within {TIMEOUT_SECONDS:.0f} s"
        case ssl.SSLCertVerificationError():
            what = (
                f"has a certificate that is not trusted ({error.verify_message}): "
                "name its authority in OPTIMIZER_SMTP_CA_FILE"
            )
        case smtplib.SMTPAuthenticationError():
            what = f"refused the user {settings.username} or the password"
        case smtplib.SMTPRecipientsRefused():
            what = f"refused {', '.join(error.recipients)}"
        case smtplib.SMTPResponseException():
            what = f"refused the mail with code {error.smtp_code}"
        case _:
            what = f"did not take the mail ({error})"
    return f"The SMTP server {server} {what}."
