"""The cutter and the blanker alone: any pieces, lost frames, labels with a part of a password."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hcall_abi.calls import Opcode
from hcall_abi.codec import decode_hreturn, encode
from hcall_abi.frames import FrameType, Goodbye, HCall, HReturn, Write
from hcall_server.trace.blanking import Blanker
from hcall_server.trace.cutting import HEADER_SIZE, CutFrame, FrameCutter
from hcall_server.trace.known import KnownPasswords
from tests.guest import lay_out

FRAMES = [encode(Goodbye(number, "x" * number)) for number in range(5)]
LABELS = lay_out(Opcode.GET_OBJECTLABELS, authorization=b"", token=0, labels=64).frame()
PLACE = LABELS.registers[2]
NO_REGISTERS = (0,) * 9


def cut_frame(frame: HCall | HReturn) -> CutFrame:
    """Return a frame as the cutter does."""
    data = encode(frame)
    return CutFrame(data, len(data))


@settings(max_examples=40)
@given(st.lists(st.integers(1, 40), max_size=12), st.integers(0, 30))
def test_any_pieces_give_the_same_frames(sizes: list[int], missing: int) -> None:
    """The cutter returns the same frames for every division of the stream, and the rest at its end."""
    stream = b"".join(FRAMES)
    stream = stream[: len(stream) - missing]
    cutter, found = FrameCutter(), list[CutFrame]()
    for size in [*sizes, len(stream)]:
        found += cutter.cut(stream[:size])
        stream = stream[size:]
    found += cutter.rest()
    assert b"".join(frame.data for frame in found) == b"".join(FRAMES)[: len(b"".join(FRAMES)) - missing]
    # Of a rest without a whole header, the length of its frame is not known.
    whole = [frame for frame in found if HEADER_SIZE <= len(frame.data) == frame.length]
    assert [frame.data for frame in whole] == FRAMES[: len(whole)]
    assert len(found) - len(whole) <= 1


@settings(max_examples=40)
@given(st.binary(max_size=200))
def test_any_bytes_are_taken(data: bytes) -> None:
    """Bytes that are no frame are recorded once, and blanked without an exception."""
    cutter = FrameCutter()
    for frame in [*cutter.cut(data), *cutter.rest()]:
        blanked = Blanker(KnownPasswords()).blanked(frame, None, ())
        assert len(blanked) == len(frame.data)
        assert not any(blanked[16:]) or frame.data[5] in set(FrameType)


def blanked_answer(content: bytes, *, number: int = 1, password: bytes = b"never used") -> bytes:
    """Return the bytes that the blanker leaves of a list of labels, `content`, in the answer to call 1."""
    blanker = Blanker(KnownPasswords())
    blanker.blanked(cut_frame(LABELS), 1, ())
    answer = HReturn(1, 0, NO_REGISTERS, (Write(PLACE, content),))
    return blanker.blanked(cut_frame(answer), number, (password,))[-len(content) :]


def test_a_list_of_labels_is_shown() -> None:
    """The written list of labels is shown, and bytes behind the buffer of the call are not."""
    assert blanked_answer(b"disk-key") == b"disk-key"
    assert blanked_answer(b"k" * 70) == b"k" * 64 + bytes(6)


def test_a_list_with_a_part_of_a_password_is_blanked() -> None:
    """Four bytes of a password that is set blank the whole list."""
    assert blanked_answer(b"my-hunter-label", password=b"hunter22") == bytes(15)


def test_an_answer_without_its_call_is_blanked() -> None:
    """If the call is not in the trace, nothing that its answer has written is shown."""
    assert blanked_answer(b"disk-key", number=2) == bytes(8)


def test_a_recording_with_no_room_for_passwords_shows_no_label() -> None:
    """A guest that presents passwords without end takes labels out of the trace, and adds no password."""
    known = KnownPasswords(room=8)
    known.add(b"password")
    known.add(b"pin")
    assert known.suspects(b"a word")
    assert known.suspects(b"spinning")
    assert not known.suspects(b"disk-key")
    known.add(b"another password")
    assert known.suspects(b"disk-key")


def test_registers_of_an_answer() -> None:
    """An answer shows the registers of its results, and none if its call is not in the trace."""
    answer = encode(HReturn(1, 0, tuple(range(1, 10)), ()))
    for number, kept in (1, (1, 2)), (2, ()):
        blanker = Blanker(KnownPasswords())
        blanker.blanked(cut_frame(LABELS), 1, ())
        shown = blanker.blanked(CutFrame(answer, len(answer)), number, ())
        found = decode_hreturn(1, shown, HEADER_SIZE, len(shown))
        assert found.registers == (*kept, *(0,) * (9 - len(kept)))
