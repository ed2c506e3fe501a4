"""The C client and the C examples at a server that breaks the rules (R-81)."""

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hcall_abi.codec import encode
from hcall_abi.frames import HReturn, Write
from hcall_abi.structures import CONFIG_SIZE, Config, build_config
from swpks.cli.main import main
from swpks.testing import ServerProcess
from tests.export.compilers import MACHINES, Programs
from tests.export.vectors import VECTORS

pytestmark = pytest.mark.usefixtures("not_measured")

HELLO, OPENED = (
    bytes.fromhex(step["hex"])
    for step in json.loads((VECTORS / "session.json").read_text("utf-8"))
    if step["from"] == "server" and step["what"].startswith(("HELLO", "OPENED"))
)
CALL = """
#include <swpks/pks_client.h>

static struct pks_client client;

int main(int argc, char **argv)
{
	static uint8_t big[300000];
	struct pks_memory memory[] = { pks_in(big, sizeof(big)) };
	struct pks_exchange call;
	uint64_t r[PKS_REGISTERS] = { 0 };
	int64_t status = 0;
	int end = 0;

	if (argc != 2 || pks_connect_unix(&client, argv[1]) || (end = pks_open(&client, 0, NULL, "slow")) != 0) {
		printf("%d\\n", end);
		return 0;
	}
	client.timeout = 200;
	memset(&call, 0xff, sizeof(call));
	call.opcode = PKS_OPCODE_GET_CONFIG;
	call.memory = memory;
	call.count = 1;
	printf("%d ", pks_begin(&client, &call) == PKS_TOO_LARGE && pks_finish(&client, &call) == PKS_MISUSED);
	printf("%d\\n", pks_call(&client, PKS_OPCODE_GET_CONFIG, r, NULL, 0, &status) == PKS_TIMEOUT);
	return 0;
}
"""


@contextmanager
def serving(path: Path, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """Answer one connection in a thread, until the block ends."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=_answer, args=(listener, serve))
        thread.start()
        yield
        thread.join(30)


def _answer(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    connection, _ = listener.accept()
    with connection:
        try:
            serve(connection)
        except ConnectionError:
            pass  # the client has given up, as it should


def trickle(connection: socket.socket, data: bytes) -> None:
    """Send single bytes with pauses, until the client ends the connection."""
    connection.settimeout(0.05)
    for byte in data:
        connection.sendall(bytes([byte]))
        try:
            if not connection.recv(1 << 16):
                return
        except TimeoutError:
            continue


def test_single_bytes_do_not_extend_the_time(programs: Programs, tmp_path: Path) -> None:
    """A server that sends an answer byte by byte holds a call no longer than its timeout.

    A call that was too large to be sent is not waited for.
    """

    def serve(connection: socket.socket) -> None:
        connection.sendall(HELLO)
        connection.recv(1 << 16)
        connection.sendall(OPENED)
        connection.recv(1 << 16)
        trickle(connection, encode(HReturn(2, 0, (0,) * 9, ())))

    with serving(tmp_path / "s", serve):
        slow = programs.of_text(MACHINES[0], "slow", CALL)
        done = subprocess.run([*slow, tmp_path / "s"], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "1 1\n"


def test_an_example_is_not_overrun(programs: Programs, tmp_path: Path) -> None:
    """A password size of 65535 in the config block does not make firmware.c write behind its buffer."""
    config = Config(3, 0, 0, 0xFFFF, 255, 0xFFFF, 65536, 0, 0, 0, 0, 0)
    asked: list[int] = []

    def serve(connection: socket.socket) -> None:
        connection.sendall(HELLO)
        connection.recv(1 << 16)
        connection.sendall(OPENED)
        call = connection.recv(1 << 16)
        address = int.from_bytes(call[24:32])
        connection.sendall(encode(HReturn(2, 0, (0,) * 9, (Write(address, build_config(config)),))))
        asked.append(int.from_bytes(connection.recv(1 << 16)[48:56]))

    assert len(build_config(config)) == CONFIG_SIZE
    with serving(tmp_path / "s", serve):
        firmware = programs.example(MACHINES[0], "firmware", "-fsanitize=address")
        subprocess.run([*firmware, tmp_path / "s"], capture_output=True, timeout=20, check=False)
    assert asked == [255]


def test_a_busy_answer_does_not_choose_static_keys(programs: Programs, tmp_path: Path) -> None:
    """If SB_VERSION can't be read, the boot loader ends; it does not go on with static keys."""
    server = ServerProcess(tmp_path / "lab").start()
    try:
        assert main(["hmc", "--state", str(server.state), "faults", "lpar1", "READ_OBJECT=H_BUSY"]) == 0
        loader = programs.example(MACHINES[0], "boot_loader")
        done = subprocess.run([*loader, server.socket()], capture_output=True, text=True, check=False)
    finally:
        server.stop()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "boot_loader: SB_VERSION: H_BUSY\n"
