"""`anyref generate` from image files to video, contact sheet and record, with a tiny model of the real classes."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import write_tiny_model

from anyref import generate as module
from anyref.cli import main
from anyref.matting import Segmenter
from anyref.media import read_video
from anyref.puppets.segmenter import build as build_segmenter


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
        "kind": None,
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


def test_the_release_with_its_canvas_is_as_long_from_the_command_line(here: Path, model: Path) -> None:
    small = ("--height", "32", "--width", "48", "--steps", "1")
    assert main(arguments(model, "out.mp4", "--official", "--keep-canvas", *small)) == 0
    assert len(read_video(here / "out.mp4").frames_FYX3) == 81


@pytest.mark.parametrize(
    ("method", "setting", "value"),
    [
        ("magref", "shuffle", True),
        ("kaleido", "positions", "concat"),
        ("saber", "reference_queries", "references"),
    ],
)
def test_every_method_from_files_to_video(
    method: str, setting: str, value: Any, here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = write_tiny_model(tmp_path_factory.mktemp(method), method)
    rng = np.random.default_rng(2)
    for name in ("hat", "dog"):
        cut_out = rng.integers(0, 256, (20, 30, 4), dtype=np.uint8)
        cut_out[..., 3] = 255
        cut_out[:4, :, 3] = 0
        Image.fromarray(cut_out).save(here / f"{name}.png")
    more = ("--set", f"{setting}={str(value).lower()}", "--reference-guidance", "2.5")
    assert main(arguments(model, "plain.mp4")) == 0
    assert main(arguments(model, "out.mp4", *more)) == 0
    assert read_video(here / "out.mp4").frames_FYX3.shape == (5, 32, 48, 3)
    assert (here / "out.mp4").read_bytes() != (here / "plain.mp4").read_bytes()
    request = record_of(here / "out.json")["request"]
    assert request["method"]["method"] == method
    assert request["method"][setting] == value
    assert request["sampling"]["reference_guidance_scale"] == 2.5


def test_a_matter_cuts_out_what_is_not(
    here: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny_model(tmp_path_factory.mktemp("saber"), "saber")
    assert main(arguments(model)) == 2, "opaque pictures, and nothing to cut them out with"
    assert "not cut out" in capsys.readouterr().err
    for name, seen in (("everything", 1.0), ("nothing", -1.0)):
        segmenter = build_segmenter()
        segmenter.decode_head.classifier.weight.data.zero_()
        segmenter.decode_head.classifier.bias.data = torch.tensor([0.0, seen])
        Segmenter(segmenter).save_pretrained(here / name)
    assert main(arguments(model, "cut.mp4", "--matter", "everything")) == 0
    assert main(arguments(model, "out.mp4", "--matter", "nothing")) == 2
    assert "no subject was found" in capsys.readouterr().err
    assert not (here / "out.mp4").exists()
    whole = [
        word.replace("red hat=", "background:red hat=").replace("a dog=", "background:a dog=")
        for word in arguments(model)
    ]
    assert main(whole) == 0, "a background is used whole"
    assert (here / "cut.mp4").read_bytes() == (here / "out.mp4").read_bytes(), "as if all of it were subject"
    assert record_of(here / "out.json")["request"]["references"][0]["kind"] == "background"


def test_views_of_one_subject(here: Path, model: Path) -> None:
    """The same words twice: two views, both bound to the words."""
    words = ["generate", "--model", str(model), "--prompt", "a dog jumps", "--reference", "a dog=dog.png"]
    assert main([*words, "--output", "one.mp4"]) == 0
    assert main([*words, "--reference", "a dog=hat.png", "--output", "two.mp4"]) == 0
    assert (here / "one.mp4").read_bytes() != (here / "two.mp4").read_bytes()
    references = record_of(here / "two.json")["request"]["references"]
    assert [reference["phrase"] for reference in references] == ["a dog", "a dog"]


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
