"""The engine: rows once and for all, kills that leave no trace, errors that stop nothing, and models loaded once."""

import json
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from anyref.evaluation import answering
from anyref.evaluation.answering import Answerers, Asked, Wishes, loading_order, read_wishes
from anyref.evaluation.cases import EvaluationCase, EvaluationReference
from anyref.evaluation.engine import evaluate
from anyref.evaluation.metrics import JSON, METRICS, Mark, Metric, Result, VideoUnderTest, make_metric
from anyref.evaluation.rows import read_rows
from anyref.evaluation.suites import SUITES, Suite, Weighted, narrowed
from anyref.files import alone
from anyref.media import write_video
from anyref.perception import Box, Model, ModelCard

SUITE = Suite("s", (Weighted("t.bright", "Bright", 0.5), Weighted("t.model", "Model", 0.5)))
OPENED: list[str] = []
SCORED: list[str] = []


@dataclass(frozen=True)
class Bright:
    """Mean of the frames, through the features; breaks on a red reference."""

    name: ClassVar[str] = "t.bright"
    version: int = 1
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {}
    defaults: ClassVar[Mapping[str, str]] = {}
    parameters: Mapping[str, JSON] = field(default_factory=dict)

    def applies(self, case: EvaluationCase) -> bool:
        return case.category != "empty"

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        assert not models
        SCORED.append(video.case.key)
        if video.references()[0][0, 0, 0] == 255:
            raise RuntimeError(f"no mean of {video.path}")
        means = video.features.get_or_compute(
            ("mean",), lambda: np.array([frame.mean() / 255 for frame in video.frames()], np.float32)
        )
        per_frame = tuple(float(mean) for mean in means)
        mark = Mark(0, Box(0, 0, 8, 8), "all", 0.5)
        value = float(means.mean())
        return Result(
            value, value, "ok", per_frame, tuple(range(len(means))), {"size": np.float32(1)}, (mark,)
        )


@dataclass(frozen=True)
class WithModel(Bright):
    """Asks a model."""

    name: ClassVar[str] = "t.model"
    models: ClassVar[Mapping[str, str]] = {"encoder": "image-encoder"}
    defaults: ClassVar[Mapping[str, str]] = {"encoder": "dinov2-base"}

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        assert models["encoder"].card.name == "dinov2-base"
        value = float(video.frames_at([video.num_frames - 1, 0])[1].mean() / 255)
        return Result(value, value) if video.num_frames > 1 else Result(None, 0.0, "missed")


class FakeModel:
    card = ModelCard("dinov2-base", "here", "r1", "MIT", True)


class FakeAnswerers(Answerers):
    revision = "r1"

    def card(self, asked: Asked) -> ModelCard:
        return replace(FakeModel.card, revision=self.revision)

    def model(self, asked: Asked) -> Model:
        OPENED.append(asked.name)
        return FakeModel()


def make(name: str) -> Metric:
    return {"t.bright": Bright(), "t.model": WithModel()}[name]


@pytest.fixture
def bench(tmp_path: Path) -> tuple[list[EvaluationCase], Path]:
    """Cases c0 to c4; c3 has no video, c4 a damaged one; and a video of nobody's."""
    OPENED.clear()
    SCORED.clear()
    Image.new("RGB", (16, 16), "grey").save(tmp_path / "r.png")
    Image.new("RGB", (16, 16), "red").save(tmp_path / "red.png")
    reference = EvaluationReference(tmp_path / "r.png", "dog", "object")
    cases = [EvaluationCase(f"c{n}", "a dog", "x", (reference,)) for n in range(5)]
    videos = tmp_path / "videos"
    for number in range(3):
        frames = np.full((5 if number else 1, 16, 16, 3), 60 * number, np.uint8)
        write_video(frames, videos / f"c{number}.mp4", fps=8)
    (videos / "c4.mp4").write_bytes((videos / "c1.mp4").read_bytes()[:300])
    shutil.copy(videos / "c1.mp4", videos / "stranger.mp4")
    (videos / "notes.txt").write_text("no video")
    return cases, videos


