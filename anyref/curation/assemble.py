"""S12: cut the clips that are kept, split them by film and identity, and write the set that training reads: a Parquet manifest and blobs.

`CutClips` and `SplitSets` are the last stages; `write_manifest` writes what they leave. The same records give the same bytes.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from anyref.curation import records as rows
from anyref.curation.stage import Outcome, Record, Resources
from anyref.curation.store import Store

MANIFEST = "manifest.parquet"
SPLITS = ("train", "validation", "test")
_ROWS_PER_GROUP = 512
_DECODING = Resources(isolated=True, memory_gib=8.0)
"""Ten seconds of 120 frames at short side 480 take 2.9 GB, twice 1.5 GB: as `cut` gives them, and as `media.write_video` evens their sides.
Longer clips than these need more; one that does is set aside with a sentence."""


@dataclass(frozen=True)
class CutClips:
    """Writes each clip that is kept as an MP4 of its own: black bars cut off, scaled down, a constant frame rate."""

    short_side: int = 480
    """Clips are scaled down to this, never up."""
    crf: int = 14
    """x264's quality, lower is better."""
    resources: Resources = _DECODING
    name: ClassVar[str] = "cut"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"source", "clip", "drop"})
    writes: ClassVar[frozenset[str]] = frozenset({"clip"})

    def __post_init__(self) -> None:
        if self.short_side < 16 or not 0 <= self.crf <= 51:
            raise ValueError(
                f"clips of short side {self.short_side} at crf {self.crf} cannot be written; give 16 or more, and a crf of 0 to 51"
            )

    def open(self) -> "_Cutter":
        """Nothing to load."""
        return _Cutter(self)


@dataclass(frozen=True)
class _Cutter:
    stage: CutClips

    def __call__(self, record: Record, store: Store) -> Outcome:
        from anyref import media

        if record.get("drop"):
            return Outcome.ok(record)
        source = rows.from_json(rows.Source, record["source"])
        clip = rows.from_json(rows.Clip, record["clip"])
        with store.film(source.uri) as path, TemporaryDirectory(prefix="anyref-") as folder:
            frames_FYX3 = cut(path, source, clip, self.stage.short_side)
            written = Path(folder) / "clip.mp4"
            media.write_video(frames_FYX3, written, fps=constant_fps(source.fps), crf=self.stage.crf)
            data = written.read_bytes()
        made = replace(clip, uri=store.put(data, ".mp4"), sha256=hashlib.sha256(data).hexdigest())
        return Outcome.ok(record.with_values({"clip": rows.to_json(made)}))


def constant_fps(fps: float) -> float:
    """The frame rate that a clip is written at: the film's, within what players take."""
    return min(max(fps, 1.0), 120.0)


def cut(path: Path, source: rows.Source, clip: rows.Clip, short_side: int) -> NDArray[np.uint8]:
    """A clip's frames [F, Y, X, 3], cropped, sides even and the shorter at most `short_side`.

    Where the film's frame rate varies, frames are taken at equal times. Only what is given is held, besides two frames of the film.
    """
    from PIL import Image

    from anyref import footage

    top, left, bottom, right = (round(side) for side in clip.crop)
    height, width = kept_size(bottom - top, right - left, short_side)
    start = footage.Start(clip.start_frame, clip.start_pts)
    frames = footage.frames(path, first=clip.start_frame, last=clip.end_frame, start=start)
    pictures_FYX3 = np.empty((cut_length(source, clip), height, width, 3), np.uint8)
    wanted = np.arange(len(pictures_FYX3)) / constant_fps(source.fps) if _resampled(source) else None

    def shown(frame: footage.Frame) -> NDArray[np.uint8]:
        picture = frame.image_YX3[top:bottom, left:right]
        if picture.shape[:2] == (height, width):
            return picture
        return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))

    done, began, last = 0, None, None
    for frame in frames:
        if wanted is None:
            pictures_FYX3[done] = shown(frame)
            done += 1
            continue
        began = frame.time_s if began is None else began
        if last is not None:  # what is asked for before the middle between two frames shows the first of them
            middle = ((frame.time_s - began) + (last.time_s - began)) / 2
            until = int(np.searchsorted(wanted, middle))
            if until > done:
                pictures_FYX3[done:until] = shown(last)
                done = until
        last = frame
    if last is not None and done < len(pictures_FYX3):
        pictures_FYX3[done:] = shown(last)
        done = len(pictures_FYX3)
    return pictures_FYX3[:done]


def cut_length(source: rows.Source, clip: rows.Clip) -> int:
    """How many frames the clip's MP4 has: those of the film, or as many as fill its time where the film's frame rate varies."""
    if not _resampled(source):
        return clip.num_frames
    return int((clip.end_s - clip.start_s) * constant_fps(source.fps)) + 1


def _resampled(source: rows.Source) -> bool:
    return source.variable_frame_rate or constant_fps(source.fps) != source.fps


def kept_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """(height, width) of a cropped picture as it is kept: scaled down to `short_side`, both even."""
    scale = min(1.0, short_side / min(height, width))
    return 2 * max(1, round(height * scale / 2)), 2 * max(1, round(width * scale / 2))


