"""`anyref evaluate run` on the metrics of pixels: scores.json and the table, from real files."""

import json
from pathlib import Path

import numpy as np
import pytest

from anyref.evaluation.cases import EvaluationCase, write_cases
from anyref.evaluation.command import EvaluateConfig, run
from anyref.evaluation.rows import read_rows
from anyref.evaluation.runs import read_runs, suite_of, within
from anyref.evaluation.suites import beside
from anyref.media import write_video


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (48, 96, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1)
    cases = [EvaluationCase(f"c{n}", "a dog", "single" if n % 2 else "multi", ()) for n in range(4)]
    write_cases(tmp_path / "cases.jsonl", cases)
    for number, case in enumerate(cases):
        frames = np.stack([np.roll(noise, number * frame, axis=1)[:64, :96] for frame in range(6)])
        write_video(frames, tmp_path / "videos" / f"{case.key}.mp4", fps=8)
    return tmp_path


def test_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = EvaluateConfig(
        folder / "cases.jsonl", folder / "videos", folder / "out", "core", draws=50, device="cpu"
    )
    run(config)
    scores = json.loads((folder / "out" / "scores.json").read_text())
    first = (folder / "out" / "scores.json").read_bytes()
    assert scores["official"]["cases"] == 4
    magnitude = scores["strict"]["metrics"]["anyref.motion_magnitude"]
    assert magnitude["videos"] == 4
    assert magnitude["low"] <= magnitude["value"] <= magnitude["high"]
    assert scores["official"]["total"] == {"partial": False, "value": None}
    by_case = {
        row.case: row.value for row in read_rows(folder / "out") if row.metric == "anyref.motion_magnitude"
    }
    assert by_case["c0"] == pytest.approx(0, abs=1e-3)
    assert by_case["c3"] > by_case["c1"] > 1e-3
    assert "Motion magnitude" in capsys.readouterr().out
    run(config)
    assert (folder / "out" / "scores.json").read_bytes() == first


def test_a_metric_beside_the_suite_is_shown_and_counts_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def score(suite: str, *metrics: str) -> dict[str, object]:
        run(
            EvaluateConfig(
                folder / "cases.jsonl",
                folder / "videos",
                folder / "out",
                suite,
                metrics,
                draws=20,
                device="cpu",
            )
        )
        return dict(json.loads((folder / "out" / "scores.json").read_text())["strict"])

    found = score("opens2v-v1.1-open", "opens2v.motion_amplitude", "anyref.motion_magnitude")
    metrics = found["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["anyref.motion_magnitude"]["weight"] == 0
    assert metrics["anyref.motion_magnitude"]["videos"] == 4
    assert "Motion magnitude" in capsys.readouterr().out
    again = score("opens2v-v1.1-open", "opens2v.motion_amplitude")
    assert again == found  # what was asked beside stays in the table
    (suite_run,) = read_runs([str(folder / "out")])
    suite = suite_of([suite_run], None)
    assert beside(suite) == ["anyref.motion_magnitude"]
    assert [row.metric for row in within([suite_run], suite)[0].rows].count("anyref.motion_magnitude") == 4


def test_what_a_user_can_get_wrong(folder: Path) -> None:
    def config(**more: object) -> EvaluateConfig:
        given = {
            "cases": folder / "cases.jsonl",
            "videos": folder / "videos",
            "output": folder / "out",
            "suite": "core",
        }
        return EvaluateConfig(**{**given, **more})  # type: ignore[arg-type]

    for wrong, message in (
        ({"suite": "magraf"}, "the suite 'magraf' is unknown"),
        ({"cases": folder / "none.json"}, "does not exist"),
        ({"videos": folder / "none"}, "does not exist"),
        ({"use": ("nonsense",)}, "is not understood"),
        ({"draws": 0}, "draws is 0"),
        ({"metrics": ("magref.id_sum",)}, "has no metric"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            run(config(**wrong))
        assert "\n" not in str(caught.value)
    assert not (folder / "out").exists()
