"""Processes of a run, for tests that kill them."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def offspring(pid: int) -> list[int]:
    """Processes below this one."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found += [int(stat.parent.name), *offspring(int(stat.parent.name))]
    return found


def still_alive(pids: Iterable[int], patience_s: float) -> list[int]:
    """Which of the processes do not end in this time; one that only waits to be noticed by its parent has ended."""
    deadline = time.monotonic() + patience_s
    left = list(pids)
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if _state(pid) not in ("", "Z", "X")]
        time.sleep(0.2)
    return left


def _state(pid: int) -> str:
    """R, S, Z, ... as the system says; nothing where there is no such process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""
