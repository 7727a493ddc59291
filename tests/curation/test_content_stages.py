"""S3 to S11 on films of coloured rectangles, with models that see colours."""

import json
from dataclasses import replace

import colour_world as world
import numpy as np
import pytest
from colour_world import Thing

from anyref.curation.across import Identities
from anyref.curation.assemble import sample_of
from anyref.curation.clips import evenly, read_picture, read_vectors
from anyref.curation.decisions import DEFAULT_RULES, Decide, Rules, Select
from anyref.curation.pairs import CrossPairs, Donors
from anyref.curation.records import Clip, Rectangle, Sample, from_json, to_json
from anyref.curation.stage import Record, Stage, canonical
from anyref.curation.stages.background import BackgroundStage, BackgroundWorker
from anyref.curation.stages.caption import CaptionStage, CaptionWorker
from anyref.curation.stages.faces import FaceStage, FaceWorker
from anyref.curation.stages.grounding import GroundingStage, GroundingWorker
from anyref.curation.stages.objects import ClassCheck, ObjectStage, ObjectWorker
from anyref.curation.stages.segmentation import SegmentationStage, SegmentationWorker
from anyref.curation.stages.suppression import SuppressionStage
from anyref.curation.stages.tags import TagStage, TagWorker
from anyref.curation.stages.variants import (
    Composites,
    CompositeWorker,
    Likeness,
    VariantStage,
    VariantWorker,
)
from anyref.curation.store import Store
from anyref.curation.taxonomy import TaxonomyTagger, load_taxonomy
from anyref.perception import Tag
from anyref.runlengths import RunLengths, decode

TAXONOMY = load_taxonomy()
DOG, CAR = Thing("dog", (60, 10, 100, 50), 1.0), Thing("car", (40, 120, 80, 180))
WOMAN, FACE = Thing("person", (20, 70, 120, 105)), Thing("face", (24, 76, 44, 98))
FILMS = {
    "a.mp4": ([DOG, CAR, WOMAN, FACE], "A red dog runs past a woman and a car."),
    "b.mp4": ([Thing("dog", (40, 100, 95, 150), -1.5, 8), Thing("bird", (10, 10, 50, 50))], "The puppy plays with a parrot."),
    "c.mp4": ([Thing("person", (10, 20, 126, 60)), Thing("face", (14, 28, 38, 52))], "A woman stands still."),
}  # fmt: skip
RULES = DEFAULT_RULES.changed(
    ["clip.duration_s=1:", "clip.num_frames=10:", "clip.short_side=64:", "face.short_side=10:", "object.aesthetic=off",
     "object.class_margin=-0.5:", "variant.redux.clip=-1:", "variant.inpaint.clip=-1:", "variant.crossclip.clip=-1:",
     "variant.inpaint.dino=0.5:", "variant.redux.dino=0.5:", "variant.crossclip.dino=0.5:"]
)  # fmt: skip


def workers(caption):
    detector, encoder = world.Detector(), world.Encoder()
    check = ClassCheck(encoder, TAXONOMY)
    return [
        CaptionWorker(CaptionStage(), world.Captioner(caption)),
        TagWorker(TagStage(), TaxonomyTagger(TAXONOMY), TAXONOMY),
        GroundingWorker(GroundingStage(), detector),
        SegmentationWorker(SegmentationStage(), detector),
        ObjectWorker(ObjectStage(), check, encoder),
        FaceWorker(FaceStage(every=3), world.FaceAnalyser()),
        SuppressionStage().open(),
        BackgroundWorker(BackgroundStage(), world.Inpainter()),
    ]


def run(record, store, steps):
    for step in steps:
        outcome = step(record, store)
        assert outcome.status == "ok", outcome
        (after,) = outcome.records
        changed = {name for name in after.values if after.values.get(name) != record.values.get(name)}
        writes = getattr(step, "stage", step).writes
        assert {name.split(".")[0] for name in changed} <= {name.split(".")[0] for name in writes}, step
        json.dumps(dict(after.values), allow_nan=False)
        record = after
    return record


def across(records, store):
    for step in (
        Select((RULES,)),
        VARIANTS,
        Donors(),
        COMPOSITES,
        Identities(0.55, 0.7),
        CrossPairs(RULES),
        Decide(RULES),
    ):
        if hasattr(step, "gather"):
            records = [outcome.records[0] for outcome in step.gather(records, store)]
        else:
            records = [run(record, store, [step]) for record in records]
    return records


