import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyref.curation import regions
from anyref.perception import Box

rng = np.random.default_rng(0)


def rectangle(top, left, bottom, right, height=60, width=80):
    mask = np.zeros((height, width), np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def test_iou_and_inside_share_by_hand():
    one, other = rectangle(0, 0, 10, 10), rectangle(0, 5, 10, 15)
    assert regions.iou(one, other) == pytest.approx(50 / 150)
    assert regions.inside_share(one, other) == pytest.approx(0.5)
    assert regions.box_iou(Box(0, 0, 10, 10), Box(0, 5, 10, 15)) == pytest.approx(50 / 150)
    empty = np.zeros_like(one)
    assert regions.iou(empty, empty) == 0
    assert regions.inside_share(empty, one) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 50), st.integers(0, 70), st.integers(1, 60), st.integers(1, 80))
def test_box_of_inverts_box_mask(top, left, height, width):
    box = Box(top, left, min(60, top + height), min(80, left + width))
    assert regions.box_of(regions.box_mask(box, 60, 80)) == box


def test_clean_removes_specks_closes_gaps_and_keeps_thin_things():
    mask = rectangle(20, 20, 50, 60, 100, 100)
    mask[35, 40] = False
    mask[5, 5] = True
    assert (regions.clean(mask, 0.01) == rectangle(20, 20, 50, 60, 100, 100)).mean() > 0.999
    pole = rectangle(10, 50, 90, 51, 100, 100)
    assert regions.clean(pole, 0.01).any()


def test_shape():
    shape = regions.shape_of(rectangle(10, 20, 20, 60))
    assert shape.area == pytest.approx(400 / 4800)
    assert shape.aspect == 4
    assert shape.solidity == 1
    assert shape.border_share == 0
    cut = regions.shape_of(rectangle(0, 20, 30, 50))
    assert cut.border_share == pytest.approx(30 / 116, abs=0.01)
    two = regions.shape_of(rectangle(10, 10, 20, 20) | rectangle(40, 40, 50, 70))
    assert two.largest_share == pytest.approx(0.75)
    star = rectangle(28, 5, 32, 75) | rectangle(5, 38, 55, 42)
    assert regions.shape_of(star).solidity < 0.35
    assert regions.shape_of(np.zeros((5, 5), np.bool_)).area == 0


def test_colours_tell_one_small_part_from_another_whatever_the_shape_and_place():
    def cut(colour, part, size=40, at=0):
        picture = np.zeros((size, size, 4), np.uint8)
        picture[at : at + size // 2] = (*colour, 255)
        picture[at : at + size // 8, : size // 4] = (*part, 255)
        return regions.colours(picture)

    red_with_white = cut((200, 30, 30), (240, 240, 240))
    assert red_with_white @ red_with_white == pytest.approx(1, abs=1e-4)
    assert red_with_white @ cut((200, 30, 30), (240, 240, 240), size=80, at=20) > 0.99
    grey_part = float(red_with_white @ cut((200, 30, 30), (120, 120, 120)))
    assert 0.9 < grey_part < 0.97  # a sixteenth of it differs
    assert red_with_white @ cut((30, 30, 200), (240, 240, 240)) < 0.2
    assert not regions.colours(np.zeros((8, 8, 4), np.uint8)).any()


def test_keepers_follow_the_order_and_make_no_chains():
    masks = [
        rectangle(0, 0, 20, 20),
        rectangle(0, 2, 20, 22),
        rectangle(0, 4, 20, 24),
        rectangle(30, 30, 40, 40),
    ]
    # 0 and 1 overlap by .82, 1 and 2 too, 0 and 2 by .67: with 0 first, 2 stands although 1 would have taken it along.
    assert regions.keepers(masks, [0, 1, 2, 3], 0.8) == [0, 0, 2, 3]
    assert regions.keepers(masks, [1, 0, 2, 3], 0.8) == [1, 1, 1, 3]


def test_crop_and_cut_out():
    picture = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
    mask = rectangle(10, 20, 30, 50)
    box = regions.box_of(mask)
    assert np.array_equal(regions.crop(picture, box), picture[10:30, 20:50])
    assert regions.crop(picture, box, 0.1).shape == (26, 36, 3)
    cut = regions.cut_out(picture, mask, box, 0.1)
    assert cut.shape == (26, 36, 4)
    assert (cut[..., 3] == 255).sum() == 600
    assert (cut[cut[..., 3] == 0][:, :3] == 255).all()
    assert np.array_equal(regions.on_plain(cut)[3:23, 3:33], picture[10:30, 20:50])
    assert regions.crop(picture, Box(58.0, 79.0, 61.0, 99.0)).size


def test_sharpness_falls_with_blur():
    import cv2

    picture = rng.integers(0, 255, (100, 100, 3), dtype=np.uint8)
    assert regions.sharpness(cv2.GaussianBlur(picture, (9, 9), 3)) < regions.sharpness(picture) / 20


def test_brightness_of_the_subject_only():
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[10:20, 10:20] = 200
    assert regions.brightness(picture, rectangle(10, 10, 20, 20)) == pytest.approx(200)
    assert regions.brightness(picture) < 10


def test_composite_keeps_the_background_around():
    background = np.full((60, 80, 3), 50, np.uint8)
    cut = np.zeros((20, 10, 4), np.uint8)
    cut[4:16, 2:8] = (255, 0, 0, 255)
    picture = regions.composite(cut, background, 0.5, np.random.default_rng(1))
    assert picture.shape == background.shape
    changed = (picture != 50).any(axis=2)
    assert 0.02 < changed.mean() < 0.25
    again = regions.composite(cut, background, 0.5, np.random.default_rng(1))
    assert np.array_equal(picture, again)
