"""The rule that a malformed body breaks, derived from the error of its Construct definition.

The author of a peer needs the id of a rule and the name of a field.  Both follow from Construct's error:
its class is the kind of damage, and the last part of its path is the field.
"""

from __future__ import annotations

from typing import NamedTuple

from construct import CheckError, ConstError, StringError, TerminatedError, ValidationError

from hcall_abi.frames import FrameType
from hcall_abi.rules import protocol as rules
from hcall_abi.rules.rule import Rule


class _Breach(NamedTuple):
    """An error of class `error` inside `part` of the body breaks `rule`; "" is any part.

    If the error names no field, the message has `place` instead.  `shown` is the place of a byte in the body
    whose value the message has; only a field that never holds a secret is shown.
    """

    error: type[Exception] | tuple[type[Exception], ...]
    part: str
    rule: Rule
    place: str
    shown: int | None = None


_TEXT = (StringError, UnicodeDecodeError)  # which of them depends on the version of Construct
_RESERVED, _LEFT_OVER = "a reserved field", "bytes left over"

_PROOF_KIND = 2
"""The place of the proof kind in the body of OPEN, behind the partition id."""

# `breach` uses the first row that fits. The last row of a frame is for a body that ends too early, and fits
# every error.
_BREACHES: dict[FrameType, tuple[_Breach, ...]] = {
    FrameType.HELLO: (
        _Breach(ConstError, "", rules.HELLO_RESERVED, _RESERVED),
        _Breach(CheckError, "", rules.HELLO_VERSIONS, "lowest and highest"),
        _Breach(_TEXT, "", rules.HELLO_NAME, "name"),
        _Breach(TerminatedError, "", rules.HELLO_END, _LEFT_OVER),
        _Breach(Exception, "", rules.HELLO_FIELDS, _RESERVED),
    ),
    FrameType.OPEN: (
        _Breach(ConstError, "", rules.OPEN_RESERVED, _RESERVED),
        _Breach(ValidationError, "", rules.OPEN_PROOF_KIND, "proof_kind", _PROOF_KIND),
        _Breach(CheckError, "", rules.OPEN_PROOF_ZERO, "proof"),
        _Breach(_TEXT, "", rules.OPEN_NAME, "name"),
        _Breach(TerminatedError, "", rules.OPEN_END, _LEFT_OVER),
        _Breach(Exception, "", rules.OPEN_FIELDS, _RESERVED),
    ),
    FrameType.OPENED: (
        _Breach(ConstError, "", rules.OPENED_RESERVED, _RESERVED),
        _Breach(_TEXT, "", rules.OPENED_LEVEL, "level"),
        _Breach(TerminatedError, "", rules.OPENED_END, _LEFT_OVER),
        _Breach(Exception, "", rules.OPENED_FIELDS, _RESERVED),
    ),
    FrameType.HCALL: (
        _Breach(ConstError, "", rules.HCALL_RESERVED, _RESERVED),
        _Breach(CheckError, "accesses_known", rules.HCALL_ACCESS, "segments"),
        _Breach(CheckError, "segments_apart", rules.HCALL_OVERLAP, "segments"),
        _Breach(TerminatedError, "", rules.HCALL_BYTES, _LEFT_OVER),
        _Breach(Exception, "data", rules.HCALL_BYTES, "data"),
        _Breach(Exception, "segments", rules.HCALL_SEGMENTS, "segments"),
        _Breach(Exception, "", rules.HCALL_HEAD, _RESERVED),
    ),
    FrameType.HRETURN: (
        _Breach(ConstError, "", rules.HRETURN_RESERVED, _RESERVED),
        _Breach(TerminatedError, "", rules.HRETURN_BYTES, _LEFT_OVER),
        _Breach(Exception, "data", rules.HRETURN_BYTES, "data"),
        _Breach(Exception, "writes", rules.HRETURN_WRITES, "writes"),
        _Breach(Exception, "", rules.HRETURN_HEAD, _RESERVED),
    ),
    FrameType.GOODBYE: (
        _Breach(_TEXT, "", rules.GOODBYE_TEXT, "text"),
        _Breach(TerminatedError, "", rules.GOODBYE_END, _LEFT_OVER),
        _Breach(Exception, "", rules.GOODBYE_FIELDS, "reason"),
    ),
}


def breach(kind: FrameType, error: Exception, body: bytes) -> tuple[Rule, str]:
    """Return the rule that a body of type `kind` breaks, and a message that names the field.

    The message holds no byte of the body but that of a row with `shown`.
    """
    # Construct's own text is not used: it shows the bytes, which may be a password or object data.
    fields = _path(error)
    part, field = (fields[0], fields[-1]) if fields else ("", "")
    row = next(row for row in _BREACHES[kind] if isinstance(error, row.error) and row.part in ("", part))
    value = "" if row.shown is None else f" {body[row.shown]}"
    return row.rule, f"malformed {kind.name}: {field or row.place}{value}"


def _path(error: Exception) -> list[str]:
    """Return the names of the fields that lead to an error, the outermost first.

    The path of Construct's error is text such as "(parsing) -> head -> count".  An error without a path
    gives an empty list.
    """
    # A UnicodeDecodeError comes from Python's codec, and has no path.
    path: str | None = getattr(error, "path", None)
    return path.split(" -> ")[1:] if path else []
