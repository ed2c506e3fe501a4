"""No secret of any h-call is in a trace, unless the operator asks for secrets (R-82)."""

import secrets
from pathlib import Path

import pytest

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.codec import decode_hcall
from hcall_abi.frames import FrameType, Segment
from hcall_abi.policies import Policy
from hcall_client import calls, keys
from hcall_client.errors import HcallError
from hcall_client.request import Authorization
from tests.data_channel.support import Peer, Service
from tests.trace.reader import read_capture
from tests.trace.rig import of_kind, traced, traces_of

FLAGS = int(Policy.SIGNEDUPDATE)
LABEL = b"disk-key"


class Canaries(dict[str, bytes]):
    """Secrets by their names."""

    def new(self, name: str, length: int = 64) -> bytes:
        """Return a new secret."""
        self[name] = secrets.token_bytes(length)
        return self[name]


async def every_call(peer: Peer) -> Canaries:
    """Make all 14 calls, and some that are refused; return all secrets that they carry."""
    found = Canaries()
    await peer.call(calls.get_config())
    operating = await peer.call(calls.set_password(3, found.new("SET_PASSWORD", 32)))
    boot = await peer.call(calls.gen_password(2, 32))
    found["GEN_PASSWORD"] = boot.password
    await peer.call(calls.write_object(operating, LABEL, found.new("WRITE_OBJECT")))
    await peer.call(calls.read_object(operating, LABEL))
    await peer.call(calls.get_object_labels(operating))
    await peer.call(calls.confirm_object_flushed(operating, LABEL))
    found["GEN_KEY"] = await peer.call(keys.gen_key(operating, b"volume", 64))
    await peer.call(keys.gen_wrapping_key(operating, b"wrapping"))
    plain = found.new("WRAP_OBJECT's input", 256)
    wrapped = await peer.call(keys.wrap_object(operating, b"wrapping", plain))
    found["WRAP_OBJECT's output"] = wrapped[-256:]
    assert await peer.call(keys.unwrap_object(operating, wrapped)) == plain
    await peer.call(keys.revoke_object(operating, b"wrapping"))
    await peer.call(keys.unrevoke_object(operating, b"wrapping"))
    await peer.call(calls.remove_object(operating, LABEL))
    for call in (
        calls.signed_update(operating, LABEL, found.new("SIGNED_UPDATE"), FLAGS),
        calls.write_object(Authorization(3, found.new("a wrong password", 32)), LABEL, b"x"),
    ):
        with pytest.raises(HcallError):
            await peer.call(call)
    unknown = found.new("an unknown call")
    await peer.call(calls.raw_call(0x58, [0x4000], [Segment.read(0x4000, unknown)]))
    beside = found.new("memory of no argument")
    await peer.call(calls.raw_call(Opcode.GET_CONFIG, [0, 0], [Segment.read(0x9000, beside)]))
    registers = found.new("registers of an unknown call", 16)
    words = [int.from_bytes(registers[:8]), int.from_bytes(registers[8:])]
    await peer.call(calls.raw_call(0x58, [0, 16, *words], []))
    unused = int.from_bytes(found.new("a register that is no argument", 8))
    await peer.call(calls.raw_call(Opcode.GET_CONFIG, [0, 0, 0, 0, 0, unused], []))
    await confused(peer, found, operating)
    return found


async def confused(peer: Peer, found: Canaries, operating: Authorization) -> None:
    """Make calls of a guest that mixes up its registers: a label that is a secret."""
    block = bytes((1, 3)) + bytes(12) + len(operating.password).to_bytes(2) + operating.password
    auth, data = Segment.read(0x1000, block), Segment.read(0x2000, found.new("data as a label"))
    overlapping = [0x1000, 0x2000, 64, 0, 0x2000, 64]
    password = [0x1000, 0x1010, len(operating.password), 0, 0x2000, 64]
    swapped = [0x2000, 0x1000, len(block), 0, 0x2000, 64]
    for registers in (overlapping, password, swapped):
        await peer.call(calls.raw_call(Opcode.WRITE_OBJECT, registers, [auth, data]))


async def recorded(nursery, folder: Path, *, with_secrets: bool) -> tuple[bytes, Canaries]:
    """Trace every call; return the content of the file, and the secrets."""
    path = folder / "all.pcapng"
    machine = traced(folder, begin=True, trace=str(path), trace_secrets=with_secrets)
    service = await Service.start(nursery, machine)
    found = await every_call(await service.session())
    await traces_of(machine).close()
    return path.read_bytes(), found


