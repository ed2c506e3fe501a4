"""Rules about a state folder: its owner and modes, the anchor card, access keys, and NVRAM in a file."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import httpx
import trio

from hcall_abi.rules.rule import Rule
from hcall_server.components.memory import MemoryCard
from hcall_server.components.seam import Card
from hcall_server.nvram.etcd.chain import EtcdKeys
from hcall_server.nvram.etcd.lease import Lease
from hcall_server.nvram.etcd.nvram import EtcdNvram
from hcall_server.nvram.etcd.transport import EtcdCluster
from hcall_server.nvram.mark import MemoryMark
from hcall_server.nvram.names import old_image_name, old_profile_name
from hcall_server.nvram.sqlite import SqliteNvram
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.service.state import State
from swpks.testing.seams import simulated_seams
from tests.rules.breaking import Break, Breaks, refused, rule_of
from tests.rules.process import command
from tests.scarcity.nth import failing
from tests.service.folder import assembled, old_state
from tests.writeback import level_1
from tests.writeback.rig import Rig

SETTINGS = Settings(partition=(PartitionSettings.of("a", 8),))
CARD, KEY, NVRAM = "anchor-card/anchor-card", "access-keys/a.key", "service-processor/nvram.sqlite"


def started(folder: Path) -> None:
    """Start a machine on a state folder, and stop it."""
    with assembled(folder, SETTINGS):
        pass


def start(damage: Callable[[Path], object]) -> Break:
    """Return a function that breaks a rule: a start on a state that `damage` has changed."""

    def broken(folder: Path) -> Rule:
        started(folder / "state")
        damage(folder / "state")
        return refused(started, folder / "state")

    return broken


def first_start(prepare: Callable[[Path], object]) -> Break:
    """Return a function that breaks a rule: `prepare` changes an empty folder, and a first start uses it."""

    def broken(folder: Path) -> Rule:
        prepare(folder)
        return refused(started, folder)

    return broken


def write(path: str, content: bytes) -> Callable[[Path], object]:
    """Return a function that writes a file in the state."""
    return lambda state: (state / path).write_bytes(content)


def mode(path: str, number: int) -> Callable[[Path], object]:
    """Return a function that changes the mode of a file or folder."""
    return lambda state: (state / path).chmod(number)


def _served_twice(folder: Path) -> Rule:
    with assembled(folder, SETTINGS):
        return refused(State, folder)


def _below_a_file(folder: Path) -> Rule:
    (folder / "file").touch()
    return refused(State, folder / "file" / "state")


def _not_a_file(state: Path) -> None:
    (state / KEY).unlink()
    (state / KEY).mkdir()


def _key_cannot_be_made(state: Path) -> None:
    (state / KEY).unlink()
    (state / f"{KEY}.new").mkdir()


def old_start(damage: Callable[[Path], object]) -> Break:
    """Return a function that breaks a rule: a start on a state of an earlier release, after `damage`."""

    def broken(folder: Path) -> Rule:
        state = old_state(folder / "state", "89ecc72", "stopped")
        damage(state)
        return refused(started, state)

    return broken


def _older_nvram(folder: Path) -> Rule:
    state = folder / "state"
    started(state)
    before = (state / NVRAM).read_bytes()
    with assembled(state, SETTINGS) as machine:
        assert trio.run(machine.encryptor.flush)
    (state / NVRAM).write_bytes(before)
    return refused(started, state)


def converted(name: str, blob: bytes) -> Break:
    """Return a function that breaks a rule: a record of partition 2 can't be converted from level 1."""

    def broken(_: Path) -> Rule:
        (partition,) = Rig(0, records={**level_1.records(), name: blob}).refused
        assert partition.refused is not None
        return rule_of(partition.refused)

    return broken


def _nvram_taken_away(folder: Path) -> Rule:
    nvram = SqliteNvram(folder / "nvram.sqlite")
    (folder / "nvram.sqlite").unlink()
    try:
        return refused(nvram.commit, {"a": b"1"})
    finally:
        nvram.close()


def _linked(state: Path) -> None:
    (state / CARD).rename(state / "card")
    (state / CARD).symlink_to(state / "card")


def _failing_device(folder: Path) -> Rule:
    # The second fsync fails. The first one is that of a folder outside the state.
    with failing(2, errno.EIO, "fsync"):
        return refused(started, folder / "state")


class _Forgetful(MemoryCard):
    """A card that loses every write."""

    def write(self, card: Card) -> None:
        """Lose the content."""


def _card_that_is_not_written(_: Path) -> Rule:
    return refused(assemble, simulated_seams(card=_Forgetful()), Settings())


def _etcd(answer: httpx.Response | None) -> Break:
    """Return a break: the only member gives this answer to a commit; None for no answer."""

    def answered(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/grant"):
            return httpx.Response(200, content=b'{"header":{},"ID":"7","TTL":"6"}')
        if b'"create_revision":"0"' in request.content:
            claimed = b'{"header":{"revision":"2"},"succeeded":true,"responses":[{},%s]}' % _NO_KEY
            return httpx.Response(200, content=claimed)
        if answer is None:
            raise httpx.ConnectError("refused")
        return answer

    def broken(_: Path) -> Rule:
        cluster = EtcdCluster(["http://a"], httpx.Client(transport=httpx.MockTransport(answered)))
        lease = Lease(cluster, lambda: 0.0)
        nvram = EtcdNvram(cluster, EtcdKeys("p"), b"me", lease, MemoryMark())
        lease.grant()
        nvram.own()
        return refused(nvram.commit, {"x": b""})

    return broken


_NO_KEY = b'{"response_range":{"header":{}}}'
_FULL = b'{"code":8,"message":"etcdserver: mvcc: database space exceeded"}'

BREAKS: Breaks = {
    "nvram.reached": _etcd(None),
    "nvram.quota": _etcd(httpx.Response(429, content=_FULL)),
    "nvram.answer": _etcd(httpx.Response(200, content=b'{"header":{}}')),
    "nvram.owner": _etcd(
        httpx.Response(200, content=b'{"header":{},"responses":[%s,%s]}' % (_NO_KEY, _NO_KEY))
    ),
    "nvram.one-place": start(write("service-processor/nvram.etcd-mark", b"")),
    "state.owner": _served_twice,
    "state.writable": _below_a_file,
    "state.named": lambda _: command("serve", "--debuggable", "--state", ""),
    "state.device": _failing_device,
    "state.empty": first_start(lambda folder: (folder / "letter").touch()),
    "state.link": start(_linked),
    "state.private": start(mode(".", 0o755)),
    "access-key.file": start(_not_a_file),
    "access-key.mode": start(mode(KEY, 0o644)),
    "access-key.content": old_start(write("access-keys/alpha.key", b"no key")),
    "access-key.stored": start(_key_cannot_be_made),
    "card.mode": start(mode(CARD, 0o640)),
    "card.whole": _card_that_is_not_written,
    "nvram.file": start(write(NVRAM, b"no database" * 1000)),
    "nvram.mark": start(write(f"{NVRAM}-mark", b"no mark" * 1000)),
    "nvram.age": _older_nvram,
    "profile.owner": converted(
        old_profile_name(2), level_1.sealed(level_1.PROFILE, 2, 0, level_1.profile(1))
    ),
    "records.together": converted(old_image_name(2), level_1.sealed(level_1.IMAGE, 2, 1, level_1.image(2))),
    "nvram.place": _nvram_taken_away,
    "nvram.writable": lambda folder: refused(SqliteNvram, folder / "nowhere" / NVRAM),
}
