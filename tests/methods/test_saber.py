"""Saber: what the background cannot change, the input of the paper's equation, cut-outs, and masked frames as references in training."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from conftest import make_transformer
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from anyref.conditioning import Conditioning, assemble, concatenate
from anyref.encoders import Encoders
from anyref.latents import TextContext, VideoShape
from anyref.methods import configured, make_method
from anyref.methods.folder import method_of, record_of
from anyref.methods.saber import CutOut, SaberMethod, cut_out
from anyref.references import Reference
from anyref.samples import ReferenceVariant, Sample, Subject
from anyref.transformer import AnyRefTransformer

SHAPE = VideoShape(9, 32, 64)  # 3 x 2 x 4 tokens, 3 x 4 x 8 cells
PROMPT = "a big dog and a man with a red hat"
READINGS: tuple[Literal["all", "references"], ...] = ("all", "references")


def noise(seed: int, height: int = 32, width: int = 64, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def disc(height: int, width: int, row: float = 0.5, column: float = 0.3) -> NDArray[np.bool_]:
    y, x = np.mgrid[:height, :width]
    return np.asarray((y - row * height) ** 2 + (x - column * width) ** 2 < (0.3 * height) ** 2)


def subject(seed: int, height: int = 32, width: int = 64, **fields: Any) -> Reference:
    return Reference(noise(seed, height, width), subject_mask=disc(height, width), **fields)


def with_background(reference: Reference, seed: int) -> Reference:
    """The same subject before something else."""
    mask = reference.subject_mask
    assert mask is not None
    behind = noise(seed, *mask.shape)
    image = np.concatenate([behind, reference.image[..., 3:]], axis=2)
    image[mask] = reference.image[mask]
    assert (image != reference.image).any()
    return replace(reference, image=image)


@torch.no_grad()
def velocity(
    model: AnyRefTransformer, conditioning: Conditioning, batch: int = 1, dtype: torch.dtype = torch.float32
) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    noisy = torch.randn(batch, 16, *SHAPE.latent, generator=generator).to(dtype)
    text = TextContext(torch.randn(batch, 5, 32, generator=generator).to(dtype))
    sequence = assemble(noisy, torch.linspace(800, 300, batch), conditioning.to("cpu", dtype))
    out: Tensor = model(sequence, encoder_hidden_states=text, return_dict=False)[0]
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("reading", READINGS)
def test_the_background_changes_nothing(
    encoders: Encoders, dtype: torch.dtype, batch: int, reading: Literal["all", "references"]
) -> None:
    """Pixels before the VAE, and what the VAE makes of the grey: at batch 1 tokens are dropped, at 2 there is a key mask."""
    model, method = make_transformer().to(dtype), SaberMethod(reference_queries=reading)
    first, second = subject(0), subject(1, 50, 40)  # the second is scaled
    rows = [[first, second], [first]][:batch]

    def made(*row: Reference) -> Conditioning:
        return method.condition([list(row), *rows[1:]], None, SHAPE, encoders)

    whole = made(first, second)
    before = velocity(model, whole, batch, dtype)
    assert before.isfinite().all()
    other = made(with_background(first, 5), with_background(second, 6))
    assert torch.equal(velocity(model, other, batch, dtype), before)

    assert whole.tokens_BLP is not None
    assert whole.visible_BL is not None
    hidden = ~whole.visible_BL
    assert hidden[0].any()
    grey = torch.where(hidden[..., None], torch.randn(whole.tokens_BLP.shape), whole.tokens_BLP)
    assert torch.equal(velocity(model, replace(whole, tokens_BLP=grey), batch, dtype), before)

    for row in ((subject(2), second), (first, subject(3, 50, 40))):
        changed = velocity(model, made(*row), batch, dtype)
        assert not torch.equal(changed[0], before[0])
        assert torch.equal(changed[1:], before[1:]), "of no other video"
    seen = replace(whole, visible_BL=torch.ones_like(hidden))
    assert not torch.equal(velocity(model, seen, batch, dtype)[0], before[0]), "without the mask grey counts"


def test_the_paper_s_input(encoders: Encoders) -> None:
    rows = [[subject(0), subject(1)], [subject(2)]]
    conditioning = SaberMethod().condition(rows, None, SHAPE, encoders)
    channels, tokens, visible = conditioning.channels_BCTHW, conditioning.tokens_BLP, conditioning.visible_BL
    assert channels is not None
    assert tokens is not None
    assert visible is not None
    assert conditioning.positions_BL3 is not None
    assert channels.shape == (2, 20, 3, 4, 8)
    assert not channels.any(), "cat_time[0, ...]: the video's part"
    assert (conditioning.reference_timestep, conditioning.references_attend) == (0.0, "all")
    assert conditioning.context_BSD is None

    mask = subject(0).subject_mask
    assert mask is not None
    cells = torch.from_numpy(mask.reshape(4, 8, 8, 8).any(axis=(1, 3)))
    assert 0 < cells.float().mean() < 1
    for video, row in enumerate(rows):
        for number, reference in enumerate(row):
            pixels = torch.from_numpy(reference.image.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)
            pixels = pixels * torch.from_numpy(mask)
            latents = encoders.encode_video(pixels[None, :, None])[0, :, 0]
            expected = torch.cat([latents, cells.expand(4, -1, -1), latents])
            one = tokens[video, number * 8 : (number + 1) * 8]
            given = rearrange(one, "(h w) (c y x) -> c (h y) (w x)", h=2, w=4, y=2, x=2)
            torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-4)
            places = conditioning.positions_BL3[video, number * 8 : (number + 1) * 8].reshape(2, 4, 3)
            assert (places[..., 0] == 3 + number).all(), "the times after the video's three"
            assert places[1, :, 1].tolist() == [1] * 4
            assert places[1, :, 2].tolist() == [0, 1, 2, 3]
            token_seen = cells.reshape(2, 2, 4, 2).any(dim=3).any(dim=1).flatten()
            assert torch.equal(visible[video, number * 8 : (number + 1) * 8], token_seen)
    assert not visible[1, 8:].any(), "padding"


def test_rows_of_a_batch_are_as_alone(encoders: Encoders) -> None:
    model, method = make_transformer(), SaberMethod(reference_queries="references")
    rows = [[subject(0)], [], [subject(1), subject(2, 40, 40), subject(3)]]
    parts = [method.condition([row], None, SHAPE, encoders) for row in rows]
    together = method.condition(rows, None, SHAPE, encoders)
    out = velocity(model, together, 3)
    generator = torch.Generator().manual_seed(7)
    noisy = torch.randn(3, 16, *SHAPE.latent, generator=generator)
    text = torch.randn(3, 5, 32, generator=generator)
    for row, part in enumerate(parts):
        sequence = assemble(noisy[row : row + 1], torch.linspace(800, 300, 3)[row : row + 1], part)
        with torch.no_grad():
            alone = model(sequence, encoder_hidden_states=text[row : row + 1], return_dict=False)[0]
        torch.testing.assert_close(out[row : row + 1], alone, atol=2e-5, rtol=1e-4)
    assert concatenate(parts).references_attend == "references"


def test_no_references_is_the_plain_backbone(encoders: Encoders) -> None:
    narrow = make_transformer(16)
    torch.nn.init.normal_(narrow.proj_out.weight)
    config = dict(narrow.config) | {"in_channels": 36}
    wide = AnyRefTransformer.from_config(config).eval()
    state = narrow.state_dict()
    weight = torch.zeros(state["patch_embedding.weight"].shape[0], 36, 1, 2, 2)
    weight[:, :16] = state["patch_embedding.weight"]
    wide.load_state_dict(state | {"patch_embedding.weight": weight})
    none = SaberMethod().condition([[]], None, SHAPE, encoders)
    assert none.tokens_BLP is None
    for reading in READINGS:
        plain = velocity(narrow, Conditioning())
        assert plain.std() > 0.01
        torch.testing.assert_close(
            velocity(wide, replace(none, references_attend=reading)), plain, atol=1e-5, rtol=1e-5
        )
    left_out = SaberMethod().condition([[subject(0, weight=0.0)]], None, SHAPE, encoders)
    assert left_out.tokens_BLP is None


def test_ablations_of_the_attention(encoders: Encoders) -> None:
    method = SaberMethod(attention_mask=False, reference_queries="references", reference_timestep=None)
    made = method.condition([[subject(0)]], None, SHAPE, encoders)
    assert made.visible_BL is None
    assert made.references_attend == "references"
    assert made.reference_timestep is None
    assert method.unconditional(made) is made


def test_a_picture_of_the_frame_s_size_is_not_resampled() -> None:
    reference = subject(0)
    cut = cut_out(reference, 32, 64)
    np.testing.assert_array_equal(cut.mask_YX, reference.subject_mask)
    expected = (reference.image.astype(np.float32) / 127.5 - 1) * disc(32, 64)[..., None]
    np.testing.assert_array_equal(cut.image_3YX, expected.transpose(2, 0, 1))
    grey = cut_out(replace(reference, image=np.full((32, 64, 3), 128, np.uint8)), 32, 64).image_3YX
    assert (grey[:, ~cut.mask_YX] == 0).all(), "no grey of eight bits is 0"
    assert (grey[:, cut.mask_YX] > 0).all()


@pytest.mark.parametrize("size", [(24, 24), (64, 128), (300, 90), (31, 200)])
def test_edges_show_nothing_of_the_background(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), (0, 255, 0), np.uint8)
    mask = disc(*size, column=0.5)
    image[mask] = (255, 0, 51)
    cut = cut_out(Reference(image, subject_mask=mask), 32, 64)
    colour = np.array([1, -1, -0.6], np.float32)[:, None]
    assert np.abs(cut.image_3YX[:, cut.mask_YX] - colour).max() < 1e-3
    assert (cut.image_3YX[:, ~cut.mask_YX] == 0).all()
    scale = min(32 / size[0], 64 / size[1])
    assert cut.mask_YX.sum() == pytest.approx(mask.sum() * scale**2, rel=0.2)
    rows, columns = np.nonzero(cut.mask_YX)
    assert abs(rows.mean() - 15.5) < 1
    assert abs(columns.mean() - 31.5) < 1, "centred"


def test_small_subjects_stay() -> None:
    mask = np.zeros((600, 1200), bool)
    mask[301, 400:402] = True
    image = np.full((600, 1200, 3), 200, np.uint8)
    cut = cut_out(Reference(image, subject_mask=mask), 32, 64)
    assert 1 <= cut.mask_YX.sum() <= 4
    assert np.abs(cut.image_3YX[:, cut.mask_YX] - (200 / 127.5 - 1)).max() < 1e-2
    assert cut.cells().sum() >= 1


def test_any_pixel_makes_a_cell() -> None:
    mask = np.zeros((32, 64), bool)
    mask[15, 8] = True
    assert np.argwhere(CutOut(np.zeros((3, 32, 64), np.float32), mask).cells()).tolist() == [[1, 1]]


def test_alpha_and_weight_fade_to_grey() -> None:
    image = np.full((32, 64, 4), 255, np.uint8)
    image[..., 3] = np.where(disc(32, 64), 204, 0)
    reference = Reference(image, subject_mask=disc(32, 64))
    levels = {
        weight: float(cut_out(replace(reference, weight=weight), 32, 64).image_3YX.max())
        for weight in (0.25, 0.5, 1.0, 2.0)
    }
    assert levels == pytest.approx({0.25: 0.2, 0.5: 0.4, 1.0: 0.8, 2.0: 0.8}, abs=1e-6)


class LeftHalf:
    """A matter that always finds the left half."""

    def cut(self, image_YX3: NDArray[np.uint8]) -> NDArray[np.bool_]:
        mask = np.zeros(image_YX3.shape[:2], bool)
        mask[:, : mask.shape[1] // 2] = True
        return mask


def test_subjects_are_cut_out_and_backgrounds_whole(encoders: Encoders) -> None:
    with_matter, plain = replace(encoders, matter=LeftHalf()), Reference(noise(0), name="dog")
    method = SaberMethod()

    def seen(reference: Reference) -> list[bool]:
        made = method.condition([[reference]], None, SHAPE, with_matter).visible_BL
        assert made is not None
        return made[0].reshape(2, 4)[0].tolist()

    assert seen(plain) == [True, True, False, False]
    assert seen(replace(plain, kind="background")) == [True] * 4
    with pytest.raises(ValueError, match="'dog' is not cut out and there is no matting model"):
        method.condition([[plain]], None, SHAPE, encoders)
    # A background of another aspect is scaled to fit; what is left over is nobody's.
    tall = Reference(noise(1, 64, 64), kind="background")
    assert seen(tall) == [False, True, True, False]


def test_user_mistakes() -> None:
    method = SaberMethod()
    method.check([subject(0)] * 16, SHAPE)
    with pytest.raises(ValueError, match="17 references were given; Saber takes at most 16"):
        method.check([subject(0)] * 17, SHAPE)
    masked = replace(subject(0, name="dog"), subject_mask=np.zeros((32, 64), bool))
    with pytest.raises(ValueError, match="nothing of reference 'dog' belongs to its subject"):
        method.check([masked], SHAPE)
    for wrong, message in (
        ({"reference_queries": "none"}, "must be 'all' or 'references'"),
        ({"reference_timestep": -1.0}, "must lie between 0"),
        ({"reference_timestep": float("nan")}, "must lie between 0"),
        ({"max_masked_frames": 0}, "at least 1"),
        ({"shapes": ("square",)}, "mask shapes are"),
        ({"shapes": ()}, "mask shapes are"),
        ({"mask_ratio": 1.5}, "mask ratios are"),
    ):
        with pytest.raises(ValueError, match=message):
            SaberMethod(**wrong)  # type: ignore[arg-type]


def test_settings_by_name() -> None:
    method = make_method("saber", {"shapes": ["ellipse"], "mask_ratio": 0.3}, {"num_inference_steps": 25})
    assert method_of(json.loads(json.dumps(record_of(method)))) == method
    assert isinstance(method, SaberMethod)
    assert method.masks.shapes == ("ellipse",)
    assert {(band.low, band.high) for band in method.masks.ratios} == {(0.3, 0.3)}
    assert not SaberMethod(augment=False).masks.augment
    assert configured(method, False, {"reference_queries": "references"}) == replace(
        method, reference_queries="references"
    )
    defaults = method.official().defaults
    assert (defaults.height, defaults.width, defaults.num_frames, defaults.fps) == (480, 832, 81, 16)
    assert (defaults.num_inference_steps, defaults.shift, defaults.guidance_scale) == (50, 5.0, 5.0)
    assert (defaults.solver, defaults.sigmas) == ("unipc", "release")
    assert SaberMethod().defaults.negative_prompt.startswith("\u8272\u8c03")
    assert SaberMethod().defaults.negative_prompt.count("\uff0c") == 27
    assert method.sampled_shape(SHAPE, keep_canvas=False) == SHAPE


def clip(num_frames: int = 12, subjects: tuple[Subject, ...] = ()) -> Sample:
    """Frames that tell their own number, with enough contrast to find them again."""
    frames = np.random.default_rng(0).integers(0, 200, (1, 32, 64, 3), dtype=np.uint8)
    numbers = np.arange(num_frames, dtype=np.uint8)[:, None, None, None]
    return Sample("key", frames + 4 * numbers, 8.0, "a dog", subjects)


def number_of(reference: Reference) -> int:
    assert reference.name is not None
    return int(reference.name.removeprefix("frame "))


def test_references_are_frames_of_the_clip_alone() -> None:
    sample, method = clip(), SaberMethod(augment=False)
    for seed in range(20):
        for reference in method.training_references(sample, np.random.default_rng(seed)):
            mask = reference.subject_mask
            assert mask is not None
            frame = sample.frames_FYX3[number_of(reference)]
            np.testing.assert_array_equal(reference.image[mask], frame[mask])
            assert (reference.image[~mask] == 128).all()
    warped = SaberMethod().training_references(sample, np.random.default_rng(3))
    again = SaberMethod().training_references(sample, np.random.default_rng(3))
    assert len(warped) == len(again) > 0
    for one, two in zip(warped, again, strict=True):
        np.testing.assert_array_equal(one.image, two.image)
    mask = warped[0].subject_mask
    assert mask is not None
    assert (warped[0].image[mask] != sample.frames_FYX3[number_of(warped[0])][mask]).any()


def test_how_many_frames_and_which() -> None:
    method, sample = SaberMethod(augment=False, shapes=("ellipse",)), clip()
    drawn = [
        [
            number_of(reference)
            for reference in method.training_references(sample, np.random.default_rng(seed))
        ]
        for seed in range(400)
    ]
    counts = Counter(len(row) for row in drawn)
    assert set(counts) == {0, 1, 2, 3, 4}
    assert 6 <= counts[0] <= 40, "5 %"
    assert min(counts[number] for number in (1, 2, 3, 4)) > 60
    for row in drawn:
        parts = sorted(frame * len(row) // 12 for frame in row)
        assert parts == list(range(len(row))), "one from each part of the clip"
    assert any(row != sorted(row) for row in drawn), "in random order"
    assert {frame for row in drawn for frame in row} == set(range(12))
    short = [method.training_references(clip(2), np.random.default_rng(seed)) for seed in range(20)]
    assert max(len(row) for row in short) == 2
    many = SaberMethod(max_masked_frames=1)
    assert max(len(many.training_references(sample, np.random.default_rng(seed))) for seed in range(20)) == 1


def test_mask_ablations_reach_the_masks() -> None:
    method = SaberMethod(augment=False, mask_ratio=0.3)
    for seed in range(5):
        for reference in method.training_references(clip(), np.random.default_rng(seed)):
            assert reference.subject_mask is not None
            assert abs(reference.subject_mask.mean() - 0.3) <= 1 / reference.subject_mask.size


def test_curated_pairs_take_the_subjects_pictures(encoders: Encoders) -> None:
    masks, boxes = np.zeros((12, 32, 64), bool), np.zeros((12, 4), np.int32)
    subjects = tuple(
        Subject(
            f"who{index}", "animal", "dog", "a dog", masks, boxes,
            (ReferenceVariant(noise(9, channels=4), "cross"), ReferenceVariant(noise(8), "crop")),
        )
        for index in range(3)
    )  # fmt: skip
    method = SaberMethod(curated_pairs=True)
    drawn = [
        method.training_references(clip(subjects=subjects), np.random.default_rng(seed)) for seed in range(20)
    ]
    assert {reference.name for reference in drawn[0]} == {"who0", "who1", "who2"}
    assert len({tuple(reference.name for reference in row) for row in drawn}) > 2
    assert all(reference.image.shape[2] == 4 for row in drawn for reference in row), "cross-pairs"
    assert method.condition([drawn[0]], None, SHAPE, encoders).tokens_BLP is not None


def test_the_target_is_the_clip() -> None:
    frames, method = clip().frames_FYX3, SaberMethod()
    np.testing.assert_array_equal(method.training_video(frames, [], SHAPE), frames[:9])
    assert method.training_frames(SHAPE) == 9
    assert method.output_frames(frames, keep_canvas=True) is frames
    with pytest.raises(ValueError, match="the clip has 8 frames and 9 are sampled"):
        method.training_video(frames[:8], [], SHAPE)


def test_a_trained_reference_enters_as_it_was_drawn(encoders: Encoders) -> None:
    references = SaberMethod().training_references(clip(), np.random.default_rng(1))
    assert references
    conditioning = SaberMethod().condition([references], None, SHAPE, encoders)
    assert conditioning.tokens_BLP is not None
    assert conditioning.tokens_BLP.shape == (1, 8 * len(references), 144)
    for reference in references:
        cut = cut_out(reference, 32, 64)
        np.testing.assert_array_equal(cut.mask_YX, reference.subject_mask)
        assert (cut.image_3YX[:, ~cut.mask_YX] == 0).all()
