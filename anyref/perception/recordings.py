"""What real models once said about a video, read from the folders in which OpenS2V-Nexus and ConsisID publish their demos.

One record for both: things with boxes and masks per frame, faces per frame, a caption, what it names, a filled background, drawn variants.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.perception import Box
from anyref.perception.language import Mention
from anyref.runlengths import RunLengths, decode

_PEOPLE = ("person", "man", "woman", "individual", "human")
_WORN = frozenset({"top", "shirt", "dress", "jacket", "glasses", "necklace", "hat"})


@dataclass(frozen=True)
class Thing:
    """Something that was found in a frame."""

    labels: tuple[str, ...]
    """Phrases that it answers to, in lower case."""
    box: Box
    score: float
    mask: str | Path | None
    """COCO's run-length text for a frame of the recording's size, or a file that is not 0 on the thing."""


@dataclass(frozen=True)
class SeenFace:
    """A face that was found in a frame. No vectors were published, but who is who was."""

    track: int
    """The same number for the same person; -1 for a face that was too uncertain to follow (below .65)."""
    box: Box
    score: float
    keypoints_52: NDArray[np.float32] | None


@dataclass(frozen=True)
class Recording:
    """Everything about one video. Frames count from 0, as decoded."""

    folder: Path
    video: Path | None
    height: int
    width: int
    things: Mapping[int, tuple[Thing, ...]] = field(default_factory=dict)
    faces: Mapping[int, tuple[SeenFace, ...]] = field(default_factory=dict)
    caption: str = ""
    mentions: tuple[Mention, ...] = ()
    aesthetic: float | None = None
    backgrounds: Mapping[int, Path] = field(default_factory=dict)
    """Per frame, the whole frame without its subjects."""
    variants: Mapping[str, Path] = field(default_factory=dict)
    """Per label, the subject drawn anew."""


def read_recording(folder: Path, video: Path | None = None) -> Recording:
    """The recording in a folder. Its video is the given one, else the one that a manifest.json above the folder names for it.

    Raises FileNotFoundError for a folder that is not there, ValueError for one that holds neither demo.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder} with recorded answers; check the path")
    video = video or _listed_video(folder)
    if (folder / "step5").is_dir():
        return _opens2v(folder, video)
    if (folder / "refine_bbox_jsons").is_dir():
        return _consisid(folder, video)
    raise ValueError(
        f"{folder} holds no recording that is understood; give OpenS2V's demo_result (step5) or ConsisID's data (refine_bbox_jsons)"
    )


def mask_of(mask: str | Path, height: int, width: int) -> NDArray[np.bool_]:
    """bool [height, width] of a `Thing.mask`."""
    if isinstance(mask, Path):
        return np.asarray(Image.open(mask)) > 0
    return decode(RunLengths((height, width), mask))


def _opens2v(folder: Path, video: Path | None) -> Recording:
    record = next(iter(_json(folder / "step5" / "merge_final_json").values()))
    annotation = record["annotation"]
    frame = annotation["ann_frame_data"]
    index = int(frame["ann_frame_idx"])
    masks = annotation["mask_annotation"][str(index)]
    things = []
    for number, found in enumerate(frame["annotations"], start=1):
        left, top, right, bottom = found["bbox"]
        mask = masks[str(number)]
        # The detector's own score was not published; this is the mask's.
        things.append(
            Thing(
                (found["class_name"].lower(),),
                Box(top, left, bottom, right),
                mask["score"][0],
                mask["counts"],
            )
        )
    words = record["word_tags"]
    mentions = [Mention(word, "background", word.split()[-1]) for word in words["background"]]
    mentions += [Mention(word, "person" if word in _PEOPLE else "animal", word) for word in words["subject"]]
    for word in words["object"]:
        noun = word.split()[-1]
        mentions.append(Mention(word, "clothing" if noun in _WORN else "object", noun))
    seen = _json(folder / "step1" / "final_output")["bbox"]
    metadata = record["metadata"]
    variants = sorted((folder / "step6").rglob("*.png"))
    return Recording(
        folder=folder,
        video=video,
        height=frame["img_height"],
        width=frame["img_width"],
        things={index: tuple(things)},
        faces={int(number): _faces(found["face"]) for number, found in seen.items()},
        caption=metadata["face_cap_qwen"],
        mentions=tuple(mentions),
        aesthetic=float(metadata["aesthetic"]),
        backgrounds={index: min((folder / "step5").rglob("*.png"))},
        variants={path.stem.partition("_")[2].lower(): path for path in variants},
    )


def _consisid(folder: Path, video: Path | None) -> Recording:
    boxes = _json(folder / "refine_bbox_jsons")
    tracks = next((folder / "track_masks_data").iterdir())
    numbers = next(iter(json.loads((tracks / "corresponding_data.json").read_text()).values()))
    masks = {label: tracks / "tracking_mask_results" / str(number) for label, number in numbers.items()}
    described = json.loads(next((folder / "captions").iterdir()).read_text())[0]
    things: dict[int, tuple[Thing, ...]] = {}
    for frame, kinds in boxes.items():
        found = []
        for label, seen in kinds.items():
            for one in seen:
                path = masks[label] / f"annotated_frame_{int(frame):05d}.png" if label in masks else None
                labels = _PEOPLE if label == "person" else (label,)
                found.append(Thing(labels, _box(one["box"]), one["confidence"], path))
        things[int(frame)] = tuple(found)
    return Recording(
        folder=folder,
        video=video,
        height=described["resolution"]["height"],
        width=described["resolution"]["width"],
        things=things,
        faces={int(frame): _faces(kinds.get("face", [])) for frame, kinds in boxes.items()},
        caption=described["cap"],
    )


def _faces(found: list[dict[str, Any]]) -> tuple[SeenFace, ...]:
    faces = []
    for face in found:
        points = face.get("keypoints")
        faces.append(
            SeenFace(
                track=face["track_id"],
                box=_box(face["box"]),
                score=face["confidence"],
                keypoints_52=np.array([points["y"], points["x"]], dtype=np.float32).T if points else None,
            )
        )
    return tuple(faces)


def _box(corners: dict[str, float]) -> Box:
    return Box(corners["y1"], corners["x1"], corners["y2"], corners["x2"])


def _json(folder: Path) -> Any:
    """The one JSON file at or below a folder."""
    return json.loads(next(iter(sorted(folder.rglob("*.json")))).read_text())


def _listed_video(folder: Path) -> Path | None:
    for above in folder.resolve().parents:
        manifest = above / "manifest.json"
        if not manifest.is_file():
            continue
        for entry in json.loads(manifest.read_text())["entries"]:
            named = re.search(r"\bvideos/[\w.\-]+\w", entry.get("description", ""))
            if above / entry.get("file", "") == folder.resolve() and named and (above / named[0]).is_file():
                return above / named[0]
    return None
