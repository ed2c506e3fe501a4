"""The places of a server's sockets and of its trace, checked before the state folder is made or changed."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as rules
from hcall_server.data_channel.sockets import check_path, listen_tcp
from hcall_server.service.layout import TRACES
from hcall_server.service.settings import UNIX, Settings, parse_listen


def check_places(run_folder: Path, settings: Settings, *, passed: bool) -> None:
    """Raise the errors of this server's sockets that can be found before the state folder is made.

    Without this check, a wrong address would be refused too late: the settings would be stored already.
    """
    if not passed:  # a service manager has made passed sockets already
        for name in ("control", *(each.name for each in settings.partition)):
            check_path(run_folder / f"{name}.sock")
    wanted = [parse_listen(address) for address in settings.listen]
    wanted += [
        parse_listen(each) for each in (settings.control, settings.mobility) if each not in (None, UNIX)
    ]
    if metrics := settings.metrics_over_tcp():
        wanted.append(metrics)
    with ExitStack() as trials:  # open all of them together, so that two listeners with one address are found
        for host, port in wanted:
            trials.callback(listen_tcp(host, port).close)


def check_trace(state: Path, settings: Settings) -> None:
    """Raise the errors of `--trace` that can be found before the state folder is made."""
    wanted = settings.trace
    if wanted is None:
        if settings.trace_secrets:
            message = "there is no --trace FILE, so nothing would be recorded: add it, or trace one partition"
            way = "`swpks hmc trace NAME on --secrets`"
            raise OperatorError(rules.TRACE_SECRETS, f"{message} by {way}")
        return
    if not wanted or "\0" in wanted:
        raise OperatorError(rules.TRACE_FILE, f"--trace {wanted!r}: this is no name of a file")
    # The folder may be reached by a link; the file itself may not be one.
    folder, name = os.path.split(wanted)
    place, inside = Path(os.path.realpath(folder), name), Path(os.path.realpath(state))
    # The server uses names there: a file `presence`, for example, is read as the operator's word.
    if place.is_relative_to(inside) and not place.parent.is_relative_to(inside / TRACES):
        message = f"--trace {wanted}: it is in the state folder, whose names belong to the server"
        raise OperatorError(rules.TRACE_FILE, f"{message}; choose a file elsewhere, or in {state / TRACES}")
