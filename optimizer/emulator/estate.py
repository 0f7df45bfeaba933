"""Estate folders: what a fictitious or reconstructed customer has and does.

Everything is checked here, once, so that the rest of the emulator can trust it.
"""

import json
import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveInt,
    TypeAdapter,
)

from optimizer.emulator import arm
from optimizer.emulator.files import (
    read_csv,
    read_json,
    read_table,
    read_text,
    table_rows,
    validate,
)
from optimizer.emulator.physics import Capacity, Physics
from optimizer.errors import EstateError

Documents: TypeAlias = Mapping[str, dict[str, Any]]
"""ARM documents by id as it is compared."""

_STRICT = ConfigDict(extra="forbid")

HOURS_PER_YEAR = 8760
_RESERVATION_ID = r"^/providers/Microsoft\.Capacity/reservationOrders/[^/]+/reservations/[^/]+$"
_SCOPE = r"^/subscriptions/[^/]+(/resourceGroups/[^/]+)?$"

_MOMENT = pa.timestamp("us", tz="UTC")
_JOBS = pa.schema(
    [
        pa.field("job_id", pa.string(), nullable=False),
        pa.field("resource_id", pa.string(), nullable=False),
        pa.field("submit_utc", _MOMENT, nullable=False),
        pa.field("run_seconds", pa.float64(), nullable=False),
        pa.field("nodes", pa.int64(), nullable=False),
        pa.field("kind", pa.string()),
        pa.field("parent_id", pa.string()),
        pa.field("experiment", pa.string()),
        pa.field("user", pa.string()),
        pa.field("fails", pa.bool_()),
        pa.field("cpu_cores_needed", pa.float64()),
        pa.field("memory_gib_needed", pa.float64()),
        pa.field("gpus_needed", pa.float64()),
        pa.field("gpu_busy_fraction", pa.float64()),
        pa.field("gpu_memory_gib_needed", pa.float64()),
        pa.field("checkpoint_minutes", pa.float64()),
        pa.field("reference_sku", pa.string()),
        # These two may be left out: what a job's document says to end it before its time.
        pa.field("time_limit_minutes", pa.float64()),
        pa.field("early_termination", pa.string()),
    ]
)
_SESSIONS = pa.schema(
    [
        pa.field("resource_id", pa.string(), nullable=False),
        pa.field("user", pa.string()),
        pa.field("start_utc", _MOMENT, nullable=False),
        pa.field("end_utc", _MOMENT, nullable=False),
        pa.field("cpu_pct", pa.float64()),
        pa.field("gpu_pct", pa.float64()),
        pa.field("memory_pct", pa.float64()),
        pa.field("keeps_kernel_open", pa.bool_()),
        pa.field("via", pa.string(), nullable=False),
        pa.field("user_stops", pa.bool_()),
    ]
)
_REQUESTS = pa.schema(
    [
        pa.field("resource_id", pa.string(), nullable=False),
        pa.field("minute_utc", _MOMENT, nullable=False),
        pa.field("requests_per_minute", pa.float64(), nullable=False),
        pa.field("service_ms", pa.float64()),
    ]
)
_POLICIES = ("Bandit", "MedianStopping", "TruncationSelection")
_WAYS_IN = ("jupyter", "vscode", "ssh", "app")

