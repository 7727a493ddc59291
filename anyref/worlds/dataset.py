"""The puppet world as samples: clip number `index` of a split is a pure function of (split, seed, index, sizes, wishes)."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np
from numpy.typing import NDArray

from anyref.samples import ReferenceVariant, Sample, Subject
from anyref.worlds import captions, pictures
from anyref.worlds.identities import (
    SPLITS,
    Look,
    Person,
    Setting,
    Split,
    Sticker,
    appearance,
    draw_look,
    draw_lookalike,
    kind_of,
    look_of,
)
from anyref.worlds.photographs import picture
from anyref.worlds.render import Clip, render
from anyref.worlds.scene import Actor, Scene, Wishes, draw_scene

_NUM_CANDIDATES = 48


class PuppetWorld:
    """An endless set of clips of one split.

    Sizes are in pixels and divisible by 16; any number of frames. Identities and photographs of the three splits are disjoint. Renders
    about 200 clips a second on one core at the default size, references included (`preview.clips_per_second` measures it).
    """

    def __init__(
        self,
        split: Split = "train",
        seed: int = 0,
        height: int = 64,
        width: int = 96,
        num_frames: int = 17,
        fps: float = 8.0,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; pass one of {', '.join(SPLITS)}.")
        if height < 16 or width < 16 or height % 16 or width % 16:
            raise ValueError(
                f"height x width is {height} x {width}; pass positive multiples of 16, for example 64 x 96."
            )
        if num_frames < 1 or fps <= 0:
            raise ValueError(
                f"num_frames is {num_frames} at {fps} fps; pass at least 1 frame and a positive fps."
            )
        self.split: Split = split
        self.seed = seed
        self.height, self.width, self.num_frames, self.fps = height, width, num_frames, fps

    def clip(
        self,
        index: int,
        *,
        num_subjects: int | None = None,
        same_kind: bool | None = None,
        background_reference: bool | None = None,
        clothing_reference: bool | None = None,
        actions: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
    ) -> Sample:
        """Clip number `index` >= 0; keywords narrow what it may show (see `Wishes`), None leaves it to chance."""
        wishes = Wishes(num_subjects, same_kind, background_reference, clothing_reference, actions, labels)
        rng = Random(f"{self.split}/{self.seed}/{index}")
        scene = draw_scene(rng, self.split, self.width / self.height, wishes)
        caption = captions.write_caption(rng, scene)
        drawn = render(scene, self.height, self.width, self.num_frames)
        return Sample(
            key=f"puppets-{self.split}-{self.seed}-{index:08d}",
            frames_FYX3=drawn.frames_FYX3,
            fps=self.fps,
            caption=caption.text,
            subjects=tuple(self._subjects(rng, scene, caption, drawn)),
            actions=tuple(actor.motion.action for actor in scene.actors),
            setting=scene.setting.label,
            time_of_day="night" if scene.night else "day",
        )

    def distractors(
        self, subject: Subject, n: int, index: int, *, unlike: bool = True
    ) -> list[ReferenceVariant]:
        """Cross references of `n` other identities of the subject's label and split.

        They are as unlike it and one another as can be or, if not `unlike`, drawn at random. The choice is a pure function of (split,
        seed, subject's identity, index).
        """
        if n < 1:
            raise ValueError(f"{n} distractors were asked for; ask for at least 1.")
        own = look_of(subject.identity)
        rng = Random(f"{self.split}/{self.seed}/{index}/{subject.identity}")
        pool = {own.identity: own}
        for _ in range(_NUM_CANDIDATES):
            look = draw_look(rng, own.label, self.split)
            pool.setdefault(look.identity, look)
        looks = list(pool.values())
        if n >= len(looks):
            raise ValueError(
                f"{n} distractors were asked for a {own.label}; ask for at most {len(looks) - 1}."
            )
        if not unlike:
            return [self._another(rng, look) for look in rng.sample(looks[1:], n)]
        signatures = np.stack([_signature(look) for look in looks])
        chosen = [0]
        nearest = np.full(len(looks), np.inf)
        while len(chosen) <= n:
            nearest = np.minimum(nearest, np.linalg.norm(signatures - signatures[chosen[-1]], axis=1))
            nearest[chosen] = -1.0
            chosen.append(int(nearest.argmax()))
        return [self._another(rng, looks[i]) for i in chosen[1:]]

    def lookalikes(self, subject: Subject, n: int, index: int) -> list[ReferenceVariant]:
        """Cross references of `n` others of the split that share most traits with the subject, of its class or of another."""
        own = look_of(subject.identity)
        rng = Random(f"{self.split}/{self.seed}/{index}/{subject.identity}/lookalikes")
        return [self._another(rng, draw_lookalike(rng, own, self.split)) for _ in range(n)]

    def picture(self, subject: Subject, index: int) -> ReferenceVariant:
        """Another cross reference of the subject: another pose, light and place than those of its clip's."""
        rng = Random(f"{self.split}/{self.seed}/{index}/{subject.identity}/picture")
        return self._another(rng, look_of(subject.identity))

    def _another(self, rng: Random, look: Look) -> ReferenceVariant:
        kind = kind_of(look.label)
        if kind == "background":
            assert isinstance(look, Setting)
            return pictures.cross_setting(rng, look, rng.random() < 0.35, self.height, self.width)
        wearer = _wearer(rng, look, self.split) if kind == "clothing" else None
        return pictures.cross_reference(rng, look, self.height, self.split, wearer)

    def _subjects(self, rng: Random, scene: Scene, caption: captions.Caption, drawn: Clip) -> list[Subject]:
        subjects = []
        for actor, phrase, masks_FYX in zip(scene.actors, caption.phrases, drawn.masks_FYX, strict=True):
            subjects.append(self._moving(rng, actor, phrase, masks_FYX, scene, drawn))
        if drawn.garment_FYX is not None:
            assert caption.garment is not None
            subjects.append(self._clothing(rng, scene, caption.garment, drawn.garment_FYX, drawn))
        if scene.background_reference:
            free_FYX = np.logical_not(np.any(drawn.masks_FYX, axis=0))
            references = pictures.setting_references(rng, scene.setting, scene.night, drawn.plate_YX3)
            look = scene.setting
            subjects.append(_subject(look, caption.setting, free_FYX, boxes_of(free_FYX), references))
        return subjects

    def _moving(
        self, rng: Random, actor: Actor, phrase: str, masks_FYX: NDArray[np.bool_], scene: Scene, drawn: Clip
    ) -> Subject:
        boxes_F4 = boxes_of(masks_FYX)
        shown = actor.look
        if scene.garment is not None:
            assert isinstance(shown, Person)
            shown = pictures.undressed(shown, scene.garment)
        cross = pictures.cross_reference(rng, shown, self.height, self.split)
        crop = pictures.crop_reference(rng, drawn.frames_FYX3, masks_FYX, boxes_F4)
        return _subject(actor.look, phrase, masks_FYX, boxes_F4, (cross, crop))

    def _clothing(
        self, rng: Random, scene: Scene, phrase: str, masks_FYX: NDArray[np.bool_], drawn: Clip
    ) -> Subject:
        wearer = scene.actors[0].look
        assert isinstance(wearer, Person)
        assert scene.garment is not None
        garment = pictures.garment_of(wearer, scene.garment)
        boxes_F4 = boxes_of(masks_FYX)
        cross = pictures.cross_reference(rng, garment, self.height, self.split, wearer)
        crop = pictures.crop_reference(rng, drawn.frames_FYX3, masks_FYX, boxes_F4)
        return _subject(garment, phrase, masks_FYX, boxes_F4, (cross, crop))


def boxes_of(masks_FYX: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The tight box (top, left, bottom, right; half-open) of each frame's mask; zeros where it is empty."""
    height, width = masks_FYX.shape[1:]
    assert width % 8 == 0
    words_FYX = np.ascontiguousarray(masks_FYX).view(np.uint64)  # eight pixels at a time
    rows_FY: NDArray[np.bool_] = np.any(words_FYX, axis=2)
    columns_FX = np.bitwise_or.reduce(words_FYX, axis=1).view(np.bool_)
    boxes_F4 = np.stack(
        [
            rows_FY.argmax(1),
            columns_FX.argmax(1),
            height - rows_FY[:, ::-1].argmax(1),
            width - columns_FX[:, ::-1].argmax(1),
        ],
        axis=1,
    ).astype(np.int32)
    boxes_F4[~rows_FY.any(1)] = 0
    return boxes_F4


def _subject(
    look: Look,
    phrase: str,
    masks_FYX: NDArray[np.bool_],
    boxes_F4: NDArray[np.int32],
    references: tuple[ReferenceVariant, ...],
) -> Subject:
    return Subject(look.identity, kind_of(look.label), look.label, phrase, masks_FYX, boxes_F4, references)


def _wearer(rng: Random, look: Look, split: Split) -> Person:
    wearer = draw_look(rng, rng.choice(("man", "woman")), split)
    assert isinstance(wearer, Person)
    style, colour = look.identity.split("/")[1:]
    if look.label == "hat":
        return replace(wearer, hat_style=style, hat=colour)
    return replace(wearer, shirt_style=style, shirt=colour)


def _signature(look: Look) -> NDArray[np.float64]:
    """Where a look lies among looks of its label: far apart means unlike."""
    if isinstance(look, Sticker):
        thumbnail = picture(look.photograph, look.window, look.mirrored == "yes", look.tone).astype(
            np.float64
        )
        return thumbnail.reshape(4, 28, 4, 28, 3).mean((1, 3)).ravel() / 4
    return np.array([np.array(colour) * share for colour, share in appearance(look)], np.float64).ravel()
