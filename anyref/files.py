"""Files that appear whole or not at all: atomic writing, checks of an output's place, content hashes."""

import hashlib
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path in the folder of `path`; it takes the name `path` when the block ends, and goes when the block fails.

    Folders on the way are made. A reader therefore sees the old file, the new one, or none, never a part. The temporary name keeps the
    suffix, because writers of images and videos choose the format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem[:80]}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class BusyError(ValueError):
    """Another run is at work in a folder."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a second run out of a folder that one writes to. The lock goes with the process, however that ends.

    Raises BusyError where another run is at work. Folders on the way are made.
    """
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BusyError(
                f"another run writes to {folder}; wait for it, or give another output folder"
            ) from error
        yield


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write `record` as indented JSON, atomically. Paths become strings; anything else that JSON cannot hold is our bug."""
    with atomic(path) as partial:
        partial.write_text(json.dumps(record, indent=2, default=_plain) + "\n", encoding="utf-8")


def _plain(value: Any) -> str:
    assert isinstance(value, Path), f"cannot write a {type(value).__name__} as JSON"
    return str(value)


def check_writable(path: Path) -> None:
    """Raise ValueError unless a file of this name can be made, or replaced; its folders need not exist yet.

    It tries, because permission bits do not tell (read-only and virtual file systems, the superuser). Nothing stays behind.
    """
    made: list[Path] = []
    try:
        for folder in reversed(path.parents):
            if not folder.exists():
                folder.mkdir()
                made.append(folder)
        trial = path.with_name(f".{secrets.token_hex(4)}") if path.exists() else path
        trial.touch(exist_ok=False)
        trial.unlink()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot write the output {path} ({reason}); choose another place") from error
    finally:
        for folder in reversed(made):
            folder.rmdir()


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file; of a folder, of the names and hashes of the files in it, hidden ones left out."""
    if path.is_dir():
        inside = sorted(f for f in path.rglob("*") if f.is_file() and not f.name.startswith("."))
        listing = "".join(f"{f.relative_to(path).as_posix()} {sha256(f)}\n" for f in inside)
        return hashlib.sha256(listing.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
