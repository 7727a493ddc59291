"""Raw films of the puppet world, for curation: several shots of recurring characters as MP4 files, flaws included, truth beside them.

Film number `index` is a pure function of its plan's fields and the index. Two consecutive films share their lead. Every dozen holds each
flaw at least once: letterbox, a static shot, a blurred shot, a copy or a re-encoding of an earlier film, a file that cannot be decoded.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from anyref import media
from anyref.files import atomic, sha256, write_json
from anyref.worlds import captions
from anyref.worlds.actions import PAIRS, possible_actions
from anyref.worlds.dataset import boxes_of
from anyref.worlds.identities import ANIMALS, OBJECTS, PEOPLE, Look, Split, draw_look, kind_of
from anyref.worlds.render import render
from anyref.worlds.scene import Scene, Wishes, draw_scene

Defect = Literal["static", "blurred"]
Damage = Literal["empty", "text", "headless", "garbled"]
DAMAGES: tuple[Damage, ...] = ("empty", "text", "headless", "garbled")
CYCLE = 12
"""Films after which every flaw has occurred."""
_REPEATED = {7: 4, 10: 8}  # place in the cycle: the place of the film that it repeats
_RECODED, _DAMAGED = 10, 11
_CLEAR_S = (3.0, 4.0)  # length of the part of a shot that no fade touches
_FADE_S = 0.5
_BLACK_S = 0.125
_FADE_SHARE = 0.3
_BLUR = 0.018  # radius of the Gaussian, in frame heights
_BARS = 0.125  # height of each black bar, in heights of the picture
_STILL = ("stand", "nod")  # a nod moves a few pixels only: nobody could say whether its shot is static


@dataclass(frozen=True)
class FilmPlan:
    """What films are drawn. Sizes in pixels, multiples of 16; a letterboxed film is a quarter higher."""

    split: Split = "train"
    seed: int = 0
    height: int = 128
    width: int = 192
    fps: float = 16.0

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 64 or self.height % 16 or self.width % 16:
            raise ValueError(
                f"height x width is {self.height} x {self.width}; pass multiples of 16 of at least 64, such as 128 x 192"
            )
        if not 4 <= self.fps <= 60:
            raise ValueError(f"fps is {self.fps}; pass 4 to 60")


@dataclass(frozen=True)
class Shot:
    """One shot: frames `first` to `last` (half-open) of its film; `clear_first` to `clear_last` are those that no fade darkens."""

    first: int
    last: int
    clear_first: int
    clear_last: int
    scene: Scene
    caption: captions.Caption
    defect: Defect | None


@dataclass(frozen=True)
class Transition:
    """Between two shots. A hard cut: `first` = `last` = the first frame of the next shot; a fade: its darkened frames, half-open."""

    kind: Literal["cut", "fade"]
    first: int
    last: int


@dataclass(frozen=True)
class Film:
    """A film before it is drawn."""

    name: str
    shots: tuple[Shot, ...]
    transitions: tuple[Transition, ...]
    letterbox: bool
    duplicate_of: str | None
    """Name of the film that this one repeats, its own file or an encoding of lower quality."""
    damage: Damage | None
    num_frames: int


@dataclass(frozen=True)
class Drawn:
    """A film's frames, bars included, and per shot the mask [F, Y, X] of each subject in the same pixels."""

    frames_FYX3: NDArray[np.uint8]
    masks: tuple[tuple[NDArray[np.bool_], ...], ...]


def film_name(index: int) -> str:
    """File name of a film."""
    return f"film-{index:05d}.mp4"


