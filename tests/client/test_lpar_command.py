"""`swpks lpar`: the command's arguments, output, files and exit statuses, against the real server code."""

import argparse
import io
import json
import socket
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from hcall_client.guests.linux import LINUX_7_0
from hcall_server.data_channel.connection import serve_stream
from swpks.cli import lpar, lpar_verbs
from swpks.testing import emulated_partition


class Command:
    """Runs `swpks lpar lpar1 ...` in a thread while the server runs on Trio."""

    def __init__(self, state, capture, monkeypatch, emulated) -> None:
        self.state = state
        self.emulated = emulated
        self._capture = capture
        self._monkeypatch = monkeypatch
        self.err = ""

    async def __call__(self, *arguments, status=0, data=b"", name="lpar1"):
        """Return standard output; check the exit status; store standard error in `err`."""
        self._monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        words = ["lpar", "--state", str(self.state), name, *map(str, arguments)]
        got = await trio.to_thread.run_sync(execute, words)
        out, err = self._capture.readouterr()
        self.err = err.decode()
        assert got == status, self.err
        return out

    async def json(self, *arguments):
        return json.loads(await self(*arguments, "--json"))


def execute(words):
    """Run one command as main() does."""
    parser = argparse.ArgumentParser("swpks")
    lpar.add_parser(parser.add_subparsers(required=True))
    try:
        args = parser.parse_args(words)
    except SystemExit as stop:
        return stop.code
    return args.run(args)


@asynccontextmanager
async def serving(tmp_path, capture, monkeypatch, **how):
    """A command against a partition that is served on the socket of a state folder."""
    monkeypatch.delenv("SWPKS_STATE", raising=False)
    state = tmp_path / "state"
    (state / "run").mkdir(parents=True)
    listener = trio.socket.socket(socket.AF_UNIX)
    await listener.bind(str(state / "run" / "lpar1.sock"))
    listener.listen(5)
    async with emulated_partition(**how) as emulated, trio.open_nursery() as nursery:

        async def serve(stream):
            await serve_stream(emulated.machine, stream, emulated.partition, demand_proof=False)

        await nursery.start(trio.serve_listeners, serve, [trio.SocketListener(listener)])
        yield Command(state, capture, monkeypatch, emulated)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def command(tmp_path, capsysbinary, monkeypatch):
    """A command against a partition with default options."""
    async with serving(tmp_path, capsysbinary, monkeypatch) as found:
        yield found


async def test_config_for_people_and_programs(command):
    """R-07: `config` prints the sizes and the used space, as text or as JSON."""
    text = (await command("config")).decode()
    assert "firmware                   FW1110" in text
    assert "OSSECBOOTAUDIT|" in text
    output = await command.json("config")
    assert (output["total_size"], output["used_space"], output["ipl_count"]) == (65536, 0, 1)


