"""What the papers report, of the test clips' videos: metrics of the evaluation with the embedded judges, one value per clip.

Retrieval says whose picture a subject is; these say what else came along with it: the reference's background, and what the prompt lost.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from anyref.evaluation.answering import Answerers, Wishes
from anyref.evaluation.cases import EvaluationCase, EvaluationReference
from anyref.evaluation.features import FeatureCache
from anyref.evaluation.metrics import MemoryFootage, Metric, VideoUnderTest
from anyref.evaluation.metrics.gme_score import GmeScore
from anyref.evaluation.metrics.s2v_consistency import S2VConsistency
from anyref.evaluation.metrics.s2v_decoupling import S2VDecoupling
from anyref.media import save_image
from anyref.puppets.judging import NUM_FRAMES, Frames
from anyref.references import Reference
from anyref.samples import Sample

SCORES: Mapping[str, Metric] = {
    "S2V Consistency": S2VConsistency(num_frames=NUM_FRAMES),
    "S2V Decoupling": S2VDecoupling(num_frames=NUM_FRAMES),
    "GmeScore": GmeScore(num_frames=NUM_FRAMES),
}
"""S2V Consistency in its strict reading, in which a subject that is missing counts 0; the others as published. Copy-paste is not among them: of
flat drawings a good likeness and a copy score alike."""


def score(
    samples: Sequence[Sample], references: Sequence[Reference], videos: Sequence[Frames]
) -> dict[str, list[float]]:
    """Metric to the score of each clip's video, which was made from one reference."""
    answerers, wishes = Answerers(), Wishes("puppets")
    found: dict[str, list[float]] = {name: [] for name in SCORES}
    with TemporaryDirectory() as name:
        folder = Path(name)
        tests = [
            _test(folder, number, *one)
            for number, one in enumerate(zip(samples, references, videos, strict=True))
        ]
        for shown, metric in SCORES.items():
            models = {role: answerers.model(asked) for role, asked in wishes.asked(metric).items()}
            for test in tests:
                result = metric.score(test, models)
                value = result.strict if shown == "S2V Consistency" else result.value
                found[shown].append(0.0 if value is None else value)
    return found


def _test(folder: Path, number: int, sample: Sample, reference: Reference, video: Frames) -> VideoUnderTest:
    path = folder / f"{number}.png"
    save_image(Image.fromarray(reference.image), path)
    asked = EvaluationReference(path, reference.label or "", "object", reference.phrase, kind=reference.kind)
    case = EvaluationCase(str(number), sample.caption, "single", (asked,))
    features = FeatureCache(folder / "features", str(number))
    return VideoUnderTest(case, Path(), len(video), sample.fps, MemoryFootage(video), features)