_ENCODER = world.Encoder()
VARIANTS = VariantWorker(
    VariantStage(),
    Likeness(_ENCODER, ClassCheck(_ENCODER, TAXONOMY), world.FaceAnalyser()),
    world.Inpainter(),
    world.Varier(),
)
COMPOSITES = CompositeWorker(Composites(), _ENCODER)


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curation")
    store = Store(str(folder / "out"), str(folder / "films"))
    records = []
    for name, (things, caption) in FILMS.items():
        world.write_film(folder / "films" / name, world.draw(things))
        records.append(run(world.record_of(name), store, workers(caption)))
    return records, across(records, store), store


def objects(record, label):
    return [row for row in record["objects"] if row["label"] == label]


def test_stages_keep_the_contract():
    stages = [CaptionStage(), TagStage(), GroundingStage(), SegmentationStage(), ObjectStage(), FaceStage()]
    stages += [SuppressionStage(), BackgroundStage(), VariantStage(), Decide()]
    assert all(isinstance(stage, Stage) for stage in stages)
    assert len({stage.name for stage in stages}) == len(stages)


def test_masks_are_the_things(curated):
    (a, _, _), _, _ = curated
    clip = from_json(Clip, a["clip"])
    assert [row["frame"] for row in objects(a, "red dog")] == evenly(clip, 3) == [0, 12, 23]
    for row in objects(a, "red dog"):
        top, left, bottom, right = DOG.at(row["frame"])
        true = np.zeros((world.HEIGHT, world.WIDTH), np.bool_)
        true[top:bottom, left:right] = True
        mask = decode(RunLengths(tuple(row["mask"]["size"]), row["mask"]["counts"]))
        assert (mask & true).sum() / (mask | true).sum() > 0.85
        assert a["caption"]["text"][row["start"] : row["end"]] == "red dog"
        assert row["scores"]["class_margin"] > 0.5


def test_crop_and_segment_are_kept(curated):
    (a, _, _), _, store = curated
    row = objects(a, "car")[0]
    crop, segment = (read_picture(store, v["uri"]) for v in row["variants"])
    assert [v["kind"] for v in row["variants"]] == ["crop", "segment"]
    assert crop.shape[2] == 3
    assert segment.shape[2] == 4
    assert crop.shape[:2] == segment.shape[:2]
    vectors = read_vectors(store, a["object_vectors"]["uri"])
    assert len(vectors) == len(a["objects"])


def test_a_face_gets_its_persons_phrase_and_suppresses_by_iou(curated):
    (a, _, _c), (da, _, dc), _ = curated
    (face,) = a["face_candidates"]
    assert a["caption"]["text"][face["start"] : face["end"]] == "woman"
    assert 2 <= len(face["pool"]) <= 10
    woman = objects(a, "woman")[0]
    height, width = 100 * 35, 20 * 22
    assert woman["scores"]["face_iou"] == pytest.approx(width / height, abs=0.03)
    assert woman["scores"]["holds_face"] > 0.9
    assert [row["suppressed_by_face"] for row in objects(da, "woman")] == [None] * 3
    assert len(da["faces"]) == len(dc["faces"]) == 1


def test_close_up_people_are_their_faces():
    frame, rows = 0, []
    close = Record("x-0", "clip", {
        **world.record_of("x.mp4").values,
        "face_boxes": [{"frame": frame, "box": [0.0, 0.0, 60.0, 60.0], "score": 0.9, "face_id": "f00"}],
        "face_candidates": [], "background": None, "objects": rows,
    })  # fmt: skip
    from anyref.curation.records import ObjectRow
    from anyref.curation.regions import box_mask
    from anyref.perception import Box
    from anyref.runlengths import encode

    for number, (label, kind, box) in enumerate(
        [
            ("woman", "person", (0, 0, 100, 90)),
            ("glasses", "clothing", (20, 10, 30, 50)),
            ("veil", "clothing", (0, 0, 58, 58)),
        ]
    ):
        mask = box_mask(Box(*box), world.HEIGHT, world.WIDTH)
        row = ObjectRow(
            f"o{number}",
            label,
            None,
            kind,
            0,
            5,
            frame,
            Rectangle(*box),
            encode(mask),
            0.4,
            0.9,
            {"detection": 0.9},
        )
        rows.append(to_json(row))
    measured = run(close, None, [SuppressionStage()])
    bounds = tuple(bound for bound in DEFAULT_RULES.bounds if bound.name == "face_iou")
    paper = run(measured, None, [Decide(Rules(bounds))])
    # 3600 / 9000 = .4: dropped; glasses 400 / 3600 = .11: kept; a veil over the face: dropped, unless containment is asked for.
    assert [bool(row["dropped"]) for row in paper["objects"]] == [True, False, True]
    assert paper["objects"][0]["suppressed_by_face"] == "f00"
    ours = run(measured, None, [Decide(Rules(bounds, face_containment=True))])
    assert [bool(row["dropped"]) for row in ours["objects"]] == [True, False, False]
    assert ours["objects"][2]["part_of"] == "f00"