@dataclass(frozen=True)
class SplitSets:
    """Says which set each clip belongs to. Clips of one film, of one group of films, or with somebody in common stay together."""

    validation_share: float = 0.05
    test_share: float = 0.05
    """Shares of clips; a little more or less, since groups stay whole."""
    seed: int = 0
    name: ClassVar[str] = "split"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"source", "faces", "objects", "drop"})
    writes: ClassVar[frozenset[str]] = frozenset({"split"})

    def __post_init__(self) -> None:
        shares = self.validation_share, self.test_share
        if min(shares) < 0 or sum(shares) >= 1:
            raise ValueError(
                f"validation and test shares are {shares}; give shares of 0 or more that leave some for training"
            )

    def gather(self, records: Sequence[Record], store: Store) -> list[Outcome]:  # noqa: ARG002 - a Gathering's signature
        """One outcome per record: its split set, None for what is dropped."""
        kept = [record for record in records if not record.get("drop")]
        splits = split_groups([_ties(record) for record in kept], self)
        split_of = {record.id: split for record, split in zip(kept, splits, strict=True)}
        return [Outcome.ok(record.with_values({"split": split_of.get(record.id)})) for record in records]


def split_groups(ties: Sequence[frozenset[str]], stage: SplitSets) -> list[str]:
    """The split of each clip, given what ties it to others. A pure function of the ties and the settings.

    Groups come in the order of their hash, so that a set that grows moves few clips: first validation is filled, then test, the rest is for
    training. A group larger than what is still missing goes on to training; where a share would stay empty, the smallest group fills it.
    """
    groups: dict[int, list[int]] = {}
    for number, root in enumerate(connected(ties)):
        groups.setdefault(root, []).append(number)
    members = sorted(groups.values(), key=lambda group: _hash(stage.seed, min(min(ties[i]) for i in group)))
    splits = ["train"] * len(ties)
    # Of few groups, one is left for each split that comes after.
    for split, share, after in (
        ("validation", stage.validation_share, 1 + (stage.test_share > 0)),
        ("test", stage.test_share, 1),
    ):
        missing = round(share * len(ties))
        chosen: list[list[int]] = []
        for group in members:
            if len(group) <= missing and len(members) - len(chosen) > after:
                chosen.append(group)
                missing -= len(group)
        if not chosen and share > 0 and len(members) > 1:
            chosen = [min(members, key=len)]
        for group in chosen:
            for number in group:
                splits[number] = split
        members = [group for group in members if group not in chosen]
    return splits


def connected(ties: Sequence[frozenset[str]]) -> list[int]:
    """The number of each one's component, where two are connected that share a tie: that of its first member."""
    parent = list(range(len(ties)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    first: dict[str, int] = {}
    for number, tied in enumerate(ties):
        for tie in sorted(tied):
            one, other = sorted((root(first.setdefault(tie, number)), root(number)))
            parent[other] = one
    return [root(number) for number in range(len(ties))]


def sample_of(record: Record) -> rows.Sample:
    """A clip's record as a row of the manifest; values that the schema does not name stay behind.

    Raises ValueError where a value is missing that every row has.
    """
    known = [one.name for one in fields(rows.Sample)]
    values: dict[str, Any] = {name: record.get(name) for name in known if record.get(name) is not None}
    values |= {"schema_version": rows.SCHEMA_VERSION, "sample_id": record.id}
    values.setdefault("scores", {})
    return rows.from_json(rows.Sample, values)


def write_manifest(store: Store, samples: Sequence[rows.Sample], name: str = MANIFEST) -> str:
    """Write rows, sorted by id, as Parquet; returns the SHA-256 of the file. Equal rows give equal bytes."""
    import pyarrow
    from pyarrow import parquet

    ordered = sorted(samples, key=lambda sample: sample.sample_id)
    schema = rows.parquet_schema().with_metadata({"anyref_schema": str(rows.SCHEMA_VERSION)})
    data = io.BytesIO()
    with parquet.ParquetWriter(data, schema, compression="zstd") as writer:
        for start in range(0, len(ordered), _ROWS_PER_GROUP):
            part = [rows.to_row(sample) for sample in ordered[start : start + _ROWS_PER_GROUP]]
            writer.write_table(pyarrow.Table.from_pylist(part, schema))
    store.write(name, data.getvalue())
    return hashlib.sha256(data.getvalue()).hexdigest()


def read_manifest(store: Store, name: str = MANIFEST) -> Iterator[rows.Sample]:
    """The rows of a manifest. Raises FileNotFoundError where there is none, ValueError where it is not one of ours."""
    for row in manifest_table(store, name).to_pylist():
        yield rows.from_row(row)


def manifest_table(store: Store, name: str = MANIFEST) -> Any:
    """The manifest as a pyarrow table. Raises as `read_manifest`."""
    import pyarrow
    from pyarrow import parquet

    if not store.exists(name):
        raise FileNotFoundError(f"there is no {name} in {store.root}; name the folder that curate wrote")
    try:
        with store.open(name) as file:
            table = parquet.read_table(file)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{store.root}/{name} cannot be read ({error}); curate again") from error
    version = (table.schema.metadata or {}).get(b"anyref_schema", b"").decode()
    if version != str(rows.SCHEMA_VERSION):
        raise ValueError(
            f"{store.root}/{name} has schema {version or 'none'} and this version reads {rows.SCHEMA_VERSION}; curate again"
        )
    return table


def referenced_blobs(sample: rows.Sample) -> list[str]:
    """Every blob that a row names, sorted."""
    return sorted(set(_uris(rows.to_json({"clip": sample.clip, "rest": _without_source(sample)}))))


def _without_source(sample: rows.Sample) -> dict[str, Any]:
    return {"faces": sample.faces, "objects": sample.objects, "background": sample.background}


def _uris(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inside in value.items():
            if name.endswith("uri") and isinstance(inside, str):
                yield inside
            else:
                yield from _uris(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _uris(inside)


def _ties(record: Record) -> frozenset[str]:
    source = record["source"]
    found = {f"film {source['sha256']}", f"group {source['group_id']}"}
    for one in (*(record.get("faces") or ()), *(record.get("objects") or ())):
        if one.get("global_identity_id"):
            found.add(f"identity {one['global_identity_id']}")
    return frozenset(found)


def _hash(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()
