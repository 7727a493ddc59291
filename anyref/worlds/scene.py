"""What happens in a clip, before drawing: setting, light, camera, and who does what where."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from anyref.worlds import actions
from anyref.worlds.actions import Motion, Pose
from anyref.worlds.identities import (
    ANIMALS,
    LABELS,
    OBJECTS,
    PEOPLE,
    SETTINGS,
    STICKER,
    Look,
    Person,
    Setting,
    Split,
    draw_look,
)

_REST_LIFT = {"fish": 0.08, "balloon": 0.06}
_SCALES = {1: (0.56, 0.7), 2: (0.48, 0.6), 3: (0.38, 0.46)}
_PLACES = {1: ((0.5, 0.14),), 2: ((0.26, 0.04), (0.74, 0.04)), 3: ((0.17, 0.02), (0.5, 0.03), (0.83, 0.02))}
_NARROW = (*PEOPLE, "giraffe", "rabbit", "balloon", "flower", "tree", "penguin")
"""Labels that fill little of the frame's width, so are drawn taller."""
_TRAVELLING = ("walk", "swim", "fly", "roll", "drive", "sail", "slide")


@dataclass(frozen=True)
class Wishes:
    """What a clip must be like; None leaves it to chance."""

    num_subjects: int | None = None
    same_kind: bool | None = None
    """Whether two subjects (or all three) share their label."""
    background_reference: bool | None = None
    clothing_reference: bool | None = None
    """Needs one subject, a person."""
    actions: Sequence[str] | None = None
    """Words of `ACTIONS`; each subject does one of them."""
    labels: Sequence[str] | None = None
    """Words of `LABELS`; each subject has one of them."""

    def __post_init__(self) -> None:
        if self.num_subjects not in (None, 1, 2, 3):
            raise ValueError(
                f"num_subjects is {self.num_subjects}; a clip has 1 to 3 subjects: pass 1, 2, 3 or None."
            )
        for name, given, known in (
            ("actions", self.actions, actions.ACTIONS),
            ("labels", self.labels, LABELS),
        ):
            unknown = [word for word in given or () if word not in known]
            if unknown or (given is not None and len(given) == 0):
                raise ValueError(
                    f"{name} has {unknown or 'no word'}; pass some of {', '.join(known)}, or None."
                )
        if self.clothing_reference and (self.num_subjects in (2, 3) or self.same_kind):
            raise ValueError(
                "clothing_reference needs a clip of one person; leave num_subjects and same_kind unset."
            )
        if self.same_kind is False and self.labels and len(set(self.labels)) < (self.num_subjects or 1):
            raise ValueError(
                f"labels has {len(set(self.labels))} word(s) for {self.num_subjects} unlike subjects; name more labels."
            )
        if self.same_kind and self.num_subjects == 1:
            raise ValueError(
                "same_kind needs at least two subjects; pass num_subjects=2 or 3, or leave it unset."
            )


@dataclass(frozen=True)
class Actor:
    """Somebody or something that moves."""

    look: Look
    motion: Motion


@dataclass(frozen=True)
class Scene:
    """A whole clip, drawn from chance; actors from left to right except that a leader comes before its follower."""

    setting: Setting
    night: bool
    actors: tuple[Actor, ...]
    pan: float
    """How far the camera moves to the right over the clip, in frame heights."""
    background_reference: bool
    garment: str | None
    """"hat" or "shirt" if the only actor's garment is a reference of its own."""


def draw_scene(rng: Random, split: Split, aspect: float, wishes: Wishes) -> Scene:
    """A random scene that fulfils the wishes."""
    dressed = rng.random() < 0.08
    if wishes.clothing_reference is not None:
        dressed = wishes.clothing_reference
    count = rng.choices((1, 2, 3), (55, 38, 7))[0]
    if wishes.num_subjects is not None:
        count = wishes.num_subjects
    elif wishes.same_kind:
        count = max(count, 2)
    elif wishes.clothing_reference:
        count = 1
    labels, pair = _cast(rng, count, wishes, dressed)
    dressed = dressed and count == 1 and labels[0] in PEOPLE
    garment = rng.choice(("hat", "shirt")) if dressed else None
    looks = _looks(rng, labels, split, garment)
    setting = draw_look(rng, rng.choice(SETTINGS), split)
    assert isinstance(setting, Setting)
    night = rng.random() < 0.35
    acts = (pair, pair) if pair else tuple(_action(rng, label, wishes) for label in labels)
    motions = _pair_motions(rng, labels, pair, aspect) if pair else _motions(rng, labels, acts, aspect)
    pan = rng.choice((-1, 1)) * rng.uniform(0.08, 0.14) if count == 1 and rng.random() < 0.2 else 0.0
    if acts[0] in (*_TRAVELLING, "stand", "fall"):
        pan = 0.0
    background = rng.random() < 0.25
    if wishes.background_reference is not None:
        background = wishes.background_reference
    actors = tuple(Actor(look, motion) for look, motion in zip(looks, motions, strict=True))
    return Scene(setting, night, actors, pan, background, garment)


def _draw_label(rng: Random, pool: Sequence[str] | None) -> str:
    groups = [
        ([label for label in group if pool is None or label in pool], weight)
        for group, weight in ((PEOPLE, 30), (ANIMALS, 36), (OBJECTS, 22), ((STICKER,), 12))
    ]
    group = rng.choices([g for g, _ in groups], [w if g else 0 for g, w in groups])[0]
    return rng.choice(group)


