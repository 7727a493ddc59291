"""What users get wrong: one sentence on stderr, exit code 2, nothing written."""

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image
from tiny_model import write_tiny_model

from anyref.cli import main

PROMPT = "a dog with a red hat jumps"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path) -> Path:
    """A folder of good and bad things, which is the working directory."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    noise.save(tmp_path / "dog.png")
    noise.save(tmp_path / "dog.jpg")
    png, jpeg = (tmp_path / "dog.png").read_bytes(), (tmp_path / "dog.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (tmp_path / "cut.png").write_bytes(png[: len(png) // 2])
    (tmp_path / "header_only.png").write_bytes(png[:40])
    (tmp_path / "damaged.png").write_bytes(png[:200] + bytes(200) + png[400:])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("this is not an image")
    (tmp_path / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "video.png").write_bytes(struct.pack(">I", 24) + b"ftypisom" + bytes(100))
    (tmp_path / "huge.png").write_bytes(png_header(40_000, 40_000))
    Image.new("RGB", (1, 1)).save(tmp_path / "pixel.png")
    Image.new("RGB", (500, 2)).save(tmp_path / "strip.png")
    Image.new("RGBA", (30, 30)).save(tmp_path / "invisible.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "taken.json").mkdir()
    (tmp_path / "cases.txt").write_text(f"good@@{PROMPT}@@dog.png\nbad@@{PROMPT}@@blue cat=dog.png\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "short.txt").write_text("key@@prompt\n")
    (tmp_path / "no_model").mkdir()
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "config.json").write_text('{"model_type": "i2v"}')
    for name in ("odd_record", "broken_weights", "no_vae", "foreign", "backbone"):
        shutil.copytree(model, tmp_path / name)
    (tmp_path / "backbone" / "anyref.json").unlink()
    (tmp_path / "odd_record" / "anyref.json").write_text("{")
    weights = tmp_path / "broken_weights" / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    shutil.rmtree(tmp_path / "no_vae" / "vae")
    (tmp_path / "foreign" / "anyref.json").write_text(json.dumps({"method": "sketch"}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def png_header(width: int, height: int) -> bytes:
    """A valid beginning of a PNG that claims a size."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    out = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    out.seek(0, io.SEEK_END)
    out.write(struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)))
    data = zlib.compress(bytes(100))
    out.write(struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data)))
    return out.getvalue()


GOOD = {"--reference": "a dog=dog.png", "--prompt": PROMPT, "--output": "out.mp4"}


def changed(*words: str) -> list[str]:
    """A good command with flags replaced; "-" for a value removes the flag."""
    flags = dict(GOOD)
    extra: list[str] = []
    for flag, value in zip(words[::2], words[1::2], strict=True):
        if flag in flags:
            flags[flag] = value
        else:
            extra += [flag, value]
    return ["generate", *(word for pair in flags.items() if pair[1] != "-" for word in pair), *extra]


