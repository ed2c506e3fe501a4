"""Errors for values of the wrong type, which say what to write instead; none shows the value.

A value may be a password or a key.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

Place = tuple[str, ...]
"""An argument, and the call that it belongs to; joined only in an error, because each call passes its own."""


def no_request(given: object, example: str) -> TypeError:
    """Return the error of a `call` that was given no request; `example` is a request as in a program."""
    name = getattr(given, "__name__", None)
    if not callable(given) or name is None:
        return TypeError(f"call takes a request such as {example}, not {_kind(given)}")
    return TypeError(
        f"call takes a request, not the function {name}: write call({name}{_parentheses(given)})"
    )


def several(requests: Iterable[T]) -> Iterator[T]:
    """Return an iterator of the requests of a pipeline; TypeError that says what to write for one request."""
    if not isinstance(requests, Iterable):
        raise TypeError(f"pipeline takes several requests, not {_kind(requests)}: write pipeline([...])")
    return iter(requests)


def no_bytes(place: Place, given: object) -> TypeError:
    """Return the error of an argument that has to be bytes."""
    hint = ': write b"..." or encode the text' if isinstance(given, str) else ""
    return TypeError(f"{_named(place)} is bytes, not {_kind(given)}{hint}")


def no_number(place: Place, given: object) -> TypeError:
    """Return the error of an argument that has to be a whole number."""
    return TypeError(f"{_named(place)} is a whole number, not {_kind(given)}")


def no_authorization(place: Place, given: object) -> TypeError:
    """Return the error of an argument that has to be an `Authorization`."""
    return TypeError(
        f"{_named(place)} is an Authorization, not {_kind(given)}: write Authorization(consumer, password)"
    )


def _named(place: Place) -> str:
    return " of ".join(place)


def _kind(given: object) -> str:
    return type(given).__name__


def _parentheses(function: object) -> str:
    """Return the parentheses behind the name of a function, with dots if it needs arguments."""
    try:
        parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "(...)"
    return "(...)" if any(each.default is each.empty for each in parameters) else "()"
