"""Opens the models that look at pictures by task and name, and says which of them cannot run here, and why.

`open_model(task, name)` is the way in; the table itself is `anyref.perception.models`. A name is one of the table; `NAME@PLACE` takes the
weights from a folder, a file or an address of your own; `recorded:FOLDER` replays what real models once answered
(`anyref.perception.recorded`); `puppets` is the embedded model of the puppet world.
"""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import cast, get_args

from anyref.perception import Model
from anyref.perception.models import ENTRIES, Entry, Task

__all__ = [
    "CATALOGUE",
    "TASKS",
    "Entry",
    "NotCommercialError",
    "Task",
    "entry_for",
    "missing",
    "names",
    "open_model",
]

CATALOGUE: tuple[Entry, ...] = ENTRIES
TASKS: tuple[Task, ...] = get_args(Task)
RECORDED = "recorded:"
_ALSO: dict[str, Task] = {"image-encoder": "image-text-encoder", "video-text-encoder": "image-text-encoder"}
"""A task, and another whose models can stand in: a video is then the mean of its frames."""
_DISTRIBUTIONS = {"cv2": "opencv-python-headless"}


class NotCommercialError(ValueError):
    """A model whose licence forbids commercial use was asked for where only others may be."""


def names(task: Task) -> tuple[str, ...]:
    """The names that `open_model` takes for a task, in the order of the table."""
    also = _ALSO.get(task)
    return tuple(dict.fromkeys(entry.name for entry in CATALOGUE if entry.task in (task, also)))


def entry_for(task: Task, name: str) -> Entry:
    """The row of a name; `NAME@PLACE` gives the row with PLACE as its source and no revision. Raises ValueError: no such task or name."""
    if task not in TASKS:
        raise ValueError(f"there is no task {task!r} for a model; use one of {', '.join(TASKS)}")
    bare, _, place = name.partition("@")
    for wanted in (task, _ALSO.get(task)):
        for entry in CATALOGUE:
            if entry.task == wanted and entry.name == bare:
                return replace(entry, source=place, revision="") if place else entry
    raise ValueError(
        f"there is no {task} named {name!r}; use one of {', '.join(names(task))}, or {RECORDED}FOLDER for recorded answers"
    )


def open_model(task: Task, name: str, device: str = "cpu", commercial_only: bool = False) -> Model:
    """The model that answers to `name`, loaded on `device`.

    Raises ValueError for an unknown task or name, for packages or weights that are not there (with the line that installs them), and, with
    `commercial_only`, for a licence that forbids commercial use.
    """
    if name.startswith(RECORDED):
        return _replay(task, name.removeprefix(RECORDED), commercial_only)
    entry = entry_for(task, name)
    if commercial_only and not entry.commercial:
        allowed = [other.name for other in CATALOGUE if other.task == entry.task and other.commercial]
        raise NotCommercialError(
            f"{entry.name} may not be used commercially ({entry.licence}); use {' or '.join(allowed) or 'none'}, or leave "
            "--commercial-only out"
        )
    if reason := missing(entry):
        raise ValueError(reason)
    try:
        return _factory(entry)(entry, device)
    except OSError as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"the weights of {entry.name} could not be had from {entry.source} ({first[:150]}); check the network and the licence "
            f"page, or say {entry.name}@FOLDER"
        ) from error


def missing(entry: Entry) -> str | None:
    """Why a model cannot run here, with the line that installs what it lacks; None if all packages are there. Imports no package.

    Weights are not looked for: they are fetched when the model is opened first.
    """
    lacking = [package for package in entry.packages if find_spec(package) is None]
    if lacking:
        installs = entry.install or f"pip install 'anyref[{entry.extra}]'"
        packages = " and ".join(_DISTRIBUTIONS.get(package, package) for package in lacking)
        return f"{entry.name} needs {packages}, not installed here; run: {installs}"
    module = entry.module.partition(":")[0]
    if find_spec(module) is None:
        return (
            f"{entry.name} ({entry.task}) is not part of this installation; use {', '.join(_others(entry))}"
        )
    return None


def _others(entry: Entry) -> list[str]:
    return [other.name for other in CATALOGUE if other.task == entry.task and other.name != entry.name]


def _factory(entry: Entry) -> Callable[[Entry, str], Model]:
    module, _, function = entry.module.partition(":")
    return cast("Callable[[Entry, str], Model]", getattr(import_module(module), function))


def _replay(task: Task, folder: str, commercial_only: bool) -> Model:
    from anyref.perception.recorded import open_recorded

    if commercial_only:
        raise NotCommercialError(
            f"the recording {folder} was made by models that may not be used commercially; leave --commercial-only out"
        )
    return open_recorded(task, folder)
