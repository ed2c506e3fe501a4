"""NVRAM of a powered-off system, for an erase: in the state folder, or on etcd."""

# On etcd a wipe has two steps: that of all records in etcd, and that of the high-water mark in the folder.
# The mark is the sign that the records are on etcd (`demand_one_nvram`).  So it goes last.  If it went first,
# a kill between them would leave a folder without the sign.  A second call without --nvram would then wipe an
# empty folder, and report an erase, while etcd has every record.
#
# A kill between the two steps leaves an empty etcd and a mark.  A start refuses that (nvram.age), unless the
# card has the mark "reset pending".  A second call with --nvram wipes nothing more in etcd, and removes the
# mark.
#
# etcd keeps older revisions.  So each wipe ends with a compaction of the history, and so does the commit that
# replaces the wrapped copies.  An erase reports success only after it.  The files of the members have three
# kinds of remnants, which no request removes at once:
#
#   - freed pages of the database, until the member is defragmented;
#   - the write-ahead log, until the member begins new files and removes the oldest ones;
#   - snapshot files, until newer ones replace them.
#
# All of them are sealed records and wrapped copies.  Only Clear All makes them worthless.
#
# Dropped: defragmentation by this command.  It stops each member for seconds, and other programs use the
# cluster too.  It also has to be sent to each member, and --nvram may name only some of them.

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hcall_abi.errors import OperatorError
from hcall_abi.rules import cluster
from hcall_server.keystore.store import Entropy
from hcall_server.nvram.seam import Nvram
from hcall_server.nvram.sqlite import SqliteNvram
from hcall_server.service.erase_check import foreign, note_wipe
from hcall_server.service.layout import (
    SERVICE_PROCESSOR,
    demand_one_nvram,
    nvram_path,
    open_etcd_mark,
    take_away,
)

if TYPE_CHECKING:
    from hcall_server.nvram.etcd.nvram import EtcdNvram
    from hcall_server.nvram.etcd.place import EtcdPlace


class ErasedNvram(Protocol):
    """NVRAM of one system.  The functions raise NvramError and OSError."""

    @property
    def folder(self) -> Path:
        """The folder of the system."""

    def demand_own(self, entropy: Entropy, *, clearing: bool) -> None:
        """Raise OperatorError if the records are those of another system.

        `clearing`: before Clear All, not before a reset.
        """

    def opened(self) -> AbstractContextManager[Nvram]:
        """Return a block with NVRAM open; `make_service_processor` was called before."""

    def wipe(self) -> None:
        """Remove all records and the high-water mark, in an order that a second call can finish."""

    def drop_history(self) -> None:
        """Drop older values of records, if this NVRAM keeps them."""

    def losses(self) -> list[str]:
        """Return the losses by an erase beside the records, and the copies that it does not reach."""

    def remains(self, *, key_kept: bool) -> list[str]:
        """Return sentences about copies of records, and of the old root key, that an erase does not reach.

        `key_kept`: the root key stays, so that records still open.
        """


class NvramInFolder:
    """NVRAM in the folder; OperatorError if it is on etcd."""

    def __init__(self, folder: Path) -> None:
        demand_one_nvram(folder, on_etcd=False, start=False)
        self.folder = folder

    def __repr__(self) -> str:
        return f"NvramInFolder({str(self.folder)!r})"

    def demand_own(self, entropy: Entropy, *, clearing: bool) -> None:
        """Do nothing: a folder has the records of one system."""

    def opened(self) -> AbstractContextManager[Nvram]:
        """Open the database."""
        return closing(SqliteNvram(nvram_path(self.folder)))

    def wipe(self) -> None:
        """Take the whole folder of the service processor away, by one rename."""
        take_away(self.folder / SERVICE_PROCESSOR, self.folder)

    def drop_history(self) -> None:
        """Do nothing: no older value can be read."""

    def losses(self) -> list[str]:
        """Return no further losses."""
        return []

    def remains(self, *, key_kept: bool) -> list[str]:
        """Return no sentence: spec/erase.md has the limits of overwriting."""
        return []


