"""`optimizer.toml` and the environment, read once into frozen settings and passed down.

Every `OPTIMIZER_…` variable beats the file; a flag of the command line beats both.
"""

import getpass
import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    model_validator,
)

from optimizer.errors import ConfigError
from optimizer.maintenance import MaintenanceWindow, parse_window

DEFAULT_HOME = Path(".optimizer")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AzureSettings(_Frozen):
    """Where Azure is and who asks."""

    endpoint: str | None = None
    """Base URL that answers for Resource Manager, Monitor, Log Analytics and Retail Prices alike;
    None: the addresses of the Azure public cloud."""
    ca_file: FilePath | None = None
    """PEM file of the certificate authority to trust; None: the system's."""
    credential: Literal["default", "emulator"] = "default"
    """`default`: azure-identity's DefaultAzureCredential. `emulator`: a fixed token that no real
    Azure accepts."""
    read_timeout_seconds: float = Field(120.0, gt=0)
    """How long an answer may keep silent before it is asked for again."""
    billing_account: str | None = None
    """Whose savings plans and reservations are read; None: commitments stay unknown."""
    max_concurrency: int = Field(8, ge=1, le=32)
    put_instances: bool = False
    """Whether schedules of compute instances may be written. The only documented way is a PUT of
    the whole instance, which Azure calls an overwrite that nothing recovers from; where this is
    False they are advice."""
    operation_minutes: float = Field(30.0, gt=0)
    """How long the end of a change is waited for; then the next run looks what became of it."""


class MailSettings(_Frozen):
    """How the weekly mail leaves."""

    host: str | None = None
    port: int = 587
    sender: str | None = None
    recipients: tuple[str, ...] = ()
    username: str | None = None
    password: SecretStr | None = None
    starttls: bool = True
    ca_file: Path | None = None
    app_url: str | None = None
    """Where the mail's links point; None: the mail names the command instead."""


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"there is no time zone {name!r} in the IANA database")
    return name


class AnalysisSettings(_Frozen):
    """Assumptions the data cannot settle; every one is printed beside what rests on it."""

    lookback_days: int = Field(28, ge=14, le=93)
    billing_lag_hours: int = Field(48, ge=0)
    """Costs younger than this are incomplete (methods §8)."""
    cluster_interactive_share: float = Field(0.0, ge=0, le=1)
    """Share of a cluster's cold starts that a person waits for (methods §1.5)."""
    instance_interactive_share: float = Field(0.25, ge=0, le=1)
    waiting_value_per_hour: float = Field(80.0, ge=0)
    """What an hour of a waiting person is worth, in the billing currency (methods §12)."""
    min_saving_per_month: float = Field(20.0, ge=0)
    min_saving_share: float = Field(0.03, ge=0, le=1)
    idle_cpu_percent: float = Field(5.0, gt=0, le=10)
    idle_gpu_percent: float = Field(5.0, gt=0, le=10)
    silent_deployments_are_idle: bool = False
    """Whether a minute in which a deployment had instances, and Azure told no number of requests,
    had none. Azure's documents do not say whether 0 is told; `optimizer doctor` sees it."""
    time_zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    """Whose clock proposed schedules follow, by its IANA name such as `Europe/Berlin`."""
    ignore: tuple[str, ...] = ()
    """`detector` or `resource name` or `detector:resource name` to leave out."""


def _window(text: Any) -> Any:
    try:
        return parse_window(text) if isinstance(text, str) else text
    except ConfigError as error:
        raise ValueError(str(error)) from None


class ApplySettings(_Frozen):
    """What a team asks of every change."""

    require_approval: bool = False
    """Whether a second person must have approved a plan."""
    maintenance: tuple[Annotated[MaintenanceWindow, BeforeValidator(_window)], ...] = ()
    """When changes may be made, each such as `Sat-Sun 00:00-06:00 Europe/Berlin`; none: always. The
    tag `optimizer:maintenance` of a workspace holds instead, there."""
    parallel: int = Field(4, ge=1, le=16)
    """Resources that are changed at once; the steps of one follow one another."""


