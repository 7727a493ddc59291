"""Captions from a grammar with several wordings; every subject has a phrase that occurs once.

Captions name class, action, side, setting and time of day. About one in seven names one colour; the others never do, so that what things
look like can come from the references only.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from random import Random

from anyref.worlds.identities import COLOURS, LABELS, PEOPLE, STICKER, Creature, Person
from anyref.worlds.scene import Actor, Scene

COLOUR_SHARE = 0.15
_Verb = tuple[str, str, str]
"""Finite, -ing, and base form."""

_VERBS: dict[str, tuple[_Verb, ...]] = {
    "walk": (("walks", "walking", "walk"), ("goes for a walk", "going for a walk", "go for a walk")),
    "swim": (("swims", "swimming", "swim"),),
    "fly": (("flies", "flying", "fly"),),
    "roll": (("rolls", "rolling", "roll"),),
    "drive": (("drives", "driving", "drive"),),
    "sail": (("sails", "sailing", "sail"),),
    "slide": (("slides", "sliding", "slide"), ("moves", "moving", "move")),
    "jump": (("jumps", "jumping", "jump"), ("jumps up and down", "jumping up and down", "jump up and down")),
    "spin": (("spins around", "spinning around", "spin around"), ("turns upside down", "turning upside down", "turn upside down")),
    "grow": (("grows", "growing", "grow"), ("gets bigger", "getting bigger", "get bigger")),
    "shrink": (("shrinks", "shrinking", "shrink"), ("gets smaller", "getting smaller", "get smaller")),
    "dance": (("dances", "dancing", "dance"), ("sways from side to side", "swaying from side to side", "sway from side to side")),
    "float": (("floats up", "floating up", "float up"), ("rises into the air", "rising into the air", "rise into the air")),
    "fall": (("falls over", "falling over", "fall over"), ("falls down", "falling down", "fall down")),
    "stand": (("stands still", "standing still", "stand still"), ("does not move", "not moving", "stay still")),
    "wave": (("waves", "waving", "wave"), ("waves hello", "waving hello", "wave hello")),
    "bow": (("bows", "bowing", "bow"), ("takes a bow", "taking a bow", "take a bow")),
    "nod": (("nods", "nodding", "nod"), ("nods yes", "nodding yes", "nod yes")),
    "follow": (("follows", "following", "follow"), ("follows behind", "following behind", "follow behind")),
    "swap": (("swap places", "swapping places", "swap places"), ("change places", "changing places", "change places")),
}  # fmt: skip
_DIRECTED = ("walk", "swim", "fly", "roll", "drive", "sail", "slide")

_SETTINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "beach": (("on", "a beach"), ("at", "the beach")),
    "meadow": (("in", "a meadow"), ("on", "the grass")),
    "forest": (("in", "a forest"), ("in", "the woods")),
    "street": (("on", "a city street"), ("on", "a street")),
    "desert": (("in", "a desert"), ("in", "the desert")),
    "snow": (("in", "the snow"), ("on", "a snow field")),
    "room": (("in", "a room"), ("in", "a living room")),
    "stage": (("on", "a stage"), ("on", "a theater stage")),
    "sea": (("under", "the sea"), ("under", "the water")),
    "space": (("in", "outer space"), ("in", "space")),
    "mountains": (("in", "the mountains"), ("near", "the mountains")),
}
_TIMES: dict[bool, tuple[str, ...]] = {
    False: ("by day", "during the day", "in the daytime"),
    True: ("at night", "by night", "in the dark of night"),
}
_SIDES: dict[int, tuple[str, ...]] = {
    1: ("",),
    2: ("on the left", "on the right"),
    3: ("on the left", "in the middle", "on the right"),
}
_TEMPLATES = (
    "{finite} {place} {time}.",
    "{time}, {finite} {place}.",
    "{place} {time}, {finite}.",
    "{ing} {place} {time}.",
    "{place} {time}, {ing}.",
    "we see {base} {place} {time}.",
    "watch {base} {place} {time}.",
    "it is {noon}. {finite} {place}.",
    "{finite} {place}. it is {noon}.",
)
_NOUNS: dict[str, tuple[str, ...]] = {STICKER: ("sticker", "picture")}
VERBS, PLACES, TIMES, SIDES, NOUNS, DIRECTED = _VERBS, _SETTINGS, _TIMES, _SIDES, _NOUNS, _DIRECTED
"""The grammar's tables, for whoever reads captions or writes them without a scene."""


@dataclass(frozen=True)
class Caption:
    """A caption and the phrases in it: one per actor, of the setting, and of the garment if the scene has one."""

    text: str
    phrases: tuple[str, ...]
    setting: str
    garment: str | None


