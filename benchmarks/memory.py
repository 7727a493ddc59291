"""How much memory a block of code needs beside what was held before it."""

import ctypes
import gc
import re
from pathlib import Path

import torch

_MMAP_THRESHOLD = -3
"""glibc's name for the size from which on a block of memory is one of its own."""


class Growth:
    """`peak`: bytes at the highest point of its block beyond those at its beginning.

    On CUDA of what PyTorch has allocated; on a CPU of the process's resident set (Linux, glibc), which is to be trusted only in a process
    that has not worked before: from the first Growth on, what is freed is given back at once, and not kept for the next allocation.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.peak = device, 0
        if device.type != "cuda":
            ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 2**16)

    def __enter__(self) -> "Growth":
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
            self.before = resident("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        cuda = self.device.type == "cuda"
        highest = torch.cuda.max_memory_allocated(self.device) if cuda else resident("VmHWM")
        self.peak = highest - self.before


def resident(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)[0])
