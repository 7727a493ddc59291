"""Files of torch.save, looked into without running what is in them or reading a tensor before it is wanted.

torch.load(mmap=True) would do for files smaller than the machine's memory; it maps a file copy-on-write, which Linux refuses for larger
ones. Here only the structure is loaded (weights_only, tensors on the meta device), and tensors are read from where they lie. Several
files may be the pieces of one.
"""

import io
import pickle
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: byte `start` of the joined files."""

    files: tuple[Path, ...]
    start: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def rows(self, index: int, of: int) -> "Place":
        """The `index`-th of `of` equal parts of dimension 0."""
        length = self.shape[0] // of
        start = self.start + index * length * self.stride[0] * self.dtype.itemsize
        return Place(self.files, start, (length, *self.shape[1:]), self.stride, self.dtype)

    def read(self) -> Tensor:
        """Its values; nothing else of the file is read. Raises ValueError where the file ends before they do."""
        extent = 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.stride, strict=True))
        content = torch.empty(extent * self.dtype.itemsize, dtype=torch.uint8)
        with _join(self.files) as file:
            file.seek(self.start)
            length = file.readinto(content.numpy().data)
        if length != content.numel():
            raise ValueError(
                f"{self.files[-1]} ends before its last tensor; finish the download or do it again"
            )
        return content.view(self.dtype).as_strided(self.shape, self.stride)


def find_tensors(files: tuple[Path, ...], prefix: str) -> dict[str, Place]:
    """Where the tensors whose names begin with `prefix` lie in files that are one when joined, under the rest of their names.

    They are in the table that was saved, or in its "module". Raises ValueError for anything else than a whole file of torch.save,
    for objects whose making could run code, and for tensors that are quantised or have no values.
    """
    content, sizes = _load_structure(files)
    module = content.get("module", content) if isinstance(content, dict) else None
    if not isinstance(module, dict):
        raise ValueError(f"{files[0]} holds no table of tensors; give the model states of a SAT checkpoint")
    found = {}
    for name, value in module.items():
        if not (isinstance(name, str) and name.startswith(prefix)):
            continue
        if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{files[0]} holds {name} as {kind}; use the release's float32 or bfloat16 file")
        storage = value.untyped_storage()
        # PyTorch counts where a storage begins by the rules of torch.save, so it is compared with what the archive says.
        # None: the tensor was saved from the meta device.
        offset = getattr(storage, "_checkpoint_offset", None)
        if offset is None or sizes.get(offset) != storage.nbytes():
            raise ValueError(
                f"{files[0]} does not hold {name} as torch.save writes tensors; download it again, or load it and save it anew"
            )
        start = offset + value.storage_offset() * value.dtype.itemsize
        found[name.removeprefix(prefix)] = Place(
            files, start, tuple(value.shape), value.stride(), value.dtype
        )
    return found


def _load_structure(files: tuple[Path, ...]) -> tuple[Any, dict[int, int]]:
    """What torch.save was given, with tensors on the meta device that know where their values lie; sizes of the archive's members
    by where these begin, in bytes.

    Raises ValueError for anything else than a whole file of torch.save, and for objects whose making could run code.
    """
    path = files[0]
    try:
        with _join(files) as file:
            sizes = _members(file)
            file.seek(0)
            with torch.serialization.safe_globals(_harmless()):
                return torch.load(file, map_location="meta", weights_only=True), sizes
    except _UNREADABLE as error:
        raise ValueError(f"{path} {_complaint(error)}") from error


_UNREADABLE = (
    *(OSError, RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError),
    *(BadZipFile, pickle.UnpicklingError, struct.error),
)
"""What files that are none of torch.save's, or damaged, raise while their structure is read."""


def _complaint(error: Exception) -> str:
    if isinstance(error, BadZipFile):
        return (
            "is not a whole PyTorch file; finish the download, and give the folder if it is cut into pieces"
        )
    refused = re.search(r"GLOBAL ([\w.]+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and refused:
        return (
            f"holds {refused[1]} beside its tensors, which could run code when loaded and is refused; "
            "where you trust the file, save its 'module' alone"
        )
    reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
    return f"cannot be read as a PyTorch file ({reason}); download it again"


def _members(file: Any) -> dict[int, int]:
    """First byte -> size of every member that is stored as it is (torch.save compresses none)."""
    sizes = {}
    with ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.compress_type == ZIP_STORED:
                # Of a header of 30 bytes, the last: the lengths of the name and of the extra field, which follow it.
                file.seek(entry.header_offset + 26)
                start = entry.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
                sizes[start] = entry.file_size
    return sizes


def _harmless() -> list[Any]:
    """Types beside tensors that SAT saves: the states of NumPy's generators. Their making runs nothing of the file's."""
    rebuild: Any = np.empty(0).__reduce__()[0]
    older = (rebuild, "numpy.core.multiarray._reconstruct")  # as NumPy 1 named it
    return [rebuild, older, np.ndarray, np.dtype, np.dtypes.UInt32DType]


class _Joined(io.RawIOBase):
    """Files as one, end to end, for reading."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files: list[BinaryIO] = []  # closed also where one of them cannot be opened
        for path in files:
            self._files.append(path.open("rb"))
        self._sizes = [path.stat().st_size for path in files]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: sum(self._sizes)}[whence]
        if start + offset < 0:
            raise OSError("there is nothing before the start of a file")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        position = self._position
        for file, size in zip(self._files, self._sizes, strict=True):
            if position < size:
                file.seek(position)
                length = cast("Any", file).readinto(memoryview(buffer)[: size - position])
                self._position += length
                return length
            position -= size
        return 0

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()


@contextmanager
def _join(files: Sequence[Path]) -> Iterator[Any]:
    with _Joined(files) as raw, io.BufferedReader(raw) as file:
        yield file
