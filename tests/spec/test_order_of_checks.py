"""The order of checks on each h-call's page: a call has all faults, and a test repairs one after the other.

Each step repairs the fault whose status was returned last. The returned statuses must be the list of the
page, in its order, and then H_SUCCESS.
"""

from collections.abc import Callable, Iterator

import pytest

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.consumers import Consumer
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from hcall_server.hcalls.handlers import HANDLERS
from hcall_server.keystore.image import StoredObject
from tests.guest import SYSTEM, WRAPPING, Answer, Guest, auth_block, lay_out, make_partition
from tests.hcalls.damage import NO_PK, PK_LABEL
from tests.spec.test_tables import checks
from tests.wrapping.second import LEAST_FLAGS, wrap

PASSWORD = b"p" * 32
NOWHERE = 0x7F_0000
KEY = bytes(range(32))
ENFORCE = int(Policy.OSSECBOOTENFORCE)
IMMUTABLE = int(Policy.IMMUTABLE)
Walk = Callable[[], Iterator[Answer]]


class Broken:
    """A call whose arguments are repaired one by one.

    A buffer that is not repaired has an invalid address.
    """

    def __init__(self, opcode: Opcode, guest: Guest, **values: int) -> None:
        self.guest = guest
        self.layout = lay_out(opcode)
        for arg in CALLS[opcode].args:
            self.layout.registers[arg.name] = values.get(arg.name, NOWHERE)

    def now(self) -> Answer:
        """Make the call with its present arguments."""
        return self.guest.send(self.layout.frame())

    def mend(self, name: str, value: int | bytes) -> Answer:
        """Make an argument valid, without a change of its length register, and make the call."""
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
    """Return a guest of the newest level; the password of its operating system is set."""
    made = Guest(make_partition("NEXT", kbytes, objects=objects, mode=mode))
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
    """Make a call with a label of 256 bytes, and repair the label step by step."""
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


def gen_key() -> Iterator[Answer]:
    user = guest(StoredObject(SYSTEM, b"n" * 255, 0, b"d" * 3000))
    call, answers = _labelled(Opcode.GEN_KEY, user, policy=1, key_length=131_073)
    yield from answers
    yield call.mend("policy", ENFORCE)
    yield call.mend("key", 131_073)
    yield call.mend("key_length", 4000)
    yield call.mend("authorization", auth_block(SYSTEM, PASSWORD))
    call.layout.readable("label", b"m" * 255)
    yield call.now()
    _enforce(user)
    yield call.now()
    yield call.mend("key_length", 400)


def _enforce(user: Guest) -> None:
    """Begin another IPL, whose mode allows objects with policies of secure boot."""
    user.ipl(2)
    assert user.set_password(SYSTEM, PASSWORD).status == 0


def wrap_object() -> Iterator[Answer]:
    objects = (
        StoredObject(SYSTEM, b"m" * 255, ENFORCE, b"d"),
        StoredObject(SYSTEM, b"o" * 255, ENFORCE | WRAPPING, KEY),
    )
    user = guest(*objects)
    call, answers = _labelled(
        Opcode.WRAP_OBJECT, user, flags=1, input_length=65_536, output_length=1123, token=7
    )
    yield from answers
    yield call.mend("flags", LEAST_FLAGS)
    yield call.mend("input", bytes(65_536))
    yield call.mend("input_length", 100)
    yield call.mend("output", 1124)
    yield call.mend("output_length", 1124)
    yield call.mend("token", 0)
    yield call.mend("authorization", auth_block(SYSTEM, PASSWORD))
    for label in (b"m" * 255, b"o" * 255):
        call.layout.readable("label", label)
        yield call.now()
    _enforce(user)
    yield call.now()


def unwrap_object() -> Iterator[Answer]:
    user = guest(StoredObject(SYSTEM, b"key", ENFORCE | WRAPPING, KEY))
    wrapped = wrap(KEY, b"secret", LEAST_FLAGS | 0x4000_0000_0000_0000)
    call = Broken(Opcode.UNWRAP_OBJECT, user, flags=1, input_length=1024, output_length=5, token=7)
    yield call.now()
    yield call.mend("authorization", auth_block(SYSTEM, b"wrong"))
    yield call.mend("flags", 0)
    yield call.mend("input", b"?" * 1030)
    yield call.mend("input_length", 1030)
    yield call.mend("output", 6)
    yield call.mend("output_length", 6)
    yield call.mend("token", 0)
    yield call.mend("authorization", auth_block(SYSTEM, PASSWORD))
    for wrong in (wrapped[:5] + b"?" + wrapped[6:], wrap(bytes(32), b"secret"), wrapped[:-1] + b"?"):
        yield call.mend("input", wrong)
    yield from _from_key_to_object(call, wrapped)


