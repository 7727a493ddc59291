"""Who and what can appear: looks of people, animals, objects, stickers, clothing and settings, and the split each belongs to.

A look is a frozen record of strings; its identity is the record joined with slashes. Colour combinations are dealt to the splits like a
Latin square: every class and nearly every colour occurs in every split, but no combination (so no identity) occurs in two.
"""

from dataclasses import astuple, dataclass, fields, replace
from random import Random
from typing import Literal

from anyref.samples import Kind
from anyref.worlds.brush import Colour
from anyref.worlds.photographs import OUTLINES, PHOTOGRAPHS, TONES, WINDOWS

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

COLOURS: dict[str, Colour] = {
    "red": (222, 48, 52),
    "orange": (248, 136, 28),
    "yellow": (250, 208, 40),
    "green": (52, 160, 68),
    "lime": (166, 214, 52),
    "teal": (22, 170, 176),
    "blue": (42, 92, 214),
    "purple": (132, 62, 186),
    "pink": (246, 122, 178),
    "brown": (132, 80, 46),
    "grey": (122, 126, 142),
    "white": (246, 243, 236),
}
SKINS: dict[str, Colour] = {
    "light": (255, 216, 186),
    "tan": (232, 178, 132),
    "dark": (158, 102, 68),
    "deep": (108, 68, 48),
}
HAIRS: dict[str, Colour] = {
    "blond": (244, 204, 92),
    "ginger": (216, 104, 40),
    "chestnut": (112, 66, 38),
    "ink": (44, 38, 46),
    "grey": (188, 188, 196),
}
HAIR_STYLES: dict[str, tuple[str, ...]] = {
    "man": ("short", "curly", "beard"),
    "woman": ("long", "bun", "curly"),
    "boy": ("short", "curly"),
    "girl": ("pigtails", "long"),
}
PATTERNS = ("belly", "spots", "stripes")
SHIRTS = ("plain", "striped", "dotted")
HATS = ("cap", "beanie", "cone", "tall")

PEOPLE = ("man", "woman", "boy", "girl")
ANIMALS = (
    "dog", "cat", "bear", "rabbit", "lion", "frog", "penguin", "elephant", "giraffe", "bird", "fish", "turtle",
)  # fmt: skip
OBJECTS = (
    "car", "boat", "ball", "balloon", "house", "tree", "rocket", "cup", "robot", "gift", "flower", "umbrella",
)  # fmt: skip
STICKER = "sticker"
SETTINGS = (
    "beach", "meadow", "forest", "street", "desert", "snow", "room", "stage", "sea", "space", "mountains",
)  # fmt: skip
LABELS: tuple[str, ...] = (*PEOPLE, *ANIMALS, *OBJECTS, STICKER)

_NUM_LOTS = 6
_LOT_OF_SPLIT: dict[Split, tuple[int, ...]] = {"train": (0, 1, 2, 3), "validation": (4,), "test": (5,)}
_COLOUR_NAMES = tuple(COLOURS)


@dataclass(frozen=True)
class Look:
    """What something looks like; a subclass for each kind of thing."""

    label: str

    @property
    def identity(self) -> str:
        """All traits joined with slashes: equal if and only if the looks are."""
        return "/".join(astuple(self))


@dataclass(frozen=True)
class Garment(Look):
    """A shirt or a hat; label "shirt" or "hat"."""

    style: str
    colour: str


@dataclass(frozen=True)
class Person(Look):
    """A person: skin, hair, shirt, trousers or skirt, and perhaps a hat (style "none" without) and glasses."""

    skin: str
    hair_style: str
    hair: str
    shirt_style: str
    shirt: str
    bottom_style: str
    bottom: str
    hat_style: str
    hat: str
    glasses: str


@dataclass(frozen=True)
class Creature(Look):
    """An animal or an object: main colour, second colour, pattern (objects: "plain")."""

    main: str
    second: str
    pattern: str


@dataclass(frozen=True)
class Sticker(Look):
    """A cut-out of a photograph with a white border."""

    photograph: str
    window: str
    mirrored: str
    tone: str
    outline: str


@dataclass(frozen=True)
class Setting(Look):
    """A place: variants of sky, ground and features, and the arrangement; label is one of SETTINGS."""

    sky: str
    ground: str
    feature: str
    layout: str


NUM_SKIES, NUM_GROUNDS, NUM_FEATURES, NUM_LAYOUTS = 6, 3, 4, 6


def kind_of(label: str) -> Kind:
    """The kind of a label."""
    if label in PEOPLE:
        return "person"
    if label in ANIMALS:
        return "animal"
    if label in SETTINGS:
        return "background"
    return "clothing" if label in ("shirt", "hat") else "object"


def look_of(identity: str) -> Look:
    """The look that an identity string names (inverse of `Look.identity`)."""
    parts = identity.split("/")
    label = parts[0]
    if label in PEOPLE:
        return Person(*parts)
    if label in ("shirt", "hat"):
        return Garment(*parts)
    if label == STICKER:
        return Sticker(*parts)
    if label in SETTINGS:
        return Setting(*parts)
    if label in LABELS and len(parts) == len(fields(Creature)):
        return Creature(*parts)
    raise ValueError(
        f"{identity!r} is not an identity of this world; take Subject.identity of one of its clips."
    )


def split_of(look: Look) -> Split:
    """The one split in which a look occurs."""
    if isinstance(look, Sticker):
        return PHOTOGRAPHS[look.photograph]
    for split in SPLITS:
        if _lot(look) in _LOT_OF_SPLIT[split]:
            return split
    raise AssertionError(f"lot of {look} belongs to no split")