async def test_objects_go_through_files_byte_for_byte(command, tmp_path):
    """Every byte value goes unchanged through files, standard input and standard output."""
    data = bytes(range(256)) * 3
    (tmp_path / "in").write_bytes(data)
    await command("write", "a", "--in", tmp_path / "in")
    assert await command("read", "a") == data
    await command("read", "a", "--out", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600
    await command("write", "b", data=data[::-1])
    assert await command("read", "b", "--out", "-") == data[::-1]
    output = await command.json("read", "b")
    assert bytes.fromhex(output["data_hex"]) == data[::-1]


async def test_write_confirm_remove(command):
    """R-08, R-20: A second write is refused; --wait returns when the change is durable."""
    await command("write", "x", "--wait", "--policy", "worldreadable,transient", data=b"1")
    assert await command("confirm", "x") == b"flushed\n"
    await command("write", "x", data=b"2", status=1)
    assert "H_PKS_WRITE_OBJECT was refused with H_RESOURCE" in command.err
    assert "rule object.new: a write never overwrites" in command.err
    await command("rm", "x", "--wait")
    assert await command("confirm", "x") == b"flushed: no object has this label\n"
    assert await command.json("confirm", "x", "--wait") == {"flushed": True, "present": False}
    await command("read", "x", status=1)
    ls = f"swpks lpar --state {command.state} lpar1 ls"
    assert f"refused with H_NOT_FOUND; `{ls}` lists the labels of this consumer [" in command.err
    await command("rm", "x", "--consumer", "firmware", status=1)
    assert f"H_NOT_FOUND; `{ls} --consumer firmware` lists the labels of this consumer [" in command.err


async def test_a_flush_that_does_not_come(command, monkeypatch):
    """R-23: the change takes effect, and the command reports that it is not durable."""
    command.emulated.encryptor.changed = lambda partition: None
    monkeypatch.setattr(lpar_verbs, "LINUX_7_0", replace(LINUX_7_0, poll_limit=0))
    await command("write", "x", "--wait", data=b"1", status=1)
    assert "was not durable within 0 s" in command.err
    assert f"see `swpks hmc --state {command.state} status`" in command.err
    assert await command("confirm", "x") == b"pending\n"


async def test_labels_of_every_kind(command):
    """The command takes labels as text, as hexadecimal bytes, and with the header of operating systems."""
    await command("write", "plain", data=b"1")
    await command("write", "hex:00ff", data=b"2")
    await command("write", "--os-label", "sed-opal:disk", "--os-flag", "common", data=b"3")
    await command("write", "--os-label", ":hex:50004b00", data=b"4")
    lines = (await command("ls")).decode().splitlines()
    assert lines == ["plain", "hex:00ff", "sed-opal:disk (common)", ":utf16:PK (Linux)"]
    listed = (await command.json("ls"))["labels"]
    assert listed[1] == {"label": "hex:00ff", "hex": "00ff"}
    assert (listed[2]["component"], listed[2]["os"]) == ("sed-opal", 4)
    assert (listed[3]["name"], listed[3]["name_hex"]) == ("PK", "50004b00")
    assert await command("read", "--os-label", ":hex:50004b00") == b"4"
    assert await command("read", "--os-label", ":utf16:PK") == b"4"
    assert [await command("read", line) for line in lines] == [b"1", b"2", b"3", b"4"]
    await command("rm", ":utf16:PK (Linux)")
    assert (await command("ls")).decode().splitlines() == lines[:3]
    await command("read", "ninebytes:x (Linux)", status=2)
    assert "a component has at most 8 bytes" in command.err
    assert await command("ls", "--consumer", "firmware") == b""


async def test_passwords_travel_in_files_only(command, tmp_path):
    """R-04, R-05: The command reads and writes passwords in files only; without the file it is refused."""
    made, chosen = tmp_path / "made", tmp_path / "chosen"
    assert await command("gen-password", "--out", made) == b""
    assert len(made.read_bytes()) == 64
    assert made.stat().st_mode & 0o777 == 0o600
    await command("write", "x", "--password-file", made, data=b"1")
    await command("read", "x", status=1)
    assert "H_AUTHORITY" in command.err
    assert await command("--password-file", made, "read", "x") == b"1"
    chosen.write_bytes(b"correct horse battery staple 32b")
    await command("set-password", "--consumer", "boot-loader", "--new-password-file", chosen)
    await command("set-password", "--consumer", "2", "--new-password-file", chosen, status=1)
    assert "H_IN_USE; the password of the consumer boot-loader is set until the next IPL: " in command.err
    await command("--consumer", "boot-loader", "write", "y", "--password-file", chosen, data=b"1")


async def test_boot_locks_everything(command, tmp_path):
    """R-03: `boot` runs the emulated boot, which sets the passwords of all consumers.

    With --out it saves the kernel's password for later commands.
    """
    text = (await command("boot", "--out", tmp_path / "pw")).decode()
    assert "boot loader  dynamic keys" in text
    assert "plpks: POWER LPAR Platform KeyStore initialized successfully" in text
    assert await command("read", "SB_VERSION", "--consumer", "firmware") == b"\1"
    await command("write", "x", "--password-file", tmp_path / "pw", data=b"1")
    ipl = f"swpks hmc --state {command.state} ipl lpar1"
    assert f"the kernel's is in {tmp_path / 'pw'}, and the others are lost; to unset them: {ipl}" in text
    await command("write", "x", data=b"1", status=1)
    assert (
        f"; if its password is set: --password-file F; if the password is lost, `{ipl}` unsets it ["
        in command.err
    )
    (tmp_path / "other").write_bytes(b"other")
    await command("rm", "x", "--password-file", tmp_path / "other", status=1)
    wrong = f"the password in {tmp_path / 'other'} is not that of the consumer os in this IPL: name the right"
    lost = f"; if the password is lost, `{ipl}` unsets it"
    assert f"H_AUTHORITY; perhaps {wrong} file by --password-file" in command.err
    assert f"{lost}; or the policy of the object forbids it [" in command.err
    await command("read", "x", "--password-file", tmp_path / "other", status=1)
    assert f"H_AUTHORITY; {wrong} file by --password-file" in command.err
    assert f" leave it out if no password was set since the last IPL{lost} [" in command.err
    await command("boot", status=1)
    boot = "boot sets each password itself, and a consumer has one already in this IPL"
    assert f"H_PKS_SET_PASSWORD was refused with H_IN_USE; {boot}; to unset" in command.err
    assert f"; to unset the password: `{ipl}` [" in command.err
    await command.emulated.ipl()
    assert (await command.json("boot"))["ipl_count"] == 2


async def test_policies_are_told_with_refusals(command):
    """R-13: the error names the policy that forbids the read."""
    await command("gen-password", "--out", "-")
    await command("write", "x", "--consumer", "firmware", "--policy", "0x08000000", data=b"1")
    assert await command("read", "x", "--consumer", "firmware") == b"1"
    output = await command.json("read", "x", "--consumer", "firmware")
    assert (output["policy"], output["policy_word"], output["size"]) == ("WORLDREADABLE", 0x08000000, 1)
    await command("read", "x", "--consumer", "firmware", "--size", "0", status=1)
    assert "the object has 1 bytes; policy of the object: WORLDREADABLE" in command.err
    await command("write", "y", "--consumer", "firmware", "--policy", "0x08000008", data=b"1", status=1)
    assert "ipl" not in command.err, "the policy is the reason, and no password"


async def test_raw_calls(command, tmp_path):
    """A raw call sends any values, also wrong ones, and prints the answer unchanged."""
    arguments = ["raw", "0x41C", "--register", "r4=0x1000", "--register", "r5=32"]
    text = (await command(*arguments, "--segment", "0x1000:out:32")).decode()
    assert text.startswith("H_PKS_GET_CONFIG: H_SUCCESS (0)\nwritten at 0x1000: 03")
    for name in ("GET_CONFIG", "h_pks_get_config", "1052"):
        named = await command("raw", name, *arguments[2:], "--segment", "0x1000:out:32")
        assert named.decode() == text
    output = json.loads(await command(*arguments, "--json", status=1))
    assert (output["status"], output["r3"], output["writes"]) == ("H_PARAMETER", -4, [])
    assert "h-call 0x999: H_FUNCTION (-2)" in (await command("raw", "0x999", status=1)).decode()
    (tmp_path / "auth").write_bytes(bytes.fromhex("0103" + "00" * 14))
    memory = ["--segment", f"0x2000:in:@{tmp_path / 'auth'}", "--segment", "0x3000:in:label"]
    place = ["--register", "r4=0x2000", "--register", "r5=0x3000", "--register", "r6=5"]
    assert "H_NOT_FOUND" in (await command("raw", "0x438", *place, *memory, status=1)).decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ["read"],
        ["read", "x", "--os-label", "a:b"],
        ["read", "--os-label", "too-long-a-name:b"],
        ["read", "--os-label", "nocolon"],
        ["read", "hex:0"],
        ["write", "x", "--policy", "worldreadable,nonsense"],
        ["write", "x", "--in", "/nonexistent"],
        ["read", "x", "--password-file", "/nonexistent"],
        ["read", "x", "--consumer", "hypervisor"],
        ["raw", "0x41C", "--register", "r3=1"],
        ["raw", "0x41C", "--segment", "0:io:1"],
        ["raw", "0x41C", "--segment", "0:in:@/nonexistent"],
        ["config", "--tcp", "localhost"],
        ["config", "--tcp", "localhost:1", "--socket", "/x"],
        ["config", "--tcp", "localhost:1", "--access-key-file", "/nonexistent"],
        ["nonsense"],
        [],
    ],
)
async def test_a_command_line_without_sense_is_2(command, arguments):
    await command(*arguments, status=2)
    assert command.err


