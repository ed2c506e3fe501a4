"""Steps with a management console: it stores copies, and restores them to a new service processor."""

from __future__ import annotations

from hcall_client.console import show_system
from swpks.demo.copies import LATE_SECRET
from swpks.demo.parts import secret_is_there
from swpks.demo.play import PARTITION, Play

SYSTEM = "lab"
"""The name that the console gives the system."""
SERVICE_PROCESSOR = "service-processor"
_BACKUP, _RECOVERY = 1, 2
"""The numbers of the console's jobs."""


async def attach_console(play: Play) -> None:
    """Start a console for the running system; the console stores a sealed copy, which it can't open."""
    shows = "The console is another process. It stores sealed copies of all stores, and can open none."
    with play.stage.step("A management console is attached to the running system", shows):
        play.stage.say(f"swpks hmc serve --store {play.hmc.store} --system {play.hmc.systems[0]}")
        play.hmc.start()
        before = play.hmc.ready["systems"]
        # The console can give an order only to a connected system.
        play.hmc.log_lines("system.connected")
        play.line("chsyscfg", "-r", "sys", "-m", before[0], "-i", f"new_name={SYSTEM}")
        text = play.line("lssyscfg", "-r", "lpar", "-m", SYSTEM, "-F", "name,state")
        play.stage.check(f"its first lines: the system is called {SYSTEM} and serves {PARTITION}",
                         text == f"{PARTITION},Running\n")  # fmt: skip
        play.line("backup")
        link = play.server.console.call(show_system()).console
        play.stage.check("the system is connected to its console", link is not None and link.connected)
        view = play.partition(PARTITION)
        newest = view.copy is not None and view.copy.generation == view.generation
        play.stage.check(f"the console has a copy of the store of generation {view.generation}", newest)
        await _kept_sealed(play)


async def replace_service_processor(play: Play) -> None:
    """Replace the service processor; the console must restore the store without an order."""
    shows = (
        "All records of the system are lost with it. The console notices the loss, and restores the stores."
    )
    with play.stage.step("The service processor is replaced while its console watches", shows):
        await play.power_off()
        play.console("replace", SERVICE_PROCESSOR)
        play.stage.check("the new service processor is empty", not play.nvram.exists())
        play.server.start()
        state = play.server.ready["state"]
        play.stage.check(f"the start finds no records: state {state}, no partition is served",
                         state == "Recovery" and not play.server.ready["sockets"])  # fmt: skip
        play.hmc.log_lines("job.started", _RECOVERY)
        text = play.line("jobs", str(_RECOVERY))
        play.stage.check("the console has restored the store without an order, and reports its date",
                         f"{PARTITION}: from " in text)  # fmt: skip
        system = play.server.console.call(show_system())
        names = " ".join(each.name for each in system.partitions)
        play.stage.check(f"the state is {system.state}, the system is {system.name}, with {names}",
                         (system.state, system.name, names) == ("Operating", SYSTEM, PARTITION))  # fmt: skip
        await secret_is_there(play)
        late = await play.chain.kernel.read(LATE_SECRET)
        play.stage.check("the last secret of the guest is there", late.data == play.late_secret)


async def _kept_sealed(play: Play) -> None:
    """Check that no file in the console's store shows a secret of the guest."""
    read = await play.chain.kernel.read(LATE_SECRET)
    files = [path for path in play.hmc.store.rglob("*") if path.is_file()]
    written = b"".join(path.read_bytes() for path in files)
    clear = (read.data[:8], play.disk_key[:8], play.trusted_key[:8])
    held = bool(files) and read.data == play.late_secret and not any(each in written for each in clear)
    play.stage.check("none of its files shows an object or the key of the copies", held)
