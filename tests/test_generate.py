"""`anyref generate` from image files to video, contact sheet and record, with a tiny model of the real classes."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_model import write_tiny_model

from anyref import generate as module
from anyref.cli import main
from anyref.media import read_video


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    for name in ("hat.png", "dog.png"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(model: Path, output: str = "out.mp4", *more: str) -> list[str]:
    words = [
        "--reference",
        "red hat=hat.png",
        "--reference",
        "a dog=dog.png",
        "--prompt",
        "a dog with a red hat jumps",
    ]
    return ["generate", "--model", str(model), "--output", output, *words, *more]


def record_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_video_sheet_and_record(here: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(model, "new/out.mp4", "--seed", "7", "--num-frames", "9", "--fps", "12")) == 0
    assert {path.name for path in (here / "new").iterdir()} == {"out.mp4", "out.json", "out.png"}
    video = read_video(here / "new" / "out.mp4")
    assert video.frames_FYX3.shape == (9, 32, 48, 3)
    assert video.fps == 12
    assert "new/out.mp4: 9 frames of 32 x 48" in capsys.readouterr().out
    with Image.open(here / "new" / "out.png") as sheet:
        assert sheet.width > 400

    record = record_of(here / "new" / "out.json")
    assert record["request"]["prompt"] == "a dog with a red hat jumps"
    assert record["request"]["references"][0] == {
        "phrase": "red hat",
        "sha256": hashlib.sha256((here / "hat.png").read_bytes()).hexdigest(),
    }
    assert record["request"]["seed"] == 7
    assert record["request"]["sampling"]["num_inference_steps"] == 2
    assert record["request"]["method"]["anchor_strength"] == 0.5
    assert record["config"]["model"] == str(model)
    assert {"anyref", "torch", "diffusers", "transformers", "python"} <= set(record["versions"])
    assert {Path(file["path"]).name for file in record["files"]} == {"out.mp4", "hat.png", "dog.png"}
    assert record["timing"]["sample_s"] >= 0


def test_the_seed_decides(here: Path, model: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(arguments(model, f"{name}.mp4", "--seed", seed)) == 0
    a, b, c = ((here / f"{name}.mp4").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_keep_canvas_gives_the_same_number_of_frames(here: Path, model: Path) -> None:
    assert main(arguments(model, "out.mp4", "--keep-canvas")) == 0
    assert len(read_video(here / "out.mp4").frames_FYX3) == 5
    assert record_of(here / "out.json")["request"]["keep_canvas"] is True


def test_case_file_resumes(
    here: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = here / "cases.txt"
    cases.write_text(
        "one@@a dog jumps@@a dog=dog.png\ntwo@@a red hat waves@@red hat=hat.png\nthree@@a dog walks@@a dog=dog.png\n"
    )
    command = ["generate", "--model", str(model), "--case-file", "cases.txt", "--output", "videos"]

    write, made = module.write, []

    def interrupted(job: Any, *rest: Any) -> None:
        if made:
            raise KeyboardInterrupt
        made.append(job)
        write(job, *rest)

    monkeypatch.setattr(module, "write", interrupted)
    assert main(command) == 130
    assert {path.name for path in (here / "videos").iterdir()} == {"one.mp4", "one.json", "one.png"}
    before = (here / "videos" / "one.mp4").stat().st_mtime_ns

    monkeypatch.setattr(module, "write", write)
    capsys.readouterr()
    assert main(command) == 0
    assert "1 of 3 videos were finished before" in capsys.readouterr().out
    assert (here / "videos" / "one.mp4").stat().st_mtime_ns == before
    assert len(list((here / "videos").glob("*.mp4"))) == 3

    assert main(command) == 0
    assert "3 of 3" in capsys.readouterr().out

    cases.write_text(cases.read_text().replace("a dog walks", "a dog waves"))
    (here / "videos" / "one.json").unlink()
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "1 of 3" in out, "another prompt, or no record, is made again"
    assert "[1/2] one" in out
    assert "[2/2] three" in out


@pytest.mark.filterwarnings("default::UserWarning")
def test_odd_but_good_images_are_taken(here: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CMYK, 16 bits, a palette with transparency, grey with alpha, an animation, twenty megapixels."""
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (24, 36, 3), dtype=np.uint8))
    noise.convert("CMYK").save(here / "cmyk.jpg")
    Image.fromarray(rng.integers(0, 65536, (24, 36), dtype=np.uint16)).save(here / "deep.png")
    noise.convert("P").save(here / "palette.png", transparency=3)
    noise.convert("LA").save(here / "grey.png")
    noise.save(here / "moving.gif", save_all=True, append_images=[noise.rotate(90), noise.rotate(180)])
    noise.resize((5200, 4000)).save(here / "large.jpg")
    command = [
        "generate",
        "--model",
        str(model),
        "--prompt",
        "a dog jumps",
        "--steps",
        "1",
        "--guidance",
        "1",
    ]
    for name in ("cmyk.jpg", "deep.png", "palette.png", "grey.png", "moving.gif", "large.jpg"):
        command += ["--reference", name]
    assert main(command) == 0
    assert (here / "outputs" / "video.mp4").is_file()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 6
    assert all(line.startswith("anyref: note: reference") for line in said), (
        "each is not anchored, and that is said"
    )


def test_an_error_while_writing_leaves_nothing(
    here: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "out.png")

    monkeypatch.setattr("anyref.media.write_video", full)
    assert main(arguments(model)) == 2
    assert not list(here.glob("out.*"))