async def test_no_server_is_3(command, tmp_path):
    await command("config", "--socket", tmp_path / "nobody", status=3)
    assert f"nothing listens at {tmp_path / 'nobody'}" in command.err
    await command("boot", "--socket", tmp_path / "nobody", status=3)
    await command("config", name="lpar2", status=3)


async def test_a_partition_that_is_off_is_3(command):
    await command.emulated.power_off()
    await command("config", status=3)
    assert "NOT_ACTIVATED" in command.err
    # If --socket is given, the command uses the system of that socket and ignores SWPKS_STATE. NAME is no
    # partition there.
    run = command.state / "run"
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(run / "control.sock"))
        here, command.state = command.state, "/other"
        await command("config", "--socket", run / "lpar1.sock", name="any", status=3)
    assert f": swpks hmc --state {here} power lpar1 on [" in command.err


async def test_tcp_proves_both_ends(command, tmp_path):
    """Over TCP the access key comes from an option or from the state folder. A wrong key opens no session."""
    key = bytes(range(32))
    command.emulated.machine.system.find("lpar1").set_access_key(key)
    (command.state / "access-keys").mkdir()
    (command.state / "access-keys" / "lpar1.key").write_text(key.hex() + "\n")
    wrong, no_key = tmp_path / "wrong", tmp_path / "none"
    wrong.write_text("00" * 32)
    no_key.write_text("zz")

    async def serve(stream):
        await serve_stream(command.emulated.machine, stream, None, demand_proof=True)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        where = ["--tcp", f"localhost:{listeners[0].socket.getsockname()[1]}", "--partition", 1]
        assert (await command.json("config", *where))["partition"] == 1
        assert (await command.json("boot", *where))["partition"] == 1
        await command("config", *where, "--access-key-file", wrong, status=3)
        assert "NOT_AUTHORISED" in command.err
        await command("config", *where, "--access-key-file", no_key, status=2)
        nursery.cancel_scope.cancel()


