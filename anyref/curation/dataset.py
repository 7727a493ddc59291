"""A curated set as training reads it: clips of one shape, each subject with one reference drawn by seed; nothing is loaded before it is asked for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyref import footage
from anyref.curation import draws
from anyref.curation import records as rows
from anyref.curation.assemble import MANIFEST, constant_fps, cut_length, manifest_table
from anyref.curation.buckets import bucket_of
from anyref.curation.clips import read_picture
from anyref.curation.draws import Realised, VariantSampling
from anyref.curation.fitting import Shape, Window, covering, fit_mask, fit_pictures, frame_numbers
from anyref.curation.store import Store
from anyref.curation.subjects import Candidate, candidates, mask_in, unique_phrase
from anyref.samples import ReferenceVariant, Sample, Subject

_LOOKED_AT = 1000
"""Rows from which the draw of cross-pairs is set."""


class CuratedSet:
    """The kept rows of one split of a manifest, in the order of their ids. `address` is the folder, or fsspec place, that curate wrote.

    `row(number)` gives one of them, `clips` how large and long each is.
    Raises FileNotFoundError where there is no manifest, ValueError where the split has no row.
    """

    def __init__(self, address: str, split: str = "train") -> None:
        self.store = Store(str(address))
        self.split = split
        table = manifest_table(self.store)
        splits, drops = (table[name].to_pylist() for name in ("split", "drop"))
        kept = [number for number, drop in enumerate(drops) if drop is None and splits[number] == split]
        if not kept:
            found = ", ".join(sorted({str(one) for one in splits})) or "none"
            raise ValueError(
                f"{address}/{MANIFEST} has no kept clip in {split!r} (its splits: {found}); curate more films"
            )
        self._table = table.take(kept)
        self.row = lru_cache(maxsize=4096)(self._read)
        self.clips = tuple(map(_clip_size, self._table.select(["clip", "source"]).to_pylist()))

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def _read(self, number: int) -> rows.Sample:
        return rows.from_row(self._table.slice(number, 1).to_pylist()[0])


@dataclass(frozen=True)
class ClipSize:
    """A clip as it was cut: black bars off."""

    height: float
    width: float
    num_frames: int
    fps: float


class CuratedSource:
    """`Source` of `anyref.training.data` over a curated set: `clip(index)` is a pure function of its settings and the index.

    The set is gone through again and again, in another order each time, and drawn anew. Clips too short for the shape are left out, and
    with `buckets`, of which the shape is one, those that another bucket shows more of; ValueError where none is left.
    """

    def __init__(
        self,
        curated: CuratedSet,
        shape: Shape,
        sampling: VariantSampling | None = None,
        seed: int = 0,
        buckets: Sequence[Shape] = (),
    ) -> None:
        self.curated, self.shape, self.seed = curated, shape, seed
        self.sampling = sampling or VariantSampling()
        kinds = tuple(buckets) or (shape,)
        self._rows = [
            number
            for number, size in enumerate(curated.clips)
            if bucket_of(size.height, size.width, size.num_frames, size.fps, kinds) == kinds.index(shape)
        ]
        if not self._rows:
            longest = max(size.num_frames / size.fps for size in curated.clips)
            raise ValueError(
                f"no clip of {curated.store.root} ({curated.split}) fills {shape.num_frames} frames at {shape.fps:g} fps; the longest "
                f"lasts {longest:.1f} s, so train on fewer frames or curate longer clips"
            )
        looked_at = self._rows[:: max(1, len(self._rows) // _LOOKED_AT)]
        self._drawing = draws.compensated(
            self.sampling,
            (
                one.variants
                for number in looked_at
                for one in candidates(curated.row(number))
                if one.kind != "background"
            ),
        )

    def __len__(self) -> int:
        """Clips that are long enough: one pass."""
        return len(self._rows)

    def row_of(self, index: int) -> int:
        """The row of the set that `clip(index)` shows."""
        epoch, place = divmod(index, len(self))
        return self._rows[int(_order(self.seed, epoch, len(self))[place])]

    def clip(self, index: int) -> Sample:
        """The sample of this index, always the same."""
        return self.load(self.row_of(index), index, self.shape)

    def load(self, number: int, draw: int, shape: Shape) -> Sample:
        """Row `number` of the set at a shape; `draw` tells several draws of a row apart."""
        row = self.curated.row(number)
        rng = np.random.default_rng((self.seed, draw))
        chosen = list(self._chosen(row, rng))
        film = _read(self.curated, row, shape, float(rng.random()))
        subjects = [
            _subject(self.curated.store, row, candidate, variant, film)
            for candidate, variant in chosen
            if variant is not None
        ]
        text = row.caption.text if row.caption else ""
        return Sample(row.sample_id, film.frames_FYX3, shape.fps, text, tuple(_with_place(subjects)))

    def realised(self, count: int) -> Realised:
        """What the draws of the indices 0 .. count - 1 come to, backgrounds left out; reads the manifest and decodes nothing."""

        def drawn() -> Iterator[tuple[tuple[rows.Variant, ...], rows.Variant | None]]:
            for index in range(count):
                rng = np.random.default_rng((self.seed, index))
                for candidate, variant in self._chosen(self.curated.row(self.row_of(index)), rng):
                    if candidate.kind != "background":
                        yield candidate.variants, variant

        return draws.realised(drawn())

    def _chosen(
        self, row: rows.Sample, rng: np.random.Generator
    ) -> Iterator[tuple[Candidate, rows.Variant | None]]:
        shows_place = rng.random() < self.sampling.background_share
        for candidate in candidates(row):
            variant = draws.draw(candidate.variants, self._drawing, rng)
            if shows_place or candidate.kind != "background":
                yield candidate, variant


def curated_clips(
    address: str,
    sampling: VariantSampling,
    fps: float,
    buckets: Sequence[Shape],
    split: str,
    seed: int,
    *size: int,
) -> CuratedSource:
    """A source with the arguments of `PuppetWorld` after its own: split, seed, height, width, number of frames."""
    height, width, num_frames = size
    shape = Shape(height, width, num_frames, fps)
    return CuratedSource(CuratedSet(address, split), shape, sampling, seed, buckets)


@dataclass(frozen=True)
class _Footage:
    """A clip at training's shape."""

    frames_FYX3: NDArray[np.uint8]
    numbers: tuple[int, ...]
    """Frames of the film that they show."""
    window: Window
    shape: Shape


