"""Models that replay what real ones once answered about a video: real boxes, masks, captions and tags, on any machine, with no weights.

A picture is known by its content: it is looked for among the frames of the recorded video, exactly first, then by its likeness, so that a
frame that was scaled or encoded again is known too. Of a picture that is no such frame nothing was recorded: finders find nothing in it,
raters and painters raise ValueError.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.perception import Box, Detection, Face, Model, ModelCard, Picture, Tag
from anyref.perception.faces import area
from anyref.perception.language import place
from anyref.perception.models import Task
from anyref.perception.preparation import check, content_hash
from anyref.perception.recordings import Recording, Thing, mask_of, read_recording

VECTOR = 512
"""Values of a replayed face's vector: 1 at its track, 0 elsewhere, since who is who was published and vectors were not."""
_THUMBNAIL = (64, 36)
_ALIKE = 6.0
"""Mean difference in grey levels up to which a picture counts as a frame."""
_OVERLAP = 0.5
"""IoU from which a box asks for a recorded thing."""
_ARTICLES = ("a ", "an ", "the ")


class FrameFinder:
    """Which frame of a video a picture is. Decodes on only until it is found, and keeps a small grey picture of each frame."""

    def __init__(self, video: Path) -> None:
        self._video = video
        self._hashes: dict[str, int] = {}
        self._thumbnails: list[NDArray[np.float32]] = []

    def index(self, picture_YX3: Picture) -> int | None:
        """The frame's index; None if it is none of them, which takes the whole video to know."""
        check([picture_YX3])
        digest = _digest(picture_YX3)
        if (known := self._hashes.get(digest)) is not None:
            return known
        for seen in self._rest:
            if seen == digest:
                return self._hashes[digest]
        distances = np.abs(np.stack(self._thumbnails) - _thumbnail(picture_YX3)).mean(axis=(1, 2))
        nearest = int(distances.argmin())
        return nearest if distances[nearest] <= _ALIKE else None

    @cached_property
    def _rest(self) -> Iterator[str]:
        """The digests of the frames that were not decoded yet."""
        from anyref.footage import frames

        for frame in frames(self._video):
            digest = _digest(frame.image_YX3)
            self._hashes.setdefault(digest, frame.index)
            self._thumbnails.append(_thumbnail(frame.image_YX3))
            yield digest


class _Replayed:
    """What all replaying models share."""

    def __init__(self, recording: Recording, finder: FrameFinder, card: ModelCard) -> None:
        self._recording = recording
        self._finder = finder
        self.card = card

    def _things(self, picture_YX3: Picture) -> tuple[Thing, ...]:
        index = self._finder.index(picture_YX3)
        return () if index is None else tuple(self._recording.things.get(index, ()))

    def _scaled(self, box: Box, picture_YX3: Picture) -> Box:
        rows = picture_YX3.shape[0] / self._recording.height
        columns = picture_YX3.shape[1] / self._recording.width
        return Box(box.top * rows, box.left * columns, box.bottom * rows, box.right * columns)


class RecordedDetector(_Replayed):
    """Finds what was found under the same words; articles and capitals do not count."""

    def detect(self, picture_YX3: Picture, phrases: Sequence[str]) -> list[Detection]:
        """See `anyref.perception.Detector`. OpenS2V published one frame only, and the masks' scores in place of the boxes'."""
        things = self._things(picture_YX3)
        found = []
        for number, phrase in enumerate(phrases):
            words = _bare(phrase)
            found += [
                Detection(number, self._scaled(thing.box, picture_YX3), thing.score)
                for thing in things
                if words in thing.labels
            ]
        return sorted(found, key=lambda detection: (-detection.score, detection.phrase))


class RecordedSegmenter(_Replayed):
    """The mask of the recorded thing that a box overlaps most (IoU at least .5); nothing where there is none."""

    def segment(self, picture_YX3: Picture, boxes: Sequence[Box]) -> NDArray[np.bool_]:
        """See `anyref.perception.Segmenter`."""
        height, width = picture_YX3.shape[:2]
        masks = np.zeros((len(boxes), height, width), dtype=np.bool_)
        things = [thing for thing in self._things(picture_YX3) if thing.mask is not None]
        for number, box in enumerate(boxes):
            overlaps = [_iou(box, self._scaled(thing.box, picture_YX3)) for thing in things]
            if not overlaps or max(overlaps) < _OVERLAP:
                continue
            chosen = things[int(np.argmax(overlaps))].mask
            assert chosen is not None
            mask = mask_of(chosen, self._recording.height, self._recording.width)
            masks[number] = np.asarray(
                Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST), dtype=np.bool_
            )
        return masks


class RecordedFaces(_Replayed):
    """Boxes and points as recorded, no pose. Vectors are the published tracks: cosine 1 for the same person, near 0 for another or an unknown one."""

    def faces(self, picture_YX3: Picture) -> list[Face]:
        """See `anyref.perception.FaceAnalyser`."""
        index = self._finder.index(picture_YX3)
        scale = np.array(
            [picture_YX3.shape[0] / self._recording.height, picture_YX3.shape[1] / self._recording.width],
            dtype=np.float32,
        )
        faces = []
        for number, seen in enumerate(() if index is None else self._recording.faces.get(index, ())):
            vector = np.zeros(VECTOR, dtype=np.float32)
            vector[seen.track % VECTOR] = 1
            if seen.track < 0:
                # Nobody's track: like no other face, not even that of the next frame.
                vector = np.random.default_rng((index or 0, number)).normal(size=VECTOR).astype(np.float32)
                vector /= np.linalg.norm(vector)
            points = None if seen.keypoints_52 is None else seen.keypoints_52 * scale
            faces.append(Face(self._scaled(seen.box, picture_YX3), seen.score, vector, points))
        return sorted(faces, key=lambda face: -area(face.box))


