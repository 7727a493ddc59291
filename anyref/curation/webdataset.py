"""Export a curated set as WebDataset tars with an index of offsets, and read one back, in order or any sample by itself.

A sample is the files `KEY.mp4`, `KEY.json` (its row of the manifest, and which file each picture is) and `KEY.ref-NNN.png`, side by side, as
WebDataset's readers expect. Shards are written one after another, whole or not at all; an export that was interrupted goes on.
"""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any, NamedTuple

from anyref.curation import records as rows
from anyref.curation.assemble import MANIFEST, referenced_blobs
from anyref.curation.dataset import CuratedSet
from anyref.curation.store import Store

_KEY = re.compile(r"[A-Za-z0-9_-]{1,100}")
_MEMBER_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}(\.[A-Za-z0-9_-]+)+")


class Member(NamedTuple):
    """A file in a shard: its suffix ("mp4", "json", "ref-000.png") and where its bytes are."""

    key: str
    suffix: str
    offset: int
    size: int


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    shards: tuple[str, ...]
    samples: int
    index: str


def key_of(sample_id: str) -> str:
    """A name of letters, digits, "-" and "_" for a sample; its own id where that is one. A dot would end the key, a slash make a folder."""
    if _KEY.fullmatch(sample_id):
        return sample_id
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", sample_id)[:80]
    return f"{plain}-{hashlib.sha256(sample_id.encode()).hexdigest()[:12]}"


def export(
    curated: CuratedSet,
    output: Store,
    shard_bytes: int = 256_000_000,
    show: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write the set's split as SPLIT-NNNNNN.tar, each with a .json index, and one SPLIT-index.parquet over all.

    A shard is closed by the sample that takes it to `shard_bytes` or over; the same set gives the same bytes. `show` is told how many samples
    of how many are done. Raises ValueError where `output` holds the shards of another set, or of other settings.
    """
    if shard_bytes < 1:
        raise ValueError(f"shards of {shard_bytes} bytes were asked for; ask for at least 1")
    made_of = {"manifest": _sha256(curated.store.read(MANIFEST)), "shard_bytes": shard_bytes}
    shards: list[str] = []
    done = 0
    while done < len(curated):
        name = f"{curated.split}-{len(shards):06d}"
        if output.exists(f"{name}.json"):
            record = json.loads(output.read(f"{name}.json"))
            if record["made_of"] != made_of:
                raise ValueError(
                    f"{output.root} holds shards of another set or other settings; export to another folder or delete them"
                )
        else:
            record = _write_shard(curated, output, name, done, made_of)
        shards.append(name)
        done += record["samples"]
        if show is not None:
            show(done, len(curated))
    _write_index(output, curated.split, shards)
    return Exported(tuple(f"{name}.tar" for name in shards), done, f"{curated.split}-index.parquet")


def _write_shard(
    curated: CuratedSet, output: Store, name: str, first: int, made_of: dict[str, Any]
) -> dict[str, Any]:
    data = io.BytesIO()
    members: list[Member] = []
    number = first
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        while number < len(curated) and data.tell() < made_of["shard_bytes"]:
            for suffix, content in _files(curated, number):
                key = key_of(curated.row(number).sample_id)
                info = tarfile.TarInfo(f"{key}.{suffix}")  # time 0, nobody's: equal sets give equal bytes
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
                blocks = -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                members.append(Member(key, suffix, data.tell() - blocks, len(content)))
            number += 1
    output.write(f"{name}.tar", data.getvalue())
    record = {
        "made_of": made_of,
        "samples": number - first,
        "sha256": _sha256(data.getvalue()),
        "members": [list(member) for member in members],
    }
    output.write(f"{name}.json", json.dumps(record).encode())
    return record


def _files(curated: CuratedSet, number: int) -> Iterator[tuple[str, bytes]]:
    """The files of a sample: clip, pictures, and the row that says which picture is which."""
    row = curated.row(number)
    names: dict[str, str] = {}
    for uri in referenced_blobs(row):
        suffix = uri.rpartition(".")[2]
        names[uri] = suffix if uri == row.clip.uri else f"ref-{len(names):03d}.{suffix}"
        yield names[uri], curated.store.read(uri)
    record = {"sample": rows.to_json(row), "files": names}
    yield "json", json.dumps(record, sort_keys=True).encode()


def _write_index(output: Store, split: str, shards: list[str]) -> None:
    import pyarrow
    from pyarrow import parquet

    columns: dict[str, list[Any]] = {name: [] for name in ("shard", *Member._fields)}
    for name in shards:
        for member in json.loads(output.read(f"{name}.json"))["members"]:
            columns["shard"].append(f"{name}.tar")
            for field, value in zip(Member._fields, member, strict=True):
                columns[field].append(value)
    data = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), data, compression="zstd")
    output.write(f"{split}-index.parquet", data.getvalue())


class Shards:
    """An exported split; any sample by its number, with one ranged read for each of its files."""

    def __init__(self, store: Store, split: str = "train") -> None:
        from pyarrow import parquet

        name = f"{split}-index.parquet"
        if not store.exists(name):
            raise FileNotFoundError(f"there is no {name} in {store.root}; name the folder of an export")
        with store.open(name) as file:
            self._rows = parquet.read_table(file).to_pylist()
        self.store = store

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Keys of the samples, in their order."""
        return tuple(dict.fromkeys(row["key"] for row in self._rows))

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def _by_key(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self._rows:
            found.setdefault(row["key"], []).append(row)
        return found

    def files(self, number: int) -> dict[str, bytes]:
        """Suffix to bytes."""
        found = {}
        for row in self._by_key[self.keys[number]]:
            with self.store.open(row["shard"]) as file:
                file.seek(row["offset"])
                found[row["suffix"]] = file.read(row["size"])
        return found


def read_tar(file: IO[bytes]) -> Iterator[dict[str, bytes]]:
    """The samples of a shard, ours or another's, in order: suffix to bytes, and "__key__".

    Nothing is unpacked onto a disk. Raises ValueError for a member that is no plain file, that says it is larger than the shard (or has holes
    that a few bytes stand for), or whose name could lead anywhere.
    """
    sample: dict[str, bytes] = {}
    size = _size(file)
    try:
        with tarfile.open(fileobj=file, mode="r|") as tar:
            for member in tar:
                if not member.isreg() or member.issparse() or not _MEMBER_NAME.fullmatch(member.name):
                    raise ValueError(
                        f"the shard holds {member.name[:100]!r}, which is no plain file of a sample; export it again"
                    )
                if size is not None and member.offset_data + member.size > size:
                    raise ValueError(
                        f"the shard holds {member.name[:100]!r} of {member.size} bytes and has {size} itself; export it again"
                    )
                key, _, suffix = member.name.partition(".")
                if sample and sample["__key__"].decode() != key:
                    yield sample
                    sample = {}
                content = tar.extractfile(member)
                assert content is not None
                sample |= {"__key__": key.encode(), suffix: content.read()}
    except tarfile.TarError as error:
        raise ValueError(f"the shard cannot be read ({error}); export it again") from error
    if sample:
        yield sample


def _size(file: IO[bytes]) -> int | None:
    """Bytes from here to the end; None of a stream, whose members end where it does."""
    if not file.seekable():
        return None
    here = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(here)
    return end - here


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