class EventSettings(_Frozen):
    """An event outside routine, dated by somebody who knows of it."""

    start: date
    until: date | None = None
    """Last day of an event that passed: its days are left out. Without it the event lasts, and the
    replay is calibrated anew on the days since."""
    where: str = ""
    """Resource or workspace, by name or id; empty: everything."""
    reason: str = Field(min_length=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.until is not None and self.until < self.start:
            raise ValueError(f"until {self.until} lies before start {self.start}")
        return self


class VerifySettings(_Frozen):
    """What no bill tells about the days before and after a change."""

    events: tuple[EventSettings, ...] = ()


class Settings(_Frozen):
    """Everything that is configured."""

    home: Path = DEFAULT_HOME
    ledger_url: SecretStr = Field(
        default_factory=lambda values: SecretStr(f"sqlite:///{values['home'] / 'ledger.sqlite'}")
    )
    """The SQLAlchemy address of the ledger, which may hold a password."""
    user: str | None = None
    """Who acts, as the ledger keeps it; None: the user that is signed in to this machine."""
    azure: AzureSettings = AzureSettings()
    mail: MailSettings = MailSettings()
    analysis: AnalysisSettings = AnalysisSettings()
    apply: ApplySettings = ApplySettings()
    verify: VerifySettings = VerifySettings()

    @property
    def lake(self) -> Path:
        """The folder of the Parquet tables."""
        return self.home / "lake"

    @property
    def memory(self) -> Path:
        """The file that knows what was found before."""
        return self.home / "memory.json"

    @property
    def who(self) -> str:
        """Who acts. Nothing proves it: it is what this machine says."""
        if self.user:
            return self.user
        try:
            return getpass.getuser()
        except (KeyError, OSError):  # a container's user need not have a name
            return "unknown"


_ENVIRONMENT = {
    "OPTIMIZER_HOME": ("home",),
    "OPTIMIZER_LEDGER_URL": ("ledger_url",),
    "OPTIMIZER_USER": ("user",),
    "OPTIMIZER_REQUIRE_APPROVAL": ("apply", "require_approval"),
    "OPTIMIZER_MAINTENANCE": ("apply", "maintenance"),
    "OPTIMIZER_AZURE_ENDPOINT": ("azure", "endpoint"),
    "OPTIMIZER_AZURE_CA_FILE": ("azure", "ca_file"),
    "OPTIMIZER_AZURE_CREDENTIAL": ("azure", "credential"),
    "OPTIMIZER_SMTP_HOST": ("mail", "host"),
    "OPTIMIZER_SMTP_PORT": ("mail", "port"),
    "OPTIMIZER_SMTP_USERNAME": ("mail", "username"),
    "OPTIMIZER_SMTP_PASSWORD": ("mail", "password"),
    "OPTIMIZER_SMTP_CA_FILE": ("mail", "ca_file"),
    "OPTIMIZER_MAIL_FROM": ("mail", "sender"),
    "OPTIMIZER_MAIL_TO": ("mail", "recipients"),
}
_LISTS = {"recipients": ",", "maintenance": ";"}
"""What separates the items of a variable that holds several."""


def load_settings(
    environment: Mapping[str, str], *, home: Path | None = None, file: Path | None = None
) -> Settings:
    """Return the settings of `optimizer.toml` (or `file`) overlaid by `environment` and `home`.

    Raises:
        ConfigError: the file cannot be read, or a value is not one we can use; it names the value.
    """
    path = file or Path("optimizer.toml")
    values: dict[str, Any] = _read(path) if file or path.exists() else {}
    for variable, keys in _ENVIRONMENT.items():
        if text := environment.get(variable):
            *parents, last = keys
            table = values
            for parent in parents:
                table = table.setdefault(parent, {})
            table[last] = tuple(text.split(_LISTS[last])) if last in _LISTS else text
    if home is not None:
        values["home"] = home
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"The setting {where} cannot be used: {first['msg']}.") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error
