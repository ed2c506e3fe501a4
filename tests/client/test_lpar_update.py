"""`swpks lpar NAME update`: auth files on the command line, and signed updates of a real server process."""

import pytest

from hcall_client.calls import Authorization, confirm_object_flushed, read_object, signed_update
from hcall_client.console import power_off, power_on, set_attributes
from hcall_client.errors import HcallError
from hcall_client.guests import authvar
from tests.client.test_lpar_command import serving
from tests.secvar.keys import BEFORE, NOW, kek, of_form, pk, stranger, update

OS = Authorization(3)
ARMED = {"keystore_signed_updates": 1, "keystore_signed_updates_without_verification": 1}


def first_pk():
    """The payload of an unsigned PK."""
    return authvar.payload(BEFORE, b"-", pk().lists)


@pytest.fixture
async def command(tmp_path, capsysbinary, monkeypatch):
    """A command against a partition that accepts signed updates, and one PK without verification."""
    async with serving(tmp_path, capsysbinary, monkeypatch, attributes=ARMED) as found:
        yield found


async def contents(command, name):
    """Return the contents of a variable, without its first 8 bytes."""
    return (await command("read", f"hex:{authvar.variable_label(name).hex()}"))[8:]


async def test_auth_files(command, tmp_path):
    """R-70: An auth file from a path or standard input is sent with its flags.

    --wait also works for a deletion.
    """
    (tmp_path / "PK.auth").write_bytes(authvar.auth_file(first_pk()))
    await command("update", "PK", "--auth", tmp_path / "PK.auth", "--wait")
    assert await contents(command, "PK") == pk().lists
    await command("update", "dbx", data=authvar.auth_file(update("dbx", kek().lists)))
    more = update("dbx", stranger().lists, append=True)
    await command("update", "dbx", data=authvar.auth_file(more), status=1)
    assert "H_PKS_SIGNED_UPDATE was refused with H_AUTHORITY" in command.err
    assert "rule authority.update: the password fits" in command.err
    assert "see spec/hcalls/signed_update.md#rules" in command.err
    assert "the server's log has the exact rule" in command.err
    await command("update", "dbx", data=authvar.auth_file(more, append=True))
    assert stranger().der in await contents(command, "dbx")
    nothing = update("dbx", b"", time=NOW._replace(year=2030))
    await command("update", "dbx", "--wait", data=authvar.auth_file(nothing))
    await command("read", f"hex:{authvar.variable_label('dbx').hex()}", status=1)


DOUBTED = {
    "attributes": (["a signature is over signed attributes"], {"attributes": True}),
    "key identifier": (["a signer is named by a key identifier"], {"by_key": True}),
    "both": (
        ["a signature is over signed attributes", "a signer is named by a key identifier"],
        {"attributes": True, "by_key": True},
    ),
    "neither": ([], {}),
}


@pytest.mark.parametrize("case", DOUBTED)
async def test_files_that_hardware_may_refuse(command, case):
    """R-70: the command warns on standard error with each reason, and the server accepts the update."""
    reasons, form = DOUBTED[case]
    await command("update", "PK", data=authvar.auth_file(first_pk()))
    assert command.err == ""
    for words, time in (((), NOW), (("--json",), NOW._replace(year=2031))):
        payload = of_form("db", kek().lists, pk(), time=time, **form)
        assert await command("update", "db", *words, data=authvar.auth_file(payload)) == b""
        logged = [
            line for line in command.err.splitlines() if not line.startswith("{")
        ]  # the log lines of the server begin with "{"
        assert len(logged) == len(reasons)
        for line, reason in zip(logged, reasons, strict=True):
            assert line.startswith(f"swpks lpar lpar1 update: warning: hardware may refuse this: {reason}")
            assert "openssl cms -sign -noattr" in line
    assert await contents(command, "db") == kek().lists


