"""What is in puppet films and what a curation found in them, side by side: the two inputs of `anyref.curation.truth`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anyref.curation import ledger
from anyref.curation import records as rows
from anyref.curation.assemble import read_manifest
from anyref.curation.store import Store


@dataclass(frozen=True)
class FoundClip:
    """A clip that was cut out of a film. `drop`: why it is not in the set, None where it is; then there is its row."""

    start_frame: int
    end_frame: int
    crop: rows.Rectangle
    drop: str | None
    sample: rows.Sample | None
    """None where it was dropped before anything was found in it."""


@dataclass(frozen=True)
class FoundFilm:
    """What became of a film: ok, dropped, failed or quarantined; `cuts` are first frames of shots, without 0."""

    name: str
    status: str
    reason: str
    cuts: tuple[int, ...]
    clips: tuple[FoundClip, ...]


class Shot(NamedTuple):
    """A shot of a film that repeats no other, and its defect."""

    film: str
    number: int
    defect: str | None


class Whose(NamedTuple):
    """A true identity (None: nobody) and how well its mask fits."""

    identity: str | None
    overlap: float


def read_found(store: Store) -> list[FoundFilm]:
    """What a finished curation of `store.films` found: from its ledger, `losses.jsonl` and manifest.

    Raises FileNotFoundError where one of them is missing, ValueError where a film was cut in several ways, by other settings.
    """
    from anyref.curation.stages.probe import film_records

    if not store.exists("losses.jsonl"):
        raise FileNotFoundError(f"there is no losses.jsonl in {store.root}; let `anyref curate` finish")
    lost = [json.loads(line) for line in store.read("losses.jsonl").decode().splitlines()]
    losses = {one["record"]: one for one in lost}
    samples = {sample.sample_id: sample for sample in read_manifest(store)}
    cuts, clips, quality = (_values_set(store, stage) for stage in ("shots", "clips", "quality"))
    found = []
    for film in film_records(store):
        loss = losses.get(film.id, {"status": "ok", "reason": ""})
        merged: list[int] = next((one["cuts"]["merged"] for one in cuts.get(film.id, {}).values()), [])
        made = []
        for name, change in sorted(clips.get(film.id, {}).items()):
            crop = quality.get(name, {}).get(name, {}).get("clip.crop") or change["clip"]["crop"]
            sample = samples.get(name)
            drop = losses[name]["reason"] if name in losses else sample.drop if sample else "unfinished"
            frames = change["clip"]["start_frame"], change["clip"]["end_frame"]
            made.append(FoundClip(*frames, rows.Rectangle(*crop), drop, sample))
        found.append(FoundFilm(film["uri"], loss["status"], loss["reason"], tuple(merged), tuple(made)))
    return found


def _values_set(store: Store, stage: str) -> dict[str, dict[str, Any]]:
    """Record to what a stage made of it: id of each resulting record to the values set."""
    found: dict[str, dict[str, Any]] = {}
    for key, entry in ledger.entries(store, stage).items():
        made = {change["id"]: change["set"] for change in entry.changes}
        if found.setdefault(key.record_id, made) != made:
            raise ValueError(
                f"{store.root} holds several results of stage {stage} for {key.record_id}; curate into a new folder to score it"
            )
    return found


class TrueFilms:
    """The truth beside films, masks read when they are asked for. Raises FileNotFoundError for a folder without films of ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("film-*.json"))]
        self.films: dict[str, dict[str, Any]] = {film["film"]: film for film in found}
        if not self.films:
            raise FileNotFoundError(
                f"there is no truth of films in {folder}; name the folder that `anyref puppets films` wrote"
            )
        self._masks = lru_cache(maxsize=4)(self._read_masks)

    @property
    def names(self) -> tuple[str, ...]:
        """The films' file names, sorted."""
        return tuple(self.films)

    def shots(self) -> Iterator[tuple[Shot, tuple[Shot, ...]]]:
        """Every shot of the films that are whole and no duplicates, each with its repetitions in duplicates."""
        copies: dict[str, list[str]] = {}
        for name, film in self.films.items():
            if film["duplicate_of"] is not None:
                copies.setdefault(film["duplicate_of"], []).append(name)
        for name, film in self.films.items():
            if film["damage"] is None and film["duplicate_of"] is None:
                for number, shot in enumerate(film["shots"]):
                    twins = (Shot(copy, number, shot["defect"]) for copy in copies.get(name, ()))
                    yield Shot(name, number, shot["defect"]), tuple(twins)

    def shot_at(self, film: str, clip: FoundClip) -> int:
        """The shot that a clip shows most of."""
        shots = self.films[film]["shots"]
        common = [min(clip.end_frame, shot["last"]) - max(clip.start_frame, shot["first"]) for shot in shots]
        return int(np.argmax(common))

    def original(self, film: str, shot: int) -> tuple[str, int]:
        """The shot that this one is or repeats."""
        return self.films[film]["duplicate_of"] or film, shot

    def whose(self, film: str, frame: int, object_mask_YX: NDArray[np.bool_]) -> Whose:
        """The subject whose mask in a frame fits an object's best (intersection over union)."""
        best = Whose(None, 0.0)
        for identity, _, mask_YX in self._at(film, frame):
            both = int((mask_YX & object_mask_YX).sum())
            overlap = both / max(1, int((mask_YX | object_mask_YX).sum()))
            if overlap > best.overlap:
                best = Whose(identity, overlap)
        return best

    def person_at(self, film: str, frame: int, box: rows.Rectangle) -> str | None:
        """The person who fills most of a box, None where it shows none."""
        top, left, bottom, right = (max(0, round(side)) for side in box)
        shares = [
            (int(mask_YX[top:bottom, left:right].sum()), identity)
            for identity, kind, mask_YX in self._at(film, frame)
            if kind == "person"
        ]
        most, identity = max(shares, default=(0, ""))
        return identity if most else None

    def _at(self, film: str, frame: int) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
        """Identity, kind and mask of everybody in a frame."""
        for number, shot in enumerate(self.films[film]["shots"]):
            if shot["first"] <= frame < shot["last"]:
                for index, subject in enumerate(shot["subjects"]):
                    mask_FYX = self._masks(film)[number, index]
                    yield subject["identity"], subject["kind"], mask_FYX[frame - shot["first"]]

    def _read_masks(self, film: str) -> dict[tuple[int, int], NDArray[np.bool_]]:
        from anyref.worlds.films import read_masks

        return read_masks(self.folder / film, self.films[film])
