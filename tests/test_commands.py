"""The smaller commands, each run once for real at toy size."""

import json
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

from anyref.cli import main
from anyref.pipeline import AnyRefPipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def test_train_resumes_and_leaves_a_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "train",
        "magref-puppets",
        "--base",
        str(model),
        "--clips",
        "4",
        "--batch-size",
        "2",
        "--num-steps",
        "2",
    ]
    assert main([*words, "--stop-after", "1"]) == 0
    assert main(words) == 0
    folder = tmp_path / "runs" / "magref-puppets"
    assert f"{Path('runs/magref-puppets/model')}" in capsys.readouterr().out
    assert list((folder / "samples").glob("*.png"))
    assert json.loads((folder / "model" / "training.json").read_text())["recipe"]["clips"] == 4
    AnyRefPipeline.from_pretrained(folder / "model")


@pytest.mark.parametrize("words", [["train", "nothing"], ["train", "magref-puppets", "--clips", "0"]])
def test_train_says_what_is_wrong(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_preview_draws_a_sheet_and_an_animation(tmp_path: Path) -> None:
    assert main(["puppets", "preview", "--num-clips", "2", "--output", str(tmp_path / "a.png")]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.gif"}


def test_preview_and_measure_say_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["puppets", "preview", "--num-clips", "0", "--output", str(tmp_path / "a.png")],
        ["puppets", "preview", "--height", "65", "--output", str(tmp_path / "a.png")],
        ["puppets", "measure", "--num-clips", "1", "--output", str(tmp_path / "a.json")],
        ["puppets", "train", "--device", "toaster", "--output", str(tmp_path / "run")],
        ["convert", str(tmp_path / "nothing"), str(tmp_path / "out")],
    ):
        assert main(words) == 2, words
        assert capsys.readouterr().err.count("\n") == 1, words
        assert not list(tmp_path.iterdir()), words
