import json

import pytest

from anyref.curation.taxonomy import TaxonomyTagger, complaints, load_taxonomy, split_place
from anyref.samples import KINDS
from anyref.worlds import PuppetWorld

TAXONOMY = load_taxonomy()


def test_as_large_as_kaleidos_and_of_one_meaning():
    assert len(TAXONOMY.classes) >= 100
    assert sum(len(entry.synonyms) for entry in TAXONOMY.classes) >= 800
    assert not list(complaints(TAXONOMY))
    assert {entry.kind for entry in TAXONOMY.classes} == set(KINDS) - {"face"}


@pytest.mark.parametrize(
    ("phrase", "name"),
    [
        ("a woman in a blue top", "woman"),
        ("white lace top", "shirt"),
        ("grassy area", "meadow"),
        ("glasses", "glasses"),
        ("two wolves", "wolf"),
        ("the puppies", "dog"),
        ("coffee cup", "cup"),
        ("hot dog", "sandwich"),
        ("fire truck", "truck"),
        ("sheen", None),
    ],
)
def test_classify(phrase, name):
    found = TAXONOMY.classify(phrase)
    assert (found.name if found else None) == name


def tags(caption):
    return [(caption[t.start : t.end], t.kind, t.label) for t in TaxonomyTagger(TAXONOMY).tags(caption)]


def test_tags_take_adjectives_and_places_and_leave_verbs():
    caption = "Watch a small brown dog on the left guard two cups. The man watches; the dog on the right models a hat."
    assert tags(caption) == [
        ("small brown dog on the left", "animal", "dog"),
        ("cups", "object", "cup"),
        ("man", "person", "man"),
        ("dog on the right", "animal", "dog"),
        ("hat", "clothing", "hat"),
    ]


def test_a_word_that_can_be_a_verb_counts_behind_an_article():
    assert tags("She wears a watch.") == [("watch", "clothing", "watch")]
    assert tags("We watch.") == []


def test_a_class_said_twice_in_the_same_words_is_one_tag():
    assert len(tags("A dog runs. The dog jumps. A black dog barks.")) == 2


def test_specific_before_generic_and_rivals():
    assert TAXONOMY.ancestors("baby") == ("person",)
    rivals = TAXONOMY.rivals("dog")
    assert "cat" in rivals
    assert "animal" not in rivals
    assert "dog" not in rivals
    assert "man" not in TAXONOMY.rivals("person")


def test_finds_the_puppets_of_captions():
    tagger, world = TaxonomyTagger(TAXONOMY), PuppetWorld("test", num_frames=1)
    found = wanted = 0
    for index in range(60):
        sample = world.clip(index)
        spans = [(t.start, t.end, t.label) for t in tagger.tags(sample.caption)]
        for subject in sample.subjects:
            start = sample.caption.index(subject.phrase)
            label = TAXONOMY.classify(subject.label)
            wanted += 1
            found += any(
                start <= s and e <= start + len(subject.phrase) and label and name == label.name
                for s, e, name in spans
            )
    assert found / wanted >= 0.98


def test_split_place():
    assert split_place("dog on the left") == ("dog", "left")
    assert split_place("the man in the middle") == ("the man", "middle")
    assert split_place("hat") == ("hat", "")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "dog", "synonyms": ["cat"]}, "'cat' stands 2 times"),
        ({"name": "dog", "kind": "thing"}, "has kind 'thing'"),
        ({"name": "dog", "parent": "monster"}, "which is no class"),
        ({"name": "dog", "synonyms": ["dog's tail"]}, "part of a body"),
        ({"name": "dog", "synonyms": ["Puppy"]}, "lower-case"),
        ({"name": "dog", "parent": "cat"}, "circle"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path, change, complaint):
    classes = [
        {"name": "dog", "kind": "animal", "domain": "animals", "synonyms": [], **change},
        {"name": "cat", "kind": "animal", "domain": "animals", "parent": "dog", "synonyms": []},
    ]
    path = tmp_path / "taxonomy.json"
    path.write_text(json.dumps({"version": 1, "classes": classes}))
    with pytest.raises(ValueError, match=complaint):
        load_taxonomy(path)


def test_a_file_of_another_form(tmp_path):
    path = tmp_path / "taxonomy.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match="not of the form"):
        load_taxonomy(path)
