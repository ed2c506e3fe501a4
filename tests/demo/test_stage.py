"""The output of the demo: marks, colour if wanted, and the final result."""

import io

import pytest

from swpks.demo.stage import WIDTH, DemoStage, StepBroken, wants_colour


class Terminal(io.StringIO):
    """An output that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def utf8_pipe() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), "utf-8")


def text_of(out: io.TextIOWrapper) -> str:
    out.flush()
    buffer = out.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(out.encoding)


def test_a_pipe_gets_plain_text_with_marks() -> None:
    out = utf8_pipe()
    stage = DemoStage(out)
    stage.title("the whole")
    with stage.step("first", "what it shows"):
        stage.say("said")
        stage.quote("printed")
        stage.check("holds", held=True)
        stage.check("does not", held=False)
    stage.end(1.23)
    assert text_of(out) == (
        "the whole\n\n 1. first\n    what it shows\n    - said\n    | printed\n    ✓ holds\n    ✗ does not\n"
        "\n1 of 2 failed, 1 steps, 1.2 s\n"
    )
    assert not stage.held


def test_a_pipe_that_knows_no_marks_gets_words() -> None:
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    stage = DemoStage(out)
    stage.check("holds", held=True)
    stage.check("does not", held=False)
    assert text_of(out) == "    ok: holds\n    FAILED: does not\n"


def test_a_terminal_gets_colour_unless_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_colour(Terminal())
    assert not wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())
    monkeypatch.setenv("NO_COLOR", "")
    assert wants_colour(Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour(Terminal())


def test_colour_does_not_change_the_words() -> None:
    plain, painted = utf8_pipe(), utf8_pipe()
    for stage in (DemoStage(plain, colour=False), DemoStage(painted, colour=True)):
        with stage.step("first", "what it shows"):
            stage.check("holds", held=True)
    text = text_of(painted)
    assert "\x1b[32m✓\x1b[0m" in text
    for code in ("1", "2", "32", "0"):
        text = text.replace(f"\x1b[{code}m", "")
    assert text == text_of(plain)


def test_no_line_is_too_wide() -> None:
    out = utf8_pipe()
    stage = DemoStage(out)
    with stage.step("first", "word " * 100):
        stage.check("claim " * 100, held=True)
        stage.say("tale " * 100)
    lines = text_of(out).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert sum("✓" in line for line in lines) == 1


def test_nothing_checked_is_nothing_held() -> None:
    assert not DemoStage(io.StringIO()).held


def test_an_error_in_a_step_is_a_verdict_and_ends_the_story() -> None:
    out = utf8_pipe()
    stage = DemoStage(out)
    with pytest.raises(StepBroken), stage.step("first", "what it shows"):
        raise OSError("gone")
    assert not stage.held
    assert "✗ the step could be played to its end (OSError: gone)" in text_of(out)


def test_an_interruption_is_no_verdict() -> None:
    stage = DemoStage(io.StringIO())
    with pytest.raises(KeyboardInterrupt), stage.step("first", "what it shows"):
        raise KeyboardInterrupt
    assert stage.checks == 0
