"""The run: read the facts, try the cases stage by stage, and make a finding of each result."""

# A run
#
# The judged server belongs to its author.  The judge has one partition of it, and only the data channel.
# A run must guarantee:
#
#   1. A finding does not depend on the choice of the other cases: `--only` finds the same as a whole run.
#   2. Each case gets the state that its statement needs, or it is "not run" with the reason.
#   3. A run ends, even if the server never answers.
#
# Why stages, and in this order.  A password can be set, and no call clears or changes it before the next IPL.
# So all cases without a password come first.  Then the passwords are set, which is itself judged.  Then come
# the cases that need them.  If a selection leaves out the cases that set the passwords, the run sets them.
#
# Why one IPL.  The judge can't make an IPL: `--ipl` names a command of the operator, and on hardware it may
# take minutes.  So all cases of this stage do their first parts, then the IPL comes once, then all do their
# second parts.  If the first part of a case fails, the case has no second part.  The IPL clears the passwords
# that other stages need, so this stage is the last one.
#
# Why the objects of a case are removed after it.  The smallest store has only a few KiB.  Also, cases about
# space and label lists would see the objects of other cases.  An error of the removal is no finding, because
# REMOVE_OBJECT has cases of its own.  IMMUTABLE objects stay, so few cases make them.
#
# Why the facts are learned first.  The list of cases follows from them: the calls of the level, the longest
# label plus 1, the policies in the secure-boot mode.  The same steps refuse a partition that is in use.  A
# case may fill the store, and a full or foreign store would make hundreds of false failures.
#
# If three cases in a row get no answer, the others are not tried: each would cost the whole patience.
#
# We dropped a partition of its own for each case.  A run would then need no stages and no removals.  But the
# contract has no call that makes a partition, so a foreign server can't offer it to the judge.  Firmware even
# has only one partition.  An IPL for each case of the last stage would be simpler too, but would take hours
# on hardware.

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from hcall_abi.calls import Opcode
from hcall_abi.errors import OperatorError, PeerError
from hcall_abi.frames import VERSION, Hello, Opened
from hcall_abi.levels import LEVELS, FirmwareLevel
from hcall_abi.policies import Policy
from hcall_abi.rules.service import COMMAND_USAGE, CONFORMANCE_PARTITION, CONFORMANCE_SESSION
from hcall_abi.statuses import Status
from hcall_abi.structures import Config, parse_config
from hcall_client.errors import OpenRefused
from swpks.conformance.case import (
    MOST_SILENCES,
    ConformanceCase,
    Deviation,
    Finding,
    Judgement,
    NotRun,
    RunStage,
)
from swpks.conformance.group import NOT_RUN, CommandGroup
from swpks.conformance.server.connection import EndOfStream, NoAnswer, RawConnection, ServerPlace
from swpks.conformance.server.judged import CONSUMERS, SHOWN, Facts, Judged

Cases = Sequence[ConformanceCase[Judged]]


def facts_of(place: ServerPlace, level: FirmwareLevel | None = None) -> Facts:
    """Open a session and return the facts of the partition; `level` replaces the level that OPENED names.

    Raises OSError if nothing listens, and PeerError if the server opens no session of version 1.  Raises
    OpenRefused if the server refuses OPEN, and OperatorError if the partition can't be judged.
    """
    connection = RawConnection(place, lambda line: None)
    try:
        hello, opened = _greeted(connection)
    except Deviation as error:
        raise PeerError(CONFORMANCE_SESSION, f"{error}{_hint(error)}") from None
    finally:
        connection.close()
    if opened.status:
        raise OpenRefused(opened.status)
    known = level or LEVELS.get(opened.level)
    if known is None:
        message = (
            f"the server names the level {opened.level[:40]!r}, which has no cases; name one with --level"
        )
        raise OperatorError(COMMAND_USAGE, message)
    unknown = Facts(known, NO_CONFIG, hello, mode=0, ipl_count=opened.ipl_count)
    return _learned(Judged(place, unknown)) if known.has_keystore else unknown


def _greeted(connection: RawConnection) -> tuple[Hello, Opened]:
    hello = connection.hello()
    if not hello.lowest <= VERSION <= hello.highest:
        versions = f"the server speaks versions {hello.lowest} to {hello.highest}"
        raise PeerError(CONFORMANCE_SESSION, f"{versions}, and these cases are for version {VERSION}")
    return hello, connection.open(hello)


def _hint(error: Deviation) -> str:
    """Return the likely mistake of the operator if the server opened no session."""
    if isinstance(error, EndOfStream):
        return "; is it a socket of the data channel, with a place for one more session?"
    if isinstance(error, NoAnswer):
        return "; a server sends HELLO at once, and answers OPEN"
    return ""


def _learned(asked: Judged) -> Facts:
    try:
        config = _config(asked)
        _demand_empty(asked, config)
        return replace(asked.facts, config=config, mode=_mode(asked))
    except (Deviation, PeerError, OSError) as error:
        raise OperatorError(CONFORMANCE_PARTITION, f"the partition can't be judged: {error}") from None
    finally:
        asked.finish()


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


def _config(judged: Judged) -> Config:
    answer = judged.do(Opcode.GET_CONFIG, config=520)
    if answer.status == Status.H_FUNCTION:
        advice = "GET_CONFIG answers H_FUNCTION; give the partition a keystore"
        raise OperatorError(CONFORMANCE_PARTITION, advice)
    return parse_config(answer.expect(Status.H_SUCCESS).written)