class NvramOnEtcd:
    """NVRAM on etcd at `place`, which this process owns as `nvram`; the caller closes it."""

    def __init__(self, folder: Path, nvram: EtcdNvram, place: EtcdPlace) -> None:
        self.folder = folder
        self._nvram = nvram
        self._place = place

    def __repr__(self) -> str:
        return f"NvramOnEtcd({str(self.folder)!r}, {self._place.prefix!r})"

    def demand_own(self, entropy: Entropy, *, clearing: bool) -> None:
        """Compare the records with the anchor card, the TPMs and the mark (`erase_check`)."""
        prefix = self._place.prefix
        reason = foreign(self.folder, prefix, self._nvram.load(), entropy, clearing=clearing)
        if reason is None:
            return
        replace = f"swpks hmc replace {SERVICE_PROCESSOR} --state {shlex.quote(str(self.folder))}"
        advice = f"name the right --nvram and --nvram-prefix; to erase it without records in etcd: {replace}"
        raise OperatorError(cluster.NVRAM_ONE_PLACE, f"{reason}: {advice}")

    @contextmanager
    def opened(self) -> Iterator[Nvram]:
        """Return a block with the mark of this folder; the mark is made if it is missing."""
        with closing(open_etcd_mark(self.folder)) as mark:
            self._nvram.mark = mark
            yield self._nvram

    def wipe(self) -> None:
        """Remove the records and their history in etcd, and then the mark."""
        note_wipe(self.folder, self._place.prefix)
        self._nvram.clear()
        take_away(self.folder / SERVICE_PROCESSOR, self.folder)

    def drop_history(self) -> None:
        """Drop the history of the cluster."""
        self._nvram.drop_history()

    def losses(self) -> list[str]:
        """Return the loss of history, and the copies out of reach."""
        prefix, members = self._place.prefix, ", ".join(self._place.endpoints)
        found = [
            f"all records below {prefix} in etcd at {members}",
            "older revisions of all keys in the etcd cluster, also those of other programs",
            "not at once: sealed bytes in the files of etcd's members; see the text at the end",
            f"not in other folders: each standby of {prefix} has the root key, and keeps it",
        ]
        if unprotected := ", ".join(self._place.unprotected):
            found.append(f"not surely: {unprotected} without https, so others can answer for etcd")
        return found

    def remains(self, *, key_kept: bool) -> list[str]:
        """Return the sentences about etcd's files, and about the folders of standbys."""
        gone = (
            "etcd has dropped all older revisions, but files of its members still have sealed bytes of "
            f"{self._place.prefix}. Run `etcdctl defrag --cluster`. It does not reach write-ahead logs and "
            "snapshot files: etcd removes those when newer ones replace them."
        )
        if key_kept:
            replace = f"swpks hmc replace {SERVICE_PROCESSOR} --state FOLDER"
            return [
                f"{gone} They open with the root key, which is kept. Only clear-all makes them worthless.",
                "A standby has a high-water mark in its own folder, and its start is refused with it. "
                f"Remove the mark: `{replace}`.",
            ]
        return [
            f"{gone} They do not open without the old root key.",
            "The folder of each standby still has the old root key. Destroy these folders. After "
            "reset-settings, give each standby the new folders of anchor card and TPMs.",
        ]


@contextmanager
def erased_nvram(folder: Path, place: EtcdPlace | None) -> Iterator[ErasedNvram]:
    """Return a block with NVRAM of a powered-off system: on etcd at `place`, or in its folder.

    On etcd this process owns it in the block.  OperatorError if the state has it in the other place, or if a
    server owns it; NvramError if etcd does not answer.
    """
    if place is None:
        yield NvramInFolder(folder)
        return
    demand_one_nvram(folder, on_etcd=True, start=False)
    from hcall_server.service.standing_by import nvram_of_command  # few systems have NVRAM on etcd

    with closing(nvram_of_command(place)) as nvram:
        yield NvramOnEtcd(folder, nvram, place)
