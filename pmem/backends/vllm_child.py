"""The main module of vLLM's processes (`vllm_engine` sees to that), in place of the user's program.

What they print goes to the log file named in the environment, else to stderr: stdout is for data. And they end when
the process that started them does, however that ends.
"""

import contextlib
import os
import signal
import sys

from pmem.children import end_with_parent

LOG = "PMEM_VLLM_LOG"
"""Environment variable: path of the file for what vLLM's processes print."""


def begin() -> None:
    """Set this process up, before anything of vLLM is imported."""
    if path := os.environ.get(LOG):
        log = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 2)
        os.close(log)
    os.dup2(2, 1)
    end_with_parent(signal.SIGKILL)
    if sys.platform == "linux":
        with contextlib.suppress(PermissionError):  # a leader of a session is out of the terminal's reach already
            os.setpgid(0, 0)  # Ctrl-C is for the parent, which ends its children


if __name__ == "__mp_main__":
    begin()
