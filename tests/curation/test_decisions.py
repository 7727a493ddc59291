from collections import Counter

import numpy as np
import pytest
from colour_world import record_of

from anyref.curation import pairs
from anyref.curation.command import check_licences, models_and_rules
from anyref.curation.decisions import DEFAULT_RULES, Bound, Decide, Gate, Rules, clip_values, reasons
from anyref.curation.ledger import key_of
from anyref.curation.pairs import Donors
from anyref.curation.presets import (
    PRESETS,
    content_steps,
    film_steps,
    floors_of,
    models_of,
    output_steps,
    rules_of,
)
from anyref.curation.stage import Record, config_hash, digest


def test_bound():
    bound = Bound("clip", "blur", 40, 90)
    assert bound.reason(39.5) == "blur: 39.5 is below 40"
    assert bound.reason(91) == "blur: 91 is above 90"
    assert bound.reason(40) == bound.reason(90) == bound.reason(None) == ""
    assert Bound("clip", "blur", 40, required=True).reason(None) == "blur: not measured"


def scored(**scores):
    record = record_of("a.mp4", num_frames=60)
    stored = {name: {"value": value, "method": "test", "version": 1} for name, value in scores.items()}
    return record.with_values({"scores": stored})


def test_gate_says_every_reason_and_unmeasured_scores_pass():
    rules = DEFAULT_RULES.changed(["clip.short_side=64:"])
    assert Gate(rules)(scored(), None).status == "ok"
    outcome = Gate(rules)(scored(flow_p95=1.0, blur=3.0, aesthetic=5.0), None)
    assert outcome.status == "dropped"
    assert outcome.reason == "flow_p95: 1 is below 2.5; blur: 3 is below 40"
    assert Gate(rules)(scored(flow_p95=None), None).status == "ok"
    assert clip_values(scored())["short_side"] == 128
    assert reasons({"x": 1.0}, [Bound("clip", "x", 2)]) == ["x: 1 is below 2"]


def test_a_clip_of_a_varying_frame_rate_lasts_as_long_as_it_does():
    """Sixty frames of a film of 20 a second on average: here they came at another rate and last 9.9 s."""
    record = scored(duration=9.9)
    assert clip_values(record)["duration_s"] == 9.9
    rules = DEFAULT_RULES.changed(["clip.short_side=64:", "clip.duration_s=9:10"])
    assert Gate(rules)(record, None).status == "ok"
    assert clip_values(scored())["duration_s"] < 9


@pytest.mark.parametrize(
    ("dino", "reason"),
    [(0.02, "redux.dino: 0.02 is below 0.6"), (0.8, ""), (1.0, "redux.dino: 1 is above 0.97")],
)
def test_another_place_and_a_copy_are_no_variants_of_a_background(dino, reason):
    variant = {"uri": "v.png", "kind": "redux", "source_id": "background", "similarity_dino": dino}
    background = {"uri": "b.png", "frame": 0, "mask_uri": None, "method": "test", "variants": [variant]}
    (decided,) = Decide()(scored().with_values({"background": background}), None).records
    (judged,) = decided["background"]["variants"]
    assert judged["reason"] == reason
    assert judged["accepted"] is not bool(reason)


def test_a_composite_that_has_lost_its_subject_is_none():
    (bound,) = [b for b in DEFAULT_RULES.of("variant") if b.name == "composite.dino"]
    assert bound.reason(0.05) == "composite.dino: 0.05 is below 0.2"
    assert not bound.reason(0.5)


def test_bounds_are_set_by_text():
    rules = DEFAULT_RULES.changed(
        ["clip.flow_p95=1.5:9", "object.area=:0.5", "clip.aesthetic=off", "clip.blur=7"]
    )
    found = {(b.level, b.name): (b.low, b.high) for b in rules.bounds}
    assert found["clip", "flow_p95"] == (1.5, 9)
    assert found["object", "area"] == (None, 0.5)
    assert found["clip", "blur"] == (7, None)
    assert ("clip", "aesthetic") not in found


@pytest.mark.parametrize("text", ["clip.flow_p95", "clip.nothing=1", "clip.blur=much", "flow_p95=1:2"])
def test_a_wrong_bound_is_one_sentence(text):
    with pytest.raises(ValueError, match="write"):
        DEFAULT_RULES.changed([text])


def test_the_papers_numbers():
    found = {(b.level, b.name): b for b in rules_of("magref", "real").bounds}
    assert found["object", "face_iou"].high == 0.25
    kaleido = rules_of("kaleido", "real")
    assert kaleido.people_need_face
    assert not any(b.name == "face_iou" for b in kaleido.bounds)
    assert rules_of("saber", "real").min_subjects == 0


@pytest.mark.parametrize("backend", ["real", "open", "puppets", "recorded:somewhere"])
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_read_only_what_was_written(preset, backend):
    models, rules = models_of(backend), rules_of(preset, backend)
    steps = (*film_steps(models, rules), *content_steps(preset, models, rules), *output_steps(0.05, 0.05))
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    known = {"uri", "licence", "group_id", "file"}
    for step in steps:
        reads = {name.split(".")[0] for name in step.reads}
        optional = (
            {"face_candidates", "faces", "objects", "background", "object_faces"}
            if preset == "saber"
            else set()
        )
        assert reads - optional <= known, step.name
        known |= {name.split(".")[0] for name in step.writes}
    assert ("variants" in names) == (preset != "saber")


