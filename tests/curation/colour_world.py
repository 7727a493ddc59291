"""A film of coloured rectangles, and models that see colours: a red dog, a blue car, a green parrot, people in grey with yellow faces."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from anyref import media
from anyref.curation.records import Clip, Rectangle, Source, to_json
from anyref.curation.stage import Record
from anyref.perception import Box, Detection, Face, ModelCard, Picture

HEIGHT, WIDTH, NUM_FRAMES, FPS = 128, 192, 24, 12.0
COLOURS = {
    "dog": (200, 30, 30),
    "car": (30, 30, 200),
    "bird": (30, 180, 30),
    "person": (110, 110, 110),
    "face": (200, 200, 40),
}
PLACE = (235, 200, 225)
CARD = ModelCard("colours", "colours", "1", "Apache-2.0", True)


@dataclass(frozen=True)
class Thing:
    """A rectangle: its colour's name, its first box, and how many columns it moves per frame. `shade` changes its look, not its class."""

    name: str
    box: tuple[int, int, int, int]
    speed: float = 0.0
    shade: int = 0

    def at(self, frame: int) -> tuple[int, int, int, int]:
        top, left, bottom, right = self.box
        moved = round(self.speed * frame)
        return top, left + moved, bottom, right + moved


def draw(
    things: Sequence[Thing], num_frames: int = NUM_FRAMES, place: tuple[int, int, int] = PLACE
) -> Picture:
    frames = np.empty((num_frames, HEIGHT, WIDTH, 3), np.uint8)
    frames[:] = place
    for index, frame in enumerate(frames):
        for thing in things:
            top, left, bottom, right = thing.at(index)
            colour = np.clip(np.array(COLOURS[thing.name]) + thing.shade, 0, 255)
            frame[top:bottom, max(0, left) : right] = colour
            frame[top + 3 : bottom : 6, max(0, left) + 2 : right] = colour * 3 // 5  # something to be sharp
    return frames


def write_film(path: Path, frames: Picture) -> None:
    media.write_video(frames, path, fps=FPS, crf=4)


def record_of(name: str, num_frames: int = NUM_FRAMES, start: int = 0, group: str | None = None) -> Record:
    """A clip's record as S0 to S2 leave it."""
    source = Source(
        uri=name, sha256=name, bytes=1, licence="CC0", group_id=group or name, codec="h264", pixel_format="yuv420p",
        width=WIDTH, height=HEIGHT, rotation_degrees=0, fps=FPS, num_frames=num_frames, duration_s=num_frames / FPS,
        start_pts=0, time_base=(1, 12288), variable_frame_rate=False, color_range="limited", has_alpha=False, decoder="",
    )  # fmt: skip
    clip = Clip(
        start, start + num_frames, 0, 0, 0.0, num_frames / FPS, num_frames, 0, Rectangle(0, 0, HEIGHT, WIDTH)
    )
    return Record(
        name.split(".", maxsplit=1)[0] + f"-{start}",
        "clip",
        {"source": to_json(source), "clip": to_json(clip), "scores": {}},
    )


def seen(picture: Picture, name: str) -> np.ndarray:
    """Where a colour is, whatever its shade: by the direction of the colour; stripes that the file's colours smear are closed."""
    pixels = picture.astype(np.float32)
    pixels /= np.maximum(np.linalg.norm(pixels, axis=2, keepdims=True), 1)
    target = np.array(COLOURS[name], np.float32)
    if name == "person":  # the face is part of the person
        return seen(picture, "face") | _like(pixels, picture, target)
    return _like(pixels, picture, target)


def _like(pixels: np.ndarray, picture: Picture, target: np.ndarray) -> np.ndarray:
    import cv2

    found = (pixels @ (target / np.linalg.norm(target)) > 0.975) & (picture.astype(int).sum(axis=2) < 480)
    return cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)).astype(bool)


def boxes_in(mask: np.ndarray) -> list[Box]:
    import cv2

    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    found = [stats[i] for i in range(1, count) if stats[i][4] > 60]
    return [Box(float(t), float(x), float(t + h), float(x + w)) for x, t, w, h, _ in found]


