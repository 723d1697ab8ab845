"""The process of one run: the `callwright` command, which saves and ends when the comparison is killed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from callwright.cli import main

PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)


def follow(parent: int) -> None:
    """Get SIGTERM, which makes a run finish its step and save, when the process `parent` ends. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it has ended already
            sys.exit(143)


if __name__ == "__main__":
    follow(int(sys.argv.pop(1)))
    main()
