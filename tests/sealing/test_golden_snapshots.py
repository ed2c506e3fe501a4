"""Golden snapshots of level 1, own and portable: the package and a second implementation open them."""

import json
from pathlib import Path
from uuid import UUID

import pytest

from hcall_server.platform.identity import SystemIdentity
from hcall_server.sealing import PartitionRecord, Sealer
from hcall_server.sealing.partitions import encode_partition
from hcall_server.sealing.snapshots import Passphrase, SnapshotKey, open_snapshot, seal_snapshot
from tests.sealing import second_snapshots

FOLDER = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "snapshots" / "level-1"


@pytest.mark.parametrize("name", ["own", "portable"])
def test_a_golden_snapshot_opens(name: str) -> None:
    """R-83: every release opens the golden snapshots, and makes the same bytes from the same salt."""
    golden = json.loads((FOLDER / f"{name}.json").read_text())
    blob, root = bytes.fromhex(golden["blob"]), bytes.fromhex(golden["root_key"])
    sealer = Sealer(SystemIdentity(bytes.fromhex(golden["system_id"]), root), bytes)
    own = SnapshotKey(sealer.snapshot_secret())
    words = Passphrase(golden["passphrase"]) if name == "portable" else None
    header, contents = open_snapshot(blob, own, words)
    assert (header.name, header.firmware, header.time, header.partitions) == ("base", "FW1110", 77, 1)
    assert (contents.system_name, contents.total_kbytes) == ("sys1", 4096)
    record: PartitionRecord = contents.records[0]
    assert encode_partition(record).hex() == golden["partition"]
    assert (record.profile.uuid, record.profile.image_generation) == (UUID(bytes=b"D" * 16), 99)
    again = seal_snapshot(
        words or own,
        contents,
        system_id=header.system_id,
        firmware=header.firmware,
        name=header.name,
        time=header.time,
        entropy=lambda _: blob[48:80],
    )
    assert again == blob
    plaintext = second_snapshots.plaintext_of(blob, golden["passphrase"])
    assert bytes.fromhex(golden["partition"]) in plaintext