async def test_a_refused_file_is_doubted_too(command):
    """R-70: A file that the server refuses also gets the warning. The warning comes first."""
    payload = of_form("db", kek().lists, stranger(), attributes=True)
    await command("update", "db", data=authvar.auth_file(payload), status=1)
    warning, refusal = command.err.splitlines()[:2]
    assert "hardware may refuse this" in warning
    assert "H_AUTHORITY" in refusal


async def test_what_the_command_refuses_itself(command):
    """The command refuses a file without a payload.

    A wrong policy word is sent, and the server refuses it.
    """
    await command("update", "PK", data=bytes(8), status=2)
    assert "8 bytes of flags" in command.err
    assert "rule command.auth-file: " in command.err
    await command("update", "PK", "--policy", "worldreadable", data=authvar.auth_file(first_pk()), status=1)
    assert "H_P4" in command.err
    policy = "worldreadable,signedupdate"
    await command("update", "PK", "--policy", policy, data=authvar.auth_file(first_pk()))


async def test_a_name_of_another_case(command):
    """A name that differs from db only in case is refused before it is sent. With --any-name it is sent."""
    await command("update", "PK", data=authvar.auth_file(first_pk()))
    other = authvar.auth_file(update("DB", kek().lists))
    await command("update", "DB", data=other, status=2)
    assert command.err.startswith("swpks lpar lpar1 update: 'DB' is another variable than db")
    await command("update", "DB", "--any-name", data=authvar.auth_file(update("db", kek().lists)), status=1)
    assert "H_AUTHORITY" in command.err
    await command("update", "DB", "--any-name", data=other)
    await command("update", "mine", data=authvar.auth_file(update("mine", kek().lists)))
    assert "warning" not in command.err


async def test_updates_that_are_off(tmp_path, capsysbinary, monkeypatch):
    """R-36: If signed updates are off, the refusal has the remedy. The server's log has the reason."""
    async with serving(tmp_path, capsysbinary, monkeypatch) as command:
        await command("update", "PK", data=authvar.auth_file(first_pk()), status=1)
        assert "was refused with H_FUNCTION; the server's log has the reason" in command.err
        hmc = f"swpks hmc --state {command.state}"
        change = f"`{hmc} set lpar1 keystore_signed_updates=1`"
        assert f": `{hmc} power lpar1 off`, {change}, `{hmc} power lpar1 on`; " in command.err
        assert "rule function.update: " in command.err


async def test_files_of_public_tools(command, tmp_path):
    """sign-efi-sig-list writes no flags: the refusal names the missing bytes; --flags supplies them."""
    (tmp_path / "PK.auth").write_bytes(first_pk())
    await command("update", "PK", "--auth", tmp_path / "PK.auth", status=2)
    assert (
        f"{tmp_path}/PK.auth begins with EFI_VARIABLE_AUTHENTICATION_2, as sign-efi-sig-list" in command.err
    )
    assert "8 bytes of flags before it: add --flags none, or --flags append" in command.err
    await command("update", "PK", "--auth", tmp_path / "PK.auth", "--flags", "none")
    assert await contents(command, "PK") == pk().lists
    await command("update", "dbx", "--flags", "none", data=update("dbx", kek().lists))
    more = update("dbx", stranger().lists, append=True)
    await command("update", "dbx", "--flags", "append", data=more)
    assert stranger().der in await contents(command, "dbx")
    await command("update", "dbx", "--flags", "append", data=authvar.auth_file(more), status=2)
    assert "standard input has 8 bytes of flags before its payload: leave --flags out" in command.err
    for words in ([], ["--flags", "none"]):
        await command("update", "db", *words, data=kek().lists, status=2)
        assert "unsigned signature lists" in command.err
        assert "see spec/secure-boot-variables.md#auth-file" in command.err
    assert (await command("ls")).decode().splitlines() == [":utf16:PK (Linux)", ":utf16:dbx (Linux)"]
    assert (await command("read", "--os-label", ":utf16:PK"))[8:] == pk().lists
    await command("read", "PK", status=1)
    assert (
        "refused with H_NOT_FOUND; the label of the secure-boot variable is ':utf16:PK (Linux)' ["
        in command.err
    )
    assert (await command("read", ":utf16:PK (Linux)"))[8:] == pk().lists
    await command("read", "mine", status=1)
    assert "secure-boot variable" not in command.err


