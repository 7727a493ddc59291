"""Score an embedded model on clips of identities it never saw: does the video show the references, and each where it belongs?

A measurement is a list of parts. Each part generates videos (clip n from seed n) or takes losses, and leaves one outcome per clip (see
judging.py); comparison.py runs the parts and keeps them. Nothing here knows a method by name: what one has is found by asking or trying.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anyref.conditioning import Conditioning
from anyref.latents import VideoShape
from anyref.matting import given_mask
from anyref.pipeline import AnyRefPipeline
from anyref.puppets.held_out import (
    cut_out_of,
    moving,
    pair_clips,
    reference_of,
    single_clips,
    swapped,
    trio_clips,
    views_of,
)
from anyref.puppets.identity import IdentityEncoder
from anyref.puppets.judging import Frames, Outcomes, binding, found, retrieval
from anyref.puppets.remembering import RecallingEncoder
from anyref.references import Reference
from anyref.samples import Sample
from anyref.training.data import Example, subject_cells
from anyref.training.flow import FlowConfig
from anyref.training.loop import FitConfig
from anyref.training.trainer import TrainConfig, clip_losses
from anyref.worlds import PuppetWorld

BATCH = 10
Results = dict[str, Outcomes]
Show = Callable[[str, int, int], None]
"""What is being done, how much of it, out of how much."""


@dataclass(frozen=True)
class Bench:
    """A model, the judge, and how many clips of one subject it is measured on (half as many of two, a third of three)."""

    pipeline: AnyRefPipeline
    judge: IdentityEncoder
    count: int
    show: Show = lambda *_: None
    encoded: dict[bytes, Tensor] = field(default_factory=dict)
    """What the autoencoder made of the clips and pictures of the held-out loss, for the next bench with the same one."""

    @cached_property
    def world(self) -> PuppetWorld:
        """The test split at the size of the model's videos."""
        asked = self.pipeline.method.defaults
        return unseen_world(VideoShape(asked.num_frames, asked.height, asked.width))

    @cached_property
    def sampled(self) -> VideoShape:
        """What the model samples for the world's clips."""
        world = self.world
        shape = VideoShape(world.num_frames, world.height, world.width)
        return self.pipeline.method.sampled_shape(shape, keep_canvas=False)

    @cached_property
    def singles(self) -> tuple[list[Sample], list[Reference], list[Frames]]:
        """Clips of one subject, its reference, and the video made from it: for every part that looks at them."""
        samples = single_clips(self.world, self.count)
        references = [reference_of(sample.subjects[0]) for sample in samples]
        return samples, references, self.generate("own references", samples, [[one] for one in references])

    @cached_property
    def cuts_out(self) -> bool:
        """Whether it matters to the method where in a picture the subject is, found by trying two masks of one picture."""
        method, encoders = self.pipeline.method, self.pipeline.encoders
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        left = np.arange(64)[None].repeat(64, axis=0) < 32
        first, second = (
            method.condition([[Reference(noise, subject_mask=mask)]], None, self.sampled, encoders)
            for mask in (left, ~left)
        )
        return not _equal(first, second)

    def ready(self, reference: Reference) -> Reference:
        """The reference as the pipeline takes it: where the method cuts subjects out, cut by the model's matter unless it is already.

        A picture in which the matter finds nothing is used whole (`no subject found` counts them): one of a thousand must not end the
        measurement, as it would end a user's call. Raises ValueError where there is no matter.
        """
        if not self.cuts_out or given_mask(reference) is not None:
            return reference
        mask = self.cut(reference)
        return replace(reference, subject_mask=mask if mask.any() else np.ones_like(mask))

    def cut(self, reference: Reference) -> NDArray[np.bool_]:
        """Where the model's matter sees a subject. Raises ValueError where there is no matter."""
        matter = self.pipeline.matter
        if matter is None:
            raise ValueError(
                f"{self.pipeline.method.name} cuts its references out and this model has no matter; put a segmenter into its folder "
                "'matter', as `anyref puppets train` does"
            )
        return matter.cut(np.ascontiguousarray(reference.image[..., :3]))

    def accepts(self, references: Sequence[Reference]) -> bool:
        """Whether the method takes as many."""
        try:
            self.pipeline.method.check(references, self.sampled)
        except ValueError:
            return False
        return True

    def generate(
        self,
        what: str,
        samples: Sequence[Sample],
        references: Sequence[Sequence[Reference]],
        settings: Mapping[str, Any] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[Frames]:
        """A video, uint8 [F, Y, X, 3], for each clip's caption and references; clip n from seed n, or from `seeds`."""
        seeds = range(len(samples)) if seeds is None else seeds
        videos: list[Frames] = []
        for start in range(0, len(samples), BATCH):
            part = slice(start, start + BATCH)
            self.show(what, start, len(samples))
            made: Any = self.pipeline(
                prompt=[sample.caption for sample in samples[part]],
                reference_images=[[self.ready(one) for one in row] for row in references[part]],
                generator=[torch.Generator().manual_seed(seed) for seed in seeds[part]],
                output_type="np",
                settings=settings,
            )
            videos += [np.rint(255 * np.asarray(video)).astype(np.uint8) for video in made.frames]
        self.show(what, len(samples), len(samples))
        return videos


def unseen_world(shape: VideoShape, num_frames: int | None = None) -> PuppetWorld:
    """Clips of identities that no training saw, of the shape's size and of its frames or as many as given."""
    frames = shape.num_frames if num_frames is None else num_frames
    return PuppetWorld("test", seed=0, height=shape.height, width=shape.width, num_frames=frames)


def measure_retrieval(bench: Bench) -> Results:
    """Clips of one subject from its own reference; and what a true cut-out gains where the method wants one."""
    samples, references, videos = bench.singles
    results = {
        "retrieval": retrieval(bench.judge, bench.world, samples, videos),
        "1 reference": found(bench.judge, bench.world, samples, videos),
    }
    opaque = [number for number, one in enumerate(references) if given_mask(one) is None]
    if not bench.cuts_out or not opaque:
        return results
    lost = [float(not bench.cut(references[number]).any()) for number in opaque]
    # The world does not know the masks of its opaque pictures. Whether a picture is opaque is a coin's toss, so that other pictures,
    # which it cut out, differ from these in nothing else on the average.
    chosen = [samples[number] for number in opaque]
    rows = [[cut_out_of(bench.world, sample.subjects[0])] for sample in chosen]
    cut = dict(zip(opaque, bench.generate("true cut-outs", chosen, rows, seeds=opaque), strict=True))
    mixed = [cut.get(number, video) for number, video in enumerate(videos)]
    before = [results["retrieval"].values[number] for number in opaque]
    values = retrieval(bench.judge, bench.world, samples, mixed).values
    after = [values[number] for number in opaque]
    chance = results["retrieval"].chance
    return results | {
        "retrieval, cut out by the matter": Outcomes(tuple(before), chance),
        "retrieval, cut out by the world": Outcomes(tuple(after), chance),
        "the world's cut-outs minus the matter's": Outcomes(
            tuple(new - old for new, old in zip(after, before, strict=True))
        ),
        "no subject found": Outcomes(tuple(lost)),
    }


def measure_swapped(bench: Bench) -> Results:
    """The same captions from other clips' references: what the measures say of videos that cannot know the subject."""
    samples = single_clips(bench.world, bench.count)
    references = swapped([reference_of(sample.subjects[0]) for sample in samples])
    videos = bench.generate("another's reference", samples, [[one] for one in references])
    return {
        "retrieval, another's reference": retrieval(bench.judge, bench.world, samples, videos),
        "1 reference, another's": found(bench.judge, bench.world, samples, videos),
    }


def measure_scores(bench: Bench) -> Results:
    """Metrics of the papers, of the clips of `measure_retrieval`; imported here, for they need what the evaluation needs."""
    from anyref.puppets.scoring import score

    scores = score(*bench.singles)
    return {name: Outcomes(tuple(values)) for name, values in scores.items()}


def measure_pairs(bench: Bench, settings: Mapping[str, Any] | None = None, suffix: str = "") -> Results:
    """Clips of two subjects: each on its own side, and each found."""
    results: Results = {}
    for same_kind, words in ((False, "two classes"), (True, "same class")):
        name = f"binding, {words}{suffix}"
        pairs = pair_clips(bench.world, max(1, bench.count // 2), same_kind=same_kind)
        rows = [[reference_of(subject) for subject in moving(pair)] for pair in pairs]
        if not bench.accepts(rows[0]):
            return {}
        videos = bench.generate(name, pairs, rows, settings)
        results[name] = binding(bench.judge, bench.world, pairs, videos)
        if not same_kind and not suffix:
            results["2 references"] = found(bench.judge, bench.world, pairs, videos)
    return results


def measure_anchors(bench: Bench) -> Results:
    """Binding with subject disentanglement off, for methods that have it and models that use it."""
    method: Any = bench.pipeline.method
    if not any(field.name == "anchor_strength" and getattr(method, field.name) for field in fields(method)):
        return {}
    return measure_pairs(bench, {"anchor_strength": 0.0}, ", anchors switched off")


def measure_trios(bench: Bench) -> Results:
    """Clips of three subjects, from those three; with their setting as a fourth; and with a second view of each of the four."""
    trios = trio_clips(bench.world, max(1, bench.count // 3))
    results: Results = {}
    for name, shown, views in (("3 references", 3, 1), ("4 references", 4, 1), ("8 references", 4, 2)):
        rows = [
            [one for subject in trio.subjects[:shown] for one in views_of(bench.world, subject, views)]
            for trio in trios
        ]
        if bench.accepts(rows[0]):
            videos = bench.generate(name, trios, rows)
            results[name] = found(bench.judge, bench.world, trios, videos)
    return results


def measure_views(bench: Bench) -> Results:
    """Clips of one subject, from four and from eight pictures of it."""
    samples = single_clips(bench.world, max(1, bench.count // 2))
    results: Results = {}
    for views in (4, 8):
        rows = [views_of(bench.world, sample.subjects[0], views) for sample in samples]
        if bench.accepts(rows[0]):
            videos = bench.generate(f"{views} views", samples, rows)
            results[f"{views} views"] = found(bench.judge, bench.world, samples, videos)
    return results


def measure_loss(bench: Bench) -> Results:
    """Loss with the right references, and what those of others of the same class and none cost.

    References are pictures, as in use, also for methods that train on something else. A method whose target begins with frames that are
    not the clip's (it shows fewer of the clip's than are sampled) has its first latent frame left out.
    """
    method, encoders, shape = bench.pipeline.method, bench.pipeline.encoders, bench.sampled
    frames = method.training_frames(shape)
    world = unseen_world(shape, frames)
    samples = single_clips(world, min(bench.count, 64))
    right = [reference_of(sample.subjects[0]) for sample in samples]
    others = [world.distractors(sample.subjects[0], 1, number)[0] for number, sample in enumerate(samples)]
    wrong = [replace(one, image=other.image) for one, other in zip(right, others, strict=True)]
    empty = method.condition([[]], None, shape, encoders)
    flow = FlowConfig(
        shift=2.0, foreground_weight=2.0, first_frame_weight=0.0 if frames < shape.num_frames else 1.0
    )
    config = TrainConfig(FitConfig(Path("unused"), 0), flow, precision="float32")

    def losses(examples: Sequence[Example]) -> NDArray[np.float64]:
        return np.asarray(clip_losses(bench.pipeline.transformer, encoders, empty, examples, config))

    encoded = _encode(bench, "held-out loss", samples, right)
    own = losses(encoded)
    other = losses(_encode(bench, "held-out loss, other references", samples, wrong))
    none = losses([replace(example, conditioning=empty) for example in encoded])
    return {
        "held-out loss": Outcomes(tuple(own.tolist())),
        "held-out loss, swapped minus right references": Outcomes(tuple((other - own).tolist())),
        "held-out loss, no references minus right": Outcomes(tuple((none - own).tolist())),
    }


PARTS: Mapping[str, Callable[[Bench], Results]] = {
    "retrieval": measure_retrieval,
    "swapped": measure_swapped,
    "scores": measure_scores,
    "pairs": measure_pairs,
    "anchors": measure_anchors,
    "trios": measure_trios,
    "views": measure_views,
    "loss": measure_loss,
}


def measure_real(world: PuppetWorld, judge: IdentityEncoder, count: int) -> Results:
    """The ceiling: what the same rules say of the clips themselves."""
    singles, trios = single_clips(world, count), trio_clips(world, max(1, count // 3))
    seen = found(judge, world, singles, _frames(singles))
    some = replace(seen, values=seen.values[: max(1, count // 2)])
    three = found(judge, world, trios, _frames(trios))
    results = {
        "retrieval": retrieval(judge, world, singles, _frames(singles)),
        **{"1 reference": seen, "4 views": some, "8 views": some},
        **dict.fromkeys(("3 references", "4 references", "8 references"), three),
    }
    for same_kind, words in ((False, "two classes"), (True, "same class")):
        pairs = pair_clips(world, max(1, count // 2), same_kind=same_kind)
        results[f"binding, {words}"] = binding(judge, world, pairs, _frames(pairs))
        if not same_kind:
            results["2 references"] = found(judge, world, pairs, _frames(pairs))
    return results


def _encode(
    bench: Bench, what: str, samples: Sequence[Sample], references: Sequence[Reference]
) -> list[Example]:
    """Training examples of clips with the given references."""
    method, shape = bench.pipeline.method, bench.sampled
    encoders = bench.pipeline.encoders
    encoders = replace(encoders, vae=RecallingEncoder(encoders.vae, bench.encoded))
    examples = []
    for number, (sample, given) in enumerate(zip(samples, references, strict=True)):
        bench.show(what, number, len(samples))
        row = [bench.ready(given)]
        target = method.training_video(sample.frames_FYX3, row, shape)
        video = torch.from_numpy(target[None]).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        conditioning = method.condition([row], [sample.caption], shape, encoders)
        cells = torch.from_numpy(subject_cells(sample, shape, method.training_frames(shape)))
        examples.append(Example(encoders.encode_video(video)[0].cpu(), conditioning, sample.caption, cells))
    bench.show(what, len(samples), len(samples))
    return examples


def _equal(first: Conditioning, second: Conditioning) -> bool:
    for name in ("channels_BCTHW", "tokens_BLP", "visible_BL", "context_BSD"):
        one, other = getattr(first, name), getattr(second, name)
        if one is None and other is None:
            continue
        if one is None or other is None or one.shape != other.shape:
            return False
        if not torch.allclose(one.float(), other.float(), atol=1e-4):
            return False
    return True


def _frames(samples: Sequence[Sample]) -> list[Frames]:
    return [sample.frames_FYX3 for sample in samples]
