"""The actions: for each, the pose of a subject in every frame of a clip.

Lengths are in frame heights, time runs from 0 to 1 over the clip, angles are degrees. Motion is large and smooth: at most half a turn a
clip, and nothing faster than three swings, since four frames become one latent frame.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from anyref.worlds.identities import ANIMALS, LABELS, PEOPLE

TRAVELS: dict[str, str] = {
    "fish": "swim", "bird": "fly", "rocket": "fly", "balloon": "fly", "ball": "roll", "car": "drive", "boat": "sail",
}  # fmt: skip
"""How a label moves across the frame; people and other animals walk, other objects slide."""

_COMMON = ("jump", "spin", "grow", "shrink", "dance", "float", "fall", "stand")
_LIVING = ("wave", "bow", "nod")
PAIRS = ("follow", "swap")
ACTIONS = (
    "walk", "swim", "fly", "roll", "drive", "sail", "slide", *_COMMON, *_LIVING, *PAIRS,
)  # fmt: skip

_LEG_SWINGS = 2.5


class Pose(NamedTuple):
    """Where and how a subject is in one frame; the feet are at (x, y) before lift and turn."""

    x: float
    y: float
    scale: float
    """Height of the subject in frame heights."""
    facing: float = 1.0
    """1 looks right, -1 left (mirrored)."""
    lift: float = 0.0
    """Height of the feet above the ground."""
    turn: float = 0.0
    """Rotation around the middle of the body."""
    tilt: float = 0.0
    """Rotation around the feet."""
    stretch: float = 1.0
    """Taller (> 1) or squashed (< 1), keeping the area."""
    stride: float = 0.0
    """Legs apart, -1..1."""
    arm_left: float = 0.1
    """0 hangs down, 1 is up; left as seen."""
    arm_right: float = 0.1
    nod: float = 0.0
    """0 head up, 1 head down."""
    bow: float = 0.0
    """Upper body leant forward."""


@dataclass(frozen=True)
class Motion:
    """An action and its range: from `start` (the pose at rest) to `end_x`."""

    action: str
    start: Pose
    end_x: float
    label: str
    strength: float = 1.0
    """0.85..1.15: how far it goes."""
    sense: float = 1.0
    """1 or -1: which way it turns, which arm."""


def possible_actions(label: str) -> tuple[str, ...]:
    """The actions one subject of this label can do alone."""
    return (travel_of(label), *_COMMON, *(_LIVING if label in PEOPLE or label in ANIMALS else ()))


def travel_of(label: str) -> str:
    """The word for moving across the frame."""
    assert label in LABELS
    return TRAVELS.get(label, "walk" if label in PEOPLE or label in ANIMALS else "slide")


def ease(time: float) -> float:
    """0..1 with soft ends."""
    return time * time * (3 - 2 * time)


def _clamped(time: float, start: float, end: float) -> float:
    return ease(min(max((time - start) / (end - start), 0.0), 1.0))


def pose_at(motion: Motion, time: float) -> Pose:
    """The pose at a time in 0..1."""
    rest = motion.start
    if motion.action in ("walk", "swim", "fly", "roll", "drive", "sail", "slide", "follow", "swap"):
        return _travelling(motion, time)
    if motion.action in _LIVING:
        return _gesture(motion, time)
    strength, sense = motion.strength, motion.sense
    match motion.action:
        case "jump":
            height = abs(math.sin(2 * math.pi * time))
            return rest._replace(
                lift=rest.lift + 0.26 * strength * height,
                stretch=0.9 + 0.16 * height,
                arm_left=0.1 + 0.75 * height,
                arm_right=0.1 + 0.75 * height,
                stride=0.5 * height,
            )
        case "spin":
            return rest._replace(
                turn=180 * sense * ease(time),
                lift=rest.lift + 0.05 * math.sin(math.pi * time),
                arm_left=0.45,
                arm_right=0.45,
            )
        case "grow" | "shrink":
            share = ease(time) if motion.action == "grow" else 1 - ease(time)
            return rest._replace(scale=rest.scale * (0.5 + 0.65 * share))
        case "dance":
            swing = math.sin(4 * math.pi * time) * sense
            return rest._replace(
                x=rest.x + 0.1 * swing,
                tilt=15 * strength * swing,
                lift=rest.lift + 0.03 * swing * swing,
                arm_left=0.45 - 0.45 * swing,
                arm_right=0.45 + 0.45 * swing,
                stride=0.4 * swing,
            )
        case "float":
            rise = ease(time)
            swing = math.sin(2 * math.pi * time) * sense
            room = min(0.42 * strength, rest.y - rest.scale - 0.02)
            return rest._replace(
                lift=rest.lift + room * rise, tilt=7 * swing, arm_left=0.4, arm_right=0.4, nod=0.0
            )
        case "fall":
            drop = _clamped(time, 0.1, 0.75) ** 1.5
            return rest._replace(
                tilt=88 * sense * drop,
                x=rest.x - 0.22 * sense * drop,
                lift=rest.lift + 0.12 * rest.scale * drop,
                arm_left=0.5 * drop + 0.1,
            )
    assert motion.action == "stand"
    return rest


def _travelling(motion: Motion, time: float) -> Pose:
    rest = motion.start
    distance = motion.end_x - rest.x
    progress = 0.7 * time + 0.3 * ease(time)
    x = rest.x + distance * progress
    facing = math.copysign(1.0, distance)
    if motion.action in ("follow", "swap"):
        style = travel_of(motion.label)
        hop = 0.0 if motion.sense > 0 or motion.action == "follow" else 0.1 * math.sin(math.pi * time)
    else:
        style, hop = motion.action, 0.0
    swing = math.sin(2 * math.pi * _LEG_SWINGS * time)
    pose = rest._replace(x=x, facing=facing, lift=rest.lift + hop)
    match style:
        case "walk":
            arms = 0.12 + 0.14 * swing, 0.12 - 0.14 * swing
            return pose._replace(
                stride=swing, lift=pose.lift + 0.025 * abs(swing), arm_left=arms[0], arm_right=arms[1]
            )
        case "swim":
            return pose._replace(turn=9 * swing * facing, lift=pose.lift + 0.04 * swing, stride=swing)
        case "fly":
            wing = 0.5 + 0.5 * swing
            lift = pose.lift + 0.14 + 0.05 * swing
            return pose._replace(lift=lift, arm_left=wing, arm_right=wing)
        case "roll":
            return pose._replace(turn=math.degrees((x - rest.x) / (0.5 * rest.scale)) * facing)
        case "sail":
            return pose._replace(tilt=6 * swing)
        case "drive":
            return pose._replace(lift=pose.lift + 0.008 * (1 + swing), stride=progress * 2)
    return pose._replace(tilt=-4 * facing * math.sin(math.pi * time))


def _gesture(motion: Motion, time: float) -> Pose:
    rest, strength = motion.start, motion.strength
    if motion.action == "wave":
        raised = min(1.0, 5 * time)
        arm = raised * (0.68 + 0.3 * strength * math.sin(4 * math.pi * time))
        tilt = -4.0 * motion.sense * raised
        if motion.sense > 0:
            return rest._replace(arm_right=arm, tilt=tilt)
        return rest._replace(arm_left=arm, tilt=tilt)
    if motion.action == "bow":
        return rest._replace(bow=62 * strength * math.sin(math.pi * _clamped(time, 0.05, 0.95)))
    return rest._replace(nod=0.5 - 0.5 * math.cos(4 * math.pi * time))
