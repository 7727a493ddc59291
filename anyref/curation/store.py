"""Where a curation reads films and writes results: an input and an output place, each a folder or an object store, through fsspec.

Blobs are named by their content (`blobs/ab/<sha256>.png`), so that writing one twice is harmless and nothing is ever overwritten by something
else. Names that come from outside (of films, in archives) never lead out of their place. Names of films are Unicode text everywhere: bytes of a
file's name that are none are written as in addresses (`caf%E9.mov`), and so is a "%" that could be taken for the beginning of such a byte.
"""

import hashlib
import os
import posixpath
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}(\.[a-z0-9]{1,8})?")
_RAW = re.compile(r"[\udc80-\udcff]|%(?=25|[89A-F][0-9A-F])")
_ESCAPED = re.compile(r"%(25|[89A-F][0-9A-F])")
_CHANGED = ("mtime", "LastModified", "last_modified", "updated", "created")
"""What file systems call the time of the last change."""


@dataclass(frozen=True)
class Store:
    """An output place (`root`) and an input place (`films`), both folders or fsspec addresses ("s3://bucket/run", "memory://run")."""

    root: str
    films: str = ""

    def put(self, data: bytes, suffix: str) -> str:
        """Keep bytes under the name of their content, and return the name: "blobs/ab/<sha256>" + suffix (".png")."""
        assert _SUFFIX.fullmatch(suffix), f"suffix {suffix!r}"
        name = hashlib.sha256(data).hexdigest()
        uri = f"blobs/{name[:2]}/{name}{suffix}"
        if not self.exists(uri):
            self.write(uri, data)
        return uri

    def open(self, uri: str) -> IO[bytes]:
        """Open something of the output for reading. Raises FileNotFoundError when it is not there."""
        return self._output.open(self._at(uri), "rb")

    def read(self, uri: str) -> bytes:
        """The bytes of something of the output."""
        with self.open(uri) as file:
            return file.read()

    def write(self, uri: str, data: bytes) -> None:
        """Write a file of the output, whole or not at all: a local one takes its name at the end, an object store commits at once."""
        target = self._at(uri)
        if not self._local:
            with self._output.open(target, "wb") as file:
                file.write(data)
            return
        folder, name = posixpath.split(target)
        self._output.makedirs(folder, exist_ok=True)
        partial = Path(folder) / f".{secrets.token_hex(4)}-{name[-80:]}"
        try:
            partial.write_bytes(data)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def exists(self, uri: str) -> bool:
        """Whether the output holds a file of this name."""
        return bool(self._output.isfile(self._at(uri)))

    def remove(self, uri: str) -> None:
        """Delete a file of the output, if it is there."""
        if self.exists(uri):
            self._output.rm_file(self._at(uri))

    def names(self, folder: str) -> list[str]:
        """Names ("folder/...") of all files below a folder of the output, sorted, hidden ones left out; empty where there is none."""
        return [f"{folder}/{name}" for name in _below(self._output, self._at(folder))]

    def film_names(self) -> list[str]:
        """Names of all files of the input, relative to it, sorted; hidden ones are left out. Raises FileNotFoundError."""
        return list(self.film_files())

    def film_files(self) -> dict[str, dict[str, Any]]:
        """Names of all files of the input, as `film_names`, each with what tells that it was replaced by another.

        That is its `etag`, or else its `bytes` and when it was `modified`; of broken links there is nothing.
        """
        system, root = _place(self.films)
        if not system.exists(root):
            raise FileNotFoundError(f"there is no folder of films {self.films}; check the path")
        if _is_local(system):
            found = {name: _state(Path(root, name)) for name in _below(system, root)}
        else:
            listed = system.find(root, detail=True)
            found = {posixpath.relpath(path, root): _said(info) for path, info in listed.items()}
        return {escape(name): found[name] for name in sorted(found) if not _hidden(name)}

    def check_apart(self) -> None:
        """Raise ValueError where the output lies in the input: what is written would be taken for films by the next run."""
        (system, root), (films_system, films) = self._placed, _place(self.films)
        if _is_local(system):
            root, films = (os.path.realpath(place) for place in (root, films))
        if system == films_system and posixpath.commonpath([root, films]) == films:
            raise ValueError(
                f"the output {self.root} lies in the folder of films {self.films}, where what is written would be read as films; "
                "give an output outside it"
            )

    @contextmanager
    def film(self, name: str) -> Iterator[Path]:
        """A file of the input as a local path: itself where it is local, else a copy that goes when the block ends.

        Raises ValueError where the name, or a link it goes through, leads out of the input.
        """
        system, root = _place(self.films)
        with _as_local(system, _inside(root, unescape(name)), root, _is_local(system)) as path:
            try:
                yield path
            except ValueError as error:  # a reason that is kept names the film, not this machine's copy of it
                raise ValueError(str(error).replace(str(path), name)) from error

    @contextmanager
    def local(self, uri: str) -> Iterator[Path]:
        """A file of the output as a local path, as `film` does for the input."""
        with _as_local(self._output, self._at(uri), self._root, self._local) as path:
            yield path

    def _at(self, uri: str) -> str:
        return _inside(self._root, uri)

    @cached_property
    def _placed(self) -> tuple[Any, str]:
        return _place(self.root)

    @property
    def _output(self) -> Any:
        return self._placed[0]

    @property
    def _root(self) -> str:
        return self._placed[1]

    @property
    def _local(self) -> bool:
        return _is_local(self._output)

    def __reduce__(self) -> tuple[type["Store"], tuple[str, str]]:
        return Store, (self.root, self.films)


