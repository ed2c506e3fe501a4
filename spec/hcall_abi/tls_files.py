"""Checks of the files of mutual TLS, the same for server and client (spec/control.md#over-tcp).

Pure: each end reads its files itself, and passes modes and errors here.
"""

from __future__ import annotations

import ssl
import stat
from typing import NoReturn

from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as rules


def check_mode(path: object, mode: int, *, private: bool) -> None:
    """Raise OperatorError if a file is not plain.

    Raise it too if a `private` file gives rights to other users.
    """
    if not stat.S_ISREG(mode):  # a pipe without a writer would hold up the start
        raise OperatorError(rules.TLS_FILES, f"{path} is not a plain file")
    if private and stat.S_IMODE(mode) & 0o077:
        message = f"{path} has the mode {stat.S_IMODE(mode):04o}; set it to 0600"
        raise OperatorError(rules.TLS_KEY_PRIVATE, message)


def unreadable(path: object, error: Exception) -> OperatorError:
    """Return the error for a file that can't be read, or that OpenSSL refuses."""
    if isinstance(error, ssl.SSLError):
        return OperatorError(rules.TLS_FILES, f"{path}: {openssl_words(error.reason or error.strerror)}")
    return OperatorError(rules.TLS_FILES, f"{path}: {getattr(error, 'strerror', None) or error}")


def no_passphrase() -> NoReturn:
    """Raise OperatorError.  OpenSSL calls this for a key that is encrypted."""
    # Without this callback OpenSSL asks at the terminal, and a service would wait for ever.
    raise OperatorError(rules.TLS_FILES, "the key is encrypted; give one without a passphrase")


def openssl_words(reason: str | None) -> str:
    """Return a name of OpenSSL, such as NO_CERTIFICATE_RETURNED, as words."""
    return (reason or "unknown").replace("_", " ").lower()
