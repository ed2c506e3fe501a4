"""The run: learn the facts, try the cases stage by stage, and turn each end into a finding."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from hcall_abi.calls import Opcode
from hcall_abi.errors import PeerError
from hcall_abi.frames import Opened
from hcall_abi.levels import LEVELS, FirmwareLevel
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from hcall_abi.structures import Config, parse_config
from swpks.conformance.case import (
    ConformanceCase,
    Deviation,
    Finding,
    Judgement,
    NotRun,
    RunStage,
)
from swpks.conformance.server.connection import EndOfStream, NoAnswer, RawConnection, ServerPlace
from swpks.conformance.server.judged import CONSUMERS, SHOWN, Facts, Judged

Cases = Sequence[ConformanceCase[Judged]]
MOST_SILENCES = 3
"""Cases in a row without any answer, after which the run ends: each costs the whole patience."""


class Unusable(Exception):
    """The server cannot be judged; the text says why and names the remedy."""


def facts_of(place: ServerPlace, level: FirmwareLevel | None = None) -> Facts:
    """Open a session and learn the facts of the partition.

    Raises OSError if nothing listens, and Unusable for a server that cannot be judged.
    """
    connection = RawConnection(place, lambda line: None)
    try:
        return _learned(place, connection, level)
    except EndOfStream as error:
        raise Unusable(f"{error}; is it a socket of the data channel? (spec/protocol.md#hello)") from None
    except NoAnswer as error:
        raise Unusable(f"{error}; a server sends HELLO at once (spec/protocol.md#hello)") from None
    except Deviation as error:
        raise Unusable(f"{error} (spec/protocol.md#hello)") from None
    finally:
        connection.close()


def _learned(place: ServerPlace, connection: RawConnection, level: FirmwareLevel | None) -> Facts:
    hello = connection.hello()
    if not hello.lowest <= 1 <= hello.highest:
        versions = f"{hello.lowest} to {hello.highest}"
        raise Unusable(f"the server speaks versions {versions}, and these cases are for version 1")
    opened = connection.open(hello)
    _demand_opened(opened, place)
    known = level or LEVELS.get(opened.level)
    if known is None:
        raise Unusable(f"the server names the level {opened.level!r}; name one with --level")
    connection.close()
    unknown = Facts(known, NO_CONFIG, hello, mode=0, ipl_count=opened.ipl_count)
    if not known.has_keystore:
        return unknown
    asked = Judged(place, unknown)
    config = _config(asked)
    _demand_empty(asked, config)
    learned = Facts(known, config, hello, _mode(asked), opened.ipl_count)
    asked.tidy()
    asked.lose_session()
    return learned


NO_CONFIG = Config(
    version=0,
    flags=0,
    object_overhead=0,
    max_password_size=0,
    max_label_size=0,
    max_object_size=0,
    total_size=0,
    used_space=0,
    supported_policies=0,
    max_large_object_size=0,
    signed_update_algorithms=0,
    wrapping_features=0,
)
"""The config of a partition without a keystore."""


def _demand_opened(opened: Opened, place: ServerPlace) -> None:
    remedies = {
        1: "several partitions listen there; name one with --partition",
        2: "give the partition's access key with --access-key-file",
        3: "power the partition on",
        5: "close other sessions",
    }
    if opened.status:
        remedy = remedies.get(opened.status, "see spec/protocol.md#opened")
        raise Unusable(f"OPENED has status {opened.status}: {remedy}")


def _config(judged: Judged) -> Config:
    answer = judged.do(Opcode.GET_CONFIG, config=520)
    if answer.status == Status.H_FUNCTION:
        raise Unusable("GET_CONFIG answers H_FUNCTION: give the partition a keystore")
    try:
        return parse_config(answer.expect(Status.H_SUCCESS).written)
    except PeerError as error:
        raise Unusable(f"the config block is unreadable: {error} (spec/structures.md#config-block)") from None


def _demand_empty(judged: Judged, config: Config) -> None:
    if config.used_space:
        used = f"{config.used_space} bytes are used"
        raise Unusable(f"the cases need an empty keystore, and {used}; use a new partition")
    for consumer in CONSUMERS:
        if judged.labels(by=consumer).status == Status.H_AUTHORITY:
            raise Unusable(f"consumer {consumer} has a password in this IPL; power the partition off and on")


def _mode(judged: Judged) -> int:
    """Return the secure-boot mode, by the two policies that depend on it.

    No h-call shows the mode.  The cases then check that all other calls agree with this one.
    """
    modes = ((Policy.OSSECBOOTENFORCE, 2), (Policy.OSSECBOOTAUDIT, 1))
    for policy, mode in modes:
        if judged.write(judged.label("mode"), policy=policy).status == Status.H_SUCCESS:
            return mode
    return 0


class Run:
    """A run of the cases; `ipl` makes an IPL of the partition (None: there is no way to)."""

    def __init__(self, judged: Judged, ipl: Callable[[], None] | None = None) -> None:
        self._judged = judged
        self._ipl = ipl
        self._silences = 0

    def findings(self, cases: Cases) -> Iterator[Finding]:
        """Try the cases in the order of their stages; yield a finding for each."""
        for stage in RunStage:
            inside = [each for each in cases if each.stage is stage]
            self._judged.stage = stage
            if stage is RunStage.IPL and inside:
                yield from self._after_ipl(inside)
            else:
                yield from map(self._tried, inside)
            if stage is RunStage.SETTING and any(each.stage is RunStage.SET for each in cases):
                self._set_passwords()
        self._judged.finish()

    def _after_ipl(self, cases: Cases) -> Iterator[Finding]:
        if self._ipl is None:
            for case in cases:
                yield _finding(case, Judgement.NOT_RUN, "needs an IPL of the partition: --ipl COMMAND")
            return
        ready = {case.id: self._prepared(case) for case in cases}
        self._ipl()
        self._judged.lose_session()
        self._judged.passwords.clear()
        for case in cases:
            yield ready[case.id] or self._tried(case)

    def _prepared(self, case: ConformanceCase[Judged]) -> Finding | None:
        """Do the part of a case that precedes the IPL; return its finding if it ends there."""
        before = case.before
        if before is None:
            return None
        found = self._tried(ConformanceCase(case.id, case.page, case.rule, before), tidy=False)
        return None if found.judgement is Judgement.PASSED else found

    def _tried(self, case: ConformanceCase[Judged], *, tidy: bool = True) -> Finding:
        if self._silences >= MOST_SILENCES:
            return _finding(case, Judgement.NOT_RUN, "the server did not answer the cases before this one")
        judged, began = self._judged, time.perf_counter()
        judged.dialogue.clear()
        judgement, reason = _judgement(case, judged, self._note_silence)
        if judgement is Judgement.FAILED:
            judged.lose_session()
        shown = tuple(judged.dialogue[-SHOWN:]) if judgement is Judgement.FAILED else ()
        if tidy:
            judged.tidy()
        return Finding(case.id, case.page, case.rule, judgement, reason, shown, time.perf_counter() - began)

    def _note_silence(self, *, silent: bool) -> None:
        self._silences = self._silences + 1 if silent else 0

    def _set_passwords(self) -> None:
        """Give a password to each consumer that has none: a selection may leave the cases out that do it."""
        for consumer in CONSUMERS:
            if consumer not in self._judged.passwords and self._judged.facts.level.has_keystore:
                password = b"password of consumer %d......" % consumer
                answer = self._judged.do(Opcode.SET_PASSWORD, consumer=consumer, password=password)
                if answer.status == Status.H_SUCCESS:
                    self._judged.passwords[consumer] = password


def _judgement(
    case: ConformanceCase[Judged], judged: Judged, note_silence: Callable[..., None]
) -> tuple[Judgement, str]:
    try:
        case.run(judged)
    except NotRun as reason:
        return Judgement.NOT_RUN, str(reason)
    except NoAnswer as error:
        note_silence(silent=True)
        return Judgement.FAILED, str(error)
    except (Deviation, PeerError) as error:
        note_silence(silent=False)
        return Judgement.FAILED, str(error)
    except OSError as error:
        note_silence(silent=True)
        return Judgement.FAILED, f"expected a server that takes connections; came {error.strerror or error}"
    note_silence(silent=False)
    return Judgement.PASSED, ""


def _finding(case: ConformanceCase[Judged], judgement: Judgement, reason: str) -> Finding:
    return Finding(case.id, case.page, case.rule, judgement, reason)


def ipl_by(command: str) -> Callable[[], None]:
    """Return the IPL that a command of the shell makes; it returns when the partition is up again."""

    def ipl() -> None:
        # The command is the operator's own, given on the command line for this purpose.
        done = subprocess.run(["/bin/sh", "-c", command], check=False)  # noqa: S603
        if done.returncode:
            raise Unusable(f"the command of --ipl ended with {done.returncode}: {command}")

    return ipl


def chosen(
    cases: Iterable[ConformanceCase[Judged]], patterns: Sequence[str]
) -> list[ConformanceCase[Judged]]:
    """Return the cases that a pattern selects, all of them without a pattern."""
    return [each for each in cases if not patterns or any(each.chosen_by(one) for one in patterns)]
