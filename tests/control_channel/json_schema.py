"""A small checker for JSON Schema, with exactly the keywords of the control channel's description.

`integer` is that of OpenAPI 3.1.0: a JSON number without a fraction or exponent part.  Python's JSON reader
makes an `int` of exactly these numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

REFERENCE = "#/components/schemas/"
_SAYS_NOTHING = {"title", "description", "default", "contentEncoding"}
_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}


def accepts(schemas: Mapping[str, Any], name: str, text: str) -> bool:
    """Return whether a schema of the description accepts a text of JSON."""
    return _accepts(schemas, schemas[name], json.loads(text))


def _is_number(value: Any) -> bool:
    return _TYPES["number"](value)


def _accepts(schemas: Mapping[str, Any], schema: Mapping[str, Any], value: Any) -> bool:
    def below(part: Mapping[str, Any], inner: Any) -> bool:
        return _accepts(schemas, part, inner)

    def properties(parts: Mapping[str, Any]) -> bool:
        there = value if isinstance(value, dict) else {}
        return all(below(part, there[key]) for key, part in parts.items() if key in there)

    judges: dict[str, Callable[[Any], bool]] = {
        "$ref": lambda to: below(schemas[to.removeprefix(REFERENCE)], value),
        "type": lambda kind: _TYPES[kind](value),
        "enum": lambda words: value in words,
        "minimum": lambda least: not _is_number(value) or value >= least,
        "maximum": lambda most: not _is_number(value) or value <= most,
        "exclusiveMinimum": lambda least: not _is_number(value) or value > least,
        "minLength": lambda least: not isinstance(value, str) or len(value) >= least,
        "maxLength": lambda most: not isinstance(value, str) or len(value) <= most,
        "pattern": lambda form: not isinstance(value, str) or bool(_compiled(form).search(value)),
        "maxItems": lambda most: not isinstance(value, list) or len(value) <= most,
        "items": lambda part: not isinstance(value, list) or all(below(part, each) for each in value),
        "required": lambda names: not isinstance(value, dict) or set(names) <= value.keys(),
        "properties": properties,
        "additionalProperties": lambda allowed: (
            allowed or not isinstance(value, dict) or value.keys() <= schema["properties"].keys()
        ),
        "anyOf": lambda parts: any(below(part, value) for part in parts),
        "allOf": lambda parts: all(below(part, value) for part in parts),
        "not": lambda part: not below(part, value),
    }
    return all(judges[key](wanted) for key, wanted in schema.items() if key not in _SAYS_NOTHING)


def _compiled(form: str) -> re.Pattern[str]:
    """Return an expression of the schema.

    Its `$` means the very end; Python's `$` also matches before a newline.
    """
    assert form.endswith("$")
    assert not form.endswith("\\$")
    return re.compile(form.removesuffix("$") + r"\Z")
