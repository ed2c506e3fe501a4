"""The console in the test's own process: systems, lines, recoveries, profiles."""

import pytest
import trio

from hcall_client.calls import Authorization, HcallError, read_object, write_object
from hcall_client.errors import ConnectionLost
from hcall_client.following import open_following
from hcall_client.where import NotLocated
from swpks.testing import JobFailed, LineAnswer, emulated_console

OS = Authorization(3)


async def write(console, label: bytes, data: bytes = b"data", system: str = "a") -> None:
    """Let the guest of lpar1 write an object."""
    lpar1 = await console.partition("lpar1", system)
    await lpar1.channel.call(write_object(OS, label, data))


async def read(console, label: bytes, system: str = "a") -> bytes:
    """Let the guest of lpar1 read an object."""
    lpar1 = await console.partition("lpar1", system)
    return (await lpar1.channel.call(read_object(OS, label))).data


async def test_two_systems_and_their_console(pks_console):
    """R-30: a line lists both systems and the states of their partitions."""
    assert await pks_console.line("lssyscfg -r sys -F name,state") == (0, "a,Operating\nb,Operating")
    output = await pks_console.line("lssyscfg -r lpar -m a -F name,state")
    assert output == LineAnswer(0, "lpar1,Running")
    lpar1 = await pks_console.partition("lpar1", "a")
    await lpar1.power_off()
    assert (await pks_console.line(["lssyscfg", "-r", "lpar", "-m", "a", "-F", "state"])).text == (
        "Not Activated"
    )
    assert repr(pks_console) == "EmulatedConsole(a, b)"


async def test_a_lost_service_processor(pks_console):
    """R-45, R-48: the console restores the store by itself and reports the age of the copy."""
    await write(pks_console, b"x")
    job = await pks_console.backup("a")
    assert (job.state, job.kind) == ("done", "backup")
    lpar1 = await pks_console.partition("lpar1", "a")
    job = await pks_console.replace_service_processor("a")
    assert job.kind == "recover"
    assert job.lines[-1] == "a is Operating, with 1 restored store"
    with pytest.raises(ConnectionLost):
        await lpar1.channel.call(read_object(OS, b"x"))
    assert await read(pks_console, b"x") == b"data"


async def test_a_profile_goes_back(pks_console):
    """R-46: A restore loses later updates, reports that, and needs --forcekeystore."""
    await write(pks_console, b"first")
    assert await pks_console.line("bkprofdata -m a -f monday") == (0, "")
    await write(pks_console, b"second")
    await (await pks_console.partition("lpar1", "a")).power_off()
    status, output = await pks_console.line("rstprofdata -m a -l 1 -f monday")
    assert (status, "later updates are lost" in output) == (1, True)
    assert await read(pks_console, b"second") == b"data"
    await (await pks_console.partition("lpar1", "a")).power_off()
    status, output = await pks_console.line("rstprofdata -m a -l 1 -f monday --forcekeystore")
    assert (status, "later updates are lost" in output) == (0, True)
    assert await read(pks_console, b"first") == b"data"
    with pytest.raises(HcallError, match="H_NOT_FOUND"):
        await read(pks_console, b"second")


async def test_files_of_lines_are_in_memory_or_on_disk(pks_console, tmp_path):
    """R-46: A relative path is a file in `files`, an absolute path is a file on disk.

    A replaced file needs --force.
    """
    await write(pks_console, b"x")
    assert await pks_console.line("bkprofdata -m a -f ./monday") == (0, "")
    assert set(pks_console.files) == {"./monday"}
    path = tmp_path / "monday"
    assert await pks_console.line(["bkprofdata", "-m", "a", "-f", str(path)]) == (0, "")
    assert path.stat().st_mode & 0o777 == 0o600
    await (await pks_console.partition("lpar1", "a")).power_off()
    for name in ("./monday", str(path)):
        assert (await pks_console.line(f"rstprofdata -m a -l 3 -f {name}"))[0] == 0
        status, output = await pks_console.line(f"bkprofdata -m a -f {name}")
        assert (status, output.split()[0]) == (1, "SWPK0203")
        assert await pks_console.line(f"bkprofdata -m a -f {name} --force") == (0, "")
    for name in ("./nofile", str(tmp_path / "nofile"), str(tmp_path)):
        assert (await pks_console.line(f"rstprofdata -m a -l 1 -f {name}"))[0] == 1
    pks_console.files["./long"] = bytes(33)
    assert (await pks_console.line("chtskey -m a -o change --newkey ./long"))[0] == 1
    pks_console.files["./key"] = bytes(range(32))
    assert (await pks_console.line("chtskey -m a -o change --newkey ./key"))[0] == 0


