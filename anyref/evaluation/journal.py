"""The rows of a run as they come: appended one by one, found again after a kill, sorted and cleared of what is out of date at the end.

Only where each row lies in the file is in memory, so that a thousand videos with twenty metrics and all their curves cost little.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from anyref.evaluation.rows import Place, Row, from_line, to_line
from anyref.files import atomic


class Lying(NamedTuple):
    """Where a row lies, and what it answers."""

    place: Place
    video_sha256: str
    case_sha256: str
    key: bytes
    status: str
    offset: int
    length: int

    @property
    def failed(self) -> bool:
        """Then it is asked again."""
        return self.status == "error"


class Journal:
    """rows.jsonl of a run. Rows that no longer answer the question move to superseded.jsonl, and are found there should it be asked again."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "rows.jsonl"
        self.superseded = folder / "superseded.jsonl"
        self._older = _index(self.superseded)
        self._lying = _index(self.path)
        torn = self.path.is_file() and self.path.read_bytes()[-1:] not in {b"", b"\n"}
        self._file: BinaryIO = self.path.open("ab")
        if torn:
            self._file.write(b"\n")  # past a line that a kill cut short

    def close(self) -> None:
        """Close the file; nothing can be appended any more."""
        self._file.close()

    def has(self, row: Row) -> bool:
        """Whether the question of this row has an answer that is no error; one that was superseded is brought back."""
        key = key_digest(row)
        found = self._lying.get(key)
        if found is None and (older := self._older.get(key)) is not None and not older.failed:
            self._append(_line_at(self.superseded, older), older)
            return True
        return found is not None and not found.failed

    def append(self, row: Row) -> None:
        """Write a row; it is there even if the process is killed right after."""
        line = to_line(row).encode() + b"\n"
        self._append(line, _lying(row, 0, len(line)))

    def statuses(self, keys: Iterable[bytes]) -> dict[str, dict[str, int]]:
        """Metric -> status -> how many of the rows with these keys."""
        found: dict[str, Counter[str]] = {}
        for lying in (self._lying[key] for key in keys if key in self._lying):
            found.setdefault(lying.place.metric, Counter())[lying.status] += 1
        return {metric: dict(counts) for metric, counts in found.items()}

    def finish(self, is_current: Callable[[Lying], bool]) -> None:
        """Close, and rewrite the file sorted by case, take and metric, one row a place; what is not current, or was replaced, goes aside."""
        self._file.close()
        current: dict[Place, Lying] = {}
        for lying in self._lying.values():  # of two for one place the later counts
            if is_current(lying):
                current[lying.place] = lying
        chosen = {lying.key for lying in current.values()}
        gone = {key: lying for key, lying in self._lying.items() if key not in chosen and not lying.failed}
        if gone:
            kept = [(self.superseded, lying) for key, lying in self._older.items() if key not in gone]
            _rewrite(self.superseded, [*((self.path, lying) for lying in gone.values()), *kept])
        _rewrite(self.path, [(self.path, lying) for lying in current.values()])

    def _append(self, line: bytes, lying: Lying) -> None:
        self._file.write(line)
        self._file.flush()
        offset = self._file.tell() - len(line)
        self._lying.pop(lying.key, None)
        self._lying[lying.key] = lying._replace(offset=offset, length=len(line))


def _rewrite(path: Path, sources: list[tuple[Path, Lying]]) -> None:
    with atomic(path) as partial, partial.open("wb") as file:
        for source, lying in sorted(sources, key=lambda pair: (pair[1].place, pair[1].key)):
            file.write(_line_at(source, lying))
        file.flush()
        os.fsync(file.fileno())


def _index(path: Path) -> dict[bytes, Lying]:
    found: dict[bytes, Lying] = {}
    if not path.is_file():
        return found
    offset = 0
    with path.open("rb") as file:
        for line in file:
            try:
                lying = _lying(from_line(line.decode("utf-8")), offset, len(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                lying = None
            if lying is not None and line.endswith(b"\n"):
                found.pop(lying.key, None)
                found[lying.key] = lying
            offset += len(line)
    return found


def _lying(row: Row, offset: int, length: int) -> Lying:
    return Lying(row.place, row.video_sha256, row.case_sha256, key_digest(row), row.status, offset, length)


def key_digest(row: Row) -> bytes:
    """SHA-256 of a row's key."""
    return hashlib.sha256(row.key.encode()).digest()


def _line_at(path: Path, lying: Lying) -> bytes:
    with path.open("rb") as file:
        file.seek(lying.offset)
        return file.read(lying.length)