def test_one_subject_is_one_across_films_and_pairs_have_no_copies(curated):
    _, (a, b, c), _ = curated
    dogs = {row["global_identity_id"] for row in (*objects(a, "red dog"), *objects(b, "puppy"))}
    assert len(dogs) == 1
    assert objects(a, "car")[0]["global_identity_id"] not in dogs
    assert a["faces"][0]["global_identity_id"] == c["faces"][0]["global_identity_id"]
    pairs = [v for row in objects(a, "red dog") for v in row["variants"] if v["kind"] == "crossclip"]
    assert pairs
    assert all(v["source_id"].startswith(b.id) for v in pairs)
    assert all(0.5 < v["similarity_colour"] <= 1.0001 for v in pairs)  # one red dog, on other grounds
    face_pairs = [v for v in a["faces"][0]["variants"] if v["kind"] == "crossclip"]
    assert face_pairs[0]["source_id"].startswith(c.id)
    assert face_pairs[0]["similarity_colour"] is None  # a face is not cut out
    assert all(v["reason"].startswith("copy:") != v["accepted"] or v["reason"] for v in pairs)


def test_a_copy_of_a_film_gives_no_accepted_pairs(curated, tmp_path):
    _, _, store = curated
    records = []
    for name in ("a.mp4", "b.mp4"):
        record = world.record_of(name)
        twin = replace_id(record, record.id + "-twin", name + " twin")
        records += [run(r, store, workers(FILMS[name][1])) for r in (record, twin)]
    decided = across(records, store)
    pairs = [v for r in decided for row in r["objects"] for v in row["variants"] if v["kind"] == "crossclip"]
    copied = [v for v in pairs if v["reason"].startswith("copy:")]
    assert copied
    assert not any(v["accepted"] for v in copied)


def replace_id(record, name, sha):
    return Record(
        name, "clip", {**record.values, "source": {**record["source"], "sha256": sha, "group_id": sha}}
    )


def test_variants_are_made_measured_and_refused(curated):
    _, (a, b, c), store = curated
    kinds = {v["kind"] for row in objects(a, "red dog") for v in row["variants"]}
    assert kinds == {"crop", "segment", "inpaint", "redux", "composite", "crossclip"}
    assert {refusal["kind"] for refusal in a["variant_refusals"]} == {"redux"}
    assert {row["kind"] for row in a["variant_refusals"]} == {"redux"}
    assert not any(v["kind"] == "redux" for row in objects(a, "car") for v in row["variants"])
    row = objects(a, "red dog")[0]
    inpainted = next(v for v in row["variants"] if v["kind"] == "inpaint")
    segment = read_picture(store, next(v for v in row["variants"] if v["kind"] == "segment")["uri"])
    picture = read_picture(store, inpainted["uri"])
    inside = segment[..., 3] == 255
    assert np.abs(picture[inside].astype(int) - segment[inside][:, :3]).max() == 0
    assert inpainted["model"] == "colours"
    assert inpainted["seed"] is not None
    assert 0 < inpainted["similarity_dino"] <= 1.0001
    redux = [v for v in a["faces"][0]["variants"] if v["kind"] == "redux"]
    assert redux[0]["similarity_identity"] == pytest.approx(1)
    assert a["donors"]
    assert set(a["donors"]) <= {b["background"]["uri"], c["background"]["uri"]}


def test_background_is_without_subjects(curated):
    (a, _, _), _, store = curated
    picture = read_picture(store, a["background"]["uri"]).astype(int)
    assert np.abs(picture - np.array(world.PLACE)).max() < 40
    assert 0.1 < a["scores"]["background_hole"]["value"] < 0.6


def test_the_row_fits_the_schema_and_runs_are_equal(curated):
    records, decided, store = curated
    for record in decided:
        assert isinstance(sample_of(record), Sample)
        assert record["drop"] is None
    again = across(records, store)
    assert [canonical(dict(r.values)) for r in again] == [canonical(dict(r.values)) for r in decided]
    assert [canonical(dict(run(r, store, [Decide(RULES)]).values)) for r in decided] == [
        canonical(dict(r.values)) for r in decided
    ]


