"""No text contains a secret: no repr, error or log value shows passwords or object data."""

from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.calls import Opcode
from hcall_abi.frames import HCall, HReturn, Segment
from hcall_server.hcalls.dispatch import HypervisorCalls
from hcall_server.hcalls.refusals import Refusal
from hcall_server.keystore.image import StoredObject
from tests.guest import SYSTEM, WRAPPING, Guest, auth_block, lay_out, make_partition
from tests.hcalls.damage import GOOD, KEY_LABEL, PASSWORD, damages, good
from tests.wrapping.second import wrap

CANARY = b"canary canary canary canary 0123"
DAMAGES = list(damages())
TEXTS = (repr, str, lambda thing: repr(vars(thing)) if isinstance(thing, Exception) else "")


def leaks(*things: object) -> list[str]:
    """Return the texts that show the canary in a form that a log could have."""
    spellings = (CANARY.decode(), CANARY.hex(), CANARY.hex().upper(), repr(list(CANARY)))
    texts = [text(thing) for thing in things for text in TEXTS]
    return [text for text in texts if any(spelling in text for spelling in spellings)]


class Overheard:
    """The calls of a partition, and all values that could reach a log."""

    def __init__(self) -> None:
        self.partition = make_partition(
            "NEXT", 128, objects=[StoredObject(SYSTEM, KEY_LABEL, WRAPPING, CANARY)]
        )
        self.heard: list[object] = [self.partition, self.partition.keystore]
        self._calls = HypervisorCalls(
            self.partition, lambda refusal, opcode: self.heard.extend((refusal, opcode))
        )

    def send(self, call: HCall) -> HReturn:
        answer = self._calls.execute(call)
        self.heard += [call, call.segments, answer, answer.writes]
        return answer


def with_canaries(opcode: Opcode, password: bytes = CANARY) -> HCall:
    """Return a call whose password and data are canaries."""
    values = dict(GOOD[opcode])
    if opcode is Opcode.SET_PASSWORD:
        values["password"] = password
    elif opcode is not Opcode.GET_CONFIG and opcode is not Opcode.GEN_PASSWORD:
        values["authorization"] = auth_block(SYSTEM, password)
    if opcode is Opcode.WRITE_OBJECT:
        values["data"] = CANARY * 3
    if opcode is Opcode.WRAP_OBJECT:
        values |= {"input": CANARY, "output": len(CANARY) + 1024}
    if opcode is Opcode.UNWRAP_OBJECT:
        values |= {"input": wrap(CANARY, CANARY), "output": len(CANARY)}
    return lay_out(opcode, **values).frame()


def test_answers_and_refusals_show_no_secret() -> None:
    """R-04: No answer or refusal shows a secret, for each call and for right and wrong passwords."""
    overheard = Overheard()
    assert Guest(overheard.partition).set_password(SYSTEM, CANARY).status == 0
    for password in (CANARY, CANARY + b"!", CANARY):
        for opcode in GOOD:
            overheard.send(with_canaries(opcode, password))
    store = overheard.partition.keystore
    assert store is not None
    assert CANARY * 3 in [held.data for held in store.contents.snapshot().objects]
    held = store.contents.snapshot()
    assert (
        leaks(*overheard.heard, held, held.objects, store.access.passwords, vars(store.contents)["_objects"])
        == []
    )
    assert sum(isinstance(each, Refusal) for each in overheard.heard) > 8


def test_refusals_of_damaged_arguments_show_no_secret() -> None:
    """R-04: A refusal of a damaged argument shows no password."""
    for damage in DAMAGES:
        overheard = Overheard()
        layout = good(damage.opcode)
        damage.hurt(layout)
        call = layout.frame()
        segments = tuple(
            Segment(at, length, access, data.replace(PASSWORD, CANARY))
            for at, length, access, data in call.segments
        )
        overheard.send(call._replace(segments=segments))
        assert leaks(*overheard.heard) == []


def test_a_generated_password_shows_in_no_text() -> None:
    """R-05: A generated password is in the guest's memory and in no text."""
    partition = make_partition(entropy=lambda length: CANARY[:length])
    calls = HypervisorCalls(partition)
    answer = calls.execute(lay_out(Opcode.GEN_PASSWORD, consumer=3, password=32).frame())
    assert answer.writes[0].data == CANARY
    store = partition.keystore
    assert store is not None
    assert leaks(answer, answer.writes, partition, store, store.access.passwords) == []


SEGMENTS = st.builds(
    lambda address, data, access: Segment(address, len(data), access, data if access & 1 else b""),
    st.integers(0, 1 << 16).map(lambda n: n * 16) | st.integers(0, (1 << 64) - 1),
    st.sampled_from([CANARY, CANARY * 200, auth_block(3, CANARY), auth_block(9, CANARY), auth_block(1)]),
    st.sampled_from([1, 2, 3]),
)


@st.composite
def calls(draw: st.DrawFn) -> HCall:
    """Any call; most of its registers point into its segments."""
    segments = tuple(draw(st.lists(SEGMENTS, max_size=4)))
    places = [number for segment in segments for number in (segment.address, segment.length, len(CANARY))]
    register = st.sampled_from([*places, 0, 1, 3, 32, 64]) | st.integers(0, (1 << 64) - 1)
    opcode = draw(st.sampled_from([*map(int, GOOD), 0x444]))
    return HCall(1, opcode, tuple(draw(st.lists(register, min_size=9, max_size=9))), segments)


@given(sent=st.lists(calls(), max_size=8))
def test_no_call_raises_or_leaks(sent: list[HCall]) -> None:
    """R-17, R-04: Any call gets an answer. No secret is shown, and only writable memory is written."""
    overheard = Overheard()
    for call in sent:
        answer = overheard.send(call)
        assert answer.status <= 0 or answer.status == 18
        for address, data in answer.writes:
            assert any(
                access & 2 and start <= address and address + len(data) <= start + length
                for start, length, access, _ in call.segments
            )
    assert leaks(*overheard.heard) == []
