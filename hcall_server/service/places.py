"""The places of a server's sockets, checked before the state folder is made or changed."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from hcall_server.data_channel.sockets import check_path, listen_tcp
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
