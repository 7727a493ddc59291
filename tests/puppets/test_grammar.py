"""The world's captions backwards and forwards: what they name is found exactly, and what was seen is said in their words."""

from anyref.puppets import grammar
from anyref.puppets.grammar import TRAVEL, Named, Seen
from anyref.worlds import PuppetWorld, captions
from anyref.worlds.identities import LABELS, SETTINGS


def test_everything_that_a_caption_names_is_found_with_its_phrase() -> None:
    world = PuppetWorld("test", seed=0, num_frames=1)
    kinds = set()
    for index in range(150):
        sample = world.clip(index, background_reference=True)
        named = grammar.named_in(sample.caption)
        found = {(sample.caption[one.start : one.end], one.kind, one.label) for one in named}
        truth = {(one.phrase, one.kind, one.label) for one in sample.subjects}
        # The caption names a garment only where it is a subject of its own.
        assert found == truth, sample.caption
        kinds |= {one.kind for one in named}
    assert kinds == {"person", "animal", "object", "clothing", "background"}


def test_what_is_no_caption_of_the_world_names_nothing() -> None:
    assert grammar.named_in("") == []
    assert grammar.named_in("A quick zeppelin crosses Lake Constance.") == []
    assert grammar.named_in("A cat. The end.") == [Named(0, 5, "animal", "cat")]


def test_what_was_seen_is_said_in_the_worlds_words_and_read_again() -> None:
    text = grammar.sentence([Seen("dog", TRAVEL, "left"), Seen("elephant", "jump")], "space", True)
    assert (
        text
        == "the dog on the left walks to the left and the elephant on the right jumps in outer space at night."
    )
    assert not captions.unknown_words(text)
    assert [one.label for one in grammar.named_in(text)] == ["dog", "elephant", "space"]
    assert grammar.sentence([], "sea", False) == "under the sea by day."
    for label in LABELS:
        for setting in SETTINGS:
            text = grammar.sentence([Seen(label, TRAVEL)], setting, False)
            assert [one.label for one in grammar.named_in(text)] == [label, setting]