def _demand_empty(judged: Judged, config: Config) -> None:
    if config.used_space:
        used = f"{config.used_space} bytes are used"
        raise OperatorError(CONFORMANCE_PARTITION, f"{used} of the keystore; use a new partition")
    for consumer in CONSUMERS:
        if judged.labels(by=consumer).status == Status.H_AUTHORITY:
            reason = f"consumer {consumer} has a password; power the partition off and on"
            raise OperatorError(CONFORMANCE_PARTITION, reason)


def _mode(judged: Judged) -> int:
    """Return the secure-boot mode, which the judge learns from two policies that depend on it.

    No h-call shows the mode.  The cases then check that all other calls agree with this one.
    """
    # Enforce is tried first: an object with OSSECBOOTAUDIT can be made in either mode.
    modes = ((Policy.OSSECBOOTENFORCE, 2), (Policy.OSSECBOOTAUDIT, 1))
    for policy, mode in modes:
        if judged.write(judged.label("mode"), policy=policy).status == Status.H_SUCCESS:
            return mode
    return 0


class Run:
    """A run of the cases.

    `ipl` makes an IPL of the partition.  It is None if the operator gave no command for an IPL.
    """

    def __init__(self, judged: Judged, ipl: Callable[[], None] | None = None) -> None:
        self._judged = judged
        self._ipl = ipl
        self._silences = 0
        self.unusable: OperatorError | None = None
        """The reason why `ipl` has made no IPL; the cases that need it are not run."""

    def findings(self, cases: Cases) -> Iterator[Finding]:
        """Try the cases in the order of their stages; yield a finding for each.

        If the caller stops early, the connections are closed, and the objects of the case stay.
        """
        try:
            for stage in RunStage:
                inside = [each for each in cases if each.stage is stage]
                self._judged.stage = stage
                if stage is RunStage.IPL and inside:
                    yield from self._after_ipl(inside)
                elif stage is RunStage.SET and (lacking := self._lacking()):
                    reason = f"consumer {lacking[0]} has no password, because SET_PASSWORD set none"
                    yield from (_finding(case, Judgement.NOT_RUN, reason) for case in inside)
                else:
                    yield from map(self._tried, inside)
                if stage is RunStage.SETTING and self._needs_passwords(cases):
                    self._set_passwords()
            self._judged.finish()
        finally:
            self._judged.close()

    def _needs_passwords(self, cases: Cases) -> bool:
        """Return whether a later case needs the passwords.

        Without an IPL, the cases of stage IPL are not run, so they need none.
        """
        later = {RunStage.SET, RunStage.IPL} if self._ipl else {RunStage.SET}
        return any(each.stage in later for each in cases)

    def _after_ipl(self, cases: Cases) -> Iterator[Finding]:
        if self._ipl is None:
            for case in cases:
                yield _finding(case, Judgement.NOT_RUN, "needs an IPL of the partition: --ipl COMMAND")
            return
        ready = {case.id: self._prepared(case) for case in cases}
        try:
            self._ipl()
        except OperatorError as error:
            self.unusable = error
            yield from (_finding(case, Judgement.NOT_RUN, error.message) for case in cases)
            return
        # The IPL has ended the main session, so it is closed here.  Its GOODBYE would be read as the answer
        # to the next call.
        self._judged.lose_session()
        self._judged.passwords.clear()
        for case in cases:
            yield ready[case.id] or self._tried(case)

    def _prepared(self, case: ConformanceCase[Judged]) -> Finding | None:
        """Run the first part of a case, before the IPL; return the finding unless that part passed."""
        before = case.before
        if before is None:
            return None
        # The objects of this part are not removed: the part after the IPL needs them.
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
        """Set a password for each consumer without one: `--only` may have left out the cases that set it."""
        for consumer in CONSUMERS:
            if consumer not in self._judged.passwords and self._judged.facts.level.has_keystore:
                password = b"password of consumer %d......" % consumer
                # A refusal is no finding here.  Chapter `passwords` judges it, and cases that need the
                # password are not run.
                try:
                    answer = self._judged.do(Opcode.SET_PASSWORD, consumer=consumer, password=password)
                except (Deviation, PeerError, OSError):
                    # No case runs now, so the error makes no finding.  Cases that need the password are not
                    # run, and report the reason.
                    self._judged.lose_session()
                    return
                if answer.status == Status.H_SUCCESS:
                    self._judged.passwords[consumer] = password

    def _lacking(self) -> list[int]:
        """Return the consumers without a password."""
        return [each for each in CONSUMERS if not self._judged.passwords.get(each)]


def _judgement(
    case: ConformanceCase[Judged], judged: Judged, note_silence: Callable[..., None]
) -> tuple[Judgement, str]:
    try:
        case.run(judged)
    except NotRun as reason:
        return Judgement.NOT_RUN, str(reason)
    # NoAnswer is a Deviation too, so it is caught first: three silent cases in a row end the run.
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


def ipl_by(command: str, seconds: float) -> Callable[[], None]:
    """Return a function that makes an IPL by a command of the shell.

    The function returns when the command has ended.  The partition has to be up again by then.  After
    `seconds`, and after a failure, all programs of the command are ended.
    """

    def ipl() -> None:
        # The command is the operator's own, given on the command line for this purpose.
        # Its output goes to standard error: standard output may carry the report.
        group = CommandGroup(command, stdout=2)
        try:
            status = group.status_within(seconds)
            if status is None:
                message = f"--ipl: the command has not ended within {seconds:g} s, and was ended: {command}"
                raise OperatorError(COMMAND_USAGE, f"{message}; for more time: --ipl-timeout S")
            if status:
                reason = f"{status}{NOT_RUN.get(status, '')}"
                raise OperatorError(COMMAND_USAGE, f"--ipl: the command ended with {reason}: {command}")
        except BaseException:
            group.kill()
            raise
        # The command may have started the server in the background, so its group is not killed.
        group.release()

    return ipl
