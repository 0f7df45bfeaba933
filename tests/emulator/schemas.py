"""Answers are held to the schemas derived from the SDKs, where those are at hand."""

import json
import re
from functools import cache
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from tests.conftest import ROOT

SCHEMAS = ROOT.parent / "shared" / "azure" / "schemas"
_PLAIN = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


def validate(value: object, model: str, file: str) -> None:
    """Check that a value is a model of a file: known properties only, of the right types."""
    if not (SCHEMAS / file).exists():
        pytest.skip(f"The derived schema {SCHEMAS / file} is not at hand.")
    schema = {"$ref": f"#/definitions/{model}", "definitions": _definitions(file)}
    jsonschema.validate(value, schema)


@cache
def _definitions(file: str) -> dict[str, Any]:
    models = json.loads((SCHEMAS / file).read_text(encoding="utf-8"))["definitions"]
    return {name: _model(model, models) for name, model in models.items()}


def _model(model: dict[str, Any], models: dict[str, Any]) -> dict[str, Any]:
    properties = model.get("properties", {})
    known = {name: _type(each.get("type", "Any"), models) for name, each in properties.items()}
    return {"type": "object", "properties": known, "additionalProperties": False}


def _type(written: str, models: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of a type as the derived files write it; all may be null."""
    if found := re.fullmatch(r"array<(.+)>", written):
        return {"type": ["array", "null"], "items": _type(found[1], models)}
    if found := re.fullmatch(r"map<(.+)>", written):
        return {"type": ["object", "null"], "additionalProperties": _type(found[1], models)}
    plain = written.split("|", maxsplit=1)[0]
    if plain in _PLAIN:
        return {"type": [_PLAIN[plain], "null"]}
    if plain in models:
        return {"anyOf": [{"$ref": f"#/definitions/{plain}"}, {"type": "null"}]}
    return {}
