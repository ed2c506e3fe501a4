"""A portable snapshot from which a server process starts: a set-up that is kept beside the tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hcall_abi.errors import OperatorError, SwpksError
from swpks.testing.options import WrongOption
from swpks.testing.own_process import ServerFailed

if TYPE_CHECKING:
    from hcall_abi.requests import ConsoleRequest
    from hcall_abi.snapshot_views import LoadedSnapshotView
    from hcall_client.console import BlockingConsole

_EXAMPLE = 'snapshot=Path(__file__).with_name("base.portable")'


class StartSnapshot(NamedTuple):
    """The file of a portable snapshot, and its passphrase, which `repr` does not show."""

    file: Path
    passphrase: str

    def __repr__(self) -> str:
        return f"StartSnapshot({str(self.file)!r})"

    def load(self, state: Path, console: BlockingConsole) -> None:
        """Load it into a running server, and power its partitions on, as a start does.

        ServerFailed if the server refuses it.
        """
        from hcall_client.console import power_on, show_partition
        from hcall_server.service.snapshot_outside import brought_in

        try:
            with brought_in(self.file, state) as name:
                found = console.call(self._request(name))
            for each in found.loaded:
                if console.call(show_partition(each.name)).auto_start:
                    console.call(power_on(each.name))
        except SwpksError as error:
            raise ServerFailed(f"snapshot={str(self.file)!r}: {error}") from None

    def _request(self, name: str) -> ConsoleRequest[LoadedSnapshotView]:
        from hcall_abi.snapshot_requests import load_snapshot

        return load_snapshot(name, self.passphrase)


def start_snapshot(snapshot: object, passphrase: object) -> StartSnapshot | None:
    """Return the snapshot of these options, None for none; WrongOption if one of them is wrong."""
    if snapshot is None:
        if passphrase is not None:
            raise WrongOption("passphrase is given without its snapshot: write snapshot=FILE beside it")
        return None
    if not isinstance(snapshot, str | os.PathLike):
        raise WrongOption(f"snapshot={snapshot!r}: it is the path of a file, such as {_EXAMPLE}")
    file = Path(snapshot)
    if not file.is_file():
        raise WrongOption(f"snapshot={str(file)!r}: there is no such file in {Path.cwd()}: write {_EXAMPLE}")
    # The value of a passphrase is in no message.
    if not isinstance(passphrase, str):
        raise WrongOption(f'snapshot={str(file)!r}: its passphrase is text: write passphrase="..."')
    found = StartSnapshot(file, passphrase)
    try:
        found._request("base")
    except OperatorError as error:
        raise WrongOption(f"snapshot={str(file)!r}: {error.message}") from None
    return found