def _read(curated: CuratedSet, row: rows.Sample, shape: Shape, place: float) -> _Footage:
    if row.clip.uri is None:
        raise ValueError(
            f"the clip of {row.sample_id} was not cut; let curate finish, it goes on where it stopped"
        )
    length = cut_length(row.source, row.clip)
    numbers = frame_numbers(length, constant_fps(row.source.fps), shape, place)
    with curated.store.local(row.clip.uri) as path:
        pictures = footage.frames_at(path, numbers)
    window = covering(pictures[0].shape[0], pictures[0].shape[1], shape)
    # At a varying frame rate the clip's frames are at equal times and the film's are not: in proportion, then.
    scale = row.clip.num_frames / length
    shown = tuple(row.clip.start_frame + int(number * scale) for number in numbers)
    return _Footage(fit_pictures(pictures, window, shape), shown, window, shape)


def _subject(
    store: Store, row: rows.Sample, candidate: Candidate, variant: rows.Variant, film: _Footage
) -> Subject:
    assert row.caption is not None
    image = read_picture(store, variant.uri)
    masks_FYX = np.zeros(film.frames_FYX3.shape[:3], dtype=np.bool_)
    top, left, bottom, right = (round(side) for side in row.clip.crop)
    for frame, where in candidate.masks.items():
        # Where a subject is is known for some frames of the film. The frame shown that is next to it in time takes the mask.
        nearest = int(np.argmin(np.abs(np.asarray(film.numbers) - frame)))
        if film.numbers[0] <= frame <= film.numbers[-1] and not masks_FYX[nearest].any():
            whole_YX = mask_in(where, row.source.height, row.source.width)[top:bottom, left:right]
            masks_FYX[nearest] = fit_mask(whole_YX, film.window, film.shape)
    return Subject(
        identity=candidate.identity,
        kind=candidate.kind,
        label=candidate.label,
        phrase=unique_phrase(row.caption.text, candidate.start, candidate.end),
        masks_FYX=masks_FYX,
        boxes_F4=tight_boxes(masks_FYX),
        references=(ReferenceVariant(image, "cross" if draws.is_cross(variant.kind) else "crop"),),
    )


def tight_boxes(masks_FYX: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Tight box (top, left, bottom, right) of each mask, int32 [F, 4]; zeros where it is empty."""
    boxes_F4 = np.zeros((len(masks_FYX), 4), np.int32)
    for number, mask_YX in enumerate(masks_FYX):
        rows_Y, columns_X = np.flatnonzero(mask_YX.any(1)), np.flatnonzero(mask_YX.any(0))
        if len(rows_Y):
            boxes_F4[number] = rows_Y[0], columns_X[0], rows_Y[-1] + 1, columns_X[-1] + 1
    return boxes_F4


def _with_place(subjects: list[Subject]) -> list[Subject]:
    """The background is wherever no subject is known to be."""
    taken = [one.masks_FYX for one in subjects if one.kind != "background"]
    shown = []
    for one in subjects:
        if one.kind == "background":
            free_FYX = ~np.logical_or.reduce([one.masks_FYX, *taken])
            shown.append(replace(one, masks_FYX=free_FYX, boxes_F4=tight_boxes(free_FYX)))
        else:
            shown.append(one)
    return shown


def _clip_size(columns: Mapping[str, Any]) -> ClipSize:
    clip = rows.from_json(rows.Clip, columns["clip"])
    source = rows.from_json(rows.Source, columns["source"])
    top, left, bottom, right = clip.crop
    return ClipSize(bottom - top, right - left, cut_length(source, clip), constant_fps(source.fps))


@lru_cache(maxsize=8)
def _order(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(length)
