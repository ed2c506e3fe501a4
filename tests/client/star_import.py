"""A user's program with a star import; `mypy tests` checks it.

A type checker takes the names of a star import only from a literal `__all__`. With any other `__all__` the
program runs, but the checker reports each name as an error.
"""

from swpks.calls import *  # noqa: F403


def requests_of(password: bytes) -> list[Request[None]]:  # noqa: F405
    """Return the requests of a program that writes an object and removes it."""
    owner = Authorization(3, password)  # noqa: F405
    return [write_object(owner, b"label", b"data"), remove_object(owner, b"label")]  # noqa: F405
