"""Training state on disk: written whole or not at all, found again after any interruption.

A run folder holds `checkpoints/step-00001200/state.pt`. A checkpoint is written under a temporary name and renamed, so a kill at any
moment leaves the one before it.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch


def save(folder: Path, step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Write `state` as the checkpoint of `step` and delete all but the newest `keep`."""
    target = folder / "checkpoints" / f"step-{step:08d}"
    unfinished = target.with_name(target.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    with (unfinished / "state.pt").open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    for old in _finished(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def load_newest(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """Step and state of the newest checkpoint, or None where there is none."""
    found = _finished(folder)
    if not found:
        return None
    state: dict[str, Any] = torch.load(found[-1] / "state.pt", map_location="cpu", weights_only=True)
    return int(found[-1].name.split("-")[1]), state


def newest_step(folder: Path) -> int:
    """Step of the newest checkpoint; 0 where there is none."""
    found = _finished(folder)
    return int(found[-1].name.split("-")[1]) if found else 0


def _finished(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in (folder / "checkpoints").glob("step-*")
        if path.suffix == "" and (path / "state.pt").exists()
    )
