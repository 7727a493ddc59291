"""The three papers' pipelines as lists of steps over the same stages, and the models that run them.

| preset | subjects come from | people | variants |
|---|---|---|---|
| magref | a language model's tags (B.2) | faces in their own right; IoU .25 with a face drops an object | all |
| kaleido | captions matched against the taxonomy (3.2) | whole, with a frontal face | all; mixed 1:5:3:1 when training reads them |
| saber | nowhere: clips and captions only | - | none |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from anyref.curation.across import Identities
from anyref.curation.decisions import DEFAULT_RULES, Decide, Gate, Keep, Rules, Select
from anyref.curation.pairs import CrossPairs, Donors
from anyref.curation.stage import Gathering, Resources, Stage
from anyref.curation.stages.background import BackgroundStage
from anyref.curation.stages.caption import CaptionStage
from anyref.curation.stages.faces import FaceStage
from anyref.curation.stages.grounding import GroundingStage
from anyref.curation.stages.objects import ObjectStage
from anyref.curation.stages.segmentation import SegmentationStage
from anyref.curation.stages.suppression import SuppressionStage
from anyref.curation.stages.tags import TAXONOMY, TagStage
from anyref.curation.stages.variants import Composites, VariantStage
from anyref.perception.models import Task

Preset = Literal["magref", "kaleido", "saber"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
RECORDED = "recorded:"


@dataclass(frozen=True)
class Paper:
    """What a paper's pipeline does differently from the others'."""

    finds_subjects: bool = True
    """Whether it goes on after the captions (S4 to S11)."""
    by_taxonomy: bool = False
    """Whether subjects are what the taxonomy knows; else what a language model tags."""
    bounds: tuple[str, ...] = ()
    """Decisions that differ from the common ones."""
    people_need_face: bool = False

    def asks(self, role: str) -> bool:
        """Whether a model of this role (a field of `Models`) is asked for anything."""
        if not self.finds_subjects:
            return role in ("captioner", "aesthetic")
        return role != "tagger" or not self.by_taxonomy


PAPERS: Mapping[Preset, Paper] = {
    "magref": Paper(),
    "kaleido": Paper(by_taxonomy=True, bounds=("object.face_iou=off",), people_need_face=True),
    "saber": Paper(finds_subjects=False),
}


@dataclass(frozen=True)
class Models:
    """Which model does what: names of `anyref.perception.catalogue`, and numbers that belong to the model rather than to the pipeline."""

    captioner: str = "qwen2.5-vl-7b"
    tagger: str = "qwen2.5-vl-7b"
    detector: str = "grounding-dino-base"
    segmenter: str = "sam2.1-large"
    image_text: str = "clip-l14"
    image: str = "dinov2-base"
    faces: str = "insightface-antelopev2"
    aesthetic: str = "laion-v2"
    inpainter: str = "flux-fill"
    varier: str = "flux-redux"
    face_similarity: float = 0.45
    """Cosine from which two faces of a clip are one person."""
    face_similarity_across: float = 0.55
    """Cosine from which two people of different clips are one."""
    object_similarity: float = 0.7
    """Cosine from which two things of a class are one."""
    class_prompt: str = "a photo of a {}"
    whole_phrases: bool = False
    """Whether the detector understands "the dog on the left"."""

    def changed(self, settings: Sequence[str]) -> "Models":
        """With models named by texts such as "detector=grounding-dino-tiny"; varier= (nothing) leaves its variants out.

        Raises ValueError for a role that is not there.
        """
        known = [role for role, _ in roles()]
        changed = self
        for text in settings:
            role, separator, name = text.partition("=")
            if not separator or role not in known:
                raise ValueError(
                    f"the model {text!r} is not ROLE=NAME with a ROLE of {', '.join(known)}; write one of these"
                )
            changed = replace(changed, **{role: name})  # type: ignore[arg-type]
        return changed


REAL = Models()
OPEN = replace(
    REAL,
    faces="yunet-sface",
    inpainter="sdxl-inpaint",
    varier="qwen-image-edit",
    face_similarity=0.363,  # SFace's published threshold
    face_similarity_across=0.45,
)
"""Models whose licences permit commercial use."""
PUPPETS = Models(
    captioner="puppets", tagger="puppets", detector="puppets", segmenter="puppets", image_text="puppets", image="puppets",
    faces="puppets", aesthetic="puppets", inpainter="puppets", varier="puppets",
    # Measured on validation identities: of pairs of one subject 2 % lie below .88, of pairs of others of its class 2 % above .87.
    face_similarity=0.8, face_similarity_across=0.94, object_similarity=0.94,
    class_prompt="a {}", whole_phrases=True,
)  # fmt: skip
MODELS = {"real": REAL, "open": OPEN, "puppets": PUPPETS}


def roles() -> tuple[tuple[str, Task], ...]:
    """Fields of `Models` that name a model, and the task of each."""
    return (
        ("captioner", "captioner"), ("tagger", "tagger"), ("detector", "detector"), ("segmenter", "segmenter"),
        ("image_text", "image-text-encoder"), ("image", "image-encoder"), ("faces", "face-analyser"),
        ("aesthetic", "aesthetic"), ("inpainter", "inpainter"), ("varier", "varier"),
    )  # fmt: skip


def models_of(backend: str) -> Models:
    """The models of "real", "open", "puppets" or "recorded:FOLDER"; a recording holds no encoders, so those stay the real ones.

    Raises ValueError for another name.
    """
    if backend.startswith(RECORDED):
        return replace(
            REAL, captioner=backend, tagger=backend, detector=backend, segmenter=backend, faces=backend, aesthetic=backend,
            inpainter=backend, varier=backend,
        )  # fmt: skip
    if backend not in MODELS:
        raise ValueError(f"there is no backend {backend!r}; use {', '.join(MODELS)} or {RECORDED}FOLDER")
    return MODELS[backend]


def rules_of(preset: Preset, backend: str) -> Rules:
    """The decisions of a preset, with the numbers that fit the backend's pictures."""
    rules = DEFAULT_RULES
    if backend == "puppets":
        rules = rules.changed(PUPPET_BOUNDS)
    paper = PAPERS[preset]
    rules = replace(rules.changed(paper.bounds), people_need_face=paper.people_need_face)
    return rules if paper.finds_subjects else replace(rules, min_subjects=0)