def draw_film(plan: FilmPlan, index: int) -> Film:
    """Film number `index` >= 0."""
    if index < 0:
        raise ValueError(f"the film's index is {index}; it must be 0 or more")
    place = index % CYCLE
    if place in _REPEATED:
        original = index - place + _REPEATED[place]
        return replace(draw_film(plan, original), name=film_name(index), duplicate_of=film_name(original))
    rng = Random(f"films/{plan.split}/{plan.seed}/{index}")
    cast = _cast(plan, index, rng)
    shots, transitions = _edit(plan, rng, cast, _defects(rng, index))
    damage = DAMAGES[index // CYCLE % len(DAMAGES)] if place == _DAMAGED else None
    return Film(film_name(index), shots, transitions, index % 6 == 3, None, damage, shots[-1].last)


def render_film(plan: FilmPlan, film: Film) -> Drawn:
    """Draw every shot, darken fades, blur what is to be blurred, add bars."""
    bar = 2 * round(_BARS * plan.height / 2) if film.letterbox else 0
    frames_FYX3 = np.zeros((film.num_frames, plan.height + 2 * bar, plan.width, 3), np.uint8)
    masks = []
    for shot in film.shots:
        clip = render(shot.scene, plan.height, plan.width, shot.last - shot.first)
        pictures = clip.frames_FYX3
        if shot.defect == "blurred":
            pictures = np.stack([_blurred(picture) for picture in pictures])
        light = _light(shot)[:, None, None, None]
        pictures = np.rint(pictures * light).astype(np.uint8)
        frames_FYX3[shot.first : shot.last, bar : bar + plan.height] = pictures
        masks.append(tuple(np.pad(mask, ((0, 0), (bar, bar), (0, 0))) for mask in clip.masks_FYX))
    return Drawn(frames_FYX3, tuple(masks))


def truth(plan: FilmPlan, film: Film, drawn: Drawn) -> dict[str, Any]:
    """What is in a film, as JSON: frames are numbers in the film, boxes (top, left, bottom, right) in its pixels, bars included."""
    height, width = drawn.frames_FYX3.shape[1:3]
    bar = (height - plan.height) // 2
    return {
        "film": film.name,
        "plan": asdict(plan),
        "fps": plan.fps,
        "num_frames": film.num_frames,
        "height": height,
        "width": width,
        "content_box": [bar, 0, height - bar, width],
        "letterbox": film.letterbox,
        "duplicate_of": film.duplicate_of,
        "damage": film.damage,
        "transitions": [asdict(transition) for transition in film.transitions],
        "shots": [_shot_truth(shot, masks) for shot, masks in zip(film.shots, drawn.masks, strict=True)],
    }


def write_film(plan: FilmPlan, index: int, folder: Path) -> Path:
    """Write a film, its masks (.npz) and its truth (.json, last); what is there from the same plan is kept. Returns the film's path.

    Raises ValueError where the folder holds the film of another plan.
    """
    path = folder / film_name(index)
    beside = path.with_suffix(".json")
    if path.exists() and beside.exists():
        if json.loads(beside.read_text(encoding="utf-8"))["plan"] != asdict(plan):
            raise ValueError(f"{path} belongs to films of another kind; choose another folder or delete it")
        return path
    film = draw_film(plan, index)
    drawn = render_film(plan, film)
    original = folder / (film.duplicate_of or film.name)
    recoded = index % CYCLE == _RECODED
    if film.duplicate_of and not recoded and original.with_suffix(".json").exists():
        with atomic(path) as partial:  # x264 does not promise the same bytes twice
            partial.write_bytes(original.read_bytes())
    else:
        media.write_video(drawn.frames_FYX3, path, fps=plan.fps, crf=26 if recoded else 16)
    if film.damage:
        _spoil(path, film.damage, plan.seed + index)
    packed = {
        f"{shot}/{subject}": np.packbits(mask_FYX, axis=None)
        for shot, masks in enumerate(drawn.masks)
        for subject, mask_FYX in enumerate(masks)
    }
    with atomic(path.with_suffix(".npz")) as partial:
        np.savez_compressed(partial, allow_pickle=False, **packed)
    write_json(beside, {**truth(plan, film, drawn), "sha256": sha256(path)})
    return path


def read_masks(path: Path, shape: dict[str, Any]) -> dict[tuple[int, int], NDArray[np.bool_]]:
    """The masks beside a film: (shot, subject) to bool [F, Y, X]. `shape` is the film's truth."""
    found = {}
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as packed:
        for name in packed.files:
            number, subject = (int(part) for part in name.split("/"))
            shot = shape["shots"][number]
            size = (shot["last"] - shot["first"], shape["height"], shape["width"])
            bits = np.unpackbits(packed[name], count=int(np.prod(size)))
            found[number, subject] = bits.reshape(size).astype(bool)
    return found


def write_films(plan: FilmPlan, count: int, folder: Path, workers: int = 1) -> Iterator[Path]:
    """Write films 0 .. count - 1, in `workers` processes, and give the path of each as it is done, in order.

    Raises ValueError for a count or workers below 1, and as `write_film`.
    """
    if min(count, workers) < 1:
        raise ValueError(f"{count} films by {workers} workers were asked for; ask for at least 1 of each")
    write = partial(write_film, plan, folder=folder)
    if workers == 1:
        yield from map(write, range(count))
        return
    with ProcessPoolExecutor(min(workers, count), get_context("spawn")) as pool:
        yield from pool.map(write, range(count))


def _cast(plan: FilmPlan, index: int, rng: Random) -> tuple[Look, ...]:
    """A person whom two consecutive films share, and an animal and a thing of this film's own."""
    shared = Random(f"films/{plan.split}/{plan.seed}/lead/{index // 2}")
    return (
        draw_look(shared, shared.choice(PEOPLE), plan.split),
        draw_look(rng, rng.choice(ANIMALS), plan.split),
        draw_look(rng, rng.choice(OBJECTS), plan.split),
    )


def _defects(rng: Random, index: int) -> list[Defect | None]:
    """One per shot."""
    shots: list[Defect | None] = [None] * rng.randint(3, 5)
    if index % 3 == 1:
        shots.insert(rng.randint(1, len(shots)), "static")
    if index % 3 == 2:
        shots.insert(rng.randint(1, len(shots)), "blurred")
    return shots


def _edit(
    plan: FilmPlan, rng: Random, cast: tuple[Look, ...], defects: list[Defect | None]
) -> tuple[tuple[Shot, ...], tuple[Transition, ...]]:
    fade, black = max(2, round(_FADE_S * plan.fps)), max(1, round(_BLACK_S * plan.fps))
    shots: list[Shot] = []
    transitions: list[Transition] = []
    fades = [rng.random() < _FADE_SHARE for _ in defects[1:]]
    for number, defect in enumerate(defects):
        first = shots[-1].last if shots else 0
        before = fade if number and fades[number - 1] else 0
        after = fade + black if number < len(fades) and fades[number] else 0
        clear = first + before
        end = clear + round(rng.uniform(*_CLEAR_S) * plan.fps)
        scene = _scene(plan, rng, cast, defect, shots[-1].scene if shots else None)
        shots.append(Shot(first, end + after, clear, end, scene, captions.write_caption(rng, scene), defect))
        if number:
            kind: Literal["cut", "fade"] = "fade" if before else "cut"
            transitions.append(Transition(kind, shots[-2].clear_last, clear))
    return tuple(shots), tuple(transitions)


def _scene(
    plan: FilmPlan, rng: Random, cast: tuple[Look, ...], defect: Defect | None, previous: Scene | None
) -> Scene:
    """A scene of one or two of the cast, in another setting than the shot before."""
    seen = [cast[0]] if rng.random() < 0.5 else [rng.choice(cast[1:])]
    if defect != "static" and rng.random() < 0.5:
        seen.append(rng.choice([look for look in cast if look not in seen]))
    possible = {action for look in seen for action in possible_actions(look.label)} | set(PAIRS)
    wanted = ("stand",) if defect == "static" else tuple(sorted(possible - set(_STILL)))
    wishes = Wishes(
        num_subjects=len(seen),
        same_kind=None if len(seen) == 1 else False,
        background_reference=False,
        clothing_reference=False,
        actions=wanted,
        labels=tuple(look.label for look in seen),
    )
    by_label = {look.label: look for look in seen}
    while True:
        scene = draw_scene(rng, plan.split, plan.width / plan.height, wishes)
        if previous is None or scene.setting.label != previous.setting.label:
            actors = tuple(replace(actor, look=by_label[actor.look.label]) for actor in scene.actors)
            return replace(scene, actors=actors)


def _light(shot: Shot) -> NDArray[np.float32]:
    """Brightness of each frame, 0 to 1."""
    frame = np.arange(shot.first, shot.last)
    light = np.ones(len(frame), np.float32)
    if shot.clear_first > shot.first:
        light = np.minimum(light, (frame - shot.first) / (shot.clear_first - shot.first))
    if shot.last > shot.clear_last:
        # The fade proper is shorter than what follows it: the rest is black.
        length = max(1.0, (shot.last - shot.clear_last) * _FADE_S / (_FADE_S + _BLACK_S))
        light = np.minimum(light, np.clip(1 - (frame - shot.clear_last + 1) / length, 0, 1))
    return light.astype(np.float32)


def _blurred(picture_YX3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    radius = _BLUR * picture_YX3.shape[0]
    return np.asarray(Image.fromarray(picture_YX3).filter(ImageFilter.GaussianBlur(radius)))


def _shot_truth(shot: Shot, masks: tuple[NDArray[np.bool_], ...]) -> dict[str, Any]:
    scene = shot.scene
    subjects = [
        {
            "identity": actor.look.identity,
            "kind": kind_of(actor.look.label),
            "label": actor.look.label,
            "phrase": phrase,
            "action": actor.motion.action,
            "boxes": boxes_of(mask_FYX).tolist(),
        }
        for actor, phrase, mask_FYX in zip(scene.actors, shot.caption.phrases, masks, strict=True)
    ]
    return {
        "first": shot.first,
        "last": shot.last,
        "clear_first": shot.clear_first,
        "clear_last": shot.clear_last,
        "defect": shot.defect,
        "caption": shot.caption.text,
        "setting": {"identity": scene.setting.identity, "label": scene.setting.label, "phrase": shot.caption.setting},
        "time_of_day": "night" if scene.night else "day",
        "subjects": subjects,
    }  # fmt: skip


def _spoil(path: Path, damage: Damage, seed: int) -> None:
    """Make a film one that cannot be decoded: nothing in it, text, its index (at the front) cut off, or its pictures overwritten."""
    whole = path.read_bytes()
    data = bytearray(whole)
    if damage == "empty":
        data = bytearray()
    elif damage == "text":
        data = bytearray(b"This is not a film.\n" * 100)
    elif damage == "headless":
        data = data[len(data) // 3 :]
    else:
        # A third of the pictures: after the index, which the file begins with.
        start = whole.index(b"mdat") + 4
        length = (len(data) - start) // 3
        noise = np.random.default_rng(seed).bytes(length)
        data[start + length : start + 2 * length] = noise
    with atomic(path) as partial:
        partial.write_bytes(bytes(data))
