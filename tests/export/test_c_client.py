"""The C client `swpks/pks_client.h` and the examples in docs/examples/c, on both machines (R-81)."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from swpks.cli.main import main
from swpks.conformance.client.cases import CLIENT_CASES
from swpks.testing import ServerProcess
from tests.export.compilers import EXAMPLES, MACHINES, Machine, Programs, compile_c, output

MACHINE = pytest.mark.parametrize("machine", MACHINES, ids=[machine.name for machine in MACHINES])
MOST_LINES = 120

pytestmark = pytest.mark.usefixtures("not_measured")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Run a server with one partition at a Unix socket and over TCP."""
    running = ServerProcess(tmp_path / "lab", ["lpar1:64"], ["--listen", "tcp:127.0.0.1:0"]).start()
    yield running
    running.stop()


@MACHINE
def test_the_client_passes_every_case(
    machine: Machine, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    """R-80, R-81: with --require-all, the judge of clients passes every case of the C client."""
    command = " ".join(programs.example(machine, "conformance_adapter"))
    assert main(["conformance", "client", "--exec", command, "--require-all"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"{len(CLIENT_CASES)} cases: {len(CLIENT_CASES)} passed"


FIRMWARE = """\
H_PKS_GET_CONFIG             H_SUCCESS
  FW1110, 0 of 65536 bytes used
H_PKS_GEN_PASSWORD           H_SUCCESS
H_PKS_WRITE_OBJECT           H_SUCCESS
H_PKS_CONFIRM_OBJECT_FLUSHED H_SUCCESS
H_PKS_READ_OBJECT            H_SUCCESS
  1 bytes, policy 0x08000000
H_PKS_REMOVE_OBJECT          H_SUCCESS
H_PKS_READ_OBJECT            H_NOT_FOUND
"""


@MACHINE
def test_the_examples_against_a_server(machine: Machine, programs: Programs, server: ServerProcess) -> None:
    """R-81: firmware uses each of its calls; the boot loader stores its key, and finds it after an IPL.

    A second run in the same IPL is refused: the password is set once.
    """
    socket = str(server.socket())
    firmware, loader = (programs.example(machine, name) for name in ("firmware", "boot_loader"))
    assert output(firmware, socket) == FIRMWARE
    assert output(loader, socket) == "secure-boot keys: static\nthe key is new\n"
    again = subprocess.run([*loader, socket], capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr) == (1, "boot_loader: H_PKS_GEN_PASSWORD: H_IN_USE\n")
    assert main(["hmc", "--state", str(server.state), "ipl", "lpar1"]) == 0
    assert output(loader, socket) == "secure-boot keys: static\nthe key is known, 32 bytes\n"


def test_the_proof_over_tcp(programs: Programs, server: ServerProcess) -> None:
    """R-81: over TCP the client proves the access key; without it, and with another one, it is refused."""
    host, port = server.ready["tcp"][0].removeprefix("tcp:").rsplit(":", 1)
    place, key = f"tcp:{host}:{port}", server.access_key()
    lines = [
        f"open {place} partition=1 key={key.hex()}",
        f"open {place} partition=1 key={bytes(32).hex()}",
        f"open {place} partition=1",
        "quit",
    ]
    adapter = subprocess.run(
        programs.example(MACHINES[0], "conformance_adapter"),
        input="".join(f"{line}\n" for line in lines), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert adapter.stdout.splitlines() == ["opened partition=1 ipl=1 level=FW1110", "refused 2", "refused 2"]


@pytest.mark.parametrize(
    "place,reason",
    [
        ("run/control.sock", "the server sent no HELLO: is this the socket of a partition?"),
        ("missing.sock", "{}: No such file or directory"),
        ("n" * 108, "the path of the socket is longer than 107 bytes"),
    ],
)
def test_a_wrong_place_is_named(programs: Programs, server: ServerProcess, place: str, reason: str) -> None:
    """A socket of another kind, a missing one and a path that is too long are reported as such."""
    path = f"{server.state}/{place}"
    # The time for a HELLO is over soon: a socket that is no data channel sends none.
    firmware = programs.example(MACHINES[0], "firmware", "-DPKS_OPEN_TIMEOUT=100")
    done = subprocess.run([*firmware, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"firmware: {reason.format(path)}\n"


def test_a_server_that_stops_is_reported(programs: Programs, server: ServerProcess) -> None:
    """The reason of the server's GOODBYE reaches the caller."""
    adapter = subprocess.Popen(
        programs.example(MACHINES[0], "conformance_adapter"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with adapter:
        assert adapter.stdin
        assert adapter.stdout
        adapter.stdin.write(f"open unix:{server.socket()}\n")
        adapter.stdin.flush()
        assert adapter.stdout.readline().startswith("opened")
        server.stop()
        adapter.stdin.write("call 0x41c\nquit\n")
        adapter.stdin.flush()
        assert adapter.stdout.readline() == "ended 4 outcome=unknown\n"


@pytest.mark.parametrize(
    "words", ["gcc -std=c99 -D_POSIX_C_SOURCE=200809L -pedantic", "g++ -x c++ -std=c++11"]
)
def test_the_client_header_compiles(words: str, tmp_path: Path) -> None:
    """The client header is C99 with POSIX, and C++11."""
    source = tmp_path / "client.c"
    source.write_text("#include <swpks/pks_client.h>\nint main(void) { return 0; }\n", "utf-8")
    compile_c(*words.split(), "-c", str(source), "-o", f"{tmp_path}/client.o")


def test_the_firmware_example_is_short() -> None:
    """The example of a firmware has at most 120 lines."""
    assert len((EXAMPLES / "firmware.c").read_text("utf-8").splitlines()) <= MOST_LINES


MISUSE = """
#include <swpks/pks_client.h>

static struct pks_client client;

static void show(int result)
{
	printf("%d %s\\n", result == PKS_MISUSED, client.error);
}

int main(int argc, char **argv)
{
	uint64_t r[PKS_REGISTERS] = { 0 };
	int64_t status;
	char name[300];

	pks_close(&client);
	printf("%d\\n", fcntl(0, F_GETFD));
	show(pks_open(&client, 0, NULL, "early"));
	show(pks_call(&client, PKS_OPCODE_GET_CONFIG, r, NULL, 0, &status));
	memset(name, 'a', sizeof(name));
	name[254] = (char)0xc3;
	name[255] = (char)0xa9;
	name[299] = 0;
	if (argc != 2 || pks_connect_unix(&client, argv[1]))
		return 1;
	show(pks_call(&client, PKS_OPCODE_GET_CONFIG, r, NULL, 0, &status));
	printf("%d\\n", pks_open(&client, 0, NULL, name));
	show(pks_open(&client, 0, NULL, "again"));
	pks_close(&client);
	return 0;
}
"""
MISUSED = """\
0
1 pks_open: connect first, by pks_connect_unix or pks_connect_tcp
1 pks_call: connect first, by pks_connect_unix or pks_connect_tcp
1 pks_call: open the session first, by pks_open
0
1 pks_open: the session is open already
"""


def test_a_function_at_the_wrong_time(programs: Programs, server: ServerProcess) -> None:
    """A client that is not connected touches no descriptor; a missing step is named; a long name is cut."""
    misuse = programs.of_text(MACHINES[0], "misuse", MISUSE)
    assert output(misuse, str(server.socket())) == MISUSED
