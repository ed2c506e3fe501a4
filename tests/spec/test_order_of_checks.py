"""The list of checks on each h-call's page, walked through: one fault is mended after the other.

Every call starts with everything wrong that can be wrong at once.  Each step mends the fault that was
answered last; the statuses that come back are the page's list, in its order, and then H_SUCCESS.
"""

from collections.abc import Callable, Iterator

import pytest

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from hcall_server.hcalls.handlers import HANDLERS
from hcall_server.keystore.image import StoredObject
from tests.guest import SYSTEM, Answer, Guest, auth_block, lay_out, make_partition
from tests.spec.test_tables import checks

PASSWORD = b"p" * 32
NOWHERE = 0x7F_0000
ENFORCE = int(Policy.OSSECBOOTENFORCE)
IMMUTABLE = int(Policy.IMMUTABLE)
Walk = Callable[[], Iterator[Answer]]


class Broken:
    """A call whose arguments are mended one by one; memory that is not given yet lies nowhere."""

    def __init__(self, opcode: Opcode, guest: Guest, **values: int) -> None:
        self.guest = guest
        self.layout = lay_out(opcode)
        for arg in CALLS[opcode].args:
            self.layout.registers[arg.name] = values.get(arg.name, NOWHERE)

    def now(self) -> Answer:
        """Run it as it stands."""
        return self.guest.send(self.layout.frame())

    def mend(self, name: str, value: int | bytes) -> Answer:
        """Give an argument what it needs, keep what its length register holds, and run the call."""
        length = self.layout.places[name].length
        kept = self.layout.registers[length] if length else 0
        if isinstance(value, bytes):
            self.layout.readable(name, value)
        elif length:
            self.layout.writable(name, value)
        else:
            self.layout.registers[name] = value
        if length:
            self.layout.registers[length] = kept
        return self.now()


def guest(*objects: StoredObject, mode: int = 0, kbytes: int = 4) -> Guest:
    """A guest whose operating system has set its password."""
    made = Guest(make_partition(kbytes=kbytes, objects=objects, mode=mode))
    assert made.set_password(SYSTEM, PASSWORD).status == 0
    return made


def get_config() -> Iterator[Answer]:
    call = Broken(Opcode.GET_CONFIG, guest(), config_length=23)
    yield call.now()
    yield call.mend("config", 520)
    yield call.mend("config_length", 24)


def set_password() -> Iterator[Answer]:
    yield from _password(Opcode.SET_PASSWORD, b"x" * 70)


def gen_password() -> Iterator[Answer]:
    yield from _password(Opcode.GEN_PASSWORD, 70)


def _password(opcode: Opcode, buffer: bytes | int) -> Iterator[Answer]:
    user = guest()
    call = Broken(opcode, user, consumer=4, reserved=1, password_length=65)
    yield call.now()
    yield call.mend("consumer", SYSTEM)
    yield call.mend("reserved", 0)
    yield call.mend("password", buffer)
    yield call.mend("password_length", 64)
    user.ipl()
    yield call.now()


def get_objectlabels() -> Iterator[Answer]:
    user = guest(StoredObject(SYSTEM, b"label", 0, b"d"))
    call = Broken(Opcode.GET_OBJECTLABELS, user, token=5, labels_length=6)
    yield call.now()
    yield call.mend("authorization", auth_block(SYSTEM, b"wrong"))
    yield call.mend("token", 0)
    yield call.mend("labels", 7)
    yield call.mend("authorization", auth_block(SYSTEM, PASSWORD))
    yield call.mend("labels_length", 7)


def _labelled(opcode: Opcode, user: Guest, **values: int) -> tuple[Broken, list[Answer]]:
    """A call on a label of 256 bytes, up to where the label is good."""
    call = Broken(opcode, user, label_length=256, **values)
    answers = [
        call.now(),
        call.mend("authorization", auth_block(SYSTEM, b"wrong")),
        call.mend("label", b"n" * 256),
        call.mend("label_length", 255),
    ]
    return call, answers


def write_object() -> Iterator[Answer]:
    user = guest(StoredObject(SYSTEM, b"n" * 255, 0, b"d" * 3000))
    call, answers = _labelled(Opcode.WRITE_OBJECT, user, policy=1, data_length=131_073)
    yield from answers
    yield call.mend("policy", ENFORCE)
    yield call.mend("data", bytes(131_073))
    yield call.mend("data_length", 4000)
    yield call.mend("authorization", auth_block(SYSTEM, PASSWORD))
    call.layout.readable("label", b"m" * 255)
    yield call.now()
    user.ipl(2)
    user.set_password(SYSTEM, PASSWORD)
    yield call.now()
    yield call.mend("data_length", 400)


def read_object() -> Iterator[Answer]:
    user = guest(StoredObject(SYSTEM, b"m" * 255, ENFORCE, b"d" * 10))
    call, answers = _labelled(Opcode.READ_OBJECT, user, data_length=9)
    yield from answers
    yield call.mend("data", 10)
    yield call.mend("authorization", auth_block(SYSTEM, PASSWORD))
    call.layout.readable("label", b"m" * 255)
    yield call.now()
    user.ipl(2)
    user.set_password(SYSTEM, PASSWORD)
    yield call.now()
    yield call.mend("data_length", 10)


def remove_object() -> Iterator[Answer]:
    objects = (
        StoredObject(SYSTEM, b"m" * 255, IMMUTABLE, b"d"),
        StoredObject(SYSTEM, b"o" * 255, ENFORCE, b"d"),
    )
    call, answers = _labelled(Opcode.REMOVE_OBJECT, guest(*objects))
    yield from answers
    yield call.mend("authorization", auth_block(SYSTEM, PASSWORD))
    for label in (b"m" * 255, b"o" * 255):
        call.layout.readable("label", label)
        yield call.now()


def confirm_object_flushed() -> Iterator[Answer]:
    call, answers = _labelled(Opcode.CONFIRM_OBJECT_FLUSHED, guest(StoredObject(SYSTEM, b"m" * 255, 0, b"d")))
    yield from answers
    yield call.mend("authorization", auth_block(SYSTEM, PASSWORD))
    call.layout.readable("label", b"m" * 255)
    yield call.now()


WALKS: dict[Opcode, Walk] = {
    Opcode.GET_CONFIG: get_config,
    Opcode.SET_PASSWORD: set_password,
    Opcode.GEN_PASSWORD: gen_password,
    Opcode.GET_OBJECTLABELS: get_objectlabels,
    Opcode.WRITE_OBJECT: write_object,
    Opcode.READ_OBJECT: read_object,
    Opcode.REMOVE_OBJECT: remove_object,
    Opcode.CONFIRM_OBJECT_FLUSHED: confirm_object_flushed,
}


@pytest.mark.parametrize("opcode", HANDLERS, ids=[opcode.name for opcode in HANDLERS])
def test_the_page_tells_the_order(opcode: Opcode) -> None:
    """The statuses on the way from all wrong to right are those of the page's list."""
    got = [Status(answer.status) for answer in WALKS[opcode]()]
    assert got == [*checks(opcode), Status.H_SUCCESS]


def test_before_all_of_them() -> None:
    """No keystore: H_FUNCTION; not activated: H_STATE; both before any argument is looked at."""
    for opcode in Opcode:
        off = Broken(opcode, Guest(make_partition(kbytes=0)))
        assert off.now().status == Status.H_FUNCTION
        idle = Broken(opcode, Guest(make_partition(running=False)))
        assert idle.now().status == (Status.H_STATE if opcode in HANDLERS else Status.H_FUNCTION)
