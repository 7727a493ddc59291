"""The test clips and pictures: no colour in a caption, sides kept, the judge's picture never shown to a model."""

import numpy as np

from anyref.puppets import held_out
from anyref.worlds import PuppetWorld

WORLD = PuppetWorld("test", seed=0)


def test_captions_name_no_colour() -> None:
    captions = " ".join(sample.caption for sample in held_out.single_clips(WORLD, 60))
    assert not {"red", "blue", "green", "purple", "yellow"} & set(captions.split())


def test_pairs_stay_on_their_sides() -> None:
    for pair in held_out.pair_clips(WORLD, 10, same_kind=False):
        first, second = (subject.boxes_F4 for subject in pair.subjects[:2])
        order = np.sign((first[:, 1] + first[:, 3]) - (second[:, 1] + second[:, 3]))
        assert (order == order[0]).all()


def test_trios_have_three_classes_and_then_their_setting() -> None:
    for trio in held_out.trio_clips(WORLD, 5):
        assert [subject.kind == "background" for subject in trio.subjects] == [False, False, False, True]
        assert len({subject.label for subject in trio.subjects}) == 4
        assert held_out.moving(trio) == list(trio.subjects[:3])
        assert all(trio.caption.count(subject.phrase) == 1 for subject in trio.subjects)


def test_the_judges_picture_is_shown_to_no_model() -> None:
    for number, sample in enumerate(held_out.trio_clips(WORLD, 4)):
        for subject in sample.subjects:
            views = held_out.views_of(WORLD, subject, 8)
            assert {view.phrase for view in views} == {subject.phrase}
            shown = [view.image for view in views]
            judged = held_out.shown_by(WORLD, subject, number)
            different = {image.tobytes() for image in (*shown, judged)}
            assert len(different) == 9


def test_the_line_up_begins_with_the_own_picture_and_has_one_class() -> None:
    subject = held_out.single_clips(WORLD, 1)[0].subjects[0]
    candidates = held_out.line_up(WORLD, subject, 3)
    assert len(candidates) == held_out.CANDIDATES
    assert np.array_equal(candidates[0], held_out.shown_by(WORLD, subject, 3))
    assert len({image.tobytes() for image in candidates}) == held_out.CANDIDATES


def test_cut_outs_are_cut_out() -> None:
    for sample in held_out.single_clips(WORLD, 6):
        reference = held_out.cut_out_of(WORLD, sample.subjects[0])
        alpha = reference.image[..., 3]
        assert alpha.min() == 0
        assert alpha.max() == 255
        assert reference.phrase == sample.subjects[0].phrase


def test_swapped_references_keep_their_words() -> None:
    own = [held_out.reference_of(sample.subjects[0]) for sample in held_out.single_clips(WORLD, 3)]
    others = held_out.swapped(own)
    assert [one.phrase for one in others] == [one.phrase for one in own]
    assert [one.image is own[(n + 1) % 3].image for n, one in enumerate(others)] == [True] * 3
