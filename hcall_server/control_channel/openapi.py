"""The OpenAPI 3.1 description of the control channel, made from the table of verbs."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from hcall_abi.console import ATTRIBUTES
from hcall_abi.control import (
    ALWAYS,
    JSON,
    PARAMETERS,
    PROBLEM_JSON,
    VERBS,
    WITH_BODY,
    ProblemKind,
    Verb,
)
from hcall_abi.control_bodies import OF_SEVERAL_FIELDS, Body
from hcall_abi.control_views import Answered, PartitionView, Problem
from hcall_server import __version__

PATH = "/openapi.json"
_ABOUT = (
    "The management console's door to an emulated system; see spec/control.md. An integer is a JSON number "
    "without a fraction or exponent part, as OpenAPI 3.1.0 defines it: 33.0 is refused."
)
_REFERENCE = "#/components/schemas/{name}"


def description() -> dict[str, Any]:
    """Return the whole description, ready for JSON."""
    paths: dict[str, dict[str, Any]] = {}
    for verb in VERBS:
        paths.setdefault(verb.path, {})[verb.method.lower()] = _operation(verb)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "swpks control channel",
            "version": __version__,
            "description": _ABOUT,
        },
        "paths": paths,
        "components": {"schemas": _schemas()},
    }


def problems_of(verb: Verb) -> list[ProblemKind]:
    """Return every kind of problem that a verb may answer, in the order of their statuses."""
    kinds = {*ALWAYS, *verb.problems, *(WITH_BODY if verb.body else ())}
    return sorted(kinds, key=lambda kind: kind.status)


def _operation(verb: Verb) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": verb.operation, "summary": verb.summary}
    if names := re.findall(r"{(\w+)}", verb.path):
        operation["parameters"] = [_parameter(name) for name in names]
    if verb.body:
        operation["requestBody"] = {"required": True, "content": _content(JSON, verb.body)}
    operation["responses"] = _responses(verb)
    return operation


def _parameter(name: str) -> dict[str, Any]:
    found = PARAMETERS[name]
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": found.description,
        "schema": dict(found.schema),
    }


def _responses(verb: Verb) -> dict[str, Any]:
    """Return the answers of a verb by their status.

    A status may belong to an answer and to several kinds of problems.
    """
    responses: dict[str, dict[str, Any]] = {}
    for kind in problems_of(verb):
        _add(responses, kind.status, kind.title, _content(PROBLEM_JSON, Problem))
    for status, body in verb.answers.items():
        content = _content(JSON, body) if body else {verb.text: {"schema": {"type": "string"}}}
        _add(responses, status, verb.summary, content)
    return responses


def _add(
    responses: dict[str, dict[str, Any]], status: int, description: str, content: dict[str, Any]
) -> None:
    # OpenAPI has each status only once.  So the descriptions of a status are joined.  The answer and the
    # problems have different media types.
    before = responses.get(str(status), {"description": "", "content": {}})
    words = "; ".join(filter(None, (before["description"], description)))
    responses[str(status)] = {"description": words, "content": before["content"] | content}


def _content(media_type: str, body: type[Body | Answered]) -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": _REFERENCE.format(name=body.__name__)}}}


def _schemas() -> dict[str, Any]:
    types: list[type[Body | Answered]] = [Problem]
    for verb in VERBS:
        types += [body for body in (verb.body, *verb.answers.values()) if body]
    schemas = msgspec.json.schema_components(types, ref_template=_REFERENCE)[1]
    shown = schemas[PartitionView.__name__]["properties"]
    for name, row in ATTRIBUTES.items():
        shown[name]["description"] = row.description
    for body, schema in OF_SEVERAL_FIELDS.items():
        schemas[body.__name__] |= schema
    return schemas
