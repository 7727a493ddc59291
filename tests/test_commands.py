"""The smaller commands, each run once for real at toy size."""

import json
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

from anyref.cli import main
from anyref.methods import METHODS
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


def test_masks_are_drawn_on_a_sheet(tmp_path: Path) -> None:
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        words = [
            "puppets",
            "masks",
            "--num-masks",
            "2",
            "--seed",
            seed,
            "--output",
            str(tmp_path / f"{name}.png"),
        ]
        assert main(words) == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_methods_are_listed_for_people_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert tuple(listed) == tuple(METHODS)
    assert listed["magref"]["most_references"] == 8
    assert main(["methods"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, card in listed.items():
        assert name in text
        assert f"0 to {card['most_references']} images" in text
        for setting in card["settings"]:
            assert f"{setting['name']} {setting['default']} (" in text


def test_preview_draws_a_sheet_and_an_animation(tmp_path: Path) -> None:
    assert main(["puppets", "preview", "--num-clips", "2", "--output", str(tmp_path / "a.png")]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.gif"}


def test_preview_and_measure_say_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["puppets", "preview", "--num-clips", "0", "--output", str(tmp_path / "a.png")],
        ["puppets", "preview", "--height", "65", "--output", str(tmp_path / "a.png")],
        ["puppets", "masks", "--num-masks", "0", "--output", str(tmp_path / "a.png")],
        ["puppets", "masks", "--seed", "-1", "--output", str(tmp_path / "a.png")],
        ["puppets", "measure", "--num-clips", "1", "--output", str(tmp_path / "a.json")],
        ["puppets", "train", "--device", "toaster", "--output", str(tmp_path / "run")],
        ["convert", str(tmp_path / "nothing"), str(tmp_path / "out")],
    ):
        assert main(words) == 2, words
        assert capsys.readouterr().err.count("\n") == 1, words
        assert not list(tmp_path.iterdir()), words
