"""A stage's key in the ledger knows what stands behind the names of its models and files."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from anyref.curation import fingerprints
from anyref.curation.stage import Stage, config_hash
from anyref.curation.stages.background import BackgroundStage
from anyref.curation.stages.caption import CaptionStage
from anyref.curation.stages.faces import FaceStage
from anyref.curation.stages.grounding import GroundingStage
from anyref.curation.stages.objects import ObjectStage
from anyref.curation.stages.quality import Looks
from anyref.curation.stages.segmentation import SegmentationStage
from anyref.curation.stages.suppression import SuppressionStage
from anyref.curation.stages.tags import TagStage
from anyref.curation.stages.variants import VariantStage
from anyref.perception.models import ENTRIES

PUPPETS = "puppets"
DRAWING = VariantStage(PUPPETS, PUPPETS, PUPPETS, PUPPETS, PUPPETS)
EMBEDDED: tuple[Stage, ...] = (
    CaptionStage(PUPPETS), TagStage(PUPPETS), GroundingStage(PUPPETS), SegmentationStage(PUPPETS), FaceStage(PUPPETS),
    BackgroundStage(PUPPETS), ObjectStage(PUPPETS, PUPPETS), Looks(PUPPETS), DRAWING,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _afresh():
    fingerprints.forget()
    yield
    fingerprints.forget()


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of embedded models, small."""
    folder = tmp_path / "puppets" / "weights"
    for name in (
        "shared/matter/model.safetensors",
        "identity.safetensors",
        "kaleido/transformer/x.safetensors",
        "shared/README.md",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    monkeypatch.setattr(fingerprints, "_PACKAGE", tmp_path)
    return folder


def hashes() -> list[str]:
    fingerprints.forget()
    return [config_hash(stage) for stage in EMBEDDED]


def test_embedded_weights_trained_anew_are_other_settings(weights: Path) -> None:
    before = hashes()
    assert hashes() == before
    (weights / "shared" / "README.md").write_text("what a reader sees")
    assert hashes() == before
    (weights / "shared" / "matter" / "model.safetensors").write_text("trained on")
    assert all(now != then for now, then in zip(hashes(), before, strict=True))
    before = hashes()
    (weights / "kaleido" / "transformer" / "x.safetensors").write_text("trained on")
    changed = [stage for stage, now, then in zip(EMBEDDED, hashes(), before, strict=True) if now != then]
    assert changed == [DRAWING], "only what draws anew opens the generators"


def test_within_a_run_keys_stay(weights: Path) -> None:
    before = config_hash(EMBEDDED[0])
    (weights / "identity.safetensors").write_text("trained on")
    assert config_hash(EMBEDDED[0]) == before


def test_another_revision_is_another_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    stages: tuple[Stage, ...] = (
        CaptionStage(),
        GroundingStage(),
        SegmentationStage(),
        FaceStage(),
        BackgroundStage(),
        ObjectStage(),
        DRAWING,
    )
    drawing = VariantStage()
    before = [config_hash(stage) for stage in (*stages[:-1], drawing)]
    moved = tuple(dataclasses.replace(entry, revision="next") for entry in ENTRIES)
    monkeypatch.setattr("anyref.perception.catalogue.CATALOGUE", moved)
    monkeypatch.setattr(fingerprints, "CATALOGUE", moved)
    fingerprints.forget()
    after = [config_hash(stage) for stage in (*stages[:-1], drawing)]
    assert all(now != then for now, then in zip(after, before, strict=True))


def test_a_place_of_the_user_s_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    file = tmp_path / "model" / "model.safetensors"
    file.write_bytes(b"one")
    stage = GroundingStage(f"grounding-dino-base@{tmp_path}/model")
    before = config_hash(stage)
    file.write_bytes(b"two")
    fingerprints.forget()
    assert config_hash(stage) != before
    recording = GroundingStage(f"recorded:{tmp_path}/model")
    before = config_hash(recording)
    file.write_bytes(b"three")
    fingerprints.forget()
    assert config_hash(recording) != before


def test_of_large_files_pieces_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "_PIECES", 4)
    monkeypatch.setattr(fingerprints, "_PIECE", 10)
    file = tmp_path / "w.bin"
    found = set()
    for content in (bytes(100), bytes(101), b"x" + bytes(99), bytes(99) + b"x", bytes(35) + b"x" + bytes(64)):
        file.write_bytes(content)
        fingerprints.forget()
        found.add(fingerprints._of_place(file))
    assert len(found) == 5


def test_an_edited_taxonomy_is_another_setting(tmp_path: Path) -> None:
    file = tmp_path / "classes.json"
    file.write_text("1")
    stage = TagStage(taxonomy=str(file))
    before = config_hash(stage)
    file.write_text("2")
    fingerprints.forget()
    assert config_hash(stage) != before
    assert fingerprints.fingerprint(TagStage()), "ours counts as well"


@dataclass(frozen=True)
class Plain:
    """No stage of ours."""

    model: str = "a model that nobody knows"
    varier: str = ""
    inpainter: int = 3
    name: str = field(default="plain", init=False)


def test_what_names_no_model_has_no_fingerprint() -> None:
    assert fingerprints.fingerprint(Plain()) == {}
    assert fingerprints.fingerprint(SuppressionStage()) == {}
    assert fingerprints.fingerprint(CaptionStage("endpoint@http://localhost:1/v1#model")) == {}
