"""A cluster beside the one it replaces: its name, its document, and what people must know of it."""

import re
from collections.abc import Collection, Iterator, Mapping
from string import ascii_lowercase
from typing import Any

from optimizer.model import Json, Resource
from optimizer.remediation.documents import value_at, with_value, writable

REPLACES = "optimizer:replaces"
"""The tag of a new cluster that names the one it stands in for."""
REPLACED_BY = "optimizer:replaced-by"
"""The tag of the old one."""

_NAME = re.compile(r"^[a-zA-Z](?![a-zA-Z0-9-]*-\d+$)[a-zA-Z0-9-]{2,23}$")
"""What Azure takes for a compute (facts §4.1)."""
_LONGEST = 24
_INNER = "properties.properties"


def new_cluster(
    old: Resource,
    settings: Mapping[str, Json],
    others: Collection[Resource],
    taken: Collection[str],
) -> tuple[str, dict[str, Any]]:
    """Return the id and the document of a cluster like `old` but for some settings.

    It has the same identity, network, tags and all else that a client may say. A cluster that
    replaces it already, and fits, keeps its name, so that planning again makes no second one.

    Args:
        old: what it is to replace.
        settings: by path in the document, what it is to have instead.
        others: every resource that is known, whose names are taken.
        taken: lower-case ids that the same plan gives to other new clusters.
    """
    document: dict[str, Any] = writable(old.arm)
    for path, value in settings.items():
        document = with_value(document, path, value)
    credentials = value_at(document, f"{_INNER}.userAccountCredentials")
    if isinstance(credentials, dict) and not credentials.get("adminUserSshPublicKey"):
        # Azure tells no password, and takes no account that has neither password nor key.
        del document["properties"]["properties"]["userAccountCredentials"]
    document["tags"] = {**(document.get("tags") or {}), REPLACES: old.name}
    computes = old.arm["id"].rpartition("/")[0]
    known = {other.resource_id: other for other in others}
    for name in _names(old.name, document["properties"]["properties"]):
        new_id = f"{computes}/{name}"
        standing = known.get(new_id.lower())
        if new_id.lower() in taken or not (standing is None or _fits(standing, old, document)):
            continue
        return new_id, document
    raise AssertionError("names do not run out")


def what_to_do(old: Resource, new_id: str) -> Iterator[str]:
    """Yield what people must do once there is a new cluster, and what they must know."""
    new = new_id.rpartition("/")[2]
    yield f"Jobs go on to use {old.name}: name the new one in their YAML, `compute: azureml:{new}`."
    yield "The old one is kept and scales to zero; delete it once no job names it."
    identity = str((old.arm.get("identity") or {}).get("type") or "")
    if "systemassigned" in identity.lower().replace(" ", ""):
        yield "Its system-assigned identity is a new one: give it the roles of the old one."
    inner = old.arm["properties"].get("properties") or {}
    credentials = inner.get("userAccountCredentials") or {}
    if credentials and not credentials.get("adminUserSshPublicKey"):
        yield "Azure does not tell the password of its user account, so the new one has no account."


def _names(old: str, inner: Mapping[str, Any]) -> Iterator[str]:
    size = str(inner["vmSize"]).lower().removeprefix("standard_").replace("_", "-")
    low = "-lp" if str(inner.get("vmPriority")).lower() == "lowpriority" else ""
    endings = ("", *(f"-{letter}" for letter in ascii_lowercase[1:]))
    for more in (*endings, *(f"{one}{two[1:]}" for one in endings[1:] for two in endings[1:])):
        ending = f"-{size}{low}{more}"
        name = f"{old[: _LONGEST - len(ending)].rstrip('-')}{ending}"
        if _NAME.match(name):
            yield name


def _fits(standing: Resource, old: Resource, document: Mapping[str, Any]) -> bool:
    """Whether a cluster was made by an earlier plan to be what is wanted."""
    inner, wanted = (d["properties"]["properties"] for d in (standing.arm, document))
    return standing.tags.get(REPLACES) == old.name and all(
        str(inner.get(name)).lower() == str(wanted.get(name)).lower()
        for name in ("vmSize", "vmPriority")
    )