def _cast(rng: Random, count: int, wishes: Wishes, dressed: bool) -> tuple[list[str], str | None]:
    """Labels of the actors, and the pair action if they do one together."""
    pool = wishes.labels
    if wishes.actions is not None:
        alone = {label for label in LABELS if set(actions.possible_actions(label)) & set(wishes.actions)}
        able = LABELS if set(wishes.actions) & set(actions.PAIRS) and count == 2 else tuple(alone)
        pool = [label for label in LABELS if label in able and (pool is None or label in pool)]
        if not pool:
            raise ValueError(
                f"actions {tuple(wishes.actions)} cannot be done by {count} of the labels asked for;"
                " ask for other actions, labels or num_subjects=2 for follow and swap."
            )
    if dressed and (pool is None or set(pool) & set(PEOPLE)):
        pool = [label for label in PEOPLE if pool is None or label in pool]
    same = rng.random() < 1 / 3 if wishes.same_kind is None else wishes.same_kind
    labels = [_draw_label(rng, pool)]
    while len(labels) < count:
        label = labels[0] if same else _draw_label(rng, pool)
        differs = label not in labels or (pool is not None and len(set(pool)) < count)
        if same or differs:
            labels.append(label)
    pair = rng.choice(actions.PAIRS) if rng.random() < 0.25 else None
    if wishes.actions is not None:
        pairs = [action for action in actions.PAIRS if action in wishes.actions]
        singles = [action for action in wishes.actions if action not in actions.PAIRS]
        pair = (
            rng.choice(pairs)
            if pairs and (not singles or rng.random() < len(pairs) / len(wishes.actions))
            else None
        )
    return labels, pair if count == 2 else None


def _looks(rng: Random, labels: list[str], split: Split, garment: str | None) -> list[Look]:
    looks: list[Look] = []
    for label in labels:
        look = draw_look(rng, label, split, True if garment == "hat" else None)
        while any(_alike(look, other) for other in looks):
            look = draw_look(rng, label, split)
        looks.append(look)
    return looks


def _alike(look: Look, other: Look) -> bool:
    if look.label != other.label:
        return False
    if isinstance(look, Person) and isinstance(other, Person):
        return look.shirt == other.shirt or look.bottom == other.bottom
    main = "photograph" if look.label == STICKER else "main"
    return bool(getattr(look, main) == getattr(other, main))


def _action(rng: Random, label: str, wishes: Wishes) -> str:
    possible = actions.possible_actions(label)
    if wishes.actions is not None:
        possible = tuple(action for action in possible if action in wishes.actions)
    weights = [0.6 if action == "stand" else 2.0 if action in _TRAVELLING else 1.0 for action in possible]
    return rng.choices(possible, weights)[0]


def _motions(rng: Random, labels: list[str], acts: tuple[str, ...], aspect: float) -> list[Motion]:
    count = len(labels)
    motions = []
    for label, action, (share, spread) in zip(labels, acts, _PLACES[count], strict=True):
        scale = rng.uniform(*_SCALES[count]) * (1.1 if label in _NARROW else 1.0)
        x = (share + rng.uniform(-spread, spread)) * aspect
        if action in ("jump", "float", "spin", "fly"):
            scale = min(scale, 0.54)
        end_x = x
        if action in _TRAVELLING:
            way = rng.choice((-1, 1)) if count == 1 or share == 0.5 else (1 if share < 0.5 else -1)
            reach = rng.uniform(0.52, 0.6) * aspect if count == 1 else rng.uniform(0.28, 0.36) * aspect
            if count == 1:
                x = aspect / 2 - way * reach / 2
            elif share == 0.5:
                reach *= 0.8
                x -= way * reach / 2
            elif rng.random() < 0.35:
                # Walks outwards instead: begins nearer to the middle, still on its own side.
                x += way * 0.12 * aspect
                way, reach = -way, reach * 0.75
            end_x = x + way * reach
        facing = rng.choice((-1.0, 1.0)) if count == 1 else (1.0 if share < 0.5 else -1.0)
        sense = rng.choice((-1.0, 1.0))
        if action == "fall":
            sense = 1.0 if share < 0.5 or (count == 1 and x < aspect / 2) else -1.0
        start = Pose(x, rng.uniform(0.86, 0.94), scale, _facing(label, facing), _REST_LIFT.get(label, 0.0))
        motions.append(Motion(action, start, end_x, label, rng.uniform(0.9, 1.1), sense))
    return motions


def _pair_motions(rng: Random, labels: list[str], pair: str | None, aspect: float) -> list[Motion]:
    way = rng.choice((-1, 1))
    scales = [rng.uniform(0.46, 0.56) for _ in labels]
    heights = rng.sample((rng.uniform(0.82, 0.86), rng.uniform(0.9, 0.94)), 2)
    if pair == "follow":
        reach = rng.uniform(0.32, 0.38) * aspect
        shares = (0.5 + 0.05 * way, 0.5 - 0.34 * way)
        ends = [share * aspect + way * reach for share in shares]
        kinds = (actions.travel_of(labels[0]), "follow")
    else:
        shares = (0.5 - 0.26 * way, 0.5 + 0.26 * way)
        ends = [shares[1] * aspect, shares[0] * aspect]
        kinds = ("swap", "swap")
    motions = []
    for i, label in enumerate(labels):
        facing = 1.0 if ends[i] > shares[i] * aspect else -1.0
        start = Pose(
            shares[i] * aspect, heights[i], scales[i], _facing(label, facing), _REST_LIFT.get(label, 0.0)
        )
        motions.append(Motion(kinds[i], start, ends[i], label, 1.0, 1.0 - 2.0 * i))
    return motions


def _facing(label: str, facing: float) -> float:
    """Stickers are never mirrored: their mirrored twin is another identity."""
    return 1.0 if label == STICKER else facing
