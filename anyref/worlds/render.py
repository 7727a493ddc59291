"""Draws scenes: all frames of a clip on one tall surface, with the mask of every actor.

Each actor has a layer of its own, as tall as the clip, so that compositing and masks cost one operation per actor and not per frame.
"""

import math
from dataclasses import dataclass

import numpy as np
import skia
from numpy.typing import NDArray

from anyref.worlds.actions import Pose, pose_at
from anyref.worlds.animals import draw_animal
from anyref.worlds.brush import Brush
from anyref.worlds.identities import ANIMALS, Creature, Look, Person, Sticker
from anyref.worlds.objects import draw_object
from anyref.worlds.people import draw_person
from anyref.worlds.photographs import draw_sticker
from anyref.worlds.scene import Actor, Scene
from anyref.worlds.settings import MARGIN, NIGHT_TINT, draw_setting
from anyref.worlds.surfaces import canvas_on, image_of, opaque_enough, rgb_of

_DAY_TINT = (1.0, 1.0, 1.0)
_SHADOW = (30, 20, 50)
_LINEAR = skia.SamplingOptions(skia.FilterMode.kLinear, skia.MipmapMode.kNone)


@dataclass(frozen=True)
class Clip:
    """Pixels and masks of a scene."""

    frames_FYX3: NDArray[np.uint8]
    masks_FYX: tuple[NDArray[np.bool_], ...]
    """One per actor: where it is visible."""
    garment_FYX: NDArray[np.bool_] | None
    """Where the garment of the only actor is visible, if the scene names one."""
    plate_YX3: NDArray[np.uint8]
    """The first frame without actors."""


def render(scene: Scene, height: int, width: int, num_frames: int) -> Clip:
    """All frames of a scene."""
    tall = _backdrop(scene, height, width, num_frames)
    plate_YX3 = rgb_of(tall[:height])
    canvas = canvas_on(tall)
    times = [frame / max(num_frames - 1, 1) for frame in range(num_frames)]
    poses = [[_seen(scene, actor, time) for time in times] for actor in scene.actors]
    for actor_poses in poses:
        _shadows(canvas, actor_poses, height)
    order = sorted(range(len(poses)), key=lambda i: (scene.actors[i].motion.start.y, i))
    tint = NIGHT_TINT if scene.night else _DAY_TINT
    solid: dict[int, NDArray[np.bool_]] = {}
    for i in order:
        layer = _layer(scene.actors[i].look, poses[i], (height, width), tint, None)
        canvas.drawImage(image_of(layer), 0, 0)
        solid[i] = opaque_enough(layer).reshape(num_frames, height, width)
    for place, i in enumerate(order):
        for later in order[place + 1 :]:
            solid[i] = solid[i] & ~solid[later]
    garment_FYX = None
    if scene.garment is not None:
        layer = _layer(scene.actors[0].look, poses[0], (height, width), _DAY_TINT, scene.garment)
        garment_FYX = (layer.reshape(num_frames, height, width, 4)[..., 0] >= 128) & solid[0]
    frames_FYX3 = rgb_of(tall).reshape(num_frames, height, width, 3)
    return Clip(frames_FYX3, tuple(solid[i] for i in range(len(poses))), garment_FYX, plate_YX3)


def draw_subject(brush: Brush, look: Look, pose: Pose, size_px: int) -> None:
    """A subject placed by its pose; the canvas's unit must be one frame height. `size_px`: pixels per frame height."""
    canvas = brush.canvas
    canvas.translate(pose.x, pose.y - pose.lift)
    if pose.tilt:
        canvas.rotate(pose.tilt)
    canvas.scale(pose.scale, pose.scale)
    if pose.turn:
        canvas.rotate(pose.turn, 0, -0.47)
    canvas.scale(pose.facing / pose.stretch, pose.stretch)
    if isinstance(look, Person):
        draw_person(brush, look, pose)
    elif isinstance(look, Sticker):
        traits = (look.photograph, look.window, look.mirrored == "yes", look.tone, look.outline)
        draw_sticker(brush, traits, max(16, 8 * math.ceil(0.7 * size_px / 8)))
    else:
        assert isinstance(look, Creature)
        (draw_animal if look.label in ANIMALS else draw_object)(brush, look, pose)


def _seen(scene: Scene, actor: Actor, time: float) -> Pose:
    """The pose in the camera's view."""
    pose = pose_at(actor.motion, time)
    return pose._replace(x=pose.x - scene.pan * (time - 0.5)) if scene.pan else pose


def _backdrop(scene: Scene, height: int, width: int, num_frames: int) -> NDArray[np.uint8]:
    """The setting behind every frame, uint8 [F * Y, X, 4]."""
    aspect = width / height
    if not scene.pan:
        single = np.zeros((height, width, 4), np.uint8)
        canvas = canvas_on(single)
        canvas.scale(height, height)
        draw_setting(Brush(canvas), scene.setting, scene.night, aspect)
        return np.tile(single, (num_frames, 1, 1))
    wide = np.zeros((height, width + 2 * round(MARGIN * height), 4), np.uint8)
    canvas = canvas_on(wide)
    canvas.scale(height, height)
    canvas.translate(MARGIN, 0)
    draw_setting(Brush(canvas), scene.setting, scene.night, aspect)
    tall = np.zeros((num_frames * height, width, 4), np.uint8)
    canvas = canvas_on(tall)
    image = image_of(wide)
    for frame in range(num_frames):
        left = (MARGIN + scene.pan * (frame / max(num_frames - 1, 1) - 0.5)) * height
        source = skia.Rect.MakeXYWH(left, 0, width, height)
        target = skia.Rect.MakeXYWH(0, frame * height, width, height)
        canvas.drawImageRect(image, source, target, _LINEAR)
    return tall


def _shadows(canvas: skia.Canvas, poses: list[Pose], height: int) -> None:
    brush = Brush(canvas)
    for frame, pose in enumerate(poses):
        near = max(0.35, 1.0 - 1.6 * pose.lift)
        lying = abs(math.sin(math.radians(pose.tilt))) if abs(pose.tilt) > 30 else 0.0
        x = (pose.x + 0.45 * pose.scale * math.copysign(lying, pose.tilt)) * height
        y = (min(pose.y, 0.95) + frame) * height
        reach = pose.scale * (0.34 + 0.2 * lying) * near * height
        brush.oval(x, y, reach, 0.16 * reach + 0.012 * height, _SHADOW, round(0.13 * near, 2))
        brush.oval(x, y, 0.75 * reach, 0.11 * reach + 0.008 * height, _SHADOW, round(0.17 * near, 2))


def _layer(
    look: Look,
    poses: list[Pose],
    size: tuple[int, int],
    tint: tuple[float, float, float],
    highlight: str | None,
) -> NDArray[np.uint8]:
    """One actor in all its poses on transparent ground, premultiplied uint8 [F * Y, X, 4]."""
    height, width = size
    layer = np.zeros((len(poses) * height, width, 4), np.uint8)
    canvas = canvas_on(layer)
    brush = Brush(canvas, tint, highlight)
    if len(set(poses)) == 1:
        poses = poses[:1]
    for frame, pose in enumerate(poses):
        depth = canvas.save()
        canvas.clipRect(skia.Rect.MakeXYWH(0, frame * height, width, height))
        canvas.translate(0, frame * height)
        canvas.scale(height, height)
        draw_subject(brush, look, pose, height)
        canvas.restoreToCount(depth)
    if len(poses) == 1:
        layer.reshape(-1, height, width, 4)[1:] = layer[:height]
    return layer
