"""Reading reference images: every kind of file a user may have, and one clear sentence for those that cannot be read."""

import io
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from anyref.references import Reference, composite_on, fit, load_reference, load_references

NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_plain_files(tmp_path: Path) -> None:
    path = write(tmp_path / "noise.png", Image.fromarray(NOISE))
    for source in (path, str(path), Image.open(path), NOISE):
        reference = load_reference(source)
        np.testing.assert_array_equal(reference.image, NOISE)
        assert reference.subject_mask is None
    assert load_reference(path).name == "noise"
    named = load_reference(path, phrase="red hat", kind="clothing", label="hat", weight=0.5)
    assert (named.phrase, named.kind, named.label, named.weight) == ("red hat", "clothing", "hat", 0.5)
    assert load_reference(named) is not None
    assert load_reference(named, kind="face").phrase == "red hat"


def test_exif_rotation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter: shown upright it is 20 wide
    path = write(tmp_path / "turned.png", Image.fromarray(NOISE), exif=exif)
    reference = load_reference(path)
    assert reference.image.shape == (30, 20, 3)
    np.testing.assert_array_equal(reference.image, np.rot90(NOISE, -1))


def test_grey_and_sixteen_bits(tmp_path: Path) -> None:
    grey = NOISE[..., 0]
    for name, image in {
        "l.png": Image.fromarray(grey),
        "wide.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "wide.tif": Image.fromarray(grey.astype(np.uint16) * 257),
        "int.tif": Image.fromarray(grey.astype(np.int32)),
        "float.tif": Image.fromarray(grey.astype(np.float32) / 255),
    }.items():
        image.save(tmp_path / name)
        reference = load_reference(tmp_path / name)
        np.testing.assert_array_equal(reference.image, np.repeat(grey[..., None], 3, axis=2), err_msg=name)
    bits = Image.fromarray(grey > 127)
    assert set(np.unique(load_reference(bits).image)) == {0, 255}
    with pytest.raises(ValueError, match=r"outside 0\.\.65535"):
        load_reference(Image.fromarray(np.full((8, 8), -1, dtype=np.int32)))


def test_cmyk_with_and_without_a_profile(tmp_path: Path) -> None:
    flat = Image.new("RGB", (16, 16), (200, 40, 40)).convert("CMYK")
    path = write(tmp_path / "ink.jpg", flat, quality=100)
    np.testing.assert_allclose(load_reference(path).image, np.full((16, 16, 3), (200, 40, 40)), atol=4)
    broken = write(tmp_path / "broken.jpg", flat, quality=100, icc_profile=b"not a profile")
    np.testing.assert_array_equal(load_reference(broken).image, load_reference(path).image)
    rgb_profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    wrong = write(tmp_path / "wrong.jpg", flat, quality=100, icc_profile=rgb_profile)
    np.testing.assert_array_equal(load_reference(wrong).image, load_reference(path).image)


def test_palettes_and_transparency(tmp_path: Path) -> None:
    palette = Image.fromarray(NOISE).quantize(16)
    assert load_reference(write(tmp_path / "p.png", palette)).image.shape == (20, 30, 3)
    clear = write(tmp_path / "clear.png", palette, transparency=int(np.asarray(palette)[0, 0]))
    reference = load_reference(clear)
    assert reference.image.shape == (20, 30, 4)
    np.testing.assert_array_equal(reference.subject_mask, np.asarray(palette) != np.asarray(palette)[0, 0])

    grey_alpha = np.stack([NOISE[..., 0], np.where(NOISE[..., 1] > 99, 255, 0)], axis=2).astype(np.uint8)
    reference = load_reference(write(tmp_path / "la.png", Image.fromarray(grey_alpha, "LA")))
    np.testing.assert_array_equal(reference.image[..., 3], grey_alpha[..., 1])
    np.testing.assert_array_equal(reference.image[..., 0], grey_alpha[..., 0])

    opaque = Image.fromarray(NOISE).convert("RGBA")
    assert load_reference(opaque).image.shape == (20, 30, 3), "alpha that hides nothing is dropped"
    opaque.putalpha(0)
    with pytest.raises(ValueError, match="transparent everywhere"):
        load_reference(write(tmp_path / "ghost.png", opaque))


def test_animations_give_their_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 12), (255, 0, 0)), Image.new("RGB", (16, 12), (0, 0, 255))]
    for name in ("film.gif", "film.png", "film.webp"):
        frames[0].save(
            tmp_path / name,
            save_all=True,
            append_images=frames[1:],
            **({"lossless": True} if "webp" in name else {}),
        )
        image = load_reference(tmp_path / name).image
        assert image.shape == (12, 16, 3)
        assert (image == (255, 0, 0)).all(), name


