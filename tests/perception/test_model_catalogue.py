"""The table is consistent, opens what it names, refuses what it must, and costs nothing to read."""

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

from anyref.perception import catalogue
from anyref.perception.catalogue import CATALOGUE, TASKS, entry_for, missing, names, open_model


def test_rows_are_unique_and_complete() -> None:
    keys = [(entry.task, entry.name) for entry in CATALOGUE]
    assert len(set(keys)) == len(keys)
    assert {entry.task for entry in CATALOGUE} == set(TASKS)
    for entry in CATALOGUE:
        assert "@" not in entry.name and entry.licence
        assert entry.revision or entry.name in ("puppets", "endpoint"), entry.name
        assert entry.revision != "main", f"{entry.name} is another model tomorrow"
        if entry.revision.startswith("sha256:"):
            assert len(entry.revision) == len("sha256:") + 64
        assert bool(entry.packages) == bool(entry.extra or entry.install), entry.name


def test_every_factory_is_there() -> None:
    for entry in CATALOGUE:
        module, _, function = entry.module.partition(":")
        if entry.name == "puppets" and find_spec(module) is None:
            continue
        assert callable(getattr(import_module(module), function)), entry.module


def test_reading_the_table_loads_no_framework() -> None:
    heavy = "('torch', 'av', 'PIL', 'cv2')"
    code = f"import sys, anyref.perception.catalogue; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_an_image_text_encoder_is_an_image_encoder() -> None:
    assert entry_for("image-encoder", "clip-b32").task == "image-text-encoder"
    assert {"dinov2-base", "clip-l14", "gme-7b"} <= set(names("image-encoder"))
    assert entry_for("image-encoder", "puppets").task == "image-encoder"  # its own row comes first


def test_a_place_of_the_users_own() -> None:
    entry = entry_for("captioner", "endpoint@http://host:1/v1#qwen")
    assert entry.source == "http://host:1/v1#qwen" and entry.revision == ""


@pytest.mark.parametrize(
    ("task", "name", "words"),
    [
        ("detector", "yolo", "grounding-dino-base"),
        ("nose", "yolo", "no task"),
        ("captioner", "clip-l14", "endpoint"),
    ],
)
def test_unknown_names_list_the_known(task: catalogue.Task, name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        open_model(task, name)


def test_commercial_only_names_an_alternative() -> None:
    with pytest.raises(ValueError, match="yunet-sface"):
        open_model("face-analyser", "insightface-buffalo-l", commercial_only=True)
    with pytest.raises(ValueError, match="commercially"):
        open_model("detector", "recorded:anywhere", commercial_only=True)


def test_what_is_missing_comes_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "find_spec", lambda name: None if name in ("cv2", "pyiqa") else object())
    assert missing(entry_for("detector", "grounding-dino-base")) is None
    telea = missing(entry_for("inpainter", "telea"))
    assert (
        telea is not None and "opencv-python-headless" in telea and "pip install 'anyref[curation]'" in telea
    )
    assert "pyiqa>=0.1.16" in (missing(entry_for("imaging-quality", "musiq-spaq")) or "")
    with pytest.raises(ValueError, match="run: pip install"):
        open_model("inpainter", "telea")


def test_telea_opens_by_name() -> None:
    pytest.importorskip("cv2")
    assert open_model("inpainter", "telea").card.commercial