def escape(name: str) -> str:
    """A name that may hold undecodable bytes (as Python's surrogates) as text that can be written anywhere."""
    return _RAW.sub(lambda found: f"%{ord(found[0]) & 0xFF:02X}", name)


def unescape(name: str) -> str:
    """The inverse of `escape`."""

    def byte(found: "re.Match[str]") -> str:
        value = int(found[1], 16)
        return chr(value if value < 0x80 else 0xDC00 + value)

    return _ESCAPED.sub(byte, name)


def _state(path: Path) -> dict[str, Any]:
    try:
        found = path.stat()
    except OSError:  # opening it says so
        return {}
    return {"bytes": found.st_size, "modified": found.st_mtime_ns}


def _said(info: dict[str, Any]) -> dict[str, Any]:
    """What an object store says of a file."""
    if etag := info.get("ETag") or info.get("etag"):
        return {"etag": str(etag)}
    changed = next((info[name] for name in _CHANGED if info.get(name) is not None), None)
    return {"bytes": info.get("size"), "modified": None if changed is None else str(changed)}


def _place(address: str) -> tuple[Any, str]:
    import fsspec

    system, root = fsspec.core.url_to_fs(address)
    return system, str(root).rstrip("/") or "/"


def _is_local(system: Any) -> bool:
    protocol = system.protocol
    return "file" in ((protocol,) if isinstance(protocol, str) else protocol)


def _inside(root: str, name: str) -> str:
    parts = name.split("/")
    if not name or name.startswith("/") or ".." in parts or "\0" in name or "\\" in name:
        raise ValueError(
            f"the name {name!r} leads out of its folder; use names below the folder, without '..'"
        )
    return posixpath.join(root, name)


def _below(system: Any, root: str) -> list[str]:
    if not system.exists(root):
        return []
    if _is_local(system):  # links to folders are not followed: they may lead out, or round in circles
        files = (Path(folder, name) for folder, _, names in os.walk(root) for name in names)
        found = (path.relative_to(root).as_posix() for path in files)
    else:
        found = (posixpath.relpath(path, root) for path in system.find(root))
    return sorted(name for name in found if not _hidden(name))


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


@contextmanager
def _as_local(system: Any, path: str, root: str, local: bool) -> Iterator[Path]:
    if local:
        if not Path(path).resolve().is_relative_to(Path(root).resolve()):
            raise ValueError(f"{path} is a link that leads out of {root}; copy the file there instead")
        yield Path(path)
        return
    with TemporaryDirectory(prefix="anyref-") as folder:
        copy = Path(folder) / f"copy{Path(path).suffix}"
        system.get_file(path, str(copy))
        yield copy
