"""chtskey and lstskey: the caller sends the key in a file."""

from __future__ import annotations

import pytest

from tests.console.stand import Stand

KEY, OTHER = bytes(range(32)), bytes(32)


@pytest.fixture
async def lpar1(stand: Stand) -> Stand:
    """A partition lpar1 with a keystore, and two key files."""
    await stand.done('mksyscfg -r lpar -m S -i "name=lpar1,keystore_kbytes=64"')
    stand.caller.files |= {"key": KEY, "other": OTHER, "short": KEY[:31], "long": KEY + b"\n"}
    return stand


async def test_a_key_is_changed_and_restored(lpar1: Stand) -> None:
    """R-53: `change` needs the present key as a check, `restore` needs none."""
    await lpar1.done("chtskey -m S -o change --newkey key --force")
    line = await lpar1.done("lstskey -m S")
    key = lpar1.machine().backups.key
    assert key is not None
    assert line == f"key_length=32,key_status=1,key_id={key.id.hex()}"
    assert (await lpar1.refused("chtskey -m S -o change --newkey other --oldkey other")).startswith(
        "SWPK0406 "
    )
    await lpar1.done("chtskey -m S -o change --newkey other --oldkey key")
    assert await lpar1.done("lstskey -m S -F key_id") != key.id.hex()
    await lpar1.done("chtskey -m S -o restore --newkey key")
    assert (
        await lpar1.done("lstskey -m S -F key_id:key_length --header")
        == f"key_id:key_length\n{key.id.hex()}:32"
    )
    await lpar1.done("chsysstate -r lpar -m S -n lpar1 -o on")
    assert (await lpar1.refused("chtskey -m S -o restore --newkey other")).startswith("SWPK0407 ")


@pytest.mark.parametrize("file", ["short", "long", "nofile"])
async def test_a_refused_file_has_the_size_of_a_key(lpar1: Stand, file: str) -> None:
    """If the key file has another size or does not exist, the refusal names the size of a key.

    It does not only ask for another path.
    """
    output = await lpar1.refused(f"chtskey -m S -o change --newkey {file}")
    assert "; name a file of exactly 32 bytes" in output
    assert "where you can write" not in output


@pytest.mark.parametrize(
    "line,number",
    [
        ("-o change", "SWPK0103"),
        ("-o return --newkey key", "SWPK0104"),
        ("-o change --newkey short", "SWPK0401"),
        ("-o change --newkey long", "SWPK0203"),
        ("-o change --newkey nofile", "SWPK0203"),
    ],
)
async def test_refused_keys(lpar1: Stand, line: str, number: str) -> None:
    """R-53: a key file of another size is refused, and the key stays."""
    before = await lpar1.done("lstskey -m S -F key_id")
    assert (await lpar1.refused(f"chtskey -m S {line}")).startswith(f"{number} ")
    assert await lpar1.done("lstskey -m S -F key_id") == before


async def test_there_is_no_key_before_the_first_keystore(stand: Stand) -> None:
    """R-53: lstskey reports that there is no key before the first keystore."""
    assert await stand.done("lstskey -m S") == "key_length=0,key_status=2,key_id=none"
    assert (await stand.refused("lstskey -m S -F key")).startswith("SWPK0106 ")