PUPPET_BOUNDS = (
    "clip.duration_s=1:10", "clip.num_frames=17:", "clip.short_side=64:", "clip.aesthetic=off",
    # Calibrated on twelve films: of objects that show a subject half lie below .9 in detection, of others below .78; the class margin of
    # the tiny CLIP does not tell them apart.
    "object.detection=0.8:", "object.area=0.02:0.8", "object.sharpness=off", "object.aesthetic=off", "object.class_margin=off",
    "face.short_side=6:", "face.area=0.001:", "face.detection=0.35:", "view.detection=0.35:",
    "variant.redux.identity=0.85:", "variant.redux.dino=0.85:0.999", "variant.redux.clip=off",
    "variant.inpaint.dino=0.4:0.999", "variant.inpaint.clip=off",
    # Of 1,884 composites of two hundred films, all of which show their subject, half a per cent lie below .4: specks and slivers.
    "variant.composite.dino=0.4:0.999",
    # The embedded encoder is trained to see through pose and place: two views of one subject lie at .97, so no bound tells a copy. It
    # sees through one small colour, too; the histograms do not. Chosen on 200 films of seed 0, measured on others.
    "variant.crossclip.identity=0.96:", "variant.crossclip.dino=0.98:0.9999", "variant.crossclip.clip=off",
    "variant.crossclip.colour=0.92:",
)  # fmt: skip
"""The world's pictures are small, flat and drawn; its embedded models have their own scales."""


