"""A TPM 2.0 through its standard software stack: tpm2-pytss over libtss2, for every TPM that a TCTI names.

Template and blob are those of `commands`.  So for one TPM, `swtpm` and this module open each other's blobs.
The secret crosses the link encrypted, in a salted session.  No process between this one and the TPM can
read it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

from hcall_abi.errors import OperatorError
from hcall_abi.rules import storage as rules
from hcall_server.components.seam import TPM_PATIENCE, TpmRefusedError, TpmSilentError
from hcall_server.components.tpm.bounds import check_size
from hcall_server.components.tpm.codes import error_of
from hcall_server.components.tpm.commands import PRIMARY_TEMPLATE, SEALED_TEMPLATE, SealedBlob, TpmCommand
from hcall_server.components.tpm.patience import patiently

_TPM_CODES = 0xFFF
"""The largest code of the TPM itself; larger codes come from a layer of the software stack."""


class TssTpm:
    """A TPM at the TCTI `tcti`, such as ``device:/dev/tpmrm0``.

    A whole operation takes `patience` seconds at most.
    """

    kind = "tcti"

    def __init__(self, tcti: str, name: str, patience: float = TPM_PATIENCE) -> None:
        """Raise OperatorError if tpm2-pytss is not installed."""
        self.name = name
        self._tcti = tcti
        self._patience = patience
        self._library = _library(name)

    def __repr__(self) -> str:
        return f"TssTpm({self._tcti!r})"

    def seal(self, secret: bytes) -> bytes:
        """Return `secret` as a blob that only this TPM unseals."""
        check_size(secret)
        return self._run(lambda link: link.seal(secret))

    def unseal(self, blob: bytes) -> bytes:
        """Return the secret in a blob of this TPM."""
        try:
            parts = self._parts(blob)
        except ValueError as error:
            raise TpmRefusedError(f"{self.name}: the wrapped root key {error}") from None
        return self._run(lambda link: link.unseal(*parts))

    def _parts(self, blob: bytes) -> tuple[Any, Any]:
        """Return the two parts of a blob as values of the library; ValueError if the library refuses them.

        The library reads some damaged parts without an error, and fails only when it writes them.  So this
        function writes them as a check.
        """
        SealedBlob.split(blob)
        try:
            private, size = self._library.TPM2B_PRIVATE.unmarshal(blob)
            public, _ = self._library.TPM2B_PUBLIC.unmarshal(blob[size:])
            same = private.marshal() + public.marshal() == blob
        except self._library.TSS2_Exception as error:
            raise ValueError(f"is not a blob of a TPM ({error})") from None
        if not same:
            raise ValueError("is not a blob of a TPM (it has other fields than it states)")
        return private, public

    def _run(self, operation: Callable[[_TssLink], bytes]) -> bytes:
        """Perform an operation over a connection of its own, in a thread of its own."""

        def connected() -> bytes:
            with self._connected() as esapi:
                return operation(_TssLink(self._library, esapi, self.name, self._tcti))

        return patiently(connected, self.name, self._patience)

    def _connected(self) -> Any:
        try:
            return self._library.ESAPI(self._tcti)
        except self._library.TSS2_Exception as error:
            raise _unreachable(self.name, self._tcti, error) from None


class _TssLink:
    """One connection.  Every object and session that it makes in the TPM is removed again."""

    def __init__(self, library: Any, esapi: Any, name: str, tcti: str) -> None:
        self._library = library
        self._esapi = esapi
        self._name = name
        self._tcti = tcti

    def seal(self, secret: bytes) -> bytes:
        """Return `secret` as a blob."""
        library = self._library
        data = library.TPM2B_SENSITIVE_CREATE(
            library.TPMS_SENSITIVE_CREATE(data=library.TPM2B_SENSITIVE_DATA(secret))
        )
        template = self._template(SEALED_TEMPLATE)
        with self._primary() as key, self._session(key, library.TPMA_SESSION.DECRYPT) as session:
            private, public, *_ = self._run(
                TpmCommand.CREATE, lambda: self._esapi.create(key, data, template, session1=session)
            )
        return bytes(private.marshal() + public.marshal())

    def unseal(self, private: Any, public: Any) -> bytes:
        """Return the secret in a blob."""
        with (
            self._primary() as key,
            self._made(TpmCommand.LOAD, lambda: self._esapi.load(key, private, public)) as loaded,
            self._session(key, self._library.TPMA_SESSION.ENCRYPT) as session,
        ):
            return bytes(self._run(TpmCommand.UNSEAL, lambda: self._esapi.unseal(loaded, session1=session)))

    def _primary(self) -> contextlib.AbstractContextManager[Any]:
        nothing = self._library.TPM2B_SENSITIVE_CREATE()
        template = self._template(PRIMARY_TEMPLATE)
        return self._made(TpmCommand.CREATE_PRIMARY, lambda: self._esapi.create_primary(nothing, template)[0])

    @contextlib.contextmanager
    def _session(self, key: Any, direction: int) -> Iterator[Any]:
        """Start a session that encrypts the secret, salted with a point for the primary key."""
        library = self._library
        cipher = library.TPMT_SYM_DEF.parse("aes128cfb")
        arguments = (key, library.ESYS_TR.NONE, library.TPM2_SE.HMAC, cipher, library.TPM2_ALG.SHA256)
        started = lambda: self._esapi.start_auth_session(*arguments)  # noqa: E731
        with self._made(TpmCommand.START_AUTH_SESSION, started) as session:
            # CONTINUESESSION keeps the session after its one command.  So `_made` can remove it on every
            # path.
            attributes = direction | library.TPMA_SESSION.CONTINUESESSION
            self._esapi.trsess_set_attributes(session, attributes)
            yield session

    @contextlib.contextmanager
    def _made(self, command: TpmCommand, call: Callable[[], Any]) -> Iterator[Any]:
        """Make an object in the TPM, and remove it at the end.  A failure to remove it is no error."""
        handle = self._run(command, call)
        try:
            yield handle
        finally:
            with contextlib.suppress(self._library.TSS2_Exception):
                self._esapi.flush_context(handle)

    def _run(self, command: TpmCommand, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except self._library.TSS2_Exception as error:
            if error.rc > _TPM_CODES:
                raise _unreachable(self._name, self._tcti, error) from None
            raise error_of(self._name, command, error.rc) from None

    def _template(self, public: bytes) -> Any:
        return self._library.TPM2B_PUBLIC(self._library.TPMT_PUBLIC.unmarshal(public)[0])


def _library(name: str) -> Any:
    """Return tpm2-pytss, imported when it is first needed: it takes 0.1 s to load."""
    # Set the variable before the import.  The C library reads it once, and would write to stderr without
    # it.
    os.environ.setdefault("TSS2_LOG", "all+NONE")
    try:
        import tpm2_pytss
    except ImportError as error:
        raise OperatorError(
            rules.TPM_EXTRA,
            f"{name}: tpm2-pytss can't be loaded ({error}): install Debian's libtss2-dev, pkg-config "
            "and gcc, then run `pip install 'swpks[tpm]'`",
        ) from None
    return tpm2_pytss


def _unreachable(name: str, tcti: str, error: Any) -> TpmSilentError:
    return TpmSilentError(
        f"{name} at {tcti}: {error} ({error.rc:#x}); "
        "is the TPM running, and the TCTI right? see spec/components.md#start-swtpm"
    )
