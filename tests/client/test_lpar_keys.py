"""`swpks lpar` and keys: gen-key, wrap, unwrap, revoke, unrevoke, against the real server code."""

import pytest

from tests.client.test_lpar_command import serving

DATA = bytes(range(256)) * 3


@pytest.fixture
async def command(tmp_path, capsysbinary, monkeypatch):
    """A command against a partition with every h-call and a password of its operating system."""
    async with serving(tmp_path, capsysbinary, monkeypatch, level="NEXT") as found:
        await found("gen-password", "--out", tmp_path / "pw")
        yield found


@pytest.fixture
def password(tmp_path):
    """Return the option that names the password's file."""
    return "--password-file", tmp_path / "pw"


async def test_wrapping_through_files_and_pipes(command, password, tmp_path):
    """R-71: WRAP and UNWRAP pass bytes unchanged through files and pipes. gen-key prints no wrapping key."""
    assert await command("gen-key", "k", "--wait", *password) == b""
    assert await command("confirm", "k", *password) == b"flushed\n"
    (tmp_path / "in").write_bytes(DATA)
    assert await command("wrap", "k", "--in", tmp_path / "in", "--out", tmp_path / "w", *password) == b""
    assert (tmp_path / "w").stat().st_mode & 0o777 == 0o600
    assert len((tmp_path / "w").read_bytes()) == len(DATA) + 1024
    assert await command("unwrap", "--in", tmp_path / "w", *password) == DATA
    piped = await command("wrap", "k", *password, data=DATA)
    await command("unwrap", "--out", tmp_path / "out", *password, data=piped)
    assert (tmp_path / "out").read_bytes() == DATA
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


async def test_json(command, password, tmp_path):
    """R-71: bytes are in hexadecimal, unless they go to a file."""
    await command("gen-key", "k", *password)
    (tmp_path / "in").write_bytes(DATA)
    wrapped = await command.json("wrap", "k", "--in", tmp_path / "in", *password)
    assert wrapped["size"] == len(DATA) + 1024
    (tmp_path / "w").write_bytes(bytes.fromhex(wrapped["data_hex"]))
    output = await command.json("unwrap", "--in", tmp_path / "w", *password)
    assert output == {"size": len(DATA), "data_hex": DATA.hex()}
    output = await command.json("unwrap", "--in", tmp_path / "w", "--out", tmp_path / "out", *password)
    assert output == {"size": len(DATA)}


async def test_a_plain_key_is_given_out(command, password, tmp_path):
    """R-71: a plain key goes to a file or standard output and equals the data of READ.

    The caller chooses its policy.
    """
    await command("gen-key", "plain", "--length", 48, "--out", tmp_path / "key", *password)
    assert await command("read", "plain", *password) == (tmp_path / "key").read_bytes()
    assert len((tmp_path / "key").read_bytes()) == 48
    made = await command("gen-key", "seen", "--length", 16, "--policy", "worldreadable", *password)
    assert await command("read", "seen") == made
    await command("gen-key", "hidden", "--policy", "immutable", *password)
    await command("read", "hidden", *password, status=1)
    assert "policy of the object: IMMUTABLE|WRAPPINGKEY" in command.err
    await command("gen-key", "seen", *password, status=1)
    assert "H_PKS_GEN_KEY was refused with H_RESOURCE" in command.err


async def test_revocation(command, password):
    """R-72: a revoked key wraps and unwraps nothing until it is unrevoked; the output has the policy word."""
    await command("gen-key", "--os-label", "trusted:k", *password)
    wrapped = await command("wrap", "--os-label", "trusted:k", *password, data=DATA)
    assert await command("revoke", "--os-label", "trusted:k", "--wait", *password) == b"WRAPPINGKEY|REVOKED\n"
    await command("unwrap", *password, data=wrapped, status=1)
    assert "H_PKS_UNWRAP_OBJECT was refused with H_AUTHORITY" in command.err
    output = await command.json("unrevoke", "--os-label", "trusted:k", *password)
    assert output == {"policy": "WRAPPINGKEY", "policy_word": 0x0080_0000}
    assert await command("unwrap", *password, data=wrapped) == DATA
    await command("write", "x", *password, data=b"1")
    await command("revoke", "x", *password, status=1)
    assert "H_AUTHORITY" in command.err


async def test_wrap_flags(command, password):
    """R-71, R-11: Secure-boot modes have names that are added to the flags that WRAP demands.

    A number is sent unchanged.
    """
    await command("gen-key", "k", *password)
    wrapped = await command("wrap", "k", "--flags", "ossecbootenforce", *password, data=DATA)
    await command("unwrap", *password, data=wrapped, status=1)
    assert "H_AUTHORITY" in command.err
    await command("wrap", "k", "--flags", "0x1", *password, data=DATA, status=1)
    assert "H_PKS_WRAP_OBJECT was refused with H_P4" in command.err
    await command("wrap", "k", "--flags", "ossecboot", *password, status=2)
    assert "unknown wrap flag 'ossecboot'" in command.err


async def test_busy_answers_are_gone_on_after(command, password):
    """R-75: After a busy answer the command repeats the call, with the returned token if there is one."""
    calls = ("GEN_KEY", "WRAP_OBJECT", "UNWRAP_OBJECT", "REVOKE_OBJECT", "UNREVOKE_OBJECT")
    await command.emulated.set_faults(*(f"{call}=H_BUSY,times=3" for call in calls))
    await command("gen-key", "k", *password)
    assert await command("unwrap", *password, data=await command("wrap", "k", *password, data=DATA)) == DATA
    await command("revoke", "k", *password)
    await command("unrevoke", "k", *password)


@pytest.mark.parametrize(
    "words",
    [
        ["wrap"],
        ["revoke", "k", "--os-label", "a:b"],
        ["gen-key", "k", "--length"],
        ["gen-key", "k", "--out", "never"],
    ],
)
async def test_a_command_line_without_sense_is_2(command, words):
    await command(*words, status=2)
    assert command.err