def test_moving_a_threshold_a_little_makes_no_model_run_again():
    """Only steps that compute nothing dear may see it: gate, select, cross-pairs (compares stored vectors) and decide."""

    def hashes(bound):
        base = rules_of("magref", "real")
        steps = content_steps("magref", models_of("real"), base.changed(bound), base=base)
        return {step.name: config_hash(step) for step in steps}

    before = hashes([])
    changed = {name for name, value in hashes(["clip.blur=50"]).items() if value != before[name]}
    assert changed == {"gate", "cross-pairs", "decide"}  # floors are of objects and faces only
    changed = {name for name, value in hashes(["object.area=0.04:0.8"]).items() if value != before[name]}
    assert changed == {"gate", "select", "cross-pairs", "decide"}


def test_dropping_clips_draws_nothing_of_the_others_anew():
    """A clip's variants hang on its own values; only composites, which no model draws, see what is left of the other clips."""
    values = {"objects": [], "face_candidates": [], "to_draw": [], "to_redraw": [], "object_faces": {}}
    clips = [
        Record(
            f"film{film}-{clip}",
            "clip",
            {"source": {"group_id": f"film{film}"}, "background": {"uri": f"{film}-{clip}.png"}, **values},
        )
        for film in range(20)
        for clip in range(2)
    ]
    steps = content_steps("magref", models_of("real"), rules_of("magref", "real"))
    names = [step.name for step in steps]
    assert names.index("variants") < names.index("donors") < names.index("composites")

    def keys(records, name):
        (stage,) = [step for step in steps if step.name == name]
        given = [outcome.records[0] for outcome in Donors().gather(records, None)]
        return {record.id: key_of(stage, record) for record in given}

    rest = [clip for number, clip in enumerate(clips) if number % 5]
    for name, same in (("variants", True), ("composites", False)):
        before, after = keys(clips, name), keys(rest, name)
        assert ({record_id: before[record_id] for record_id in after} == after) is same


def test_donors_are_of_other_films_and_few_change_when_films_are_added():
    def clip(film, number):
        values = {"source": {"group_id": film}, "background": {"uri": f"{film}/{number}"}}
        return Record(f"{film}-{number}", "clip", values)

    def chosen(records):
        return {o.records[0].id: o.records[0]["donors"] for o in Donors().gather(records, None)}

    clips = [clip(f"film{film}", number) for film in range(100) for number in range(5)]
    before = chosen(clips)
    after = chosen([*clips, *(clip(f"new{film}", 0) for film in range(5))])
    for record_id, donors in before.items():
        films = [uri.split("/")[0] for uri in donors]
        assert len(set(films)) == 2
        assert record_id.split("-")[0] not in films
    assert sum(after[record_id] != donors for record_id, donors in before.items()) < 0.2 * len(before)
    uses = Counter(uri.split("/")[0] for donors in before.values() for uri in donors)
    assert len(uses) > 90
    assert max(uses.values()) < 50
    assert chosen([clip("a", 0)]) == {"a-0": []}
    assert chosen([clip("a", 0), clip("b", 0)]) == {"a-0": ["b/0"], "b-0": ["a/0"]}


def test_donors_of_many_clips_take_as_many_hashes(monkeypatch):
    asked = []
    monkeypatch.setattr(pairs, "digest", lambda value: asked.append(value) or digest(value))
    clips = [
        Record(f"{n}", "clip", {"source": {"group_id": f"{n}"}, "background": {"uri": f"{n}"}})
        for n in range(300)
    ]
    Donors().gather(clips, None)
    assert len(asked) <= 20 * len(clips)


def test_floors_are_looser():
    floors = {(b.level, b.name): b for b in floors_of(DEFAULT_RULES).bounds}
    for bound in DEFAULT_RULES.bounds:
        if (bound.level, bound.name) in floors:
            floor = floors[bound.level, bound.name]
            assert bound.low is None or floor.low <= bound.low
            assert bound.high is None or floor.high >= bound.high
    assert {level for level, _ in floors} == {"object", "face"}


def test_models_by_flag_and_their_licences():
    models, _ = models_and_rules("magref", "real", ("detector=grounding-dino-tiny", "varier="), ())
    assert models.detector == "grounding-dino-tiny"
    assert models.varier == ""
    with pytest.raises(ValueError, match="commercially"):
        check_licences(models)
    check_licences(models_of("open"))
    check_licences(models_of("puppets"))
    with pytest.raises(ValueError, match="ROLE=NAME"):
        models_and_rules("magref", "real", ("finder=x",), ())
    with pytest.raises(ValueError, match="no backend"):
        models_of("laptop")


def test_rules_hash_like_values():
    assert Rules() == DEFAULT_RULES
    assert np.isfinite([b.low for b in DEFAULT_RULES.bounds if b.low is not None]).all()