def go(cases: list[EvaluationCase], videos: Path, output: Path, **more: object) -> object:
    answerers = more.pop("answerers", None) or FakeAnswerers()
    return evaluate(cases, videos, output, SUITE, make=make, answerers=answerers, **more)  # type: ignore[arg-type]


def test_every_case_gets_a_status(bench: tuple[list[EvaluationCase], Path], tmp_path: Path) -> None:
    cases, videos = bench
    cases[2] = replace(cases[2], category="empty")
    outcome = go(cases, videos, tmp_path / "out")
    rows = {(row.case, row.metric): row for row in read_rows(tmp_path / "out")}
    assert {key: row.status for key, row in rows.items()} == {
        ("c0", "t.bright"): "ok", ("c0", "t.model"): "missed",
        ("c1", "t.bright"): "ok", ("c1", "t.model"): "ok",
        ("c2", "t.bright"): "not_applicable", ("c2", "t.model"): "not_applicable",
        ("c3", "t.bright"): "missed", ("c3", "t.model"): "missed",
        ("c4", "t.bright"): "missed", ("c4", "t.model"): "missed",
    }  # fmt: skip
    assert outcome.missing == ("c3",)
    assert outcome.extra == ("stranger.mp4",)
    assert outcome.statuses["t.bright"] == {"ok": 2, "not_applicable": 1, "missed": 2}
    assert (rows["c3", "t.bright"].value, rows["c3", "t.bright"].strict) == (None, None)
    assert rows["c4", "t.bright"].details == {"reason": "c4.mp4 has no video stream; give a video"}
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["config"]["videos"] == str(videos)
    assert record["notes"] == ["the videos have 2 lengths (1 frames, 5 frames)"]
    bright = rows["c1", "t.bright"]
    assert bright.value == pytest.approx(60 / 255, abs=0.01)
    assert len(bright.per_frame) == 5
    assert bright.boxes[0].box == Box(0, 0, 8, 8)
    assert bright.details == {"size": 1.0}
    assert rows["c1", "t.model"].models["encoder"].revision == "r1"
    assert str(tmp_path) not in (tmp_path / "out" / "rows.jsonl").read_text()


def test_two_runs_do_not_share_an_output(bench: tuple[list[EvaluationCase], Path], tmp_path: Path) -> None:
    cases, videos = bench
    with alone(tmp_path / "out"), pytest.raises(ValueError, match="another run writes"):
        evaluate(cases, videos, tmp_path / "out", SUITE)


def test_a_second_call_computes_nothing(bench: tuple[list[EvaluationCase], Path], tmp_path: Path) -> None:
    cases, videos = bench
    go(cases[:4], videos, tmp_path / "out")
    first = (tmp_path / "out" / "rows.jsonl").read_bytes()
    assert OPENED == ["dinov2-base"]
    SCORED.clear()
    outcome = go(cases[:4], videos, tmp_path / "out")
    assert (SCORED, OPENED, outcome.num_scored) == ([], ["dinov2-base"], 0)
    assert (tmp_path / "out" / "rows.jsonl").read_bytes() == first


def test_errors_stop_nothing_and_are_tried_again(
    bench: tuple[list[EvaluationCase], Path], tmp_path: Path
) -> None:
    cases, videos = bench
    red = EvaluationReference(tmp_path / "red.png", "dog", "object")
    cases[1] = replace(cases[1], references=(red,))
    go(cases, videos, tmp_path / "out")
    rows = {row.place: row for row in read_rows(tmp_path / "out") if row.metric == "t.bright"}
    failed = rows["c1", 0, "t.bright"]
    assert failed.details["reason"] == "RuntimeError: no mean of c1.mp4"
    assert rows["c2", 0, "t.bright"].status == "ok"
    SCORED.clear()
    go(cases, videos, tmp_path / "out")
    assert SCORED == ["c1"]