def send(channel, name, payload):
    """Send SIGNED_UPDATE as Linux does, and wait until it is durable."""
    label, policy = authvar.variable_label(name), authvar.variable_policy(name)
    channel.call(signed_update(OS, label, payload, policy))
    while not channel.call(confirm_object_flushed(OS, label)).flushed:
        pass  # Each CONFIRM makes the flush begin sooner.


@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
def test_strict_updates_and_the_log_without_them(swpks_server):
    """R-70: `serve --strict-updates` refuses by the rule; without it the log has reasons and advice."""
    for request in (power_off("lpar1"), set_attributes("lpar1", ARMED), power_on("lpar1")):
        swpks_server.console.call(request)
    doubtful = of_form("db", kek().lists, pk(), attributes=True, by_key=True)
    with swpks_server.connect_blocking() as channel:
        send(channel, "PK", first_pk())
        send(channel, "dbx", update("dbx", kek().lists))
        assert not swpks_server.log_lines("signed_update.doubted", least=0)
        send(channel, "db", doubtful)
    (logged,) = swpks_server.log_lines("signed_update.doubted")
    for word in (
        "hardware may refuse this update", '"warning"', '"lpar1"', '"db"', "over signed attributes",
        "by a key identifier", "-noattr", "--strict-updates",
    ):  # fmt: skip
        assert word in logged
    assert swpks_server.stop() == 0
    swpks_server.options.append("--strict-updates")
    swpks_server.start()
    with swpks_server.connect_blocking() as channel:
        again = of_form("db", b"canary", pk(), time=NOW._replace(year=2031), attributes=True)
        with pytest.raises(HcallError, match="H_P6"):
            send(channel, "db", again)
        send(channel, "db", update("db", kek().lists, time=NOW._replace(year=2031)))
    assert swpks_server.stop() == 0
    assert swpks_server.log_lines("update.strict")


@pytest.mark.process
def test_keys_survive_a_kill(swpks_server):
    """R-21, R-36, R-70: A kill loses no confirmed key, and does not arm the latch again.

    After SIGKILL and a start, an unsigned update of PK is refused.
    """
    for request in (power_off("lpar1"), set_attributes("lpar1", ARMED), power_on("lpar1")):
        swpks_server.console.call(request)
    with swpks_server.connect_blocking() as channel:
        send(channel, "PK", first_pk())
        send(channel, "db", update("db", kek().lists))
    assert swpks_server.log_lines("signed_update.unverified")
    swpks_server.kill()
    swpks_server.start()
    with swpks_server.connect_blocking() as channel:
        assert channel.call(read_object(OS, authvar.variable_label("PK"))).data[8:] == pk().lists
        assert channel.call(read_object(OS, authvar.variable_label("db"))).data[8:] == kek().lists
        with pytest.raises(HcallError, match="H_P6"):
            send(channel, "PK", first_pk())
        with pytest.raises(HcallError, match="H_AUTHORITY"):
            send(channel, "dbx", update("dbx", b"canary contents", stranger()))
    assert swpks_server.stop() == 0
    assert "a variable is updated by the holder of PK or of a key in KEK" in swpks_server.log
    assert "spec/hcalls/signed_update.md#rules" in swpks_server.log
    logged = swpks_server.log_lines("signed_update.unverified")
    assert len(logged) == 1
    for word in ("PK taken without verification", "lpar1", "operating_system", '"info"'):
        assert word in logged[0]
    assert "canary" not in swpks_server.log