async def test_the_console_loses_its_power(pks_console):
    """A console that lost power still has its store, profile backups and copies.

    A system that starts before the console waits for it.
    """
    await write(pks_console, b"x")
    await pks_console.backup("a")
    assert await pks_console.line("bkprofdata -m a -f monday") == (0, "")
    before = pks_console.management.id
    await pks_console.power_cut()
    assert await pks_console.replace_service_processor("a") is None
    system = pks_console.systems["a"]
    assert (system.running, system.state) == (True, "Recovery")
    await pks_console.start()
    job = await pks_console.recovered("a")
    assert job.lines[-1] == "a is Operating, with 1 restored store"
    assert await read(pks_console, b"x") == b"data"
    assert pks_console.management.id == before
    await pks_console.restart()
    assert await pks_console.line("rmprofdata -m a -f monday") == (0, "")


async def test_a_system_loses_its_power(pks_console):
    """A system that lost power still has its parts, so nothing is restored.

    The console reports that the system is away.
    """
    await write(pks_console, b"x")
    await pks_console.power_cut_system("a")
    system, known = pks_console.systems["a"], pks_console.known("a")
    assert (system.running, known.connected, repr(system)) == (False, False, "EmulatedSystem('a', off)")
    with pytest.raises(RuntimeError, match="the system a is off"):
        await pks_console.partition("lpar1", "a")
    with pytest.raises(JobFailed, match="backup of a: nothing serves this system"):
        await pks_console.backup("a")
    await pks_console.start_system("a")
    assert known.connected
    assert await read(pks_console, b"x") == b"data"
    with pytest.raises(RuntimeError, match="power_cut_system"):
        system.replace_service_processor()


@pytest.mark.pks_console(
    partitions={"lab": ["one", "two"]}, level="FW1030", kbytes=8, manual_recovery=True, keep=1
)
async def test_a_mark_says_what_the_systems_are_like(pks_console):
    """R-45: The mark lets each recovery wait for an order of the operator."""
    output = await pks_console.line("lssyscfg -r lpar -F name,keystore_kbytes")
    assert output == (0, "one,8\ntwo,8")
    lpar = await pks_console.partition("two", "lab")
    assert lpar.channel.level == "FW1030"
    await lpar.channel.call(write_object(OS, b"x", b"data"))
    await pks_console.backup("lab")
    assert len(pks_console.known("lab").copies) == 2
    assert await pks_console.replace_service_processor("lab") is None
    assert pks_console.systems["lab"].state == "Recovery"
    assert (await pks_console.recover("lab")).state == "done"
    lpar = await pks_console.partition("two", "lab")
    assert (await lpar.channel.call(read_object(OS, b"x"))).data == b"data"


@pytest.mark.pks_console(partitions={"a": ["lpar1"]})
async def test_a_store_without_a_copy_keeps_its_system_in_recovery(pks_console):
    """R-45: A system without a copy of its store stays in Recovery until the operator accepts the loss.

    Then the system creates the partition of its settings again.
    """
    await pks_console.backup("a")
    assert (await pks_console.line("mksyscfg -r lpar -m a -i name=late,keystore_kbytes=8"))[0] == 0
    # The power is cut before the console copies the new partition's store.
    await pks_console.power_cut()
    await pks_console.replace_service_processor("a")
    await pks_console.start()
    with pytest.raises(JobFailed, match="a stays in Recovery") as caught:
        await pks_console.recovered("a")
    assert "late" in caught.value.job.lines[-1]
    job = await pks_console.recover("a", give_up=True)
    assert "given up: late" in job.lines
    assert await pks_console.line("lssyscfg -r lpar -m a -F name") == (0, "lpar1")