class RecordedCaptioner(_Replayed):
    """The published caption."""

    def caption(self, frames: Sequence[Picture]) -> str:
        """See `anyref.perception.Captioner`. Raises ValueError if none of the frames is the video's."""
        if all(self._finder.index(frame) is None for frame in frames):
            raise self._unknown("caption")
        return self._recording.caption

    def _unknown(self, what: str) -> ValueError:
        return ValueError(
            f"{self._recording.folder} holds no {what} of this picture; give frames of {self._recording.video}"
        )


class RecordedTagger(_Replayed):
    """What the published tags say of the published caption."""

    def tags(self, caption: str) -> list[Tag]:
        """See `anyref.perception.Tagger`: tags that are not in this caption are left out, so of another caption hardly anything is left."""
        return place(caption, self._recording.mentions)


class RecordedAesthetic(_Replayed):
    """The published score of the clip, for each of its frames."""

    def rate(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """See `anyref.perception.AestheticPredictor`."""
        assert self._recording.aesthetic is not None
        if any(self._finder.index(picture) is None for picture in pictures):
            raise ValueError(
                f"{self._recording.folder} holds no score of this picture; give frames of {self._recording.video}"
            )
        return np.full(len(pictures), self._recording.aesthetic, dtype=np.float32)


class RecordedInpainter(_Replayed):
    """The published background, in the hole."""

    def inpaint(self, picture_YX3: Picture, hole_YX: NDArray[np.bool_], prompt: str, seed: int) -> Picture:  # noqa: ARG002
        """See `anyref.perception.Inpainter`."""
        index = self._finder.index(picture_YX3)
        if index is None or index not in self._recording.backgrounds:
            raise ValueError(
                f"{self._recording.folder} holds no background of this picture; give frame "
                f"{', '.join(map(str, self._recording.backgrounds))} of {self._recording.video}"
            )
        height, width = picture_YX3.shape[:2]
        behind = Image.open(self._recording.backgrounds[index]).convert("RGB").resize((width, height))
        return np.where(hole_YX[..., None], np.asarray(behind), picture_YX3)


class RecordedVarier(_Replayed):
    """The published variant whose label is in the prompt."""

    def vary(self, picture_YX3: Picture, prompt: str, seed: int) -> Picture:  # noqa: ARG002
        """See `anyref.perception.Varier`; the picture, a piece of a frame, is not looked at."""
        words = re.findall(r"\w+", prompt.lower())
        for label, path in self._recording.variants.items():
            if label in words:
                return np.asarray(Image.open(path).convert("RGB"))
        raise ValueError(
            f"{self._recording.folder} holds no variant for {prompt!r}; the prompt must name one of {', '.join(self._recording.variants)}"
        )


def open_recorded(task: Task, folder: str) -> Model:
    """The replaying model for a task; "FOLDER@VIDEO" names the video where no manifest does. Raises ValueError for what was not recorded."""
    place_, _, video = folder.partition("@")
    recording = _read(place_, video)
    held: dict[str, tuple[type[_Replayed], object]] = {
        "detector": (RecordedDetector, recording.things),
        "segmenter": (RecordedSegmenter, recording.things),
        "face-analyser": (RecordedFaces, recording.faces),
        "captioner": (RecordedCaptioner, recording.caption),
        "tagger": (RecordedTagger, recording.mentions),
        "aesthetic": (RecordedAesthetic, recording.aesthetic),
        "inpainter": (RecordedInpainter, recording.backgrounds),
        "varier": (RecordedVarier, recording.variants),
    }
    kinds = [name for name, (_, answers) in held.items() if answers]
    if task not in kinds:
        raise ValueError(
            f"the recording {folder} holds no answers of a {task}, only of {', '.join(kinds)}; name a model for it"
        )
    if recording.video is None:
        raise ValueError(f"the video of the recording {folder} was not found; say recorded:{place_}@VIDEO")
    licence = "as the folder's source says; of models that may be non-commercial"
    card = ModelCard(
        f"recorded:{recording.folder.name}", recording.folder.name, "", licence, commercial=False
    )
    return held[task][0](recording, _finder(recording.video), card)


@lru_cache(maxsize=4)
def _read(folder: str, video: str) -> Recording:
    return read_recording(Path(folder), Path(video) if video else None)


@lru_cache(maxsize=4)
def _hash(folder: Path) -> str:
    return content_hash(str(folder))


@lru_cache(maxsize=4)
def _finder(video: Path) -> FrameFinder:
    # One for all models of a recording: the video is decoded once.
    return FrameFinder(video)


def _digest(picture_YX3: Picture) -> str:
    return hashlib.blake2b(np.ascontiguousarray(picture_YX3).tobytes(), digest_size=16).hexdigest()


def _thumbnail(picture_YX3: Picture) -> NDArray[np.float32]:
    small = Image.fromarray(picture_YX3).convert("L").resize(_THUMBNAIL, Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def _bare(phrase: str) -> str:
    words = " ".join(phrase.lower().strip(" .").split())
    for article in _ARTICLES:
        words = words.removeprefix(article)
    return words


def _iou(one: Box, other: Box) -> float:
    inside = Box(
        max(one.top, other.top),
        max(one.left, other.left),
        min(one.bottom, other.bottom),
        min(one.right, other.right),
    )
    joint = area(inside)
    total = area(one) + area(other) - joint
    return joint / total if total > 0 else 0.0
