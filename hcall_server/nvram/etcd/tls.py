"""TLS to the members of an etcd cluster: the operator's files, and the reasons of failed handshakes."""

# The files are read once, at the start.  A standby may wait for months, and must not find a wrong file when
# it has to serve.  So a renewed certificate needs a start of the server.
#
# A wrong file is an error of the operator, and ends the start.  A failed handshake does not end the wait of a
# standby: the members may get other certificates.  It counts as a member without an answer, with a reason.

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hcall_abi.errors import OperatorError
from hcall_abi.rules import cluster as rules
from hcall_abi.rules import service
from hcall_abi.tls_files import check_mode, no_passphrase, openssl_words, unreadable
from hcall_server.nvram.etcd.place import EtcdTls

_REFUSED_OURS = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA", "CERTIFICATE_EXPIRED")
"""Ends of OpenSSL's names for alerts by which a member refuses the certificate of this server, or none."""
_NO_TLS = ("WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING")
"""OpenSSL's names for a peer that does not speak TLS."""


def client_context(tls: EtcdTls) -> ssl.SSLContext:
    """Return the context of a client with these files; OperatorError if one can't be used."""
    for path in filter(None, tls):
        with _reading(path):
            check_mode(path, path.stat().st_mode, private=path == tls.key)
            path.open("rb").close()
    with _reading(tls.ca):
        # The authorities of the system are not used: an etcd cluster has its own.
        context = ssl.create_default_context(cafile=str(tls.ca))
    if tls.cert and tls.key:
        with _reading(f"{tls.cert} with {tls.key}"):
            # Without `password` OpenSSL would ask for a passphrase at the terminal.
            context.load_cert_chain(tls.cert, tls.key, password=no_passphrase)
    return context


def tls_cause(error: BaseException | None) -> str:
    """Return the reason of a failed handshake, with the cure; an empty text for another error."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__context__  # the pool of httpx removes __cause__
    if error is None:
        return ""
    if isinstance(error, ssl.SSLCertVerificationError):
        found = error.verify_message.rstrip(".")
        return f"its certificate is refused, {found}: --nvram-tls-ca has to sign it, for this address"
    reason = error.reason or ""
    if reason.endswith(_REFUSED_OURS):
        return f"it refuses this server, {openssl_words(reason)}: give --nvram-tls-cert by its authority"
    if reason in _NO_TLS:
        return "no TLS: this member serves http, or is no etcd"
    return f"TLS: {openssl_words(reason)}"


@contextmanager
def _reading(path: Path | str) -> Iterator[None]:
    """Turn the errors of a file into OperatorError with the rule of NVRAM's files."""
    try:
        yield
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise OperatorError(rules.NVRAM_TLS, unreadable(path, error).message) from None
    except OperatorError as error:
        if error.rule is not service.TLS_FILES:
            raise
        named = str(path) in error.message
        raise OperatorError(rules.NVRAM_TLS, error.message if named else f"{path}: {error.message}") from None
