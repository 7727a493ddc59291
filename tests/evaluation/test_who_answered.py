"""Which model answered is part of every score: two judges behind one name, commits that are loaded, licences that are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anyref.evaluation import answering
from anyref.evaluation.answering import Answerers, Wishes
from anyref.evaluation.cases import EvaluationCase, EvaluationReference
from anyref.evaluation.command import examine, report
from anyref.evaluation.engine import evaluate
from anyref.evaluation.metrics import optical_flow
from anyref.evaluation.metrics.interpolation_smoothness import VARIABLE
from anyref.evaluation.metrics.natural_score import CRITERIA
from anyref.evaluation.rows import read_rows
from anyref.evaluation.runs import caveats, read_runs
from anyref.evaluation.suites import Suite, find_suite, narrowed
from anyref.media import write_video
from anyref.perception import Model, ModelCard
from anyref.perception.catalogue import Task, entry_for
from anyref.perception.endpoint import NoAnswerError
from anyref.perception.preparation import card

COMMIT = "c0ffee" * 6
STRICT, KIND = "endpoint@http://a:1/v1#strict", "endpoint@http://b:1/v1#kind"


class StandIn:
    """Rates 1 where its address says strict, else 5; "away" does not answer. Its card carries the commit where it was loaded from the hub."""

    num_frames = 8

    def __init__(self, task: Task, name: str) -> None:
        entry = entry_for(task, name)
        self.card = card(entry) if task == "judge" or "two" in name else ModelCard(
            entry.name, entry.source, COMMIT, entry.licence, entry.commercial
        )  # fmt: skip

    def judge(self, frames: Any, prompt: str, instructions: str, seed: int = 0) -> dict[str, float]:
        if "away" in self.card.source:
            raise NoAnswerError("http://away did not answer (refused); start the server")
        return dict.fromkeys(CRITERIA, 1.0 if "strict" in self.card.source else 5.0)

    def rate(self, pictures: Any) -> Any:
        return np.full(len(pictures), 6.0 if "two" not in self.card.source else 4.0, np.float32)

    def encode_video(self, frames: Any) -> Any:
        return np.array([1, 0], np.float32)

    def encode_text(self, texts: Any) -> Any:
        return np.array([[1, 0]] * len(texts), np.float32)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[EvaluationCase], Path]:
    def open_model(task: Task, name: str, device: str = "cpu", commercial_only: bool = False) -> Model:
        return StandIn(task, name)

    monkeypatch.setattr(answering, "open_model", open_model)
    Image.new("RGB", (8, 8)).save(tmp_path / "r.png")
    frames = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), dtype=np.uint8)
    write_video(frames, tmp_path / "videos" / "singlehuman_1.mp4", fps=8)
    reference = EvaluationReference(tmp_path / "r.png", "man", "human")
    return [EvaluationCase("singlehuman_1", "a man", "singlehuman", (reference,))], tmp_path / "videos"


def suite_of(metric: str, suite: str = "opens2v-v1.1-open") -> Suite:
    return narrowed(find_suite(suite), [metric])


def test_two_judges_are_two_judges(bench: tuple[list[EvaluationCase], Path], tmp_path: Path) -> None:
    cases, videos = bench
    suite = suite_of("opens2v.natural_score")
    values = []
    for name in (STRICT, KIND, STRICT):
        evaluate(cases, videos, tmp_path / "one", suite, wishes=Wishes("published", {"judge": name}))
        (row,) = read_rows(tmp_path / "one")
        values.append(row.value)
        assert name.partition("@")[2] in str(row.details["judge"])
    assert values == [1.0, 5.0, 1.0]
    evaluate(cases, videos, tmp_path / "two", suite, wishes=Wishes("published", {"judge": KIND}))
    runs = read_runs([str(tmp_path / "one"), str(tmp_path / "two")])
    assert any("different versions, parameters or models" in sentence for sentence in caveats(runs, suite))
    again = read_runs([f"a={tmp_path / 'two'}", f"b={tmp_path / 'two'}"])
    assert not any("different versions" in sentence for sentence in caveats(again, suite))


def test_two_places_of_one_name_are_two_models(
    bench: tuple[list[EvaluationCase], Path], tmp_path: Path
) -> None:
    cases, videos = bench
    suite = suite_of("opens2v.aesthetics")
    values = []
    for place in ("org/one", "org/two"):
        wishes = Wishes("published", {"aesthetic": f"laion-v2@{place}"})
        evaluate(cases, videos, tmp_path / "out", suite, wishes=wishes)
        (row,) = read_rows(tmp_path / "out")
        values.append(row.value)
    assert values == [6.0, 4.0]


def test_a_judge_that_does_not_answer_is_an_error_of_the_row(
    bench: tuple[list[EvaluationCase], Path], tmp_path: Path
) -> None:
    cases, videos = bench
    wishes = Wishes("published", {"judge": "endpoint@http://away:1/v1#m"})
    evaluate(cases, videos, tmp_path / "out", suite_of("opens2v.natural_score"), wishes=wishes)
    (row,) = read_rows(tmp_path / "out")
    assert (row.status, row.details["reason"]) == (
        "error", "http://away did not answer (refused); start the server",
    )  # fmt: skip


def test_the_commit_of_a_users_own_model_is_in_the_rows(
    bench: tuple[list[EvaluationCase], Path], tmp_path: Path
) -> None:
    cases, videos = bench
    suite, out = suite_of("opens2v.aesthetics"), tmp_path / "out"
    wishes = Wishes("published", {"aesthetic": "laion-v2@org/one"})
    for number_scored in (1, 0):
        assert evaluate(cases, videos, out, suite, wishes=wishes).num_scored == number_scored
        (row,) = read_rows(out)
        assert row.models["aesthetic"].revision == COMMIT
        record = json.loads((out / "run.json").read_text())
        assert record["metrics"]["opens2v.aesthetics"]["models"]["aesthetic"]["revision"] == COMMIT


def test_the_commit_of_a_file_of_the_hub_is_that_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    ref = tmp_path / "models--org--two" / "refs" / "main"
    ref.parent.mkdir(parents=True)
    ref.write_text(COMMIT)
    assert card(entry_for("aesthetic", "laion-v2@org/two")).revision == COMMIT
    assert card(entry_for("aesthetic", "laion-v2@org/three")).known_by == "org/three"
    assert card(entry_for("image-encoder", "dinov2-base")).revision.startswith("f9e44c81")


def test_licences_of_programs_count_too(
    bench: tuple[list[EvaluationCase], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, videos = bench
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho score 0.99\n")
    python.chmod(0o755)
    suite = suite_of("vbench.motion_smoothness", "kaleido")
    monkeypatch.delenv(VARIABLE, raising=False)
    without = evaluate(cases, videos, tmp_path / "without", suite)
    assert VARIABLE in without.unavailable["vbench.motion_smoothness"]
    assert not read_rows(tmp_path / "without")  # left out, and no error for each video
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    assert (
        "is no program" in evaluate(cases, videos, tmp_path / "x", suite).unavailable[suite.metrics[0].metric]
    )
    monkeypatch.setenv(VARIABLE, str(python))
    forbidden = evaluate(cases, videos, tmp_path / "nc", suite, answerers=Answerers(commercial_only=True))
    assert "CC BY-NC" in forbidden.unavailable["vbench.motion_smoothness"]
    evaluate(cases, videos, tmp_path / "out", suite)
    (row,) = read_rows(tmp_path / "out")
    assert row.value == 0.99
    assert any("AMT-S" in sentence for sentence in caveats(read_runs([str(tmp_path / "out")]), suite))
    assert examine(suite)[0]["commercial"] is False


def test_the_doctor_looks_for_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optical_flow, "find_spec", lambda name: None)
    lines = examine(find_suite("core"))
    assert {line["metric"] for line in lines} == {w.metric for w in find_suite("core").metrics}
    assert all("pip install 'anyref[curation]'" in line["missing"] for line in lines)


def test_what_was_scored_before_the_licence_was_asked_is_not_shown(
    bench: tuple[list[EvaluationCase], Path], tmp_path: Path
) -> None:
    cases, videos = bench
    out = tmp_path / "out"
    suite = narrowed(find_suite("kaleido"), ["vbench.overall_consistency"])
    evaluate(cases, videos, out, suite)
    assert read_runs([str(out)])[0].rows
    strict = Answerers(commercial_only=True)
    outcome = evaluate(cases, videos, out, suite, answerers=strict)
    assert "vbench.overall_consistency" in outcome.unavailable
    assert not read_runs([str(out)])[0].rows
    evaluate(cases, videos, out, suite_of("opens2v.aesthetics"), answerers=strict)
    (run,) = read_runs([str(out)])
    assert {row.metric for row in run.rows} == {"opens2v.aesthetics"}
    assert not any("forbid" in sentence for sentence in caveats([run], find_suite("kaleido")))
    report(out, suite, 20, 0)
    scores = json.loads((out / "scores.json").read_text())
    assert scores["official"]["metrics"]["vbench.overall_consistency"]["value"] is None
    evaluate(cases, videos, out, suite)  # asked without the flag, it counts again
    assert {row.metric for row in read_runs([str(out)])[0].rows} >= {"vbench.overall_consistency"}
