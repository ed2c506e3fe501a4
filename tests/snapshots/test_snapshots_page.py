"""spec/snapshots.md and the code agree: layout, bounds, and the order of checks."""

import inspect
import re

from construct import Struct

from hcall_abi.bounds import LARGEST_SNAPSHOT, LONGEST_PASSPHRASE, MOST_SNAPSHOTS, SHORTEST_PASSPHRASE
from hcall_abi.rules import snapshot as rules
from hcall_abi.rules.rule import Rule
from hcall_server import failpoints
from hcall_server.sealing import snapshot_errors, snapshot_formats, snapshots
from tests.spec.markdown import ROOT, tables

PAGE = (ROOT / "spec" / "snapshots.md").read_text("utf-8")


def test_the_layout_is_that_of_the_code() -> None:
    """R-83: every fixed field has its offset, its width and its place; all of them have 80 bytes."""
    offset, expected = 0, []
    for field in snapshot_formats.SNAPSHOT_START.subcons:
        expected.append([str(offset), str(field.sizeof()), field.name])
        offset += field.sizeof()
    found = next(each for each in tables(PAGE) if each[0][:2] == ["offset", "size"])
    assert [row[:3] for row in found[1:]] == expected
    assert f"at least {snapshots.LEAST_SNAPSHOT} bytes" in PAGE
    # The page has the other fields in sentences, in this order.
    names = [field.name for field in snapshot_formats.SNAPSHOT_HEADER.subcons]
    assert names == ["header", "name", "firmware", "sealed_length"]
    assert isinstance(snapshot_formats.SNAPSHOT_CONTENTS, Struct)
    names = [field.name for field in snapshot_formats.SNAPSHOT_CONTENTS.subcons if field.name]
    assert names == ["level", "reserved", "total_kbytes", "system_name", "partitions", "later"]


def test_the_texts_of_the_keys_and_the_bounds() -> None:
    page = re.sub(r"\s+", " ", PAGE)
    for info in (b"swpks snapshot 1", snapshots.SNAPSHOT_SEALING_INFO, snapshots.SNAPSHOT_ID_INFO):
        assert f"`{info.decode()}`" in page
    assert f"n = 2^{snapshots.LOG_N}, r = {snapshots.SCRYPT_R}, p = {snapshots.SCRYPT_P}" in page
    assert f"at most {MOST_SNAPSHOTS} snapshots, of at most {LARGEST_SNAPSHOT >> 20} MiB" in page
    assert f"{SHORTEST_PASSPHRASE} to {LONGEST_PASSPHRASE} characters" in page
    for point in failpoints.SnapshotPoint.__args__:  # type: ignore[attr-defined]
        assert f"SWPKS_FAIL_AT={point}" in page


def test_every_error_has_its_check_and_every_rule_is_real() -> None:
    checks = next(each for each in tables(PAGE) if each[0][:2] == ["#", "check"])
    named = {rule for row in checks[1:] for rule in re.findall(r"`([a-z.-]+)`", row[2])}
    classes = [each for _, each in inspect.getmembers(snapshot_errors, inspect.isclass)]
    broken = {vars(each)["broken"].id for each in classes if "broken" in vars(each)}
    assert named == broken
    known = {each.id for each in vars(rules).values() if isinstance(each, Rule)}
    assert set(re.findall(r"`(snapshot\.[a-z-]+)`", PAGE)) <= known
