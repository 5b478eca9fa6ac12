"""Other programs that are started, and end with this one however that ends."""

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1  # from Linux's <sys/prctl.h>


def end_with_parent(number: signal.Signals) -> None:
    """Called in a child: it gets that signal when the thread that started it ends, kill -9 included. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
