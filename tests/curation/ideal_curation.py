"""A curation of films as it would be if every model were right: records made from the films' truth, for tests of what comes after."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from anyref import footage
from anyref.curation import records as rows
from anyref.curation.clips import put_picture
from anyref.curation.regions import box_of, crop, cut_out
from anyref.curation.stage import Record
from anyref.curation.store import Store
from anyref.runlengths import encode
from anyref.worlds.films import read_masks

FRAMES = (0.1, 0.5, 0.9)
"""Where in a clip objects are looked for."""


def curate_ideally(store: Store, crossclips: bool = True) -> list[Record]:
    """One record per shot without a defect, of every film that is neither damaged nor a duplicate."""
    made: list[Record] = []
    for path in sorted(Path(store.films).glob("*.json")):
        truth = json.loads(path.read_text())
        if truth["damage"] is None and truth["duplicate_of"] is None:
            masks = read_masks(path.with_suffix(".mp4"), truth)
            made += [
                _clip(store, truth, number, masks)
                for number, shot in enumerate(truth["shots"])
                if shot["defect"] is None
            ]
    return [_with_crossclips(record, made) for record in made] if crossclips else made


def source_of(store: Store, truth: dict[str, Any]) -> rows.Source:
    with store.film(truth["film"]) as path:
        found = footage.probe(path)
    return rows.Source(
        uri=truth["film"],
        sha256=truth["sha256"],
        bytes=1,
        licence="unknown",
        group_id=truth["film"],
        codec=found.codec,
        pixel_format=found.pixel_format,
        width=truth["width"],
        height=truth["height"],
        rotation_degrees=0,
        fps=truth["fps"],
        num_frames=truth["num_frames"],
        duration_s=truth["num_frames"] / truth["fps"],
        start_pts=0,
        time_base=(found.time_base.numerator, found.time_base.denominator),
        variable_frame_rate=False,
        color_range="limited",
        has_alpha=False,
        decoder="test",
    )


def _clip(store: Store, truth: dict[str, Any], number: int, masks: dict[tuple[int, int], Any]) -> Record:
    shot = truth["shots"][number]
    source = source_of(store, truth)
    first, last = shot["clear_first"], shot["clear_last"]
    per_frame = source.time_base[1] / source.time_base[0] / source.fps
    clip = rows.Clip(
        start_frame=first,
        end_frame=last,
        start_pts=round(first * per_frame),
        end_pts=round((last - 1) * per_frame),
        start_s=first / source.fps,
        end_s=(last - 1) / source.fps,
        num_frames=last - first,
        shot=number,
        crop=rows.Rectangle(*truth["content_box"]),
    )
    name = f"{Path(truth['film']).stem}-{number}"
    frames = [first + int(place * (last - first)) for place in FRAMES]
    with store.film(truth["film"]) as path:
        pictures = footage.frames_at(path, frames)
    caption = shot["caption"]
    objects = []
    for index, subject in enumerate(shot["subjects"]):
        start = caption.index(subject["phrase"])
        for frame, picture in zip(frames, pictures, strict=True):
            mask = masks[number, index][frame - shot["first"]]
            box = box_of(mask)
            if box is None:
                continue
            object_id = f"o{len(objects):03d}"
            images = {"crop": crop(picture, box, 0.1), "segment": cut_out(picture, mask, box, 0.1)}
            variants = tuple(
                rows.Variant(put_picture(store, image), kind, object_id)  # type: ignore[arg-type]
                for kind, image in images.items()
            )
            objects.append(
                rows.ObjectRow(
                    object_id=object_id,
                    label=subject["phrase"],
                    class_id=subject["label"],
                    kind=subject["kind"],
                    start=start,
                    end=start + len(subject["phrase"]),
                    frame=frame,
                    box=rows.Rectangle(*box),
                    mask=encode(mask),
                    area=float(mask.mean()),
                    score=0.9,
                    scores={},
                    variants=variants,
                    global_identity_id=subject["identity"],
                )
            )
    place = shot["setting"]["phrase"]
    tags = [
        rows.TagRow(
            caption.index(place), caption.index(place) + len(place), place, "background", "place", None
        )
    ]
    values = {
        "source": source,
        "clip": clip,
        "scores": {"blur": rows.Score(100.0, "test", 1)},
        "caption": rows.Caption(caption, "truth", "none", 0, None, "ok"),
        "tags": tags,
        "objects": objects,
        "faces": [],
        "background": rows.Background(
            put_picture(store, np.zeros((16, 16, 3), np.uint8)), first, None, "test"
        ),
        "work": "of a stage; not in the manifest",
    }
    return Record(name, "clip", {key: rows.to_json(value) for key, value in values.items()})


def _with_crossclips(record: Record, others: list[Record]) -> Record:
    """Every object gets the cut-outs of the same identity in other clips."""
    changed = []
    for one in record["objects"]:
        views = [
            {**variant, "kind": "crossclip", "source_id": f"{other.id}-{theirs['object_id']}"}
            for other in others
            if other.id != record.id
            for theirs in other["objects"]
            if theirs["global_identity_id"] == one["global_identity_id"]
            for variant in theirs["variants"]
            if variant["kind"] == "segment"
        ]
        changed.append({**one, "variants": [*one["variants"], *views[:4]]})
    return record.with_values({"objects": changed})
