"""How much memory a block of code needs beside what was held before it."""

import gc
import re
from pathlib import Path

import torch


class Growth:
    """`peak`: bytes at the highest point of its block beyond those at its beginning.

    On CUDA of what PyTorch has allocated; on a CPU of the process's resident set, which is to be trusted only in a process that has
    done nothing of the kind before: what was freed is not given back.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.peak = device, 0

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