def film_steps(models: Models, rules: Rules, *, gpus: bool = False) -> tuple[Stage | Gathering, ...]:
    """S0 to S2: films become scored clips, as long as the rules' bounds on duration_s ask for."""
    from anyref.curation.stages.probe import Probe
    from anyref.curation.stages.quality import Duplicates, Looks, Quality
    from anyref.curation.stages.shots import Clips, Shots

    wanted = next((bound for bound in rules.bounds if bound.name == "duration_s"), None)
    shortest = wanted.low if wanted and wanted.low is not None else 0.5
    longest = wanted.high if wanted and wanted.high is not None else 10.0
    steps = (Probe(), Shots(), Clips(min_s=shortest, max_s=longest), Quality(), Duplicates())
    if not models.aesthetic:
        return steps
    _, light = _shares(gpus)
    return (*steps, Looks(models.aesthetic, device="cuda" if gpus else "cpu", resources=light))


def output_steps(validation_share: float, test_share: float) -> tuple[Stage | Gathering, ...]:
    """The last part of S12: the clips that are kept are cut out and split; then the manifest is written."""
    from anyref.curation.assemble import CutClips, SplitSets

    return Keep(), CutClips(), SplitSets(validation_share, test_share)


def content_steps(
    preset: Preset,
    models: Models,
    rules: Rules,
    *,
    base: Rules | None = None,
    gpus: bool = False,
    faces_every: int = 1,
) -> tuple[Stage | Gathering, ...]:
    """S3 to S11 and the decisions, in their order; S0 to S2 come before, assembly after.

    `base`: the preset's rules where `rules` were changed (see `Select`). `gpus`: models run on an accelerator, several workers to one.
    `faces_every`: look for faces in every so many frames.
    """
    heavy, light = _shares(gpus)
    steps: list[Stage | Gathering] = [Gate(rules), CaptionStage(models.captioner, resources=heavy)]
    paper = PAPERS[preset]
    if not paper.finds_subjects:
        return (*steps, Decide(rules))
    tagger = TAXONOMY if paper.by_taxonomy else models.tagger
    similar = models.face_similarity
    return (
        *steps,
        TagStage(
            tagger, only_known=paper.by_taxonomy, resources=heavy if tagger != TAXONOMY else Resources()
        ),
        GroundingStage(models.detector, whole_phrases=models.whole_phrases, resources=light),
        SegmentationStage(models.segmenter, resources=light),
        ObjectStage(
            models.image_text,
            models.image,
            models.aesthetic,
            class_prompt=models.class_prompt,
            resources=light,
        ),
        FaceStage(models.faces, every=faces_every, identity_similarity=similar, resources=light),
        SuppressionStage(),
        BackgroundStage(models.inpainter, resources=heavy),
        Select((floors_of(base or rules), floors_of(rules))),
        VariantStage(
            models.inpainter,
            models.varier,
            models.image,
            models.image_text,
            models.faces,
            class_prompt=models.class_prompt,
            resources=heavy,
        ),
        Donors(),
        Composites(models.image, resources=light),
        Identities(models.face_similarity_across, models.object_similarity),
        CrossPairs(rules),
        Decide(rules),
    )


def floors_of(rules: Rules) -> Rules:
    """What is worth drawing anew: objects and faces that the decisions keep, or would if their bounds were loosened a little.

    Lower bounds by a fifth, upper ones by a quarter; duplicates are not loosened. Only of these levels: the rest plays no part.
    """
    loose = []
    for bound in rules.bounds:
        if bound.level in ("object", "face"):
            fixed = bound.name in ("duplicate_iou", "class_margin", "face_iou", "aspect")
            low = bound.low if bound.low is None or fixed else bound.low * 0.8
            high = bound.high if bound.high is None or fixed else bound.high * 1.25
            loose.append(replace(bound, low=low, high=high))
    return replace(DEFAULT_RULES, bounds=tuple(loose))


def _shares(gpus: bool) -> tuple[Resources, Resources]:
    """Resources of a worker that fills a GPU, and of one of which four share it."""
    if not gpus:
        return Resources(), Resources()
    return Resources(cpus=3, gpus=1.0, seconds=1800), Resources(cpus=2, gpus=0.25, seconds=1800)