CASES: dict[str, tuple[list[str], str]] = {
    # references
    "missing image": (changed("--reference", "nothing.png"), "nothing.png"),
    "folder as image": (changed("--reference", "folder.png"), "folder"),
    "empty image": (changed("--reference", "empty.png"), "empty"),
    "text as image": (changed("--reference", "text.png"), "not an image"),
    "drawing as image": (changed("--reference", "drawing.svg"), "not an image"),
    "video as image": (changed("--reference", "video.png"), "video.png"),
    "cut jpeg": (changed("--reference", "cut.jpg"), "cut.jpg"),
    "cut png": (changed("--reference", "cut.png"), "cut.png"),
    "header only": (changed("--reference", "header_only.png"), "header_only.png"),
    "damaged png": (changed("--reference", "damaged.png"), "damaged.png"),
    "one pixel": (changed("--reference", "pixel.png"), "1 x 1"),
    "two rows": (changed("--reference", "strip.png"), "500 x 2"),
    "too many pixels": (changed("--reference", "huge.png"), "megapixels"),
    "invisible": (changed("--reference", "invisible.png"), "transparent"),
    "no reference": (changed("--reference", "-"), "--reference"),
    "nine references": (changed() + ["--reference", "dog.png"] * 8, "at most 8"),
    "no phrase": (changed("--reference", "=dog.png"), "no phrase"),
    "phrase without file": (changed("--reference", "a dog="), "does not exist"),
    "phrase with missing file": (changed("--reference", "a dog=cat.png"), "cat.png"),
    "phrase not in the prompt": (changed("--reference", "blue cat=dog.png"), "blue cat"),
    # prompt
    "no prompt": (changed("--prompt", "-"), "prompt"),
    "blank prompt": (changed("--prompt", "  \n "), "prompt"),
    # sizes
    "height not a multiple": (changed("--height", "65"), "multiple of 16"),
    "height zero": (changed("--height", "0"), "height"),
    "height negative": (changed("--height", "-64"), "height"),
    "width absurd": (changed("--width", "160000000"), "tokens"),
    "height not a number": (changed("--height", "tall"), "--height"),
    "frames not 4k + 1": (changed("--num-frames", "16"), "4k + 1"),
    "frames zero": (changed("--num-frames", "0"), "num_frames"),
    "frames absurd": (changed("--num-frames", "1000000001"), "tokens"),
    # sampling
    "steps zero": (changed("--steps", "0"), "steps"),
    "steps absurd": (changed("--steps", "1000000"), "steps"),
    "guidance not a number": (changed("--guidance", "nan"), "guidance"),
    "guidance negative": (changed("--guidance", "-1"), "guidance"),
    "shift zero": (changed("--shift", "0"), "shift"),
    "shift infinite": (changed("--shift", "inf"), "shift"),
    "shift not a number": (changed("--shift", "nan"), "shift"),
    "unknown solver": (changed("--solver", "magic"), "unipc"),
    "fps zero": (changed("--fps", "0"), "fps"),
    "fps absurd": (changed("--fps", "1e6"), "fps"),
    "fps not a number": (changed("--fps", "nan"), "fps"),
    "anchors negative": (changed("--anchor-strength", "-1"), "anchor_strength"),
    "anchors not a number": (changed("--anchor-strength", "nan"), "anchor_strength"),
    "reference guidance negative": (changed("--reference-guidance", "-1"), "reference_guidance_scale"),
    "reference guidance not a number": (changed("--reference-guidance", "nan"), "reference_guidance_scale"),
    "unknown setting": (changed("--set", "positions=concat"), "magref knows anchor_strength"),
    "setting without value": (changed("--set", "anchor_strength"), "NAME=VALUE"),
    "setting of another type": (changed("--set", "shuffle=perhaps"), "true or false"),
    "setting out of range": (changed("--set", "anchor_strength=-1"), "anchor_strength"),
    "setting twice": (changed("--set", "shuffle=true", "--set", "shuffle=false"), "twice"),
    "missing matter": (changed("--matter", "./nothing"), "BiRefNet"),
    "file as matter": (changed("--matter", "dog.png"), "BiRefNet"),
    "empty folder as matter": (changed("--matter", "no_model"), "no_model"),
    "seed negative": (changed("--seed", "-1"), "seed"),
    "seed too large": (changed("--seed", str(2**70)), "seed"),
    # output
    "no video suffix": (changed("--output", "out.avi"), ".mp4"),
    "no suffix": (changed("--output", "out"), ".mp4"),
    "output is a folder": (changed("--output", "folder.mp4"), "folder"),
    "output below a file": (changed("--output", "dog.png/out.mp4"), "dog.png"),
    "output name too long": (changed("--output", "x" * 300 + ".mp4"), "too long"),
    "output where nothing can be": (changed("--output", "/proc/out.mp4"), "/proc"),
    "record is a folder": (changed("--output", "taken.mp4"), "taken.json"),
    # model and machine
    "missing model": (changed("--model", "./nothing"), "nothing"),
    "file as model": (changed("--model", "dog.png"), "dog.png"),
    "empty model folder": (changed("--model", "no_model"), "no_model"),
    "release as model": (changed("--model", "release"), "convert"),
    "broken record": (changed("--model", "odd_record"), "anyref.json"),
    "model of an unknown method": (changed("--model", "foreign"), "sketch"),
    "broken weights": (changed("--model", "broken_weights"), "broken_weights"),
    "model of another method": (
        changed("--model", "broken_weights", "--method", "kaleido"),
        "'magref', not of 'kaleido'",
    ),
    "backbone of another method": (
        changed("--model", "backbone", "--method", "kaleido"),
        "36 channels and kaleido gives 16",
    ),
    "model without vae": (changed("--model", "no_vae"), "vae"),
    "unknown method": (changed("--method", "sketch"), "magref"),
    "unknown device": (changed("--device", "toaster"), "toaster"),
    "absent device": (changed("--device", "cuda:99"), "cuda:99"),
    "unknown dtype": (changed("--dtype", "int8"), "float32"),
    # case files
    "missing case file": (["generate", "--case-file", "nothing.txt"], "nothing.txt"),
    "binary case file": (["generate", "--case-file", "binary.txt"], "UTF-8"),
    "bad line": (["generate", "--case-file", "short.txt"], "line 1"),
    "bad phrase in a line": (["generate", "--case-file", "cases.txt"], "line 2"),
    "case file and prompt": (["generate", "--case-file", "cases.txt", "--prompt", "x"], "--prompt"),
    "case file into a file": (["generate", "--case-file", "cases.txt", "--output", "dog.png"], "folder"),
    # the command line itself
    "unknown command": (["generrate"], "generrate"),
    "unknown flag": (changed("--speed", "9"), "--speed"),
    "flag without value": ([*changed(), "--seed"], "--seed"),
    "half a command": (["puppets"], "preview"),
}


