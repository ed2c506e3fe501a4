"""An attacker with all data of the console can open nothing (R-44)."""

from __future__ import annotations

import itertools
from pathlib import Path

from hcall_abi.requests import set_trusted_key, show_trusted_key
from hcall_server.console.profile_format import encode_profiles, profiles_as_xml
from hcall_server.platform.trusted_key import TrustedSystemKey
from hcall_server.sealing.copies import open_copy, read_copy
from hcall_server.sealing.copy_errors import CopyError
from tests.console.rig import CANARY, Site, running

KEY = bytes(range(100, 132))


async def test_nothing_of_the_console_opens_a_copy(autojump_clock, tmp_path: Path) -> None:
    """The console's bytes contain no object, no key and no access key. They open no copy."""
    async with running(Site(), path=tmp_path / "console.sqlite") as rig:
        await rig.ask(set_trusted_key("change", key=KEY))
        await rig.write("a", CANARY)
        await rig.copied()
        backup = await rig.console.save_profiles(rig.system)
        files = [path.read_bytes() for path in tmp_path.iterdir()]
        files += [encode_profiles(backup), profiles_as_xml(backup), repr(backup).encode()]
        files += [repr(each).encode() for each in (rig.console, rig.store, rig.system, rig.system.copies)]
        access_key = rig.site.machine.system.find("a").access_key
        root_key = rig.site.card.held.identity.root_key  # type: ignore[union-attr]
        secrets = {"object": CANARY, "key": KEY, "access key": access_key, "root key": root_key}
        for content in files:
            assert [name for name, secret in secrets.items() if secret in content] == []
            assert [name for name, secret in secrets.items() if secret.hex().encode() in content] == []
        sealed = (await rig.ask(show_trusted_key())).sealed or b""
        blobs = [rig.store.blob(each.number) for each in rig.system.copies]
        assert len(blobs) >= 2
        held = {rig.store.trusted_key(1, each.trusted_key_id) or b"" for each in rig.system.copies} | {sealed}
        for blob, other in itertools.product(blobs, [*blobs, *held]):
            for key in {other[at : at + 32] for at in range(len(other) - 31)}:
                assert not opens(blob, key)


def opens(blob: bytes, key: bytes) -> bool:
    """Whether a key opens a copy; key ids are compared before anything is decrypted."""
    found = TrustedSystemKey(key)
    if found.id != read_copy(blob).tsk_id:
        return False
    try:
        open_copy(found, blob)
    except CopyError:
        return False
    return True
