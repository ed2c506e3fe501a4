"""The state folder: its layout, its access rights, and the lock of the one server that uses it.

    DIR/                  0700; neither it nor an entry below may be a symbolic link
      lock                held (flock) by the server that serves this state
      anchor-card/        a part: it holds system id and PKS root key
      service-processor/  a part: NVRAM, with sealed records and wrapped copies of the root key
      tpm/  tpm-2/        parts: the seed of an embedded TPM, or the name of an external one
      access-keys/        0700, NAME.key: a partition's access key for TCP, hex, 0600
      run/                0700, the sockets
      traces/             0700, the files of `swpks hmc trace`, 0600
      snapshots/          0700, the files of `swpks snapshot`, 0600
      asmi/request        0700/0600, the word that `swpks asmi` has asked for
      presence            the same word, written by a person; neither file is there in normal use

Layout: spec/service.md#state.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules import storage as rules
from hcall_server.components.anchor_card import AnchorCard
from hcall_server.components.seam import Components
from hcall_server.data_channel.listeners import Listeners
from hcall_server.files import InPlace, make_folder, refuse_link, sync_folder
from hcall_server.keystore.store import Entropy
from hcall_server.nvram.mark import FileMark
from hcall_server.nvram.sqlite import SqliteNvram
from hcall_server.service.access_keys import AccessKeys
from hcall_server.service.assembly import Seams
from hcall_server.service.layout import (
    ANCHOR_CARD,
    SERVICE_PROCESSOR,
    SNAPSHOTS,
    TRACES,
    demand_one_nvram,
    finish_wipe,
    make_service_processor,
    nvram_path,
    open_etcd_mark,
)
from hcall_server.service.state_folder import LAYOUT, StateFolder, check_private, trouble
from hcall_server.service.tpms import check_tpms, open_tpms
from hcall_server.writeback.schedule import Clock
from hcall_server.writeback.worker import ThreadWorker

if TYPE_CHECKING:
    from hcall_server.nvram.etcd.nvram import EtcdNvram


class State:
    """The folder of one managed system, locked for this process until it ends.

    OperatorError if another server uses it, or if it is not private.  OperatorError also if it is a link,
    or has other content than a state.  StorageError if its device fails.  All files that this class makes
    are durable before NVRAM is opened.  With `nvram_on_etcd`, a folder that holds only an anchor card
    and TPMs is a state too.
    """

    def __init__(self, folder: Path, entropy: Entropy = os.urandom, *, nvram_on_etcd: bool = False) -> None:
        self.folder = folder.absolute()
        self.run_folder = self.folder / "run"
        self._keys = self.folder / "access-keys"
        self.listeners = Listeners(self.run_folder, AccessKeys(self._keys))
        self._entropy = entropy
        self._worker = ThreadWorker()
        self._needed = False
        self._held = StateFolder(self.folder, parts_alone=nvram_on_etcd)
        try:
            self._held.make()
            self._take_lock()
            for inner in (self.run_folder, self._keys):
                refuse_link(inner)
                make_folder(inner)
                check_private(inner)
            for inner in (self.folder / TRACES, self.folder / SNAPSHOTS):
                refuse_link(inner)
                if inner.is_dir():
                    check_private(inner)
            self._in_place = InPlace(self.folder), InPlace(self._held.lock_path)
        except OSError as error:
            self._refused()
            raise trouble(error, self.folder) from None
        except SwpksError:
            self._refused()
            raise

    def __repr__(self) -> str:
        return f"State({str(self.folder)!r})"

    def discard(self) -> None:
        """Remove a new state whose start was refused.  An older state stays.  The caller has closed NVRAM.

        A state whose NVRAM on etcd was opened stays too: the records there need its anchor card and its TPM.
        """
        if not self._needed:
            self._held.discard(LAYOUT)

    def _refused(self) -> None:
        self.discard()
        self.close()

    def close(self) -> None:
        """Release the lock of the state; a second close does nothing."""
        self._held.close()

    def idle(self, seconds: float) -> bool:
        """End the worker thread of the seams; return whether its last commit ended within this time."""
        return self._worker.ended(seconds)

    def etcd_mark(self) -> FileMark:
        """Open the high-water mark of NVRAM on etcd.  OperatorError if the state has NVRAM in its folder.

        Links, kinds, modes and access of the parts are checked too: a standby must not find at a take-over
        that it can't read them.
        """
        AnchorCard(self.folder / ANCHOR_CARD).check()
        check_tpms(self.folder)
        self._make_service_processor()
        demand_one_nvram(self.folder, on_etcd=True)
        return open_etcd_mark(self.folder)

    def seams(
        self, clock: Clock = time.monotonic, tpms: Sequence[str] = (), etcd: EtcdNvram | None = None
    ) -> Seams:
        """Open the parts of the machine that lie in the folder; return them with the other real seams.

        `clock` is that of the loop which will run the machine; `tpms` are the words of `--tpm`.  `etcd` is
        NVRAM on etcd that this server owns; None: it is in the folder.  Raises the errors of `SqliteNvram`
        and of `open_tpm`.  The caller closes NVRAM, and then the state.
        """
        self._settle_card()
        card = AnchorCard(self.folder / ANCHOR_CARD)
        components = Components(card, open_tpms(self.folder, self._entropy, tpms))
        if etcd is None:
            self._make_service_processor()
            demand_one_nvram(self.folder, on_etcd=False)
        # Each commit checks these paths (spec/service.md#files-in-place).  If a file has lost its name, a
        # commit into it would be lost, and must not be confirmed.
        place = InPlace(self.folder / SERVICE_PROCESSOR)
        beside = (*(each.trouble for each in (*self._in_place, place)), card.moved)
        if etcd is not None:
            etcd.beside = beside
            self._needed = True
        return Seams(
            entropy=self._entropy,
            clock=clock,
            nvram=SqliteNvram(nvram_path(self.folder), beside) if etcd is None else etcd,
            components=components,
            # The thread starts now.  If the host has no free thread, this start is refused, not the first
            # commit.
            worker=self._worker.started(),
            transport=self.listeners,
        )

    def _settle_card(self) -> None:
        """Make the entry of the anchor card durable.

        A kill may have come between the last write of the card and the sync of its folder.  A power cut would
        bring the older card back, after commits that rely on the newer one.
        """
        try:
            with contextlib.suppress(FileNotFoundError):
                sync_folder(self.folder / ANCHOR_CARD)
        except OSError as error:
            raise trouble(error, self.folder) from None

    def _make_service_processor(self) -> None:
        try:
            finish_wipe(self.folder)
            make_service_processor(self.folder)
        except OSError as error:
            raise trouble(error, self.folder) from None

    def _take_lock(self) -> None:
        if owner := self._held.try_lock():
            where = f"--state {shlex.quote(str(self.folder))}"
            advice = f"send it commands by swpks hmc {where}, or end it: swpks hmc {where} stop"
            message = f"another server (process {owner}) serves {self.folder}: {advice}"
            raise OperatorError(rules.STATE_OWNER, message)
