"""A powered-off system whose NVRAM is on an etcd in memory, for commands in the test's own process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import trio

from hcall_server.machine.machine import Machine
from hcall_server.nvram.etcd import taking
from hcall_server.nvram.etcd.place import EtcdPlace
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.service.standing_by import owned_nvram
from hcall_server.service.state import State
from swpks.testing.etcd.model import EtcdModel
from swpks.testing.etcd.network import Fate, ModelNetwork

PLACE = EtcdPlace(("http://127.0.0.1:2379",), "p", lease=2)
WISHES = Settings(partition=(PartitionSettings.of("alpha", 64),))


class PoweredOff:
    """One system on an etcd in memory, below `prefix`; its folder is `folder`.

    All systems of a test must have one model: the last network counts.
    """

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        prefix: str = "p",
        model: EtcdModel | None = None,
    ) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.model = model or EtcdModel(time.monotonic)
        self.place = PLACE._replace(prefix=prefix)
        self.asked: list[str] = []
        """The paths of the requests since `die_at`."""
        self._network = ModelNetwork(self.model)
        monkeypatch.setattr(taking, "connected", lambda *_, **__: httpx.Client(transport=self._network))

    def filled(self) -> PoweredOff:
        """Make the system, with one partition."""
        with self.assembled(WISHES) as machine:
            assert trio.run(machine.encryptor.flush)
        return self

    @contextmanager
    def assembled(self, settings: Settings | None = None) -> Iterator[Machine]:
        """Return a block with the assembled machine of a start."""
        state = State(self.folder, nvram_on_etcd=True)
        try:
            etcd = owned_nvram(state, self.place, standby=False)
            seams = state.seams(etcd=etcd)
            try:
                yield assemble(seams, settings or Settings())
            finally:
                seams.worker.close()
                seams.nvram.close()
        finally:
            state.close()

    def found(self) -> tuple[str, list[str]]:
        """Start the system; return its state and its partitions."""
        with self.assembled() as machine:
            return machine.system.state.value, sorted(machine.system.partitions)

    def records(self) -> set[str]:
        """Return the names of all records that etcd has in any revision."""
        return self._names(key for store in self.model._history.values() for key in store)

    def present(self) -> set[str]:
        """Return the names of the present records."""
        return self._names(self.model.values())

    def _names(self, keys: Iterable[bytes]) -> set[str]:
        start = f"{self.place.prefix}/record/".encode()
        return {key.removeprefix(start).decode() for key in keys if key.startswith(start)}

    def partitions(self) -> set[str]:
        """Return the names of the present records of partitions."""
        return {each for each in self.present() if each.startswith("partition/")}

    def die_at(self, step: int, fate: Fate) -> None:
        """Let the request with this number meet a fate, and no later one arrive; 0 lets all of them pass."""
        self.asked = []

        def fates(path: str) -> Fate:
            self.asked.append(path)
            count = len(self.asked)
            if not step or count < step:
                return "answered"
            return fate if count == step else "refused"

        self._network.fates = fates

    def fates(self, plan: Callable[[str], Fate]) -> None:
        """Let the requests meet the fates of a plan."""
        self._network.fates = plan

    def buried(self) -> None:
        """End the lease of a process that has died; requests are answered again."""
        self.fates(lambda path: "answered")
        for lease in list(self.model._leases):
            self.model.expire_lease(lease)
