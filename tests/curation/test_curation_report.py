import base64
import re
from dataclasses import replace

import colour_world as world
import numpy as np
import pytest
from test_content_stages import FILMS, RULES, across, run, workers

from anyref.curation.assemble import SplitSets
from anyref.curation.decisions import Bound
from anyref.curation.draws import VariantSampling
from anyref.curation.report import data_card, histogram, html
from anyref.curation.store import Store
from anyref.curation.survey import Fate, Survey, _funnel_row


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curation")
    store = Store(str(folder / "out"), str(folder / "films"))
    records = []
    for number, (name, (things, caption)) in enumerate(FILMS.items()):
        world.write_film(folder / "films" / name, world.draw(things))
        scores = {"blur": 30.0 + 20 * number, "flow_p95": 5.0}
        stored = {n: {"value": v, "method": "test", "version": 1} for n, v in scores.items()}
        records.append(run(world.record_of(name).with_values({"scores": stored}), store, workers(caption)))
    fates = (
        Fate("a", "probe", "ok", ""),
        Fate("d", "probe", "quarantined", "damaged: no end"),
        *(Fate(record.id, "gate", "ok", "") for record in records),
        Fate("x-0", "gate", "dropped", "blur: 3 is below 40; flow_p95: 1 is below 2.5"),
    )
    survey = Survey(fates, tuple(records), tuple(across(records, store)), RULES)
    return survey, store


def test_funnel(surveyed):
    survey, _ = surveyed
    rows = {row.stage: row for row in survey.funnel()}
    assert (rows["probe"].entered, rows["probe"].left, rows["probe"].quarantined) == (2, 1, 1)
    assert (rows["gate"].entered, rows["gate"].dropped) == (4, 1)
    assert dict(rows["gate"].reasons) == {"blur": 1, "flow_p95": 1}
    assert (rows["decision"].entered, rows["decision"].left) == (3, 2)  # the first clip's blur is 30


def test_other_rules_need_no_other_curation(surveyed):
    survey, _ = surveyed
    assert [clip.id for clip in survey.kept] == ["b-0", "c-0"]
    assert len(replace(survey, rules=RULES.changed(["clip.blur=10:"])).kept) == 3
    assert len(replace(survey, rules=RULES.changed(["clip.blur=60:"])).kept) == 1


def test_counts_are_of_what_is_kept(surveyed):
    survey, _ = surveyed
    counts = survey.counts()
    assert counts["classes"]["bird"] == 1
    assert counts["classes"]["car"] == 0
    assert counts["licences"] == {"CC0": 2}
    assert counts["kinds"]["face"] == 1
    drawn = survey.drawn(VariantSampling())
    assert drawn.references > 0
    assert sum(drawn.mix.values()) == pytest.approx(1)


def test_page_is_whole_and_shows_both_sides(surveyed):
    survey, store = surveyed
    page = html(survey, store, "Curation of <films>")
    assert "Curation of &lt;films&gt;" in page
    assert not re.search(r"""(src|href)=["']?https?:""", page)
    assert page.count("<svg") >= 10
    assert "Dropped by it" in page
    assert "Kept by it" in page
    pictures = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page)
    assert len(pictures) > 10
    assert all(base64.b64decode(data)[:2] == b"\xff\xd8" for data in pictures)
    assert len(page) < 3_000_000


def test_backgrounds_and_people_without_a_face_have_their_sheets(surveyed):
    survey, store = surveyed
    judged = [one for one in survey.judged() if one.level == "background"]
    assert len(judged) == 3
    assert any(one.uri for one in judged)
    variants = [one.title for one in survey.judged() if one.level == "variant"]
    assert any(title.startswith("redux of background") for title in variants)
    page = html(survey, store, "Curation")
    assert "background_hole" in page
    assert "frontal_face" not in page
    rules = replace(RULES.changed(["face.detection=2:"]), people_need_face=True)
    page = html(replace(survey, rules=rules), store, "Curation")
    dropped, kept = re.findall(r"object\.frontal_face: (\d+) values, (\d+) outside", page)[0]
    assert int(dropped) == int(kept) > 0


def test_what_training_draws_is_compensated_and_of_its_split(surveyed):
    survey, _ = surveyed

    def film(number):
        """A clip of a film of its own; half of them have no cross-pair."""
        clip = survey.kept[0]
        source = {**clip["source"], "sha256": f"{number}", "group_id": f"{number}"}
        kinds = ("crop", "segment") if number % 2 else ("crop", "segment", "inpaint", "redux")
        objects = [
            {
                **row,
                "global_identity_id": None,
                "variants": [one for one in row["variants"] if one["kind"] in kinds],
            }
            for row in clip["objects"]
        ]
        values = {"source": source, "objects": objects, "face_candidates": []}
        return replace(clip.with_values(values), id=f"{number}")

    films = replace(survey, clips=tuple(film(number) for number in range(20)))
    whole = replace(films, splitting=SplitSets(0.0, 0.0)).drawn(VariantSampling(), epochs=100)
    part = replace(films, splitting=SplitSets(0.4, 0.2)).drawn(VariantSampling(), epochs=100)
    assert 0.45 < whole.most_cross_pair_ratio < 0.55
    assert whole.cross_pair_ratio == pytest.approx(0.4, abs=0.03)
    assert part.references == pytest.approx(0.4 * whole.references)


def test_a_page_without_the_films_has_no_thumbnails_of_clips(surveyed):
    survey, store = surveyed
    page = html(survey, Store(store.root), "Curation")
    assert 'class="none"' in page


def test_nothing_at_all():
    page = html(Survey((), (), (), RULES), Store("memory://nothing"), "Empty")
    assert "0 films" in page
    assert data_card(Survey((), (), (), RULES), "Empty").startswith("# Empty")


def test_data_card(surveyed):
    survey, _ = surveyed
    card = data_card(survey, "A set")
    assert "- CC0: 2 clips" in card
    assert "| gate | 4 | 3 | 1 | 0 | 0 | blur 1, flow_p95 1 |" in card
    assert "- object.face_iou: at most 0.25" in card
    assert card.isascii()


def test_histogram_counts_both_sides_and_draws_the_limits():
    bound = Bound("clip", "blur", 40, 80)
    svg = histogram([10.0] * 5 + [60.0] * 20 + [100.0], bound)
    assert "26 values, 6 outside" in svg
    assert svg.count("<line") == 2
    assert "var(--drop)" in svg
    assert "nan" not in histogram([1.0, 1.0], Bound("clip", "blur", 1.0))
    assert np.isfinite([float(x) for x in re.findall(r'height="([\d.]+)"', svg)]).all()


def test_damaged_files_are_counted_by_what_is_wrong_with_them():
    fates = [
        Fate("a", "probe", "quarantined", "a.mp4 cannot be decoded after frame 7 (bad data); leave it out"),
        Fate("b", "probe", "quarantined", "b.mp4 cannot be decoded after frame 21 (bad data); leave it out"),
        Fate("c", "probe", "dropped", "blur: 3 is below 4; flow: 2 is below 3"),
    ]
    row = _funnel_row("probe", fates)
    assert row.reasons == (("cannot be decoded after frame N (bad data)", 2), ("blur", 1), ("flow", 1))