def run(arguments: list[str], model: Path) -> int:
    if arguments[0] == "generate" and not {"--model", "--method"} & set(arguments):
        arguments = [*arguments[:1], "--model", str(model), *arguments[1:]]
    return main(arguments)


@pytest.mark.parametrize("name", CASES)
def test_one_sentence_and_nothing_written(
    name: str, here: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, expected = CASES[name]
    before = sorted(here.rglob("*"))
    assert run(arguments, model) == 2
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("anyref: ")
    assert expected in lines[0]
    assert "Traceback" not in said.err + said.out
    assert len(lines[0]) < 600
    assert sorted(here.rglob("*")) == before


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 30


def test_an_embedded_model_that_is_not_there(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anyref.methods.folder.embedded_models", dict)
    for method in ("kaleido", "saber"):
        assert main(changed("--method", method)) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert f"the model 'puppets/{method}' is not there" in lines[0]


def test_a_picture_that_nothing_can_cut_out_is_refused_before_the_model_is_loaded(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tiny_model(tmp_path / "saber", "saber")
    capsys.readouterr()
    monkeypatch.setattr("anyref.pipeline.AnyRefPipeline.from_pretrained", None)
    assert main(changed("--model", str(folder))) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "the subject of reference 'dog' is not cut out" in lines[0]
    assert "BiRefNet" in lines[0]


@pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has an accelerator")
def test_offload_needs_an_accelerator(here: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(changed("--offload", "model"), model) == 2
    assert "accelerator" in capsys.readouterr().err


def test_model_that_cannot_be_downloaded(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr("anyref.methods.folder.snapshot_download", offline)
    assert main(changed("--model", "someone/something")) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "someone/something" in lines[0]
    assert not (here / "out.mp4").exists()


def test_our_own_bugs_keep_their_traceback(here: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def buggy(*_: object, **__: object) -> None:
        int("not a number")

    monkeypatch.setattr("anyref.generate.load", buggy)
    with pytest.raises(ValueError, match="invalid literal"):
        run(changed(), model)


def test_memory_is_said_in_a_sentence(
    here: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        torch.empty(2**60)

    monkeypatch.setattr("anyref.generate.sample", full)
    assert run(changed(), model) == 2
    assert "memory" in capsys.readouterr().err
    assert not (here / "out.mp4").exists()


def test_the_real_command_says_one_line(here: Path) -> None:
    """In a process of its own: no library's warnings around the sentence."""
    command = [sys.executable, "-m", "anyref.cli", *changed("--height", "65", "--method", "sketch")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=here, env=environment)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""
