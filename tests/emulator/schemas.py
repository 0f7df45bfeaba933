"""Documents are held to the schemas derived from the SDKs, where those are at hand.

The derived files name models with their wire names and types; JSON Schema does the checking.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from tests.recorded import SHARED

SCHEMAS = SHARED / "azure" / "schemas"
Schema = dict[str, Any]

_MOMENT = {
    "type": "string",
    "pattern": r"^\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?)?$",
}
_DURATION = {"type": "string", "pattern": r"^P(?=.)(\d+D)?(T(?=.)(\d+H)?(\d+M)?([\d.]+S)?)?$"}
_PLAIN: Mapping[str, Schema] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "Decimal": {"type": "number"},
    "bool": {"type": "boolean"},
    "datetime": _MOMENT,
    "iso-8601": _MOMENT,
    "timedelta": _DURATION,
    "duration": _DURATION,
    "Any": {},
    "object": {},
}
_SEEN: Mapping[str, Schema] = {
    # In the documented example of an answer; the SDK leaves it unread.
    "MetricResultsResponseValuesItem": {"cost": {"type": "integer"}},
    # In the documented example of an instance; in preview versions only (facts §4.3).
    "ComputeInstanceProperties": {
        name: {"type": "boolean"}
        for name in ("enableOSPatching", "enableRootAccess", "releaseQuotaOnStop")
    },
}
"""Names that Azure's own answers have and the models of the SDKs have not."""

_KNOWN = {
    # No time axis: sent unchanged by the SDK (facts §2.1), bounded by Microsoft's own rules (§6.2).
    "GranularityType": ["None"],
}
"""Choices that Azure takes and the enumerations of the SDKs have not."""


def validate(value: object, model: str, file: str) -> None:
    """Check that a value is a model of a file; the first thing wrong is raised."""
    wrong = wrongs(value, model, file)
    assert not wrong, "\n".join(wrong)


def wrongs(value: object, model: str, file: str, *, sent: bool = False) -> list[str]:
    """Return what is wrong with a value as a model of a file: names, types, what is required.

    `sent`: by a client, so that nothing may be in it that only the service writes.
    """
    schema = {"$ref": f"#/definitions/{model}", "definitions": _definitions(file, sent=sent)}
    found = jsonschema.Draft202012Validator(schema).iter_errors(value)
    return [f"{each.json_path}: {each.message}" for each in found]


@cache
def paths(file: str) -> Mapping[str, Any]:
    """Return the operations of a file: by path and method, with the query parameters they know."""
    operations: dict[str, Any] = _document(file)["paths"]
    return operations


@cache
def _document(file: str) -> dict[str, Any]:
    if not (SCHEMAS / file).exists():
        pytest.skip(f"The derived schema {SCHEMAS / file} is not at hand.")
    document: dict[str, Any] = json.loads((SCHEMAS / file).read_text(encoding="utf-8"))
    return document


@cache
def _definitions(file: str, *, sent: bool) -> Schema:
    models = _document(file)["definitions"]
    plain = {
        f"{name} itself": _model(
            model, models, sent=sent, seen=_SEEN.get(name, {}), more=_KNOWN.get(name, [])
        )
        for name, model in models.items()
    }
    return plain | {name: _of_kind(name, models) for name in models}


def _model(
    model: dict[str, Any],
    models: dict[str, Any],
    *,
    sent: bool,
    seen: Schema,
    more: Sequence[str],
) -> Schema:
    if "enum" in model:
        return {"enum": [*model["enum"], *more, None]}
    properties = model.get("properties", {})
    known = {name: each for name, each in properties.items() if not (sent and each.get("readOnly"))}
    return {
        "type": "object",
        "properties": {n: _or_null(_type(each["type"], models)) for n, each in known.items()}
        | seen,
        "required": [name for name, each in known.items() if _required(each)],
        "additionalProperties": False,
    }


def _required(written: dict[str, Any]) -> bool:
    return bool(written.get("required")) or "Required." in written.get("doc", "")


def _of_kind(name: str, models: dict[str, Any]) -> Schema:
    """Return the schema of a model: of the kind that its discriminator says, else of itself."""
    schema: Schema = {"$ref": f"#/definitions/{name} itself"}
    for kind, model in models.items():
        if name in model.get("bases", []):
            for field, each in model["properties"].items():
                if const := re.fullmatch(r"const \['(.+)'\]", each["type"]):
                    said = {"properties": {field: {"const": const[1]}}, "required": [field]}
                    schema = {"if": said, "then": {"$ref": f"#/definitions/{kind}"}, "else": schema}
    return schema


def _type(written: str, models: dict[str, Any]) -> Schema:
    """Return the JSON schema of a type as the derived files write it."""
    if const := re.fullmatch(r"const \['(.+)'\]", written):
        return {"const": const[1]}
    if each := re.fullmatch(r"array<(.+)>|\[(.+)\]", written):
        return {"type": "array", "items": _or_null(_type(each[1] or each[2], models))}
    if each := re.fullmatch(r"map<(.+)>|\{(.+)\}", written):
        values = _or_null(_type(each[1] or each[2], models))
        return {"type": "object", "additionalProperties": values}
    if (choice := re.fullmatch(r"str\|enum (\w+)", written)) and choice[1] in models:
        return {"$ref": f"#/definitions/{choice[1]}"}
    plain = written.split("|", maxsplit=1)[0]
    return _PLAIN.get(plain, {"$ref": f"#/definitions/{plain}"})


def _or_null(schema: Schema) -> Schema:
    """Allow null, which the service writes for whatever is not there."""
    if not schema:
        return schema
    if isinstance(kind := schema.get("type"), str):
        return schema | {"type": [kind, "null"]}
    return {"if": {"type": "null"}, "else": schema}