def test_what_changes_is_scored_anew(bench: tuple[list[EvaluationCase], Path], tmp_path: Path) -> None:
    cases, videos = bench
    out = tmp_path / "out"
    go(cases[:3], videos, out)
    original = (out / "rows.jsonl").read_bytes()
    SCORED.clear()
    shutil.copy(videos / "c2.mp4", videos / "c1.mp4")  # another video
    cases[2] = replace(cases[2], prompt="a cat")  # another question
    newer = FakeAnswerers()
    newer.revision = "r2"  # another model
    outcome = go(cases[:3], videos, out, answerers=newer)
    assert SCORED == ["c1", "c2"]
    assert outcome.num_scored == 2 + 3
    assert len(read_rows(out)) == 6
    # Back again: what was scored is remembered, the file is the same byte for byte.
    SCORED.clear()
    write_video(np.full((5, 16, 16, 3), 60, np.uint8), videos / "c1.mp4", fps=8)
    cases[2] = replace(cases[2], prompt="a dog")
    outcome = go(cases[:3], videos, out)
    assert SCORED == []
    assert (out / "rows.jsonl").read_bytes() == original


def test_rows_of_other_suites_and_lost_videos(
    bench: tuple[list[EvaluationCase], Path], tmp_path: Path
) -> None:
    cases, videos = bench
    out = tmp_path / "out"
    go(cases[:3], videos, out)
    other = Suite("other", (Weighted("t.bright", "B"),), categories=("y",))
    more = [*cases[:2], replace(cases[2], category="y")]
    evaluate(more, videos, out, other, make=make, answerers=FakeAnswerers())
    assert len(read_rows(out)) == 5  # c2 asks another thing now: its row of t.model is out of date
    (videos / "c1.mp4").unlink()
    go(cases[:2], videos, out)
    lost = [row for row in read_rows(out) if row.case == "c1"]
    assert [(row.status, row.video_sha256) for row in lost] == [("missed", "")] * 2


def test_videos_of_other_categories_are_nobodys_mistake(
    bench: tuple[list[EvaluationCase], Path], tmp_path: Path
) -> None:
    cases, videos = bench
    cases[2] = replace(cases[2], category="y")
    suite = replace(SUITE, categories=("x",))
    outcome = evaluate(cases, videos, tmp_path / "out", suite, make=make, answerers=FakeAnswerers())
    assert outcome.extra == ("stranger.mp4",) and outcome.missing == ("c3",)
    assert "c2" not in {row.case for row in read_rows(tmp_path / "out")}
    (videos / "c2.mp4").rename(tmp_path / "c2.mp4")
    for path in videos.glob("*.mp4"):
        path.unlink()
    (tmp_path / "c2.mp4").rename(videos / "c2.mp4")
    with pytest.raises(ValueError, match=r"no case of the suite has a video .* c2\.mp4, of other categories"):
        evaluate(cases, videos, tmp_path / "none", suite, make=make, answerers=FakeAnswerers())


def test_takes(bench: tuple[list[EvaluationCase], Path], tmp_path: Path) -> None:
    cases, videos = bench
    shutil.copy(videos / "c2.mp4", videos / "c1.seed-7.mp4")
    go(cases[:3], videos, tmp_path / "out")
    takes = [row.take for row in read_rows(tmp_path / "out") if (row.case, row.metric) == ("c1", "t.bright")]
    assert takes == [0, 7]
    shutil.copy(videos / "c2.mp4", videos / "c1.mov")
    with pytest.raises(ValueError, match="both the video of case 'c1'"):
        go(cases[:3], videos, tmp_path / "out")


def test_a_metric_that_cannot_run_is_left_out(
    bench: tuple[list[EvaluationCase], Path], tmp_path: Path
) -> None:
    cases, videos = bench

    class Broken(FakeAnswerers):
        def model(self, asked: Asked) -> Model:
            raise OSError("the hub is far away")

    outcome = go(cases[:3], videos, tmp_path / "out", answerers=Broken())
    assert outcome.unavailable == {"t.model": "OSError: the hub is far away"}
    assert {row.metric for row in read_rows(tmp_path / "out")} == {"t.bright"}
    assert go(cases[:3], videos, tmp_path / "out").unavailable == {}
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["metrics"]["t.model"]["models"]["encoder"]["licence"] == "MIT"


class DamagedError(Exception):
    """Of no family that a reader of weights could know, as safetensors' and pickle's are."""