def _from_key_to_object(call: Broken, wrapped: bytes) -> Iterator[Answer]:
    """Make the last steps of UNWRAP: repair the key's policy, then the wrapped object, then its policy."""
    keystore = call.guest.partition.keystore
    assert keystore is not None
    # The key stays the same, but loses its policy.
    keystore.signed.update(Consumer.OPERATING_SYSTEM, b"key", WRAPPING, KEY)
    yield call.now()
    yield call.mend("input", wrapped)
    _enforce(call.guest)
    yield call.now()


def _revocation(opcode: Opcode) -> Iterator[Answer]:
    objects = (
        StoredObject(SYSTEM, b"m" * 255, 0, b"d"),
        StoredObject(SYSTEM, b"o" * 255, WRAPPING, KEY),
    )
    call, answers = _labelled(opcode, guest(*objects), flags=1)
    yield from answers
    yield call.mend("flags", 0)
    yield call.mend("authorization", auth_block(SYSTEM, PASSWORD))
    for label in (b"m" * 255, b"o" * 255):
        call.layout.readable("label", label)
        yield call.now()


def revoke_object() -> Iterator[Answer]:
    return _revocation(Opcode.REVOKE_OBJECT)


def unrevoke_object() -> Iterator[Answer]:
    return _revocation(Opcode.UNREVOKE_OBJECT)


def signed_update() -> Iterator[Answer]:
    lengths = {"label_length": 256, "data_length": 65_536}
    call = Broken(Opcode.SIGNED_UPDATE, guest(), policy=1, flags=2, token=7, **lengths)
    yield call.now()
    yield call.mend("authorization", auth_block(SYSTEM, b"wrong"))
    yield call.mend("label", PK_LABEL[:16] + b"x\0" * 120)
    yield call.mend("label_length", 254)
    yield call.mend("policy", int(Policy.SIGNEDUPDATE))
    yield call.mend("flags", 0)
    yield call.mend("data", bytes(65_536))
    yield call.mend("data_length", 65_535)
    yield call.mend("token", 0)
    call.layout.readable("label", PK_LABEL)
    call.layout.readable("data", NO_PK)
    yield call.mend("authorization", auth_block(SYSTEM, PASSWORD))


WALKS: dict[Opcode, Walk] = {
    Opcode.GET_CONFIG: get_config,
    Opcode.SET_PASSWORD: set_password,
    Opcode.GEN_PASSWORD: gen_password,
    Opcode.GET_OBJECTLABELS: get_objectlabels,
    Opcode.WRITE_OBJECT: write_object,
    Opcode.READ_OBJECT: read_object,
    Opcode.REMOVE_OBJECT: remove_object,
    Opcode.CONFIRM_OBJECT_FLUSHED: confirm_object_flushed,
    Opcode.GEN_KEY: gen_key,
    Opcode.WRAP_OBJECT: wrap_object,
    Opcode.UNWRAP_OBJECT: unwrap_object,
    Opcode.REVOKE_OBJECT: revoke_object,
    Opcode.UNREVOKE_OBJECT: unrevoke_object,
    Opcode.SIGNED_UPDATE: signed_update,
}


@pytest.mark.parametrize("opcode", HANDLERS, ids=[opcode.name for opcode in HANDLERS])
def test_the_page_tells_the_order(opcode: Opcode) -> None:
    """As the faults are repaired one by one, the statuses are those in the page's list."""
    got = [Status(answer.status) for answer in WALKS[opcode]()]
    assert got == [*checks(opcode), Status.H_SUCCESS]


def test_before_all_of_them() -> None:
    """Before any argument is checked, a missing keystore gives H_FUNCTION, power off H_STATE."""
    for opcode in Opcode:
        off = Broken(opcode, Guest(make_partition(kbytes=0)))
        assert off.now().status == Status.H_FUNCTION
        idle = Broken(opcode, Guest(make_partition("NEXT", running=False)))
        assert idle.now().status == (Status.H_STATE if opcode in HANDLERS else Status.H_FUNCTION)