def test_black_bars_do_not_reach_the_captioner_or_the_background(curated):
    (_a, _, _), _, store = curated
    crop = Rectangle(10, 0, 118, world.WIDTH)
    record = world.record_of("a.mp4")
    record = record.with_values({"clip": to_json(replace(from_json(Clip, record["clip"]), crop=crop))})
    shapes = []

    class Looking(world.Captioner):
        def caption(self, frames):
            shapes.extend(frame.shape for frame in frames)
            return self.text

    steps = workers(FILMS["a.mp4"][1])
    steps[0] = CaptionWorker(CaptionStage(num_frames=2), Looking("A car."))
    done = run(record, store, steps)
    assert shapes == [(108, world.WIDTH, 3)] * 2
    assert read_picture(store, done["background"]["uri"]).shape == (108, world.WIDTH, 3)
    assert done["objects"][0]["box"][0] >= 38  # boxes stay those of the whole frame


class Tagger:
    card = world.CARD

    def __init__(self, *tags):
        self._tags = tags

    def tags(self, caption):
        return list(self._tags)


def test_tags_are_pieces_of_the_caption_and_no_parts_of_bodies():
    text = "A man with a long beard and a zither."
    tags = [Tag(2, 5, "person", "man"), Tag(13, 23, "object", "beard"), Tag(30, 36, "object", "zither"), Tag(30, 99, "object", "x"),
            Tag(2, 5, "object", "again"), Tag(29, 36, "object", "space before")]  # fmt: skip
    record = world.record_of("a.mp4").with_values({"caption": {"text": text}})
    found = run(record, None, [TagWorker(TagStage(), Tagger(*tags), TAXONOMY)])["tags"]
    assert [(row["phrase"], row["kind"], row["class_id"]) for row in found] == [
        ("man", "person", "man"),
        ("zither", "object", None),
    ]
    known = run(record, None, [TagWorker(TagStage(only_known=True), Tagger(*tags), TAXONOMY)])["tags"]
    assert [row["phrase"] for row in known] == ["man"]


def test_sides_tell_twins_apart(tmp_path):
    left, right = Thing("dog", (60, 10, 100, 50)), Thing("dog", (60, 120, 100, 160))
    world.write_film(tmp_path / "films" / "d.mp4", world.draw([left, right]))
    store = Store(str(tmp_path / "out"), str(tmp_path / "films"))
    done = run(
        world.record_of("d.mp4"), store, workers("The dog on the right barks at the dog on the left.")[:3]
    )
    tags = done["tags"]
    assert [tag["phrase"] for tag in tags] == ["dog on the right", "dog on the left"]
    for row in done["detections"]:
        assert (row["box"][1] > 90) == (tags[row["tag"]]["phrase"] == "dog on the right")
    assert len(done["detections"]) == 6


def test_a_clip_without_words_or_subjects(tmp_path):
    world.write_film(tmp_path / "films" / "e.mp4", world.draw([]))
    store = Store(str(tmp_path / "out"), str(tmp_path / "films"))
    outcome = CaptionWorker(CaptionStage(), world.Captioner("  "))(world.record_of("e.mp4"), store)
    assert outcome.status == "dropped"
    done = run(world.record_of("e.mp4"), store, workers("Nothing happens."))
    (decided,) = across([done], store)
    assert decided["objects"] == []
    assert decided["drop"] == "subjects: 0 is below 1"
    assert decided["background"]["mask_uri"] is None


def test_synonyms_become_aliases_of_the_most_specific_name(tmp_path):
    world.write_film(tmp_path / "films" / "f.mp4", world.draw([WOMAN]))
    store = Store(str(tmp_path / "out"), str(tmp_path / "films"))
    done = run(world.record_of("f.mp4"), store, workers("An individual, a woman, stands still.")[:5])
    rows = [row for row in done["objects"] if row["frame"] == 0]
    woman = next(row for row in rows if row["label"] == "woman")
    other = next(row for row in rows if row["label"] == "individual")
    assert woman["aliases"] == ["individual"]
    assert woman["scores"]["duplicate_iou"] == 0
    assert other["scores"]["duplicate_iou"] > 0.95


def test_black_bars_are_not_shown_to_the_detector(curated):
    (a, _, _), _, store = curated
    shapes = []

    class Watched(world.Detector):
        def detect(self, picture_YX3, phrases):
            shapes.append(picture_YX3.shape)
            return super().detect(picture_YX3, phrases)

    cropped = a.with_values({"clip.crop": [8, 8, world.HEIGHT - 8, world.WIDTH - 8]})
    worker = GroundingWorker(GroundingStage(), Watched())
    (found,) = worker(cropped, store).records
    assert set(shapes) == {(world.HEIGHT - 16, world.WIDTH - 16, 3)}
    boxes, whole = (np.array([row["box"] for row in one["detections"]]) for one in (found, a))
    assert np.abs(boxes - whole).max() <= 3, "a colour's edge is a matter of its neighbourhood"