@pytest.mark.pks_console(partitions={"a": []})
async def test_a_system_without_copies_is_not_recovered(pks_console):
    assert await pks_console.replace_service_processor("a") is None
    assert pks_console.systems["a"].state == "Recovery"
    assert await pks_console.recovered("a") is None


async def test_a_lost_root_key_needs_the_file_of_the_operator(pks_console):
    """R-48: With a new card, TPM and service processor, the console finds a new system at the address."""
    pks_console.files["./key"] = bytes(range(32))
    assert (await pks_console.line("chtskey -m a -o change --newkey ./key"))[0] == 0
    await write(pks_console, b"x")
    await pks_console.backup("a")
    system, before = pks_console.systems["a"], pks_console.known("a").system_id
    await pks_console.power_cut_system("a")
    system.replace_card_and_tpm()
    assert await pks_console.replace_service_processor("a") is None
    assert system.state == "Operating"
    assert pks_console.known("a").system_id != before


async def test_time_is_that_of_the_trio_clock(autojump_clock):
    """R-44: in virtual time the console makes copies by itself, and copies age."""
    async with emulated_console(copy_interval=600) as console:
        await write(console, b"x")
        await trio.sleep(601)
        assert console.known("a").copies[-1].generation > 0
        # Two hours are enough. A virtual day would need thousands of heartbeats.
        await trio.sleep(2 * 3600)
        job = await console.replace_service_processor("a")
        assert job
        assert "2 hours ago" in job.lines[0]
        assert await read(console, b"x") == b"data"


async def test_a_system_that_is_added_again_is_tried_at_once(autojump_clock):
    """If a system is added again, the console connects to it at once.

    The next periodic attempt would come up to five seconds later.
    """
    async with emulated_console() as console:
        await console.power_cut_system("a")
        await trio.sleep(100)
        await console.systems["a"].start()
        began = trio.current_time()
        await console.add("a")
        assert console.known("a").connected
        assert trio.current_time() == began


async def test_a_job_goes_on_as_soon_as_its_system_is_back(autojump_clock):
    """R-45: A job that waits for its system goes on at once, before the next periodic attempt."""
    async with emulated_console(manual_recovery=True) as console:
        await write(console, b"x")
        await console.backup("a")
        await console.replace_service_processor("a")
        await console.power_cut_system("a")
        job = console.management.recover(console.known("a"))
        await trio.sleep(100)
        assert (job.state, job.waiting) == ("running", "a: nothing serves this system")
        began = trio.current_time()
        await console.start_system("a")
        await console.finish(job)
        assert trio.current_time() == began
        assert await read(console, b"x") == b"data"


async def test_a_failing_test_leaves_nothing_behind():
    """An exception of the test, or an error of the console, comes out of the fixture's block unchanged."""
    with pytest.raises(KeyError):
        async with emulated_console() as console:
            raise KeyError(console)
    with pytest.raises(ZeroDivisionError):
        async with emulated_console() as console:
            console.log.warning("job.broken", exc_info=ZeroDivisionError())


async def test_a_channel_may_follow_a_partition(pks_console):
    """`locate` finds the partition on any system by its UUID.

    While no system serves it, `locate` raises NotLocated.
    """
    locate = pks_console.locate("lpar1", "a")
    async with open_following(locate) as channel:
        await channel.call(write_object(OS, b"x", b"data"))
        lpar1 = pks_console.systems["a"].machine.system.find("lpar1")
        pks_console.systems["a"].machine.holds.leave(lpar1)
        assert (await channel.call(read_object(OS, b"x"))).data == b"data"
    pks_console.systems["a"].machine.power_off("lpar1")
    with pytest.raises(NotLocated, match="no system serves lpar1"):
        locate()
    await pks_console.power_cut_system("a")
    with pytest.raises(NotLocated):
        locate()
    with pytest.raises(RuntimeError, match="is off"):
        pks_console.systems["a"].connect("lpar1")
