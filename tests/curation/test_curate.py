"""`anyref curate` and `anyref curate report` from films to the manifest, all steps, with models that see colours."""

import json

import colour_world as world
import numpy as np
import pytest
from colour_world import Thing

from anyref.curation import command
from anyref.curation.assemble import read_manifest
from anyref.curation.command import CurateConfig, CurateReportConfig
from anyref.curation.store import Store
from anyref.perception import catalogue

FILMS = {
    "a.mp4": [Thing("dog", (60, 4, 100, 44), 1.5), Thing("car", (20, 130, 55, 185))],
    "b.mp4": [Thing("dog", (40, 130, 95, 180), -2.0, 8), Thing("bird", (10, 10, 50, 50), 0.5)],
}
BOUNDS = (
    "clip.duration_s=1:10", "clip.num_frames=12:", "clip.short_side=64:", "clip.flow_p95=0:", "clip.flow_mean=off", "clip.blur=off",
    "object.class_margin=off", "object.sharpness=off", "clip.aesthetic=off", "object.aesthetic=off",
)  # fmt: skip


class Rater:
    card = world.CARD

    def rate(self, pictures):
        return np.full(len(pictures), 5.0, np.float32)


@pytest.fixture
def colours(monkeypatch):
    encoder, detector = world.Encoder(), world.Detector()
    models = {
        "captioner": world.Captioner("A dog runs; a car and a bird stand still."), "detector": detector, "segmenter": detector,
        "image-encoder": encoder, "image-text-encoder": encoder, "face-analyser": world.FaceAnalyser(),
        "inpainter": world.Inpainter(), "varier": world.Varier(), "aesthetic": Rater(),
    }  # fmt: skip
    opened = []

    def open_model(task, name, device="cpu", commercial_only=False):
        opened.append((task, name))
        return models[task]

    monkeypatch.setattr(catalogue, "open_model", open_model)
    return opened


@pytest.fixture
def config(tmp_path):
    films = tmp_path / "films"
    for name, things in FILMS.items():
        world.write_film(films / name, world.draw(things, 36))
    (films / "c.mp4").write_bytes(b"no film")
    (films / "licences.json").write_text(json.dumps({"a.mp4": "CC-BY-4.0"}))
    return CurateConfig(
        str(films),
        str(tmp_path / "set"),
        preset="kaleido",
        backend="open",
        bound=BOUNDS,
        model=("varier=flux-redux",),
    )


def test_films_to_manifest_and_report(config, colours, tmp_path):
    command.curate(config)
    store = Store(config.output, config.input)
    samples = list(read_manifest(store))
    assert len(samples) == 2
    kept = [sorted({row.class_id for row in sample.objects if not row.dropped}) for sample in samples]
    assert [len(names) for names in kept] == [2, 2]
    assert all(store.exists(sample.clip.uri) for sample in samples)
    assert all(sample.split for sample in samples)
    stages = [row.stage for row in samples[0].lineage]
    assert stages[:3] == ["probe", "shots", "clips"]
    assert stages[-3:] == ["keep", "cut", "split"]
    assert {sample.source.licence for sample in samples} == {"CC-BY-4.0", "unknown"}
    losses = [json.loads(line) for line in store.read("losses.jsonl").decode().splitlines()]
    assert [loss["status"] for loss in losses] == ["quarantined"]
    page = store.read("report.html").decode()
    assert "quarantined" in page
    assert page.count("data:image/jpeg") > 10
    assert "CC-BY-4.0: 1 clips" in store.read("data_card.md").decode()

    opened = len(colours)
    manifest = store.read("manifest.parquet")
    command.curate(config)
    assert store.read("manifest.parquet") == manifest
    assert len(colours) == opened  # nothing is computed again

    command.curate_report(
        CurateReportConfig(config.output, tmp_path / "other.html", bound=("object.area=0.5:",))
    )
    assert len(colours) == opened
    assert "subjects 2" in (tmp_path / "data_card.md").read_text()


def test_another_threshold_opens_no_model(config, colours):
    command.curate(config)
    before = len(colours)
    from dataclasses import replace

    command.curate(replace(config, bound=(*BOUNDS, "object.area=0.2:")))
    assert len(colours) == before
    assert not list(read_manifest(Store(config.output)))


def test_saber_needs_captions_only(config, colours):
    from dataclasses import replace

    command.curate(replace(config, preset="saber"))
    samples = list(read_manifest(Store(config.output)))
    assert len(samples) == 2
    assert {task for task, _ in colours} == {"captioner", "aesthetic"}
    assert samples[0].caption.text.startswith("A dog")


def test_what_a_user_can_get_wrong(config, tmp_path):
    from dataclasses import replace

    with pytest.raises(FileNotFoundError, match="folder"):
        command.curate(replace(config, input=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match="workers"):
        command.curate(replace(config, workers=0))
    with pytest.raises(ValueError, match="lies in the folder of films"):
        command.curate(replace(config, output=f"{config.input}/set"))
    with pytest.raises(ValueError, match="commercially"):
        command.curate(replace(config, commercial_only=True))
    with pytest.raises(ValueError, match="no image-encoder named 'eyes'"):
        command.curate(replace(config, model=("image=eyes",)))
    with pytest.raises(FileNotFoundError, match=r"curation\.json"):
        command.curate_report(CurateReportConfig(str(tmp_path)))


def test_only_models_that_a_preset_asks_for_need_a_licence():
    config = CurateConfig("films", "set", preset="saber", backend="real", commercial_only=True)
    models, _ = command.models_and_rules("saber", "real", (), ())
    command.check_licences(models, config.preset)
    with pytest.raises(ValueError, match="faces insightface"):
        command.check_licences(models, "magref")


def test_flags_reach_decisions_and_the_run(config, colours, monkeypatch):
    from dataclasses import replace

    from anyref.curation import run

    for wanted in (False, True):
        stages, rules = command.steps(replace(config, face_containment=wanted))
        assert rules.face_containment is wanted
        assert next(stage for stage in stages if stage.name == "decide").rules.face_containment is wanted
    asked = []

    def curate(*_, retry_quarantined, **__):
        asked.append(retry_quarantined)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "curate", curate)
    for wanted in (False, True):
        with pytest.raises(KeyboardInterrupt):
            command.curate(replace(config, retry_quarantined=wanted))
    assert asked == [False, True]
