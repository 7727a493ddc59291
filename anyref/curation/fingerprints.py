"""What stands behind the names of a stage's models and files: revisions of weights and hashes of what lies on disk, for the ledger's keys.

A name stays when weights are trained anew or a taxonomy is edited; what was made with the old ones must be made again all the same.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from anyref.perception.catalogue import CATALOGUE, RECORDED, entry_for
from anyref.perception.models import Entry, Task

_EMBEDDED = "anyref/puppets/weights"
_PACKAGE = Path(__file__).parents[1]
_GENERATES: Task = "varier"
"""The one task for which the embedded models draw; the others never open the generators, which are trained more often."""
_FOR_READERS = frozenset({"README.md", "measure.json", "training.json"})
"""Files beside weights that no model reads."""
_PIECES, _PIECE = 128, 1 << 20
"""Of larger files so many evenly spaced pieces are hashed, each of so many bytes: training changes all of them."""
_ROLES: Mapping[str, Task | None] = {
    "model": None,
    "image_text_model": "image-text-encoder",
    "image_model": "image-encoder",
    "aesthetic_model": "aesthetic",
    "face_model": "face-analyser",
    "inpainter": "inpainter",
    "varier": "varier",
}
"""Fields by which stages that declare nothing name a model, and its task; None: any that has a model of the name."""


@runtime_checkable
class OpensModels(Protocol):
    """A stage that says which models of the catalogue it opens."""

    def models(self) -> Mapping[Task, str]:
        """Task to name; names that are "" or not of the catalogue count for nothing."""


@runtime_checkable
class ReadsFiles(Protocol):
    """A stage that depends on what is in files that its settings name."""

    def files(self) -> Sequence[Path]:
        """The files; those that are not there count for nothing."""


def fingerprint(stage: object) -> dict[str, Any]:
    """What a stage's outcomes depend on beyond its settings, as JSON; empty for a stage without models and files."""
    models: Mapping[Any, str] = stage.models() if isinstance(stage, OpensModels) else {}
    found = {task: _of_model(task, name) for task, name in models.items()}
    if not isinstance(stage, OpensModels):
        named = ((role, task, getattr(stage, role, "")) for role, task in _ROLES.items())
        found = {role: _of_model(task, name) for role, task, name in named if isinstance(name, str)}
    if isinstance(stage, ReadsFiles):
        found |= {f"file {number}": _of_place(path) for number, path in enumerate(stage.files())}
    return {name: value for name, value in found.items() if value}


def forget() -> None:
    """Look at the disk again: within a run keys stay as they are, the next one sees what has changed."""
    _of_place.cache_clear()
    _of_model.cache_clear()


@lru_cache(maxsize=256)
def _of_model(task: Task | None, name: str) -> str:
    """Revision of a catalogue's model, and a hash of its weights where they are embedded or lie in a place of the user's; else ""."""
    if name.startswith(RECORDED):
        return _of_place(Path(name.removeprefix(RECORDED)))
    entry = _entry(task, name)
    if entry is None:
        return ""
    if entry.source != _EMBEDDED:
        return entry.revision or (_of_place(Path(entry.source)) if entry.source else "")
    weights = _PACKAGE / "puppets" / "weights"
    if entry.task == _GENERATES:
        return _of_place(weights)
    return _of_place(weights, ("shared", "identity.safetensors"))


def _entry(task: Task | None, name: str) -> Entry | None:
    if task is None:
        bare = name.partition("@")[0]
        task = next((entry.task for entry in CATALOGUE if entry.name == bare), None)
    try:
        return entry_for(task, name) if task and name else None
    except ValueError:  # opening the stage says it
        return None


@lru_cache(maxsize=256)
def _of_place(place: Path, parts: tuple[str, ...] = ("",)) -> str:
    """Hash of a file's bytes, or of names and bytes of the files in a folder (or in these parts of it); "" where there is nothing."""
    total, empty = hashlib.sha256(), True
    for part in parts:
        for path in _files(place / part):
            empty = False
            total.update(path.relative_to(place).as_posix().encode("utf-8", "surrogateescape") + b"\0")
            total.update(_of_file(path))
    return "" if empty else total.hexdigest()[:16]


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    elif place.is_dir():
        yield from sorted(p for p in place.rglob("*") if p.is_file() and p.name not in _FOR_READERS)


def _of_file(path: Path) -> bytes:
    with path.open("rb") as file:
        size = path.stat().st_size
        if size <= _PIECES * _PIECE:
            return hashlib.file_digest(file, "sha256").digest()
        pieces = hashlib.sha256(str(size).encode())
        for number in range(_PIECES):
            file.seek((size - _PIECE) * number // (_PIECES - 1))
            pieces.update(file.read(_PIECE))
        return pieces.digest()
