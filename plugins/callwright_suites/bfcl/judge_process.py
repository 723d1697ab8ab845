"""Java and JavaScript judged in a process of its own, within a time: bfcl-eval's regular expressions take exponential
time on some replies (`[[1],[1], ... ,[1], 5]` in JavaScript), and no regular expression can be interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from callwright import CallwrightError
from callwright_rewards.bfcl import Function, Key

SECONDS = 10
"""For one reply; the slowest of ordinary ones takes milliseconds."""


class Found(NamedTuple):
    """A verdict, as `callwright_rewards.bfcl.CheckResult` has it."""

    valid: bool
    error_type: str | None
    message: str


class JudgeProcess:
    """Started with the first reply, and anew after one that it did not outlive. It ends with this process."""

    def __init__(self, seconds: int = SECONDS) -> None:
        self.seconds = seconds
        self._process: subprocess.Popen[str] | None = None

    def check(self, reply: str, functions: Sequence[Function], key: Sequence[Key], category: str) -> Found:
        """`other_languages.check`. A reply that takes too long is invalid; bfcl-eval would not come to an end."""
        process = self._process or self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps([reply, functions, key, category]), file=process.stdin, flush=True)
        line = process.stdout.readline()
        if line:
            return Found(*json.loads(line))
        process.wait()
        self._process = None
        return Found(False, "simple_function_checker:unclear", f"it cannot be judged within {self.seconds} s")

    def _started(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", __name__, str(self.seconds)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if not process.stdout.readline():
            raise CallwrightError("what judges Java and JavaScript does not start; the reason stands above")
        self._process = process
        return process


def main(seconds: int) -> None:
    """Answers JSON lines, after a first line that says that it is there."""
    from callwright_suites.bfcl.other_languages import check, load_parsers

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other process' business, whose end is this one's too
    load_parsers()
    print("ready", flush=True)
    for line in sys.stdin:
        signal.alarm(seconds)  # nothing handles it: it ends the process, also inside a regular expression
        found = check(*json.loads(line))
        signal.alarm(0)
        print(json.dumps([found.valid, found.error_type, found.message]), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
