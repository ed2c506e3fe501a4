"""Mistakes of the calling program: an argument of the wrong type, or a name that nothing has.

Each text is one line: it names the argument, the mistake, and the way to write it.  No text shows the value
of an argument that may be a password, a key or the data of an object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class Mistake(Exception):
    """The program calls a function in a wrong way; nothing has happened yet.

    If `swpks.testing` raises it, the traceback ends at the line of the caller.
    """


class WrongType(Mistake, TypeError):
    """An argument has the wrong type."""


class WrongValue(Mistake, ValueError):
    """An argument has a value that it cannot have."""


class UnknownName(Mistake, LookupError):
    """An argument names a thing that does not exist."""


class WrongLoop(Mistake, RuntimeError):
    """A function of Trio is called in another event loop, or in none."""


def of_caller(found: Any) -> bool:
    """Return whether pytest leaves the frames of a module out of a traceback.

    The answer is yes for a `Mistake`, and for an error whose message has a remedy (`advised`).  A module uses
    this function as its `__tracebackhide__`.  pytest calls it with its ExceptionInfo.
    """
    # Errors of other kinds keep their frames: they are bugs here, and the frames show where.
    hidden: bool = found.errisinstance(Mistake) or getattr(found.value, "advised", False) is True
    return hidden


__tracebackhide__ = of_caller


def kind_of(given: object) -> str:
    """Return the name of a value's type, for an error that must not show the value."""
    return type(given).__name__


def check_text(place: str, given: object) -> None:
    """Raise WrongType for a value that is no text."""
    if not isinstance(given, str):
        hint = ', without the b before the quotes: write "..."' if isinstance(given, bytes) else ""
        raise WrongType(f"{place} is text, not {kind_of(given)}{hint}")


def check_text_or_bytes(place: str, given: object) -> None:
    """Raise WrongType for a value that is neither text nor bytes."""
    if not isinstance(given, str | bytes):
        raise WrongType(f"{place} is text or bytes, not {kind_of(given)}")


def check_number(place: str, given: object) -> None:
    """Raise WrongType for a value that is no whole number; a text with digits is no number either."""
    # A bool is an int in Python, but True as a number of bytes is a mistake.
    if not isinstance(given, int) or isinstance(given, bool):
        raise no_number(place, given)


def no_number(place: str, given: object) -> WrongType:
    """Return the error of a value that is no whole number.

    The value may be a secret, so the error never shows it.
    """
    hint = ": write it without quotes" if isinstance(given, str) else ""
    return WrongType(f"{place} is a whole number, not {kind_of(given)}{hint}")


def check_bytes(place: str, given: object) -> None:
    """Raise WrongType for a value that is no bytes."""
    if not isinstance(given, bytes | bytearray | memoryview):
        raise no_bytes(place, given)


def no_bytes(place: str, given: object) -> WrongType:
    """Return the error of a value that is no bytes.

    The value may be a secret, so the error never shows it.
    """
    hint = ': write b"..." or encode the text' if isinstance(given, str) else ""
    return WrongType(f"{place} is bytes, not {kind_of(given)}{hint}")


def check_seconds(place: str, given: object) -> None:
    """Raise WrongType for a value that is no number of seconds; None is allowed, and means for ever."""
    if given is not None and (not isinstance(given, int | float) or isinstance(given, bool)):
        raise WrongType(f"{place} is a number of seconds or None, not {kind_of(given)}")


def check_time_limit(place: str, given: float | None) -> None:
    """Raise WrongType as `check_seconds` does, and WrongValue for less than 0 seconds."""
    check_seconds(place, given)
    if given is not None and not given >= 0:  # neither is NaN
        raise WrongValue(f"{place} is 0 seconds or more, or None, not {given}")


def check_number_of_seconds(place: str, given: object) -> None:
    """Raise WrongType for a value that is no number of seconds; `math.inf` means for ever."""
    if not isinstance(given, int | float) or isinstance(given, bool):
        raise WrongType(f"{place} is a number of seconds, or math.inf, not {kind_of(given)}")


def check_function(place: str, given: object, example: str) -> None:
    """Raise WrongType for a value that can't be called."""
    if not callable(given):
        raise WrongType(f"{place} is a function, not {kind_of(given)}: write {example}")


def check_kind(kind: type, place: str, given: object, example: str) -> None:
    """Raise WrongType for a value that is no instance of `kind`, a type of this project."""
    if not isinstance(given, kind):
        raise WrongType(f"{place} is a {kind.__name__}, not {kind_of(given)}: write {example}")


def check_mapping(place: str, given: object, example: str) -> None:
    """Raise WrongType for a value that is no dictionary."""
    if not isinstance(given, Mapping):
        raise WrongType(f"{place} is a dictionary, not {kind_of(given)}: write {example}")


def all_of(kind: type, place: str, given: object, example: str) -> tuple[Any, ...]:
    """Return the items of an iterable; WrongType if one is no `kind`, or if `given` is a single text."""
    # A text is iterable too: each of its characters would be taken for a value.
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise WrongType(f"{place} is a list, not {kind_of(given)}: write {example}")
    found = tuple(given)
    for each in found:
        if not isinstance(each, kind):
            raise WrongType(f"{place} has a value of type {kind_of(each)}: write {example}")
    return found


def listed(names: Iterable[object]) -> str:
    """Return names as text, separated by commas; "none" if there are no names."""
    return ", ".join(map(str, names)) or "none"
