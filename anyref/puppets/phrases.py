"""Pictures of the puppet world with phrases and what each phrase means in them: where a phrase segmenter learns and is measured.

A picture is a frame of a clip, a piece of one, or a reference picture. A phrase names things by class, group, part, colour or side; its truth
is the union of what it names, empty where nothing fits. Sides are those of the picture at hand, not of the clip's first frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.worlds import PuppetWorld, pictures
from anyref.worlds.actions import Pose, pose_at
from anyref.worlds.brush import Brush
from anyref.worlds.identities import ANIMALS, LABELS, OBJECTS, PEOPLE, STICKER, Creature, Look, Person
from anyref.worlds.render import draw_subject, render
from anyref.worlds.scene import Scene, Wishes, draw_scene
from anyref.worlds.surfaces import canvas_on

SUBJECT = "this"
"""The phrase for what a picture was cut around."""
GROUPS: dict[str, tuple[str, ...]] = {
    "person": PEOPLE,
    "animal": ANIMALS,
    "object": (*OBJECTS, STICKER),
    "thing": LABELS,
    "child": ("boy", "girl"),
    "adult": ("man", "woman"),
}
PARTS = ("face", "head", "hat", "shirt")
"""Parts of people that have phrases of their own; "face" and "head" mean the same: the head without hat and long hair."""
SIDES = ("left", "middle", "right")
_TIMES = 5
_MIN_PIXELS = 10
_CROPS, _REFERENCES, _ZOOMED, _SOFT = 0.25, 0.12, 0.3, 0.4
_SIDES = {2: ("left", "right"), 3: SIDES}


@dataclass(frozen=True)
class Thing:
    """A subject, or a part of a person, as far as it is visible."""

    label: str
    seen_YX: NDArray[np.bool_]
    colours: tuple[str, ...] = ()
    """Phrases of its own colours: "red" for a red dog, "in a red shirt" for a person."""
    whole: bool = True
    """Whether it is a subject; False for a part."""


@dataclass(frozen=True)
class Shown:
    """A picture, uint8 RGB [Y, X, 3], and what is to be seen in it."""

    picture_YX3: NDArray[np.uint8]
    things: tuple[Thing, ...]
    around: int | None = None
    """Which thing the picture was cut around."""


@dataclass(frozen=True)
class Question:
    """A phrase and its answer: one mask [Y, X] for each thing that it names."""

    phrase: str
    answers: tuple[NDArray[np.bool_], ...]


def show(world: PuppetWorld, index: int, rng: np.random.Generator, *, varied: bool = True) -> Shown:
    """Picture number `index` of a world.

    Without `varied` it is a whole frame as it was drawn; with it, some are pieces of frames, reference pictures, or soft.
    """
    scene = draw_scene(
        Random(f"{world.split}/{world.seed}/{index}"), world.split, world.width / world.height, Wishes()
    )
    if varied and rng.random() < _REFERENCES:
        return _softened(_reference(world, scene, rng), rng)
    shown = frame_of(scene, world.height, world.width, int(rng.integers(_TIMES)))
    if not varied:
        return shown
    wholes = [i for i, thing in enumerate(shown.things) if thing.whole and thing.seen_YX.sum() > 60]
    draw = rng.random()
    if wholes and draw < _CROPS:
        shown = cut_around(shown, wholes[rng.integers(len(wholes))], float(rng.uniform(0.04, 0.2)))
    elif draw < _CROPS + _ZOOMED:
        shown = _zoomed(shown, rng)
    return _softened(shown, rng)


def frame_of(scene: Scene, height: int, width: int, number: int) -> Shown:
    """One of five frames of a scene, spread over it, whole."""
    drawn = render(scene, height, width, _TIMES)
    things = []
    for actor, masks_FYX in zip(scene.actors, drawn.masks_FYX, strict=True):
        pose = pose_at(actor.motion, number / (_TIMES - 1))
        pose = pose._replace(x=pose.x - scene.pan * (number / (_TIMES - 1) - 0.5))
        things += _with_parts(actor.look, pose, masks_FYX[number])
    return Shown(
        drawn.frames_FYX3[number], tuple(thing for thing in things if thing.seen_YX.sum() >= _MIN_PIXELS)
    )


def part_mask(look: Person, pose: Pose, seen_YX: NDArray[np.bool_], part: str) -> NDArray[np.bool_]:
    """Where a part ("head", "hat", "shirt") of a person in a pose is visible, given where the person is."""
    height, width = seen_YX.shape
    pixels = np.zeros((height, width, 4), np.uint8)
    canvas = canvas_on(pixels)
    canvas.scale(height, height)
    draw_subject(Brush(canvas, highlight=part), look, pose, height)
    mask: NDArray[np.bool_] = (pixels[..., 0] >= 128) & seen_YX
    return mask


def cut_around(shown: Shown, number: int, margin: float) -> Shown:
    """The picture around the box of a thing, with a margin on each side in lengths of the box's long side."""
    rows, columns = window_around(box_of(shown.things[number].seen_YX), shown.picture_YX3.shape[:2], margin)
    return _windowed(replace(shown, around=number), rows, columns)