def write_caption(rng: Random, scene: Scene) -> Caption:
    """A random wording of a scene."""
    coloured = rng.randrange(len(scene.actors)) if rng.random() < COLOUR_SHARE and not scene.garment else None
    ranks = sorted(range(len(scene.actors)), key=lambda i: scene.actors[i].motion.start.x)
    sides = {actor: _SIDES[len(ranks)][rank] for rank, actor in enumerate(ranks)}
    definite = len(scene.actors) > 1 and rng.random() < 0.7
    phrases = tuple(
        _phrase(rng, actor, sides[i], definite, coloured == i) for i, actor in enumerate(scene.actors)
    )
    preposition, setting = rng.choice(_SETTINGS[scene.setting.label])
    garment, subjects = None, list(phrases)
    if scene.garment:
        garment = f"a {scene.garment}"
        subjects[0] += rng.choice((" wearing ", " with ", " in ")) + garment
    verbs = [_verb(rng, actor) for actor in scene.actors]
    if scene.actors[0].motion.action == "swap":
        verbs = verbs[:1] * len(verbs)
    text = rng.choice(_TEMPLATES).format(
        finite=_clause(subjects, verbs, 0),
        ing=_clause(subjects, verbs, 1),
        base=_clause(subjects, verbs, 2),
        place=f"{preposition} {setting}",
        time=rng.choice(_TIMES[scene.night]),
        noon="night" if scene.night else "day",
    )
    for phrase in (*phrases, setting, *([garment] if garment else [])):
        assert text.count(phrase) == 1, (phrase, text)
    return Caption(text, phrases, setting, garment)


@lru_cache(maxsize=1)
def vocabulary() -> tuple[str, ...]:
    """All words that captions can contain, sorted."""
    pieces = chain(
        chain.from_iterable(form for verbs in _VERBS.values() for form in verbs),
        (f"{preposition} {name}" for names in _SETTINGS.values() for preposition, name in names),
        chain.from_iterable((*_TIMES.values(), *_SIDES.values(), *_NOUNS.values())),
        (re.sub(r"\{\w+\}", " ", template) for template in _TEMPLATES),
        LABELS,
        COLOURS,
        (
            "a an the is are and while with wearing in hat shirt small big day night to left right trousers skirt",
        ),
    )
    return tuple(sorted(set(re.findall(r"[a-z]+", " ".join(pieces)))))


def unknown_words(prompt: str) -> tuple[str, ...]:
    """The words of a prompt that no caption contains, in order."""
    known = set(vocabulary())
    return tuple(word for word in re.findall(r"[\w'-]+", prompt.lower()) if word not in known)


def _phrase(rng: Random, actor: Actor, side: str, definite: bool, coloured: bool) -> str:
    look = actor.look
    noun = rng.choice(_NOUNS.get(look.label, (look.label,)))
    adjective, clothes = "", ""
    if coloured and isinstance(look, Person):
        clothes = rng.choice((f" in a {look.shirt} shirt", f" in {look.bottom} trousers"))
        if look.bottom_style == "skirt" and "trousers" in clothes:
            clothes = f" in a {look.bottom} skirt"
        clothes = clothes.replace(" a orange", " an orange")
    elif coloured and isinstance(look, Creature):
        adjective = look.main + " "
    elif rng.random() < 0.15 and actor.motion.action not in ("grow", "shrink") and noun not in PEOPLE:
        few = actor.motion.start.scale < 0.45
        adjective = "small " if few else "big " if actor.motion.start.scale > 0.5 else ""
    words = f"{adjective}{noun}{clothes}"
    article = "the" if definite else "an" if words[0] in "aeiou" else "a"
    return f"{article} {words} {side}".strip()


def _verb(rng: Random, actor: Actor) -> _Verb:
    motion = actor.motion
    finite, ing, base = rng.choice(_VERBS[motion.action])
    if motion.action in _DIRECTED and rng.random() < 0.6:
        way = " to the right" if motion.end_x > motion.start.x else " to the left"
        return finite + way, ing + way, base + way
    return finite, ing, base


def _clause(subjects: list[str], verbs: list[_Verb], form: int) -> str:
    """All subjects with their verbs; `form` 0 finite, 1 -ing, 2 base."""
    plural = len(subjects) > 1 and len(set(verbs)) == 1
    if plural:
        if len(subjects) == 2:
            names = " and ".join(subjects)
        else:
            names = ", ".join(subjects[:-1]) + " and " + subjects[-1]
        return f"{names} {'are ' + verbs[0][1] if form == 1 else verbs[0][2]}"
    parts = [
        f"{name} {'is ' if form == 1 else ''}{verb[form]}" for name, verb in zip(subjects, verbs, strict=True)
    ]
    if len(parts) <= 2:
        return " and ".join(parts)
    return ", ".join(parts[:-1]) + " and " + parts[-1]