_CHANGEABLE = (
    "tags",
    "properties.properties.scaleSettings",
    "properties.properties.idleTimeBeforeShutdown",
    "properties.properties.schedules",
    "properties.properties.customServices",
    "sku.capacity",
    "properties.profiles",
    "properties.enabled",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Machines of a size that were committed to for a term, and paid for at once."""

    __pydantic_config__ = _STRICT

    id: Annotated[str, Field(pattern=_RESERVATION_ID)]
    billing_account: str
    """Whose summaries tell of its use."""
    subscription: str
    """That pays: in its bill stand the purchase and what goes unused."""
    region: str
    sku: str
    quantity: PositiveInt
    term: Literal["P1Y", "P3Y"] = "P1Y"
    start_utc: AwareDatetime
    scope: Annotated[str, Field(pattern=_SCOPE)] | None = None
    """The id of a subscription or a resource group; None: it is shared by all."""
    is_flexible: bool = True
    """Whether instance size flexibility is on: Azure Machine Learning gets no discount without."""

    @property
    def term_hours(self) -> int:
        """Hours of its term, as Azure counts them: 8,760 to the year."""
        return HOURS_PER_YEAR * (1 if self.term == "P1Y" else 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Billing:
    """How the customer's bill is made of list prices."""

    __pydantic_config__ = _STRICT

    discount: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The part of the list price that the customer does not pay."""
    lag_hours: NonNegativeFloat = 0.0
    round_to: NonNegativeFloat | None = None
    reservations: tuple[Reservation, ...] = ()
    """What was committed to; prices.csv says at what rate, and no discount is of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What of the truth the customer can see."""

    __pydantic_config__ = _STRICT

    missing_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    diagnostic_logs: bool = True
    cost_details: bool = True
    tags_on_costs: bool = True
    instance_metrics: bool = True
    """Whether an instance without a job emits utilisation; Azure's documents do not say."""
    zero_requests: bool = True
    """Whether a minute without a request is told as none, or not at all; nor do they say that."""
    reservation_summaries: bool = True
    """Whether the benefit utilisation summaries tell of reservations: their kinds name them, and
    their documentation savings plans alone."""
    silent_computes: tuple[str, ...] = ()
    """Names of computes of which neither metrics nor logs ever arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A VM size in a region: what it holds and what an hour of it costs. None = not sold."""

    __pydantic_config__ = _STRICT

    region: str
    sku: str
    vcpus: NonNegativeFloat | None
    memory_gib: NonNegativeFloat | None
    gpus: NonNegativeFloat | None
    gpu_memory_gib: NonNegativeFloat | None
    list_per_hour: NonNegativeFloat | None
    low_priority_per_hour: NonNegativeFloat | None
    ri_1y_per_hour: NonNegativeFloat | None
    ri_3y_per_hour: NonNegativeFloat | None
    currency: str
    as_of: str

    @property
    def capacity(self) -> Capacity:
        """What a node of this size holds."""
        return Capacity(
            vcpus=self.vcpus,
            memory_gib=self.memory_gib,
            gpus=self.gpus,
            gpu_memory_gib=self.gpu_memory_gib,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What an hour of a node costs on the list, at its priority."""

    sku: str
    """As the price list spells it."""
    is_low_priority: bool
    per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingChange:
    """A setting that somebody changed, or will change, at a moment."""

    __pydantic_config__ = _STRICT

    at_utc: AwareDatetime
    resource_id: str
    path: str
    """In the ARM document, such as `properties.properties.scaleSettings.minNodeCount`."""
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """A customer's estate, checked, with nothing played yet."""

    folder: Path
    name: str
    currency: str
    history_start_utc: datetime
    now_utc: datetime
    billing: Billing
    physics: Physics
    telemetry: Telemetry
    seed: int
    resources: tuple[dict[str, Any], ...]
    """ARM documents, settings as they stood at `history_start_utc`."""
    changes: tuple[SettingChange, ...]
    """In order of time; the future may be among them."""
    jobs: pa.Table
    sessions: pa.Table
    requests: pa.Table
    prices: Mapping[tuple[str, str], Price]
    """By (region, sku), both in lower case."""

    def price(self, region: str, sku: str) -> Price:
        """Return the price of a VM size in a region.

        Raises:
            EstateError: `prices.csv` does not hold it.
        """
        try:
            return self.prices[region.lower(), sku.lower()]
        except KeyError as error:
            raise EstateError(
                f"prices.csv has no row for {sku or 'an unnamed VM size'} in {region}; add one"
            ) from error

    def rate(self, document: Mapping[str, Any]) -> Rate:
        """Return the rate at which the nodes of a compute or deployment are billed.

        Raises:
            EstateError: `prices.csv` does not hold its VM size, or not at its priority.
        """
        price = self.price(arm.region(document), arm.vm_size(document))
        low = arm.is_low_priority(document)
        per_hour = price.low_priority_per_hour if low else price.list_per_hour
        if per_hour is None:
            column = "low_priority_per_hour" if low else "list_per_hour"
            raise EstateError(
                f"prices.csv has no {column} for {price.sku} in {price.region}; fill it"
            )
        return Rate(sku=price.sku, is_low_priority=low, per_hour=per_hour)

    def reserved_per_hour(self, reservation: Reservation) -> float:
        """Return what an hour of one reserved machine costs, used or not.

        Raises:
            EstateError: `prices.csv` does not hold its VM size, or not for its term.
        """
        price = self.price(reservation.region, reservation.sku)
        years = reservation.term[1]
        per_hour = price.ri_1y_per_hour if years == "1" else price.ri_3y_per_hour
        if per_hour is None:
            raise EstateError(
                f"prices.csv has no ri_{years}y_per_hour for {price.sku} in {price.region}; fill it"
            )
        return per_hour


class _EstateFile(BaseModel):
    """`estate.json`."""

    model_config = _STRICT

    name: str
    currency: str
    history_start_utc: AwareDatetime
    now_utc: AwareDatetime
    billing: Billing = Billing()
    physics: Physics = Physics()
    telemetry: Telemetry = Telemetry()
    seed: int = 0


class _Resource(BaseModel):
    """What every ARM document must have for the emulator to know where it belongs."""

    id: Annotated[str, Field(pattern=r"^/subscriptions/[^/]+/")]
    name: str
    type: str
    properties: dict[str, Any] = {}
    sku: dict[str, Any] | None = None
    tags: dict[str, str] | None = None
    location: str | None = None


def load_estate(folder: Path) -> Estate:
    """Read and check an estate folder; the files of activity and changes may be absent.

    Raises:
        EstateError: a file is missing or cannot be played; names the file, the place and the way
            out.
    """
    head = read_json(folder / "estate.json", TypeAdapter(_EstateFile))
    if head.now_utc < head.history_start_utc:
        raise EstateError(f"{folder / 'estate.json'}: now_utc lies before history_start_utc; swap")
    estate = Estate(
        folder=folder,
        name=head.name,
        currency=head.currency,
        history_start_utc=head.history_start_utc,
        now_utc=head.now_utc,
        billing=head.billing,
        physics=head.physics,
        telemetry=head.telemetry,
        seed=head.seed,
        resources=_read_resources(folder / "resources.json"),
        changes=_read_changes(folder / "changes.csv"),
        jobs=read_table(folder / "jobs.parquet", _JOBS),
        sessions=read_table(folder / "sessions.parquet", _SESSIONS),
        requests=read_table(folder / "requests.parquet", _REQUESTS),
        prices=_read_prices(folder / "prices.csv"),
    )
    _check(estate)
    return estate


# -- reading -------------------------------------------------------------------------------------


def _read_resources(path: Path) -> tuple[dict[str, Any], ...]:
    read_json(path, TypeAdapter(list[_Resource]))
    documents: list[dict[str, Any]] = json.loads(read_text(path))
    return tuple(documents)


def _read_prices(path: Path) -> dict[tuple[str, str], Price]:
    prices = validate(path, TypeAdapter(list[Price]), read_csv(path))
    return {(price.region.lower(), price.sku.lower()): price for price in prices}


def _read_changes(path: Path) -> tuple[SettingChange, ...]:
    if not path.exists():
        return ()
    rows = [row | {"value": _json_or_text(row.get("value"))} for row in read_csv(path)]
    changes = validate(path, TypeAdapter(list[SettingChange]), rows)
    return tuple(sorted(changes, key=lambda change: change.at_utc))


def _json_or_text(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except json.JSONDecodeError:
        return text


# -- checking ------------------------------------------------------------------------------------


def _check(estate: Estate) -> None:
    for price in estate.prices.values():
        if price.currency != estate.currency:
            raise EstateError(
                f"{estate.folder / 'prices.csv'}: {price.sku} is priced in {price.currency} and "
                f"estate.json bills in {estate.currency}; give prices in that currency"
            )
    by_id = _by_id(estate)
    for document in estate.resources:
        _check_resource(estate, document, by_id)
    _check_reservations(estate)
    _check_changes(estate, by_id)
    _check_jobs(estate, by_id)
    _check_sessions(estate, by_id)
    _check_known(estate, estate.requests, "requests.parquet", by_id, arm.is_deployment)


def _by_id(estate: Estate) -> dict[str, dict[str, Any]]:
    by_id: dict[str, dict[str, Any]] = {}
    for document in estate.resources:
        if arm.key(document["id"]) in by_id:
            raise EstateError(
                f"{estate.folder / 'resources.json'} has {document['id']} twice; keep one"
            )
        by_id[arm.key(document["id"])] = document
    return by_id


def _check_resource(estate: Estate, document: dict[str, Any], by_id: Documents) -> None:
    path = estate.folder / "resources.json"
    if arm.is_autoscale(document):
        _check_autoscale(path, document, by_id)
    if not arm.is_played(document):
        return
    if arm.key(arm.workspace_id(document["id"])) not in by_id:
        raise EstateError(
            f"{path}: {document['name']} is in a workspace that is not listed; add it"
        )
    try:
        estate.rate(document)
        arm.check_settings(document)
    except EstateError as error:
        raise EstateError(f"{path}: {document['name']}: {error}") from error


def _check_autoscale(path: Path, document: dict[str, Any], by_id: Documents) -> None:
    try:
        arm.check_settings(document)
    except EstateError as error:
        raise EstateError(f"{path}: {error}") from error
    if arm.autoscaled(document) not in by_id:
        raise EstateError(
            f"{path}: {document['name']} scales {arm.autoscaled(document) or 'nothing'}, which is "
            "not listed; add it"
        )


def _check_reservations(estate: Estate) -> None:
    path = estate.folder / "estate.json"
    ids = [reservation.id.lower() for reservation in estate.billing.reservations]
    for reservation in estate.billing.reservations:
        try:
            estate.reserved_per_hour(reservation)
        except EstateError as error:
            raise EstateError(f"{path}: {reservation.id}: {error}") from error
        if ids.count(reservation.id.lower()) > 1:
            raise EstateError(f"{path} has {reservation.id} twice; keep one")


def _check_changes(estate: Estate, by_id: Documents) -> None:
    path = estate.folder / "changes.csv"
    changed = {arm.key(change.resource_id) for change in estate.changes}
    played = {key: deepcopy(document) for key, document in by_id.items() if key in changed}
    for change in estate.changes:
        document = played.get(arm.key(change.resource_id))
        if document is None:
            raise EstateError(
                f"{path}: {change.resource_id} is not in resources.json; add it there"
            )
        if not change.path.startswith(_CHANGEABLE):
            raise EstateError(
                f"{path}: {change.path!r} cannot change; what can is {', '.join(_CHANGEABLE)}"
            )
        if change.at_utc < estate.history_start_utc:
            raise EstateError(
                f"{path}: a change at {change.at_utc.isoformat()} lies before history_start_utc; "
                "write what it left behind into resources.json"
            )
        try:
            arm.put_at(document, change.path, change.value)
            arm.check_settings(document)
        except EstateError as error:
            raise EstateError(f"{path}: at {change.at_utc.isoformat()} {error}") from error


def _check_jobs(estate: Estate, by_id: Documents) -> None:
    path = estate.folder / "jobs.parquet"
    jobs = estate.jobs
    _check_known(estate, jobs, "jobs.parquet", by_id, arm.is_cluster)
    _check_times(estate, jobs, "jobs.parquet", "submit_utc")
    if pc.count_distinct(jobs["job_id"]).as_py() != len(jobs):
        raise EstateError(f"{path}: a job_id occurs twice; make each one unique")
    strange = sorted(set(jobs["early_termination"].to_pylist()) - {*_POLICIES, None})
    if strange:
        raise EstateError(
            f"{path}: early_termination is {strange[0]!r}; use one of {', '.join(_POLICIES)}"
        )
    limits = {
        key: arm.read_scale(document).max_nodes
        for key, document in by_id.items()
        if arm.is_cluster(document)
    }
    for job in table_rows(jobs, ("job_id", "resource_id", "nodes", "run_seconds", "reference_sku")):
        cluster = by_id[arm.key(job["resource_id"])]
        most = limits[arm.key(job["resource_id"])]
        if not 1 <= job["nodes"] <= most:
            raise EstateError(
                f"{path}: job {job['job_id']} needs {job['nodes']} nodes and {cluster['name']} has "
                f"1 to {most}; raise maxNodeCount in resources.json or lower nodes"
            )
        if not (math.isfinite(job["run_seconds"]) and job["run_seconds"] >= 0):
            raise EstateError(
                f"{path}: job {job['job_id']} has run_seconds {job['run_seconds']}; give a length"
            )
        if job["reference_sku"]:
            estate.price(arm.region(cluster), job["reference_sku"])


def _check_sessions(estate: Estate, by_id: Documents) -> None:
    path = estate.folder / "sessions.parquet"
    sessions = estate.sessions
    _check_known(estate, sessions, "sessions.parquet", by_id, arm.is_instance)
    _check_times(estate, sessions, "sessions.parquet", "start_utc")
    strange = sorted(set(sessions["via"].to_pylist()) - set(_WAYS_IN))
    if strange:
        raise EstateError(f"{path}: via is {strange[0]!r}; use one of {', '.join(_WAYS_IN)}")
    if pc.any(pc.less(sessions["end_utc"], sessions["start_utc"])).as_py():
        raise EstateError(f"{path}: a session has end_utc before start_utc; swap them")


def _check_known(
    estate: Estate,
    table: pa.Table,
    file: str,
    by_id: Documents,
    is_wanted: Callable[[Mapping[str, Any]], bool],
) -> None:
    for resource_id in pc.unique(table["resource_id"]).to_pylist():
        document = by_id.get(arm.key(resource_id))
        if document is None:
            raise EstateError(
                f"{estate.folder / file}: resource_id {resource_id} is not in resources.json; "
                "add it there"
            )
        if not is_wanted(document):
            raise EstateError(
                f"{estate.folder / file}: {resource_id} is not of the kind that can have rows "
                "there; jobs run on clusters, sessions on compute instances and requests on "
                "managed deployments"
            )


def _check_times(estate: Estate, table: pa.Table, file: str, column: str) -> None:
    moments = (row[column] for row in table_rows(table, (column,)))
    earliest = min(moments, default=None)
    if earliest is not None and earliest < estate.history_start_utc:
        raise EstateError(
            f"{estate.folder / file}: {column} begins at {earliest.isoformat()}, before "
            "history_start_utc; drop those rows or move history_start_utc back"
        )