def window_around(
    box: tuple[float, float, float, float], size: tuple[int, ...], margin: float
) -> tuple[slice, slice]:
    """(rows, columns) of a box and its margin, within a picture of `size` (height, width)."""
    top, left, bottom, right = box
    grown = margin * max(bottom - top, right - left)
    return (
        slice(max(0, int(top - grown)), min(size[0], int(bottom + grown) + 1)),
        slice(max(0, int(left - grown)), min(size[1], int(right + grown) + 1)),
    )


def box_of(mask_YX: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The tight box (top, left, bottom, right), half-open, of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask_YX.any(axis=1)), np.flatnonzero(mask_YX.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def questions(shown: Shown, count: int, rng: np.random.Generator) -> list[Question]:
    """`count` phrases about a picture, about one in four of which names nothing in it."""
    asked = []
    for number in range(count):
        if shown.around is not None and number == 0:
            asked.append(Question(SUBJECT, (shown.things[shown.around].seen_YX,)))
        elif not shown.things or rng.random() < 0.25:
            asked.append(_absent(shown, rng))
        else:
            asked.append(_present(shown, rng))
    return asked


def captioned(shown: Shown, number: int, rng: np.random.Generator) -> Question:
    """A thing as captions name it: article and class, with its side if others are there, which makes the phrase its own."""
    whole = _ranked(shown)
    thing = shown.things[number]
    side = f" on the {_side(whole, number)}" if len(whole) > 1 else ""
    side = side.replace("on the middle", "in the middle")
    return Question(f"{('a', 'the')[rng.integers(2)]} {thing.label}{side}", (thing.seen_YX,))


def sides_of(shown: Shown) -> dict[int, str]:
    """The side of each subject, by its number among the things; empty where there are not two or three of them."""
    ranked = _ranked(shown)
    return {number: _side(ranked, number) for number in ranked} if len(ranked) in _SIDES else {}


def _with_parts(look: Look, pose: Pose, seen_YX: NDArray[np.bool_]) -> list[Thing]:
    if isinstance(look, Person):
        bottom = f"in a {look.bottom} skirt" if look.bottom_style == "skirt" else f"in {look.bottom} trousers"
        things = [Thing(look.label, seen_YX, (f"in a {look.shirt} shirt", bottom))]
        for part, colour in (("head", ""), ("hat", look.hat), ("shirt", look.shirt)):
            if part != "hat" or look.hat_style != "none":
                mask = part_mask(look, pose, seen_YX, part)
                things.append(Thing(part, mask, (colour,) if colour else (), whole=False))
        return things
    return [Thing(look.label, seen_YX, (look.main,) if isinstance(look, Creature) else ())]


def _reference(world: PuppetWorld, scene: Scene, rng: np.random.Generator) -> Shown:
    """A cut-out reference picture of the first actor on a wall, or on the scene without actors."""
    look = scene.actors[0].look
    chance = Random(int(rng.integers(2**31)))
    cut = pictures.cross_reference(chance, look, world.height, world.split).image
    while cut.shape[2] == 3:
        cut = pictures.cross_reference(chance, look, world.height, world.split).image
    height, width = cut.shape[:2]
    if rng.random() < 0.5:
        plate = Image.fromarray(render(scene, world.height, world.width, 1).plate_YX3)
        behind = np.asarray(plate.resize((width, height), Image.Resampling.BILINEAR)).astype(float)
    else:
        behind = np.broadcast_to(rng.uniform(130, 255, 3), (height, width, 3))
    alpha = cut[..., 3:] / 255.0
    picture = np.rint(cut[..., :3] * alpha + behind * (1 - alpha)).astype(np.uint8)
    colours = _with_parts(look, Pose(0, 0, 1), np.zeros((16, 16), bool))[0].colours
    return Shown(picture, (Thing(look.label, cut[..., 3] >= 128, colours),), around=0)


def _zoomed(shown: Shown, rng: np.random.Generator) -> Shown:
    height, width = shown.picture_YX3.shape[:2]
    share = rng.uniform(0.6, 1.0, 2)
    top, left = rng.integers(1 + int(height * (1 - share[0]))), rng.integers(1 + int(width * (1 - share[1])))
    return _windowed(
        shown, slice(top, top + int(height * share[0])), slice(left, left + int(width * share[1]))
    )


def _windowed(shown: Shown, rows: slice, columns: slice) -> Shown:
    things = tuple(replace(thing, seen_YX=thing.seen_YX[rows, columns]) for thing in shown.things)
    kept = [i for i, thing in enumerate(things) if thing.seen_YX.sum() >= _MIN_PIXELS]
    around = kept.index(shown.around) if shown.around in kept else None
    return Shown(
        np.ascontiguousarray(shown.picture_YX3[rows, columns]), tuple(things[i] for i in kept), around
    )


def _softened(shown: Shown, rng: np.random.Generator) -> Shown:
    """As generated or compressed frames are: some smaller and stretched again."""
    if rng.random() >= _SOFT:
        return shown
    image = Image.fromarray(shown.picture_YX3)
    factor = rng.uniform(0.4, 1.0)
    size = max(2, round(image.width * factor)), max(2, round(image.height * factor))
    soft = image.resize(size, Image.Resampling.BOX).resize(image.size, Image.Resampling.BILINEAR)
    return replace(shown, picture_YX3=np.asarray(soft))


def _ranked(shown: Shown) -> list[int]:
    """Numbers of the subjects from left to right."""
    whole = [i for i, thing in enumerate(shown.things) if thing.whole]
    return sorted(whole, key=lambda i: float(np.flatnonzero(shown.things[i].seen_YX.any(axis=0)).mean()))


def _side(ranked: Sequence[int], number: int) -> str:
    return _SIDES[len(ranked)][ranked.index(number)]


def _worded(noun: str, rng: np.random.Generator, colour: str = "", side: str = "") -> str:
    noun = "picture" if noun == STICKER and rng.random() < 0.5 else noun
    noun = "face" if noun == "head" and rng.random() < 0.5 else noun
    size = ("small ", "big ")[rng.integers(2)] if rng.random() < 0.08 and not colour else ""
    before, after = (
        (f"{colour} ", "") if colour and " " not in colour else ("", f" {colour}" if colour else "")
    )
    words = f"{size}{before}{noun}{after}"
    article = ("", "the ", "an " if words[0] in "aeiou" else "a ")[rng.integers(3)]
    place = f" in the {side}" if side == "middle" else f" on the {side}" if side else ""
    return article + words + place


def _present(shown: Shown, rng: np.random.Generator) -> Question:
    thing = shown.things[rng.integers(len(shown.things))]
    draw, ranked = rng.random(), _ranked(shown)
    if thing.whole and draw < 0.35 and 1 < len(ranked) <= 3:
        number = next(i for i, other in enumerate(shown.things) if other is thing)
        colour = thing.colours[rng.integers(len(thing.colours))] if thing.colours and draw < 0.05 else ""
        return Question(_worded(thing.label, rng, colour, _side(ranked, number)), (thing.seen_YX,))
    if thing.whole and draw < 0.42 and len(ranked) == 1:
        return Question(_worded(thing.label, rng, "", SIDES[rng.integers(3)]), (thing.seen_YX,))
    if thing.colours and draw < 0.62:
        colour = thing.colours[rng.integers(len(thing.colours))]
        return Question(_worded(thing.label, rng, colour), _named(shown, (thing.label,), colour))
    if thing.whole and draw < 0.72:
        group = [name for name, labels in GROUPS.items() if thing.label in labels]
        name = group[rng.integers(len(group))]
        return Question(_worded(name, rng), _named(shown, GROUPS[name]))
    return Question(_worded(thing.label, rng), _named(shown, (thing.label,)))


def _absent(shown: Shown, rng: np.random.Generator) -> Question:
    """A class that is not there, a colour that its things do not have, or a side on which another thing is."""
    there = {thing.label for thing in shown.things}
    ranked = _ranked(shown)
    draw = rng.random()
    if draw < 0.25 and 1 < len(ranked) <= 3:
        number = ranked[rng.integers(len(ranked))]
        side = _side(ranked, number)
        others = sorted({shown.things[i].label for i in ranked} - {shown.things[number].label})
        if others:
            return Question(_worded(others[rng.integers(len(others))], rng, "", side), ())
    coloured = [thing for thing in shown.things if thing.colours and " " not in thing.colours[0]]
    if draw < 0.5 and coloured:
        label = coloured[rng.integers(len(coloured))].label
        owned = {colour for thing in coloured if thing.label == label for colour in thing.colours}
        others = sorted(set(_PLAIN_COLOURS) - owned)
        colour = others[rng.integers(len(others))]
        return Question(_worded(label, rng, colour), ())
    away = [label for label in (*LABELS, "hat") if label not in there]
    return Question(_worded(away[rng.integers(len(away))], rng), ())


_PLAIN_COLOURS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "brown", "white")


def _named(shown: Shown, labels: Sequence[str], colour: str = "") -> tuple[NDArray[np.bool_], ...]:
    return tuple(
        thing.seen_YX
        for thing in shown.things
        if thing.label in labels and (not colour or colour in thing.colours)
    )