def test_arrays() -> None:
    assert load_reference(NOISE[..., 0]).image.shape == (20, 30, 3)
    assert load_reference(NOISE[..., :1]).image.shape == (20, 30, 3)
    cut = np.dstack([NOISE, np.full((20, 30), 100, np.uint8)])
    mask = load_reference(cut).subject_mask
    assert mask is not None
    assert not mask.any()
    for wrong in (NOISE / 255, NOISE[None], NOISE[..., :2], NOISE.astype(np.uint16)):
        with pytest.raises(ValueError, match="must be uint8"):
            load_reference(wrong)


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    png, jpg = encoded(Image.fromarray(NOISE)), encoded(Image.fromarray(NOISE), "JPEG")
    gif = encoded(Image.fromarray(NOISE), "GIF")
    contents = {
        "zero.png": (b"", "is empty"),
        "text.png": (b"hello, this is not an image", "not an image"),
        "svg.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        "cut.png": (png[: len(png) // 2], "is damaged"),
        "cut.jpg": (jpg[: len(jpg) // 2], "is damaged"),
        "cut.gif": (gif[: len(gif) // 2], "is damaged|not an image"),
        "head.png": (png[:20], "is damaged|not an image"),
        "flipped.png": (png[:60] + bytes(40) + png[100:], "is damaged"),
        "one.png": (encoded(Image.new("RGB", (1, 1))), "is 1 x 1 pixels"),
        "thin.png": (encoded(Image.new("RGB", (500, 2))), "is 500 x 2 pixels"),
        "huge.png": (encoded(Image.new("1", (12000, 9000))), "at most 100 megapixels|over 100 megapixels"),
        "bomb.png": (encoded(Image.new("1", (20000, 20000))), "over 100 megapixels"),
    }
    for name, (data, _) in contents.items():
        (folder / name).write_bytes(data)
    cases = {name: (folder / name, message) for name, (_, message) in contents.items()}
    cases["missing"] = (folder / "missing.png", "does not exist")
    cases["folder"] = (folder, "is a folder")
    cases["long"] = (folder / ("x" * 5000), "cannot be read|does not exist")
    return cases


def test_bad_files_are_one_sentence(tmp_path: Path) -> None:
    for name, (path, message) in bad_files(tmp_path).items():
        with pytest.raises(ValueError, match=message) as error:
            load_reference(path)
        assert "\n" not in str(error.value), name
        assert not isinstance(error.value, UnicodeError), name


def test_twenty_megapixels_are_fine(tmp_path: Path) -> None:
    path = write(tmp_path / "large.png", Image.new("L", (5400, 3800), 128))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_reference(path).image.shape == (3800, 5400, 3)


def test_reference_checks() -> None:
    good = Reference(NOISE)
    for change, message in (
        ({"kind": "planet"}, "must be one of face"),
        ({"weight": 3.0}, "between 0 and 2"),
        ({"weight": float("nan")}, "between 0 and 2"),
        ({"phrase": "  "}, "empty phrase"),
        ({"subject_mask": np.ones((2, 2), bool)}, "subject mask"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(good, **change)


def test_lists_of_references() -> None:
    assert load_references(None, 2) == [[], []]
    assert [len(row) for row in load_references(NOISE, 1)] == [1]
    assert [len(row) for row in load_references([NOISE, NOISE], 3)] == [2, 2, 2]
    assert [len(row) for row in load_references([[NOISE], []], 2)] == [1, 0]
    with pytest.raises(ValueError, match="mixes images and lists"):
        load_references([NOISE, [NOISE]], 2)
    with pytest.raises(ValueError, match="1 lists for 2 prompts"):
        load_references([[NOISE]], 2)
    with pytest.raises(ValueError, match="a reference is a float"):
        load_references(1.5, 1)  # type: ignore[arg-type]


def test_composite_is_paste_on_white() -> None:
    cut = np.dstack([NOISE, np.arange(600, dtype=np.uint16).reshape(20, 30) % 256]).astype(np.uint8)
    background = Image.new("RGB", (30, 20), (255, 255, 255))
    background.paste(Image.fromarray(cut), mask=Image.fromarray(cut[..., 3]))
    np.testing.assert_array_equal(composite_on(Reference(cut)), np.asarray(background))
    assert composite_on(Reference(NOISE)) is NOISE


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        ((20, 30), (60, 60), (40, 60, 10, 0)),
        ((30, 20), (60, 61), (60, 40, 0, 10)),  # 61 - 40 = 21: the odd pixel goes to the right
        ((333, 1000), (240, 416), (138, 416, 51, 0)),
        ((4, 4000), (64, 96), (1, 96, 31, 0)),  # the free side never vanishes
        ((50, 50), (16, 16), (16, 16, 0, 0)),
    ],
)
def test_fit(size: tuple[int, int], box: tuple[int, int], expected: tuple[int, int, int, int]) -> None:
    fitted = fit(np.zeros((*size, 3), np.uint8), *box)
    assert (*fitted.image.shape[:2], fitted.top, fitted.left) == expected
