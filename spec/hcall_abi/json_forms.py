"""JSON Schema of checks that a body's types do not express, for the description of the control channel.

The server itself checks bodies by the structs of `hcall_abi.control_bodies`. A client may check its request
by the description beforehand. The result is that of the server, with two exceptions. JSON Schema cannot
express that a text is printable, and that the labels of a host's name are valid. In these two cases the
description accepts more than the server.
"""

from __future__ import annotations

from typing import Any

from hcall_abi.bounds import TOKEN_SIZE

BASE64 = {"pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"}
"""Bytes of any length."""
_CHARACTERS = (TOKEN_SIZE + 2) // 3 * 4
TOKEN = {"pattern": f"^[A-Za-z0-9+/]{{{_CHARACTERS - 1}}}=$"}
"""The bytes of a token."""
PRINTABLE = {"pattern": r"^[^\x00-\x1f\x7f-\xa0\xad\u2028\u2029]*$"}
"""Text for people."""
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]\x00-\x20\x7f-\xa0\xad\u2028\u2029]+)"
# This is 1 to 65535, with leading zeros as the server accepts them. A regular expression has no numbers, so
# it lists the digits.
_PORT = "(?!0+$)(0?[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
PLACE = {"pattern": rf"^(unix:[^\x00]+|tcp:{_HOST}:{_PORT})$"}
"""The address of a listener (`hcall_abi.addresses.is_place`)."""


def given(field: str, *values: str) -> dict[str, Any]:
    """Return the schema of a body whose field is one of these words."""
    return {"properties": {field: {"enum": [*values]}}}


def only(needed: str, other: str) -> dict[str, Any]:
    """Return the schema of a body that has a text in one field, and nothing or null in another."""
    types = {needed: {"type": "string"}, other: {"type": "null"}}
    return {"properties": types, "required": [needed]}


def both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a body that satisfies two schemas."""
    return {"allOf": [one, other]}