async def test_without_any_place(capsysbinary, monkeypatch):
    """Without an option the state comes from SWPKS_STATE. Without both, the command asks for it."""
    monkeypatch.delenv("SWPKS_STATE", raising=False)
    assert execute(["lpar", "lpar1", "config"]) == 2
    assert b"--state DIR (or SWPKS_STATE)" in capsysbinary.readouterr().err
    assert execute(["lpar", "lpar1", "config", "--tcp", "localhost:1"]) == 2
    monkeypatch.setenv("SWPKS_STATE", "/nonexistent")
    assert execute(["lpar", "lpar1", "config"]) == 3


@pytest.mark.parametrize("verb", ["gen-password", "boot"])
async def test_a_password_that_cannot_be_kept_is_not_set(command, verb):
    """R-05: the command opens the output before the call, so an unwritable file locks no consumer out."""
    await command(verb, "--out", "/dev/full", status=2)
    assert "cannot write /dev/full: No space left on device" in command.err
    await command("gen-password", "--out", "-")


async def test_a_refused_password_leaves_the_file(command, tmp_path):
    """After a refused password the space that was reserved in the file is free again."""
    await command("gen-password", "--out", tmp_path / "first")
    old = tmp_path / "old"
    old.write_bytes(b"old")
    await command("gen-password", "--out", old, status=1)
    assert old.read_bytes() == b"old"
    await command("gen-password", "--consumer", "firmware", "--out", old)
    assert len(old.read_bytes()) == 64


@pytest.mark.parametrize("verb", ["gen-password", "boot"])
async def test_no_space_for_a_password_is_noticed_before_the_call(command, tmp_path, monkeypatch, verb):
    """On a full disk the command fails before the call, when it reserves the space of the file."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    await command(verb, "--out", tmp_path / "password", status=2)
    assert "cannot write" in command.err
    await command("gen-password", "--out", "-")


async def test_a_secret_is_never_in_a_file_of_others(command, tmp_path):
    """An existing file gets mode 0600 before the new bytes, and its old contents are removed."""
    out = tmp_path / "out"
    await command("write", "x", data=b"data")
    for words, size in ((["read", "x"], 4), (["gen-password"], 64)):
        out.write_bytes(bytes(1000))
        out.chmod(0o644)
        await command(*words, "--out", out)
        assert out.stat().st_mode & 0o777 == 0o600
        assert len(out.read_bytes()) == size


async def test_an_output_that_takes_nothing_is_not_the_partitions_fault(command):
    """An output that can't be written is a usage error that names the file, and no partition's error."""
    await command("gen-password", "--out", "/dev/full", status=2)
    assert "cannot write /dev/full: No space left on device" in command.err


async def test_a_refusal_as_json_has_the_facts(command):
    """The JSON has h-call, status, refused argument and rule. It is one line on standard error."""
    assert await command("read", "x", "--json", status=1) == b""
    output = json.loads(command.err)
    assert (output["hcall"], output["status"], output["r3"]) == ("H_PKS_READ_OBJECT", "H_NOT_FOUND", -7)
    assert (output["rule_id"], output["fault"]) == ("object.exists", "guest")
    await command("read", "x", "--json", "--consumer", "9", status=1)
    assert json.loads(command.err)["argument"] == "authorization"


@pytest.mark.parametrize("verb", ["gen-password", "gen-key"])
async def test_an_error_without_words_is_told(command, tmp_path, monkeypatch, verb):
    """An OSError without `strerror` is reported by its text."""

    def broken(*_):
        raise OSError("the device went away")

    monkeypatch.setattr("os.posix_fallocate", broken)
    words = ["key", "--length", "16"] if verb == "gen-key" else []
    await command(verb, *words, "--out", tmp_path / "out", status=2)
    assert f"cannot write {tmp_path / 'out'}: the device went away [" in command.err
    assert not (tmp_path / "out").exists()


async def test_a_secret_that_is_refused_leaves_no_file(command, tmp_path):
    """If GEN_PASSWORD is refused, the new output file is removed: an empty one would look like a password."""
    await command("gen-password", "--out", "-")
    await command("gen-password", "--out", tmp_path / "new", status=1)
    told = "H_IN_USE; the password of the consumer os is set until the next IPL: it is in the --out file of"
    assert f"{told} the gen-password or boot that set it, in the --new-password-file of a set" in command.err
    ipl = f"swpks hmc --state {command.state} ipl lpar1"
    use = "use that file with --password-file"
    assert f"in no file if a guest set it; {use}; to unset the password: `{ipl}` [" in command.err
    assert not (tmp_path / "new").exists()