class Detector:
    """Finds colours by the class's name at the end of a phrase."""

    card = CARD
    ALIASES: ClassVar = {
        "puppy": "dog",
        "parrot": "bird",
        "man": "person",
        "woman": "person",
        "individual": "person",
    }

    def detect(self, picture_YX3: Picture, phrases: Sequence[str]) -> list[Detection]:
        found = []
        for number, phrase in enumerate(phrases):
            word = phrase.lower().split()[-1]
            name = self.ALIASES.get(word, word)
            if name in COLOURS:
                found += [Detection(number, box, 0.9) for box in boxes_in(seen(picture_YX3, name))]
        return found

    def segment(self, picture_YX3: Picture, boxes: Sequence[Box]) -> np.ndarray:
        masks = np.zeros((len(boxes), *picture_YX3.shape[:2]), np.bool_)
        for mask, box in zip(masks, boxes, strict=True):
            top, left, bottom, right = (round(side) for side in box)
            cut = picture_YX3[top:bottom, left:right]
            shares = {name: seen(cut, name).mean() for name in COLOURS}
            best = max(shares, key=lambda name: shares[name])
            mask[top:bottom, left:right] = seen(cut, best)
        return masks


class Encoder:
    """The mean colour of what is not light, and a coarse layout of light and dark; texts by the colour of their class."""

    card = CARD

    def encode(self, pictures: Sequence[Picture]) -> np.ndarray:
        return (
            np.stack([self._vector(picture) for picture in pictures])
            if len(pictures)
            else np.zeros((0, 20), np.float32)
        )

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        found = []
        for text in texts:
            name = text.split()[-1]
            colour = np.array(COLOURS.get(name, (1, 1, 1)), np.float32) / 255
            vector = np.zeros(20, np.float32)
            vector[:3] = colour
            vector[19] = 0.0 if name in COLOURS else 5.0
            found.append(vector / np.linalg.norm(vector))
        return np.stack(found)

    def _vector(self, picture: Picture) -> np.ndarray:
        import cv2

        rgb = picture[..., :3]
        kept = rgb.reshape(-1, 3)[rgb.reshape(-1, 3).sum(axis=1) < 480].astype(np.float32)
        colour = kept.mean(axis=0) if len(kept) else np.ones(3, np.float32)
        layout = cv2.resize(rgb.mean(axis=2).astype(np.float32), (4, 4), interpolation=cv2.INTER_AREA).ravel()
        vector = np.concatenate(
            [colour / np.linalg.norm(colour), 0.5 * layout / np.linalg.norm(layout), [0.0]]
        )
        return (vector / np.linalg.norm(vector)).astype(np.float32)


class FaceAnalyser:
    """Yellow squares; whose they are is their brightness, in steps, as one of eight axes."""

    card = CARD

    def __init__(self, pose: tuple[float, float, float] | None = (0.0, 0.0, 0.0)) -> None:
        self.pose = pose

    def faces(self, picture_YX3: Picture) -> list[Face]:
        mask = seen(picture_YX3, "face")
        found = []
        for box in boxes_in(mask):
            top, left, bottom, right = (round(side) for side in box)
            level = float(np.median(picture_YX3[top:bottom, left:right, 0]))
            vector = np.zeros(8, np.float32)
            vector[int(level // 32)] = 1
            found.append(Face(box, 0.9, vector, None, self.pose))
        return sorted(found, key=lambda face: -(face.box.right - face.box.left))


class Captioner:
    card = CARD

    def __init__(self, text: str) -> None:
        self.text = text

    def caption(self, frames: Sequence[Picture]) -> str:
        assert all(frame.ndim == 3 for frame in frames)
        return self.text


class Inpainter:
    """Fills with the place's colour."""

    card = CARD

    def inpaint(self, picture_YX3: Picture, hole_YX: np.ndarray, prompt: str, seed: int) -> Picture:
        return np.where(hole_YX[..., None], np.uint8(PLACE), picture_YX3).astype(np.uint8)


class Varier:
    """The picture mirrored; "car" is refused."""

    card = CARD

    def vary(self, picture_YX3: Picture, prompt: str, seed: int) -> Picture:
        if "car" in prompt:
            raise ValueError("no cars here; ask for something else")
        return np.ascontiguousarray(picture_YX3[:, ::-1])
