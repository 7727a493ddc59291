"""Score an embedded model on clips of identities it never saw: does the video show the references, and each where it belongs?

Retrieval: a generated single-subject video against its own reference and seven others of the same class; the judge is the identity encoder of
identity.py, which never sees a generated frame. Binding: in two-subject videos, the left half against both references, and the right half.
Loss gap: held-out loss with the right references, with another subject's, with none. Intervals are percentile bootstraps over clips.
"""

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anyref.latents import VideoShape
from anyref.pipeline import AnyRefPipeline
from anyref.puppets.identity import IdentityEncoder, prepare, to_tensor
from anyref.references import Reference
from anyref.samples import Sample, Subject
from anyref.training.data import encode_samples
from anyref.training.flow import FlowConfig
from anyref.training.loop import FitConfig
from anyref.training.trainer import TrainConfig, clip_losses
from anyref.worlds import PuppetWorld
from anyref.worlds.identities import COLOURS

CANDIDATES = 8
STILL = ("jump", "spin", "grow", "shrink", "dance", "nod", "bow", "wave", "stand", "float")
"""Actions in which a subject stays on its side of the frame."""
_COLOURS = {*COLOURS, "grey", "gray"}
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Rate:
    """A mean over clips (a share of them, or a loss) with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    trials: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] of {self.trials}"


def rate(outcomes: Sequence[float], seed: int = 0, draws: int = 2000) -> Rate:
    """Mean of per-clip outcomes and its interval."""
    values = np.asarray(outcomes, dtype=float)
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Rate(float(values.mean()), float(low), float(high), len(values))


def reference_of(subject: Subject) -> Reference:
    """The cross-paired reference of a subject, with its phrase."""
    image = next(variant.image for variant in subject.references if variant.variant == "cross")
    return Reference(image, subject.kind, subject.phrase, label=subject.label)


def generate(
    pipeline: AnyRefPipeline,
    captions: Sequence[str],
    references: Sequence[Sequence[Reference]],
    batch_size: int = 10,
    **settings: Any,
) -> list[Frames]:
    """Videos [F, Y, X, 3], uint8, clip n from seed n."""
    videos: list[Frames] = []
    for start in range(0, len(captions), batch_size):
        stop = min(len(captions), start + batch_size)
        made: Any = pipeline(
            prompt=list(captions[start:stop]),
            reference_images=[list(row) for row in references[start:stop]],
            generator=[torch.Generator().manual_seed(number) for number in range(start, stop)],
            output_type="np",
            **settings,
        )
        videos += [np.rint(255 * np.asarray(video)).astype(np.uint8) for video in made.frames]
    return videos


@torch.no_grad()
def embed(encoder: IdentityEncoder, pictures: Sequence[Frames]) -> NDArray[np.float32]:
    """Unit vectors [n, D] of pictures of any size."""
    vectors: NDArray[np.float32] = encoder(to_tensor([prepare(picture) for picture in pictures])).numpy()
    return vectors


def embed_video(
    encoder: IdentityEncoder, frames_FYX3: Frames, columns: slice = slice(None)
) -> NDArray[np.float32]:
    """Mean vector of five frames spread over a video (or over a part of its width)."""
    chosen = np.linspace(1, len(frames_FYX3) - 2, 5).round().astype(int)
    mean: NDArray[np.float32] = embed(
        encoder, [np.ascontiguousarray(frames_FYX3[n][:, columns]) for n in chosen]
    ).mean(axis=0)
    return mean


def retrieval(
    encoder: IdentityEncoder, world: PuppetWorld, samples: Sequence[Sample], videos: Sequence[Frames]
) -> Rate:
    """Share of videos nearer to their own reference than to seven others of the same class. Chance: 12.5 %."""
    outcomes = []
    for number, (sample, video) in enumerate(zip(samples, videos, strict=True)):
        subject = sample.subjects[0]
        # Drawn at random, so that a video that shows nobody in particular is right one time in eight; and the own picture is not the
        # one that the video was made from.
        others = world.distractors(subject, CANDIDATES - 1, number, unlike=False)
        candidates = embed(
            encoder, [world.picture(subject, number).image, *(other.image for other in others)]
        )
        outcomes.append(float((candidates @ embed_video(encoder, video)).argmax() == 0))
    return rate(outcomes)


def binding(
    encoder: IdentityEncoder, world: PuppetWorld, samples: Sequence[Sample], videos: Sequence[Frames]
) -> Rate:
    """Share of sides of two-subject videos that are nearer to the reference of the subject the caption puts there. Chance: 50 %."""
    outcomes = []
    for number, (sample, video) in enumerate(zip(samples, videos, strict=True)):
        pair = sorted(
            sample.subjects[:2], key=lambda subject: int(subject.boxes_F4[0][1] + subject.boxes_F4[0][3])
        )
        candidates = embed(encoder, [world.picture(subject, number).image for subject in pair])
        middle = video.shape[2] // 2
        sides = [
            embed_video(encoder, video, slice(0, middle)),
            embed_video(encoder, video, slice(middle, None)),
        ]
        outcomes.append(np.mean([(candidates @ side).argmax() == index for index, side in enumerate(sides)]))
    return rate(outcomes)


def single_clips(world: PuppetWorld, count: int) -> list[Sample]:
    """Clips of one subject, no other references, whose captions name no colour."""

    def draw(index: int) -> Sample:
        return world.clip(index, num_subjects=1, background_reference=False, clothing_reference=False)

    return _colourless(draw, count)


def pair_clips(world: PuppetWorld, count: int, *, same_kind: bool) -> list[Sample]:
    """Clips of two subjects that stay on their sides, whose captions name no colour."""

    def draw(index: int) -> Sample:
        return world.clip(
            index,
            num_subjects=2,
            same_kind=same_kind,
            background_reference=False,
            clothing_reference=False,
            actions=STILL,
        )

    return _colourless(draw, count)


def _colourless(draw: Callable[[int], Sample], count: int) -> list[Sample]:
    # A colour in the caption would tell the subject without its reference.
    drawn = (draw(index) for index in itertools.count())
    return list(
        itertools.islice((one for one in drawn if not _COLOURS & set(re.findall(r"\w+", one.caption))), count)
    )


def loss_gap(pipeline: AnyRefPipeline, world: PuppetWorld, count: int) -> dict[str, Rate]:
    """Held-out loss with the right references, and what those of others of the same class and none cost.

    Latent frame 0 is left out: in MAGREF it is the canvas itself.
    """
    method, asked = pipeline.method, pipeline.method.defaults
    shape = method.sampled_shape(VideoShape(asked.num_frames, asked.height, asked.width), keep_canvas=False)
    samples = single_clips(world, count)
    swapped = [
        replace(sample, subjects=(replace(subject, references=tuple(world.distractors(subject, 1, number))),))
        for number, sample in enumerate(samples)
        for subject in sample.subjects[:1]
    ]
    empty = method.condition([[]], None, shape, pipeline.encoders)
    config = TrainConfig(
        FitConfig(Path("unused"), 0),
        FlowConfig(shift=2.0, foreground_weight=2.0, first_frame_weight=0.0),
        precision="float32",
    )

    def losses(clips: Sequence[Sample], *, dropped: bool = False) -> NDArray[np.float64]:
        examples = []
        for start in range(0, count, 8):
            part = clips[start : start + 8]
            rngs = [np.random.default_rng(start + index) for index in range(len(part))]
            examples += encode_samples(part, method, pipeline.encoders, shape, rngs)
        if dropped:
            examples = [replace(example, conditioning=empty) for example in examples]
        return np.asarray(clip_losses(pipeline.transformer, pipeline.encoders, empty, examples, config))

    right, wrong, none = losses(samples), losses(swapped), losses(samples, dropped=True)
    return {
        "held-out loss": rate(right.tolist()),
        "held-out loss, swapped minus right references": rate((wrong - right).tolist()),
        "held-out loss, no references minus right": rate((none - right).tolist()),
    }


def measure(
    pipeline: AnyRefPipeline,
    encoder: IdentityEncoder,
    count: int = 200,
    report: Callable[[str, Rate], None] = lambda *_: None,
    **settings: Any,
) -> dict[str, Rate]:
    """All generation measures on the test split: retrieval (real clips, right, swapped references) and binding (anchors on and off)."""
    height, width = pipeline.method.defaults.height, pipeline.method.defaults.width
    world = PuppetWorld(
        "test", seed=0, height=height, width=width, num_frames=pipeline.method.defaults.num_frames
    )
    results: dict[str, Rate] = {}

    def note(name: str, value: Rate) -> None:
        results[name] = value
        report(name, value)

    samples = single_clips(world, count)
    captions = [sample.caption for sample in samples]
    own = [[reference_of(sample.subjects[0])] for sample in samples]
    note(
        "retrieval, real clips",
        retrieval(encoder, world, samples, [sample.frames_FYX3 for sample in samples]),
    )
    note("retrieval", retrieval(encoder, world, samples, generate(pipeline, captions, own, **settings)))
    # Another clip's picture under this clip's phrase.
    other = [[replace(own[(n + 1) % count][0], phrase=own[n][0].phrase)] for n in range(count)]
    note(
        "retrieval, shuffled references",
        retrieval(encoder, world, samples, generate(pipeline, captions, other, **settings)),
    )
    for kind in (False, True):
        pairs = pair_clips(world, count // 2, same_kind=kind)
        name = "same class" if kind else "two classes"
        note(
            f"binding, {name}, real clips",
            binding(encoder, world, pairs, [pair.frames_FYX3 for pair in pairs]),
        )
        rows = [[reference_of(subject) for subject in pair.subjects[:2]] for pair in pairs]
        for strength, words in ((None, "anchors on"), (0.0, "anchors switched off")):
            videos = generate(
                pipeline, [pair.caption for pair in pairs], rows, anchor_strength=strength, **settings
            )
            note(f"binding, {name}, {words}", binding(encoder, world, pairs, videos))
    canvas_world = PuppetWorld(
        "test", seed=0, height=height, width=width, num_frames=pipeline.method.defaults.num_frames + 3
    )
    for name, value in loss_gap(pipeline, canvas_world, min(count, 64)).items():
        note(name, value)
    return results