def test_damaged_weights_cost_one_metric(
    bench: tuple[list[EvaluationCase], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, videos = bench

    def broken(*_: object) -> Model:
        raise DamagedError("invalid header\nat byte 8")

    class Broken(FakeAnswerers):
        def card(self, asked: Asked) -> ModelCard:
            raise DamagedError("no card either")

    monkeypatch.setattr(answering, "open_model", broken)
    for damaged, reason in ((Answerers(), "the image-encoder dinov2-base cannot be opened"), (Broken(), "")):
        output = tmp_path / type(damaged).__name__
        outcome = go(cases[:3], videos, output, answerers=damaged)
        assert list(outcome.unavailable) == ["t.model"]
        assert outcome.unavailable["t.model"].startswith(reason)
        assert "DamagedError: " in outcome.unavailable["t.model"]
        assert {row.metric for row in read_rows(output)} == {"t.bright"}


def test_a_case_that_a_metric_chokes_on_is_an_error_of_its_row(
    bench: tuple[list[EvaluationCase], Path], tmp_path: Path
) -> None:
    cases, videos = bench

    class Choosy(Bright):
        def applies(self, case: EvaluationCase) -> bool:
            if case.key == "c1":
                raise TypeError("what is this")
            return True

    made = {"t.bright": Choosy(), "t.model": WithModel()}
    answerers = FakeAnswerers()
    outcome = evaluate(cases[:3], videos, tmp_path / "out", SUITE, make=made.__getitem__, answerers=answerers)
    assert outcome.unavailable == {}
    assert outcome.statuses["t.bright"] == {"ok": 2, "error": 1}
    (failed,) = [row for row in read_rows(tmp_path / "out") if row.status == "error"]
    assert (failed.case, failed.details["reason"]) == ("c1", "TypeError: what is this")


def test_no_suite_opens_a_model_twice() -> None:
    for suite in SUITES.values():
        for backend in ("published", "puppets"):
            wishes = Wishes(backend)
            metrics = [make_metric(weighted.metric) for weighted in suite.metrics]
            held: set[Asked] = set()
            opened: list[Asked] = []
            for metric in loading_order(metrics, wishes):
                wanted = set(wishes.asked(metric).values())
                opened += wanted - held
                held = wanted
            assert len(opened) == len(set(opened)), (suite.name, backend)
            assert loading_order(metrics, wishes) == loading_order(metrics, wishes)


@dataclass(frozen=True)
class Named(WithModel):
    """Asks the models of these folders."""

    name: str = ""  # type: ignore[misc]
    folders: tuple[str, ...] = ()

    @property
    def models(self) -> Mapping[str, str]:  # type: ignore[override]
        return dict.fromkeys(self.folders, "image-encoder")

    @property
    def defaults(self) -> Mapping[str, str]:  # type: ignore[override]
        return {folder: f"dinov2-base@{folder}" for folder in self.folders}

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        return Result(0.5, 0.5)


def test_never_more_models_are_open_than_one_metric_needs(
    bench: tuple[list[EvaluationCase], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, videos = bench
    opened: list[str] = []
    most_open = 0

    def open_model(task: str, name: str, *_: object) -> Model:
        nonlocal most_open
        opened.append(name.partition("@")[2])
        most_open = max(most_open, len(answerers._open) + 1)
        return FakeModel()

    monkeypatch.setattr(answering, "open_model", open_model)
    folders = {"one": ("a",), "two": ("b",), "three": ("a", "c"), "four": ("b",), "five": ("d", "c")}
    made = {name: Named(name=name, folders=wanted) for name, wanted in folders.items()}
    suite = Suite("s", tuple(Weighted(name, name) for name in made))
    for output, first in (("new", ["a", "c", "d", "b"]), ("new", ["a", "c", "d", "b"])):
        answerers = Answerers()
        outcome = evaluate(
            cases[:3], videos, tmp_path / output, suite, make=made.__getitem__, answerers=answerers
        )
        assert outcome.unavailable == {}
        assert (opened, most_open) == (first, 2)
        opened.clear()


def test_complaints_before_anything_is_written(
    bench: tuple[list[EvaluationCase], Path], tmp_path: Path
) -> None:
    cases, videos = bench
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"there is none; name them by their keys, such as c0\.mp4"):
        go(cases, tmp_path / "empty", out)
    with pytest.raises(ValueError, match="does not exist"):
        go(cases, tmp_path / "nowhere", out)
    with pytest.raises(ValueError, match=r"has no metric t\.other"):
        narrowed(SUITE, ["t.other"])
    with pytest.raises(ValueError, match="is for cases of y, and these are of x"):
        evaluate(cases, videos, out, replace(SUITE, categories=("y",)), make=make)
    assert not out.exists()


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from anyref.evaluation.cases import read_cases
import tests.evaluation.test_engine as t

class Slow(t.Bright):
    def score(self, video, models):
        time.sleep(0.02)
        return super().score(video, models)

t.make = lambda name: Slow() if name == "t.bright" else t.WithModel()
t.go(list(read_cases(Path(sys.argv[2]) / "cases.jsonl")), Path(sys.argv[2]) / "videos", Path(sys.argv[2]) / sys.argv[3])
"""


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_file(tmp_path: Path) -> None:
    from anyref.evaluation.cases import write_cases

    Image.new("RGB", (16, 16), "grey").save(tmp_path / "r.png")
    reference = EvaluationReference(tmp_path / "r.png", "dog", "object")
    cases = [EvaluationCase(f"c{n:02d}", "a dog", "x", (reference,)) for n in range(40)]
    write_cases(tmp_path / "cases.jsonl", cases)
    for number, case in enumerate(cases):
        frames = np.full((3, 16, 16, 3), 6 * number, np.uint8)
        write_video(frames, tmp_path / "videos" / f"{case.key}.mp4", fps=8)
    root = str(Path(__file__).parents[2])

    def start(output: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", textwrap.dedent(KILLED), root, str(tmp_path), output]
        return subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL)

    assert start("whole").wait() == 0
    rng = np.random.default_rng(0)
    rows = tmp_path / "killed" / "rows.jsonl"
    for _ in range(3):
        process = start("killed")
        before = rows.read_bytes().count(b"\n") if rows.is_file() else 0
        while (
            process.poll() is None and (rows.read_bytes().count(b"\n") if rows.is_file() else 0) < before + 5
        ):
            time.sleep(0.02)
        time.sleep(float(rng.uniform(0, 0.1)))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 0 < rows.read_bytes().count(b"\n") < 80
    with rows.open("ab") as file:
        file.write(b'{"case": "c0')  # a line that a kill cut short
    assert start("killed").wait() == 0
    for name in ("rows.jsonl", "videos.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_wishes() -> None:
    wishes = read_wishes("published", ["image-encoder=dinov2-small", "t.model/encoder=dino-b16"])
    assert wishes.asked(WithModel())["encoder"] == Asked("image-encoder", "dino-b16")
    assert read_wishes("published", []).asked(WithModel())["encoder"].name == "dinov2-base"
    assert Wishes("puppets").asked(WithModel())["encoder"].name == "puppets"
    for bad in ("dinov2-small", "eye=dinov2-small", "detector="):
        with pytest.raises(ValueError, match="is not understood"):
            read_wishes("published", [bad])


def test_commercial_only_refuses_by_licence() -> None:
    strict = Answerers(commercial_only=True)
    with pytest.raises(ValueError, match="may not be used commercially"):
        strict.card(Asked("face-analyser", "insightface-buffalo-l"))
    assert strict.card(Asked("image-encoder", "dinov2-base")).revision


def test_every_named_metric_keeps_the_contract() -> None:
    cases = EvaluationCase("k", "a dog", "single", ())
    for name in METRICS:
        metric = make_metric(name)
        assert metric.version >= 1
        assert set(metric.models) == set(metric.defaults), name
        assert isinstance(metric.applies(cases), bool), name
        json.dumps(dict(metric.parameters))
        Wishes().asked(metric)
    with pytest.raises(ValueError, match="unknown"):
        make_metric("magref.nothing")