def _lot(look: Look) -> int:
    if isinstance(look, Person):
        return _lot(Garment("shirt", look.shirt_style, look.shirt))
    if isinstance(look, Garment):
        styles = SHIRTS if look.label == "shirt" else HATS
        return (_COLOUR_NAMES.index(look.colour) + 2 * styles.index(look.style)) % _NUM_LOTS
    if isinstance(look, Creature):
        start = LABELS.index(look.label)
        return (_COLOUR_NAMES.index(look.main) + _COLOUR_NAMES.index(look.second) + start) % _NUM_LOTS
    assert isinstance(look, Setting)
    return (int(look.sky) + 2 * int(look.ground) + int(look.feature) + SETTINGS.index(look.label)) % _NUM_LOTS


def draw_look(rng: Random, label: str, split: Split, hat: bool | None = None) -> Look:
    """A random look of a label from the split; `hat` forces a person to wear one or none."""
    while True:
        look = _draw_any(rng, label, split, hat)
        if split_of(look) == split:
            return look


def draw_lookalike(rng: Random, look: Look, split: Split) -> Look:
    """Another look of the split that shares most traits with this one: another class in the same colours, another pattern, another hair ..."""
    while True:
        changed = _with_one_change(rng, look, split)
        if changed != look and split_of(changed) == split:
            return changed


def _with_one_change(rng: Random, look: Look, split: Split) -> Look:
    if isinstance(look, Creature):
        pattern = rng.choice(PATTERNS) if look.label in ANIMALS else "plain"
        change = rng.random()
        if change < 0.2:
            return replace(look, main=look.second, second=look.main, pattern=pattern)
        if change < 0.6:
            colour = rng.choice([name for name in _COLOUR_NAMES if name not in (look.main, look.second)])
            return replace(look, **{rng.choice(("main", "second")): colour})
        label = rng.choice((*ANIMALS, *OBJECTS))
        if (label in ANIMALS) != (look.label in ANIMALS):
            pattern = rng.choice(PATTERNS) if label in ANIMALS else "plain"
        return Creature(label, look.main, look.second, pattern)
    if isinstance(look, Person):
        other = draw_look(rng, look.label, split)
        assert isinstance(other, Person)
        trait = rng.choice(("skin", "hair", "bottom", "hat", "label"))
        if trait == "label":
            label = rng.choice(PEOPLE)
            skirts = label in ("woman", "girl")
            return replace(
                look,
                label=label,
                hair_style=rng.choice(HAIR_STYLES[label]),
                bottom_style=look.bottom_style if skirts else "trousers",
            )
        if trait == "hat":
            return replace(look, hat_style=other.hat_style, hat=other.hat)
        return replace(look, **{trait: getattr(other, trait)})
    return draw_look(rng, look.label, split)


def _draw_any(rng: Random, label: str, split: Split, hat: bool | None) -> Look:
    if label in PEOPLE:
        return _draw_person(rng, label, split, hat)
    if label in ("shirt", "hat"):
        return Garment(label, rng.choice(SHIRTS if label == "shirt" else HATS), rng.choice(_COLOUR_NAMES))
    if label in SETTINGS:
        counts = (NUM_SKIES, NUM_GROUNDS, NUM_FEATURES, NUM_LAYOUTS)
        return Setting(label, *(str(rng.randrange(count)) for count in counts))
    if label == STICKER:
        names = [name for name, owner in PHOTOGRAPHS.items() if owner == split]
        mirrored = rng.choice(("no", "yes"))
        return Sticker(
            label, rng.choice(names), rng.choice(WINDOWS), mirrored, rng.choice(TONES), rng.choice(OUTLINES)
        )
    main, second = rng.sample(_COLOUR_NAMES, 2)
    return Creature(label, main, second, rng.choice(PATTERNS) if label in ANIMALS else "plain")


def _draw_person(rng: Random, label: str, split: Split, hat: bool | None) -> Person:
    female = label in ("woman", "girl")
    wears_hat = rng.random() < 0.35 if hat is None else hat
    garment = draw_look(rng, "hat", split) if wears_hat else Garment("hat", "none", "none")
    shirt = draw_look(rng, "shirt", split)
    assert isinstance(garment, Garment)
    assert isinstance(shirt, Garment)
    return Person(
        label,
        rng.choice(tuple(SKINS)),
        rng.choice(HAIR_STYLES[label]),
        rng.choice(tuple(HAIRS)),
        shirt.style,
        shirt.colour,
        rng.choice(("skirt", "trousers")) if female else "trousers",
        rng.choice([name for name in _COLOUR_NAMES if name != shirt.colour]),
        garment.style,
        garment.colour,
        rng.choice(("yes", "no", "no")),
    )


def appearance(look: Look) -> tuple[tuple[Colour, float], ...]:
    """The colours of a look with the share each has of what one sees; for telling how unlike two looks are."""
    if isinstance(look, Person):
        hat = COLOURS.get(look.hat, HAIRS[look.hair])
        return (
            (COLOURS[look.shirt], 1.0),
            (COLOURS[look.bottom], 0.8),
            (HAIRS[look.hair], 0.6),
            (hat, 0.7),
            (SKINS[look.skin], 0.6),
        )
    if isinstance(look, Creature):
        return ((COLOURS[look.main], 1.0), (COLOURS[look.second], 0.8))
    if isinstance(look, Garment):
        return ((COLOURS[look.colour], 1.0),)
    assert isinstance(look, Setting)
    return tuple(
        ((100 * int(variant), 0, 0), 1.0) for variant in (look.sky, look.ground, look.feature, look.layout)
    )
