"""The real engine for tests of the sans-I/O calls: no socket, no task, one function call per h-call."""

from typing import TypeVar

from hcall_abi.consumers import SecureBoot
from hcall_abi.levels import LEVELS
from hcall_abi.structures import Config
from hcall_client.calls import Request, get_config
from hcall_server.hcalls.answers import Calls
from hcall_server.hcalls.dispatch import HypervisorCalls
from hcall_server.platform.system import ManagedSystem
from tests.guest import Chance

T = TypeVar("T")


class Engine:
    """A running partition. `call` has the signature of a channel's `call` and returns at once."""

    def __init__(self, level: str = "FW1110", kbytes: int = 64, secure_boot: int = 0) -> None:
        self.system = ManagedSystem(LEVELS[level], bytes(16), Chance())
        self.partition = self.system.create("lpar1", kbytes)
        self.system.set_attributes("lpar1", {"secure_boot": SecureBoot(secure_boot)})
        self.system.power_on("lpar1")
        self.calls: Calls = HypervisorCalls(self.partition)
        self.opcodes: list[int] = []

    def ipl(self) -> None:
        self.system.ipl("lpar1")

    def flush(self) -> None:
        """Do the work of the encryptor: make all changes durable."""
        keystore = self.partition.keystore
        assert keystore
        keystore.contents.mark_flushed(keystore.contents.generation)

    def do(self, request: Request[T]) -> T:
        self.opcodes.append(request.opcode)
        return request.parse(self.calls.execute(request.frame(1)))

    async def call(self, request: Request[T]) -> T:
        return self.do(request)

    async def limits(self) -> Config:
        return self.do(get_config())
