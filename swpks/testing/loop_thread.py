"""A trio loop in its own thread, for plain tests that use a server in the same process."""

# Each call is a future. When the loop has ended, `_main` gives an exception to the futures that still wait.
# So a failure of the server ends the test; otherwise the test would hang.

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Generic, TypeVar

import trio

from swpks.testing.remedies import PartitionGone

T = TypeVar("T")
V = TypeVar("V")


class LoopThread(Generic[V]):
    """Runs an asynchronous block in a thread from `start` to `stop`, and functions while the block runs.

    A failure of the block ends the loop, and `stop` raises it.  A forked process does not have this thread:
    there `run` raises RuntimeError, and `stop` does nothing.
    """

    def __init__(self, block: Callable[[], AbstractAsyncContextManager[V]]) -> None:
        self._block = block
        self._process = os.getpid()
        self._ready: Future[V] = Future()
        self._waiting: set[Future[Any]] = set()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="swpks server", daemon=True)

    def start(self) -> V:
        """Start the loop, enter the block and return its value; raise an error of the entry."""
        self._thread.start()
        try:
            return self._ready.result()
        except BaseException:
            self._thread.join()
            raise

    def run(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run an asynchronous function in the loop, and return its result."""
        self._check_process()
        answer: Future[T] = Future()

        async def task() -> None:
            # The caller gets the error by the future: an error of one call in the nursery would end the
            # server.
            try:
                answer.set_result(await function())
            except Exception as error:
                answer.set_exception(error)

        self._waiting.add(answer)
        try:
            self._token.run_sync_soon(self._begin, task)
            return answer.result()
        except trio.RunFinishedError:
            raise _over() from None
        finally:
            self._waiting.discard(answer)

    def run_sync(self, function: Callable[[], T]) -> T:
        """Run a plain function in the thread of the loop, and return its result."""

        async def at_once() -> T:
            await trio.lowlevel.checkpoint()
            return function()

        return self.run(at_once)

    def stop(self) -> None:
        """Leave the block, wait for the end of the thread, and raise the failure of the block, if any."""
        if os.getpid() != self._process:
            return
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._stopping.set)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                f"process {self._process} has this partition; a forked process starts one of its own"
            )

    def _begin(self, task: Callable[[], Awaitable[None]]) -> None:
        with suppress(RuntimeError):  # the nursery is closed, so `_main` ends the waiting futures
            self._nursery.start_soon(task)

    def _main(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            if self._ready.done():
                self._failure = error
            else:
                self._ready.set_exception(error)
        finally:
            for answer in list(self._waiting):
                if not answer.done():
                    answer.set_exception(_over())

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stopping = trio.Event()
        async with self._block() as value, trio.open_nursery() as self._nursery:
            self._ready.set_result(value)
            await self._stopping.wait()
            self._nursery.cancel_scope.cancel()


def _over() -> RuntimeError:
    return PartitionGone()