async def test_no_secret_is_in_a_trace(nursery, tmp_path) -> None:
    """Passwords, object data, keys and wrapped objects are zeros; so is memory of unknown calls (R-82)."""
    content, found = await recorded(nursery, tmp_path, with_secrets=False)
    # Eight bytes of each secret are enough to find it, and too many for chance.
    pieces = [
        name
        for name, secret in found.items()
        for at in range(len(secret) - 7)
        if secret[at : at + 8] in content
    ]
    assert pieces == []


async def test_with_secrets_each_one_is_there(nursery, tmp_path) -> None:
    """With secrets the same calls show each of them: so the test above can fail."""
    content, found = await recorded(nursery, tmp_path, with_secrets=True)
    assert [name for name, secret in found.items() if secret not in content] == []
    assert "nothing is blanked" in read_capture(tmp_path / "all.pcapng").comment


async def test_labels_lengths_and_offsets_stay(nursery, tmp_path) -> None:
    """A blanked frame decodes as before: opcode, registers, lengths, labels and the list of labels (R-82)."""
    content, _ = await recorded(nursery, tmp_path, with_secrets=False)
    frames = of_kind(tmp_path / "all.pcapng", FrameType.HCALL)
    made = [decode_hcall(1, each.data, 16, len(each.data)) for each in frames]
    assert {call.opcode for call in made} >= set(CALLS)
    write = next(call for call in made if call.opcode == Opcode.WRITE_OBJECT)
    block, label, data = (content for _, _, _, content in write.segments)
    assert (block[:16], block[16:]) == (bytes((1, 3)) + bytes(12) + b"\x00\x20", bytes(32))
    assert (label, data) == (LABEL, bytes(64))
    labels = next(call for call in made if call.opcode == Opcode.GET_OBJECTLABELS)
    answers = of_kind(tmp_path / "all.pcapng", FrameType.HRETURN)
    answer = answers[made.index(labels)]
    assert LABEL in answer.body
    assert len(content) > 0
    assert all(each.length == len(each.data) for each in frames + answers)


async def test_a_label_that_is_a_password_of_the_same_send(nursery, tmp_path) -> None:
    """One send sets a password, and has it as a label: the first call has not run when both arrive (R-82)."""
    path = tmp_path / "all.pcapng"
    service = await Service.start(nursery, traced(tmp_path, begin=True, trace=str(path)))
    peer = await service.session()
    boot = await peer.call(calls.gen_password(2, 32))
    password = secrets.token_bytes(32)
    pipelined = peer.frames([calls.set_password(3, password), calls.write_object(boot, password, b"x")])
    await peer.send(*pipelined)
    for _ in pipelined:
        await peer.event()
    await peer.call(calls.get_object_labels(boot))
    await peer.call(calls.write_object(boot, LABEL, b"x"))
    await traces_of(service.machine).close()
    assert parts_in(path, password) == []
    assert LABEL in path.read_bytes()


async def test_a_label_that_is_a_password_of_another_connection(nursery, tmp_path) -> None:
    """A password that any connection has presented, right or wrong, is no label of another one (R-82)."""
    path = tmp_path / "all.pcapng"
    service = await Service.start(nursery, traced(tmp_path, begin=True, trace=str(path)))
    peer, other = await service.session(), await service.session()
    boot = await peer.call(calls.gen_password(2, 32))
    wrong = secrets.token_bytes(32)
    with pytest.raises(HcallError):
        await peer.call(calls.read_object(Authorization(3, wrong), LABEL))
    await other.call(calls.write_object(boot, wrong, b"x"))
    await peer.call(calls.get_object_labels(boot))
    await traces_of(service.machine).close()
    assert parts_in(path, wrong) == []


async def test_a_label_that_is_a_password_of_an_earlier_ipl(nursery, tmp_path) -> None:
    """A generated password stays a secret after the IPL that has ended it."""
    path = tmp_path / "all.pcapng"
    machine = traced(tmp_path, begin=True, trace=str(path))
    service = await Service.start(nursery, machine)
    old = await (await service.session()).call(calls.gen_password(2, 32))
    machine.power_off("alpha")
    machine.power_on("alpha")
    peer = await service.session()
    new = await peer.call(calls.gen_password(2, 32))
    await peer.call(calls.write_object(new, old.password, b"x"))
    await traces_of(machine).close()
    assert parts_in(path, old.password) == []


def parts_in(path: Path, secret: bytes) -> list[bytes]:
    """Return the parts of eight bytes of a secret that a file has."""
    content = path.read_bytes()
    return [secret[at : at + 8] for at in range(len(secret) - 7) if secret[at : at + 8] in content]
