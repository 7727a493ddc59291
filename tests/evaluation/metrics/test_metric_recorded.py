"""A real clip, scored from what InsightFace, GroundingDINO, SAM2 and an inpainter really answered about it (OpenS2V's demo)."""

from pathlib import Path

import numpy as np
import pytest
from metric_fakes import Colours, score
from PIL import Image

from anyref.evaluation.cases import EvaluationCase, EvaluationReference
from anyref.evaluation.metrics import FileFootage, MemoryFootage, VideoUnderTest
from anyref.evaluation.metrics.aesthetic import OpenS2VAesthetics
from anyref.evaluation.metrics.bg_sim import BgSim
from anyref.evaluation.metrics.copy_paste import CopyPaste
from anyref.evaluation.metrics.coverage import Coverage
from anyref.evaluation.metrics.face_sim import FaceSim
from anyref.evaluation.metrics.id_sim import IdSim
from anyref.evaluation.metrics.subj_sim import SubjSim
from anyref.perception import Picture
from anyref.perception.catalogue import open_model

CLIPS = Path(__file__).parents[4] / "shared" / "clips"
FOLDER, WOMEN = CLIPS / "recorded" / "opens2v_demo", CLIPS / "videos" / "opens2v_istock_women.mp4"
DRAWN = sorted(FOLDER.glob("step6/gpt-frames_images/*/0_woman.png"))
BACKGROUND = sorted(FOLDER.glob("step5/final_output/dataset1/foreground/*.png"))
FRAMES = 95

pytestmark = pytest.mark.skipif(
    not (DRAWN and BACKGROUND and WOMEN.is_file()), reason="the recorded clip of ../shared is not here"
)


def recorded(*tasks: str) -> dict[str, object]:
    return {task: open_model(task, f"recorded:{FOLDER}") for task in tasks}  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def first() -> Picture:
    from anyref.footage import frames_at

    return frames_at(WOMEN, [0])[0]


def test_faces_are_followed_through_the_clip(tmp_path: Path, first: Picture) -> None:
    Image.fromarray(first).save(tmp_path / "first.png")
    references = (EvaluationReference(tmp_path / "first.png", "Woman", "human"),)
    case = EvaluationCase("women", "three women", "singlehuman", references)
    video = VideoUnderTest(case, WOMEN, FRAMES, 29.97, FileFootage(WOMEN))
    faces = recorded("face-analyser")["face-analyser"]
    result = score(IdSim(), video, faces=faces)
    assert result.frame_indices == (0, 16, 32, 48, 64, 80)
    # Replayed vectors say who is who. The largest face of the first frame was followed there only: later it is too uncertain.
    assert result.per_frame[0] == pytest.approx(1.0)
    assert all(cosine is not None and cosine < 0.5 for cosine in result.per_frame[1:])
    assert result.details["coverage"] == 1.0
    assert len(result.boxes) == 6
    first_only = VideoUnderTest(case, WOMEN, 1, 29.97, FileFootage(WOMEN))
    largest = score(FaceSim(), first_only, faces=faces)
    assert largest.value == pytest.approx(1.0)
    assert largest.strict == pytest.approx(1.0)
    assert score(IdSim(), first_only, faces=faces).value == pytest.approx(1.0)


def test_subjects_of_the_first_frame(tmp_path: Path, first: Picture) -> None:
    references = (
        EvaluationReference(DRAWN[0], "Woman", "human"),
        EvaluationReference(DRAWN[0], "Glasses", "object"),
        EvaluationReference(DRAWN[0], "Unicorn", "object"),
        EvaluationReference(BACKGROUND[0], "grass", "background"),
    )
    case = EvaluationCase("women", "three women", "multihuman", references)
    video = VideoUnderTest(case, WOMEN, 1, 29.97, MemoryFootage(first[None]))
    find = recorded("detector", "segmenter")
    covered = score(Coverage(), video, **find)
    assert covered.details["per_reference"] == [1.0, 1.0, 0.0]
    assert covered.details["never_found"] == [2]
    alike = score(SubjSim(), video, **find, encoder=Colours())
    assert alike.value is not None
    assert alike.strict == pytest.approx(alike.value * 2 / 3)
    copied = score(CopyPaste(num_frames=1), video, **find)
    assert copied.value is not None
    assert copied.value < 0.8, "a drawn variant is no copy"
    # The frame without its subjects is nearer to the published background than with them.
    painted = score(BgSim(num_frames=1), video, **find, encoder=Colours(), **recorded("inpainter"))
    empty = np.asarray(Image.open(BACKGROUND[0]).convert("RGB"))
    plain = float((Colours().encode([first]) @ Colours().encode([empty]).T)[0, 0])
    assert painted.value is not None
    assert painted.value > plain


def test_the_published_aesthetic_score(first: Picture) -> None:
    case = EvaluationCase("women", "three women", "", ())
    video = VideoUnderTest(case, WOMEN, 1, 29.97, MemoryFootage(first[None]))
    result = score(OpenS2VAesthetics(), video, **recorded("aesthetic"))
    assert result.value is not None
    assert 4 < result.value < 7
