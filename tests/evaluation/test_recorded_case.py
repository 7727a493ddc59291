"""One real case through the whole path: OpenS2V's demo clip, with the faces, boxes, masks and score that real models found in it."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from anyref.evaluation.answering import Answerers, Wishes
from anyref.evaluation.cases import EvaluationCase, EvaluationReference
from anyref.evaluation.engine import evaluate
from anyref.evaluation.rows import read_rows
from anyref.evaluation.suites import Suite, Weighted
from anyref.footage import frames_at

CLIPS = Path(__file__).parents[3] / "shared" / "clips"
RECORDED, VIDEO = CLIPS / "recorded" / "opens2v_demo", CLIPS / "videos" / "opens2v_istock_women.mp4"
NAMES = ("magref.id_sim", "opens2v.face_sim", "opens2v.aesthetics", "anyref.coverage")


@pytest.mark.slow
def test_the_demo_clip_is_scored(tmp_path: Path) -> None:
    if not VIDEO.is_file() or not RECORDED.is_dir():
        pytest.skip("the recorded clips are not beside this checkout")
    (tmp_path / "videos").mkdir()
    for key in ("singleface_1", "singleface_2"):
        shutil.copy(VIDEO, tmp_path / "videos" / f"{key}.mp4")
    Image.fromarray(frames_at(VIDEO, [10])[0]).save(tmp_path / "face.png")
    shutil.copy(CLIPS / "images" / "coffee.png", tmp_path / "coffee.png")
    cases = [
        EvaluationCase(
            key, "Women at a table.", "singleface", (EvaluationReference(tmp_path / name, "woman", "face"),)
        )
        for key, name in (("singleface_1", "face.png"), ("singleface_2", "coffee.png"))
    ]
    suite = Suite("recorded", tuple(Weighted(name, name) for name in NAMES))
    outcome = evaluate(
        cases,
        tmp_path / "videos",
        tmp_path / "out",
        suite,
        wishes=Wishes(f"recorded:{RECORDED}"),
        answerers=Answerers(),
    )
    assert not outcome.unavailable
    rows = {(row.case, row.metric): row for row in read_rows(tmp_path / "out")}
    own, other = (rows[key, "magref.id_sim"] for key in ("singleface_1", "singleface_2"))
    # The same woman, by her published track, in nearly every sixteenth frame; a picture of coffee has no face to compare with.
    assert own.status == "ok"
    assert own.value is not None
    assert own.value > 0.5
    assert own.boxes
    assert own.models["faces"].name == "recorded:opens2v_demo"
    assert other.status == "not_applicable"
    aesthetics = rows["singleface_1", "opens2v.aesthetics"].value
    assert aesthetics is not None
    assert 1 < aesthetics < 10
    assert rows["singleface_1", "anyref.coverage"].status in {"ok", "missed"}
    assert str(tmp_path) not in (tmp_path / "out" / "rows.jsonl").read_text()
