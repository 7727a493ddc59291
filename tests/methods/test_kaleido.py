"""Kaleido: positions and network against the release's, its sampler, pictures, batches in which every reference counts, and training."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_transformer
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from anyref.conditioning import Conditioning, assemble, concatenate
from anyref.encoders import Encoders
from anyref.latents import TextContext, VideoShape, grid_positions, patchify
from anyref.methods import configured, make_method
from anyref.methods.folder import method_of, record_of
from anyref.methods.kaleido import (
    NEGATIVE_PROMPT,
    PLACEMENTS,
    KaleidoMethod,
    own_grid,
    picture,
    reference_positions,
    resolution_shift,
)
from anyref.methods.magref import NEGATIVE_PROMPT as MAGREF_NEGATIVE_PROMPT
from anyref.references import Reference
from anyref.samples import ReferenceVariant, Sample, Subject
from anyref.sampling import make_scheduler, set_sigmas, sigma_grid
from anyref.training.data import shortened
from anyref.transformer import AnyRefTransformer

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "kaleido_rrope.safetensors"
SHAPE = VideoShape(9, 32, 48)  # 3 x 2 x 3 tokens
PROMPT = "a big dog and a man with a red hat"


def noise(seed: int, height: int = 32, width: int = 48, **fields: object) -> Reference:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Reference(image, **fields)  # type: ignore[arg-type]


def tokens_of(conditioning: Conditioning) -> tuple[Tensor, Tensor]:
    assert conditioning.tokens_BLP is not None
    assert conditioning.positions_BL3 is not None
    return conditioning.tokens_BLP, conditioning.positions_BL3


@pytest.fixture(scope="module")
def golden() -> tuple[dict[str, Tensor], AnyRefTransformer]:
    if not GOLDEN.exists():
        pytest.skip("the golden values are not beside this checkout")
    record = load_file(GOLDEN)
    names = [name for name in record if name.startswith("weights.")]
    original = {name.removeprefix("weights."): record[name].float() for name in names}
    model = AnyRefTransformer(
        num_layers=2, num_attention_heads=2, attention_head_dim=128, text_dim=64, ffn_dim=384
    )
    model.load_state_dict(convert_wan_transformer_to_diffusers(original), strict=True)
    return record, model.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("case", "positions", "count"),
    [
        ("shipped_n1", "shift-w-h", 1),
        ("shipped_n3", "shift-w-h", 3),
        ("concat_baseline", "concat", 3),
        ("shift_w", "shift-w", 3),
    ],
)
def test_the_releases_network(
    golden: tuple[dict[str, Tensor], AnyRefTransformer], case: str, positions: str, count: int
) -> None:
    record, model = golden
    video, images = record["inputs.x"].transpose(1, 2), record["inputs.refs"]
    frames, height, width = video.shape[2:]
    grid = (height // 2, width // 2)
    places = reference_positions(positions, [grid] * count, (frames, *grid))  # type: ignore[arg-type]
    tokens = torch.cat([patchify(images[:, index, :, None]) for index in range(count)], dim=1)
    sequence = assemble(
        video, record["inputs.t"], Conditioning(tokens_BLP=tokens, positions_BL3=places[None])
    )
    velocity = model(sequence, encoder_hidden_states=record["inputs.ctx"]).sample
    expected = record[f"velocity_{case}"].transpose(1, 2)
    assert (velocity - expected).norm() / expected.norm() < 1e-5


@pytest.mark.parametrize(
    ("positions", "offset", "starts"),
    [
        # For three references beside 21 x 30 x 52 tokens (480 x 832, 81 frames): their first tokens.
        ("shift-w-h", "constant", [(0, 80, 80), (1, 80, 80), (2, 80, 80)]),
        ("shift-w-h", "per-clip", [(0, 30, 52), (1, 30, 52), (2, 30, 52)]),
        ("shift-w", "constant", [(0, 0, 80), (1, 0, 80), (2, 0, 80)]),
        ("shift-w", "per-clip", [(0, 0, 52), (1, 0, 52), (2, 0, 52)]),
        ("shift-h", "constant", [(0, 80, 0), (1, 80, 0), (2, 80, 0)]),
        ("unshifted", "constant", [(0, 0, 0), (1, 0, 0), (2, 0, 0)]),
        ("concat", "constant", [(21, 0, 0), (22, 0, 0), (23, 0, 0)]),
        ("end-concat", "constant", [(21, 80, 80), (22, 80, 80), (23, 80, 80)]),
        ("end-concat", "per-clip", [(21, 30, 52), (22, 30, 52), (23, 30, 52)]),
        ("unrotated", "constant", [(0, 0, 0), (0, 0, 0), (0, 0, 0)]),
        ("shift-w-h-no-overlap", "constant", [(0, 80, 80), (1, 160, 160), (2, 240, 240)]),
        ("shift-w-h-no-overlap", "per-clip", [(0, 30, 52), (1, 60, 104), (2, 90, 156)]),
        ("staggered-negative", "constant", [(-3, 0, 0), (-2, 0, 0), (-1, 0, 0)]),
        ("fixed-negative", "constant", [(-1, 0, 0), (-1, 0, 0), (-1, 0, 0)]),
        ("future", "constant", [(22, 0, 0), (23, 0, 0), (24, 0, 0)]),
    ],
)
def test_positions_of_every_variant(positions: str, offset: str, starts: list[tuple[int, int, int]]) -> None:
    grids = [(30, 52), (5, 7), (9, 1)]  # references of sizes of their own
    places = reference_positions(positions, grids, (21, 30, 52), offset)  # type: ignore[arg-type]
    for start, (rows, columns), part in zip(starts, grids, places.split([1560, 35, 9]), strict=True):
        assert part[0].tolist() == list(start)
        if positions == "unrotated":
            assert not part.any()
            continue
        assert part[-1].tolist() == [start[0], start[1] + rows - 1, start[2] + columns - 1]
        assert len({tuple(place) for place in part.tolist()}) == rows * columns


def test_every_placement_is_tested_above() -> None:
    mark = next(mark for mark in test_positions_of_every_variant.pytestmark)  # type: ignore[attr-defined]
    assert {case[0] for case in mark.args[1]} == set(PLACEMENTS)


@pytest.mark.parametrize("positions", [*PLACEMENTS, "channel-concat"])
def test_a_cut_sample_is_conditioned_as_a_short_one(positions: str, encoders: Encoders) -> None:
    """Training cuts encoded samples to their first latent frames: the references must stand where a clip of that length has them."""
    method = KaleidoMethod(positions=positions, fit="canvas", reference_timestep=12.5)  # type: ignore[arg-type]
    references = [[Reference(np.full((20 + 9 * n, 33, 3), 40 * n, np.uint8)) for n in range(2)]]
    whole, short = (
        method.condition(references, None, VideoShape(frames, 32, 48), encoders) for frames in (17, 5)
    )
    cut = shortened(whole, 2)
    for name in ("channels_BCTHW", "tokens_BLP", "positions_BL3"):
        mine, theirs = getattr(cut, name), getattr(short, name)
        assert (mine is None) == (theirs is None)
        assert mine is None or torch.equal(mine, theirs)
    assert cut.after_frames == short.after_frames
    expected = None if positions == "channel-concat" else 12.5
    assert cut.reference_timestep == expected


def test_the_sampler_is_the_releases() -> None:
    defaults = KaleidoMethod().defaults
    scheduler = make_scheduler(defaults.solver, defaults.shift)
    grid = sigma_grid(defaults.sigmas, defaults.num_inference_steps, defaults.solver)
    timesteps = set_sigmas(scheduler, grid)
    u = np.linspace(1, 0, 51)
    sigmas = scheduler.sigmas.double().numpy()
    np.testing.assert_allclose(sigmas, 7 * u / (1 + 6 * u), atol=1e-6, rtol=0)
    # Recorded from the release, to five digits.
    np.testing.assert_allclose(sigmas[:6], [1, 0.99709, 0.99408, 0.99096, 0.98773, 0.98438], atol=6e-6)
    np.testing.assert_allclose(sigmas[-4:], [0.30882, 0.22581, 0.125, 0], atol=6e-6)
    np.testing.assert_allclose(timesteps.double().numpy(), 1000 * sigmas[:-1], atol=1e-3, rtol=0)
    # Plain Euler on a velocity field that bends, with the release's x += (s_next - s) v.
    ours = theirs = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    for index, timestep in enumerate(timesteps):
        velocity = torch.sin(3 * theirs) * (1 + timestep / 1000)
        theirs = theirs + float(7 * u[index + 1] / (1 + 6 * u[index + 1]) - sigmas[index]) * velocity
        ours = scheduler.step(torch.sin(3 * ours) * (1 + timestep / 1000), timestep, ours, return_dict=False)[
            0
        ]
    assert (ours - theirs).abs().max() < 1e-6 * len(timesteps)


def test_defaults_and_official_settings() -> None:
    method = make_method(
        "kaleido", {"positions": "future", "fit": "own", "offset": "per-clip"}, {"height": 64}
    )
    release = method.official()
    assert release == KaleidoMethod()
    defaults = release.defaults
    assert (defaults.height, defaults.width, defaults.num_frames, defaults.fps) == (512, 896, 81, 16)
    assert (defaults.num_inference_steps, defaults.shift, defaults.guidance_scale) == (50, 7.0, 6.0)
    wans = MAGREF_NEGATIVE_PROMPT.split("\uff0c")[1:]  # without MAGREF's "camera shake"
    missing = "\u753b\u5f97\u4e0d\u597d\u7684\u8138\u90e8"
    assert NEGATIVE_PROMPT.split("\uff0c") == [phrase for phrase in wans if phrase != missing]
    assert len(NEGATIVE_PROMPT.split("\uff0c")) == 27
    with pytest.raises(ValueError, match="joins references by channel"):
        KaleidoMethod(positions="channel-concat").official()
    assert method_of(record_of(method)) == method
    assert configured(method, False, {"positions": "channel-concat", "fit": "canvas"}).in_channels == 36
    assert method.in_channels == 16


def test_resolution_shift_of_training() -> None:
    for (height, width), expected in {(480, 832): 2.056, (512, 896): 2.138, (720, 1280): 2.904}.items():
        assert resolution_shift(VideoShape(81, height, width)) == pytest.approx(expected, abs=6e-4)


def test_the_canvas_is_the_releases_contain_fit() -> None:
    shape = VideoShape(1, 480, 832)
    # (height, width) of the file -> (height, width) on the canvas: kaleido.md, section 1.
    for size, (height, width) in {
        (1024, 1024): (480, 480),
        (1440, 1080): (480, 360),
        (3264, 4928): (480, 724),
        (10, 100): (83, 832),
    }.items():
        seen = picture(Reference(np.zeros((*size, 3), np.uint8)), shape, "canvas")
        assert seen.shape == (480, 832, 3)
        dark = seen[..., 0] == 0
        rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
        assert (rows[0], columns[0]) == ((480 - height) // 2, (832 - width) // 2)
        assert (len(rows), len(columns)) == (height, width)
        assert (seen[~dark] == 255).all()
    image = noise(0, 30, 90).image
    scaled = np.asarray(Image.fromarray(image).resize((832, 277), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(picture(Reference(image), shape, "canvas")[101:378], scaled)


@pytest.mark.parametrize("size", [(480, 832), (2000, 2000), (40, 30), (1000, 100), (9, 200), (333, 500)])
@pytest.mark.parametrize("video", [(480, 832), (64, 96), (832, 480)])
def test_an_own_size_keeps_aspect_and_budget(size: tuple[int, int], video: tuple[int, int]) -> None:
    shape = VideoShape(1, *video)
    budget = shape.tokens[1] * shape.tokens[2]
    rows, columns = own_grid(Reference(np.zeros((*size, 3), np.uint8)), shape)
    assert 1 <= rows * columns <= budget
    short, long = sorted((rows, columns))
    assert abs(long - short * max(size) / min(size)) <= 0.5, "half a token of the long side"
    assert (rows > columns) == (size[0] > size[1]) or rows == columns
    wider = short + 1
    assert wider * round(wider * max(size) / min(size)) > budget, "no larger one fits"
    seen = picture(noise(1, *size), shape, "own")
    assert seen.shape == (16 * rows, 16 * columns, 3)
    assert not (seen == 255).all(axis=(1, 2)).any(), "no white rows"


@pytest.mark.parametrize("fitting", ["canvas", "own"])
def test_transparency_and_weights_are_white(fitting: str) -> None:
    image = np.zeros((32, 48, 4), np.uint8)
    image[:, 24:, 3] = 255
    seen = picture(Reference(image), SHAPE, fitting)  # type: ignore[arg-type]
    assert (seen[:, :20] == 255).all()
    assert (seen[:, 28:] == 0).all()
    dark = {weight: picture(Reference(np.full((32, 48, 3), 55, np.uint8), weight=weight), SHAPE, fitting)  # type: ignore[arg-type]
            for weight in (0.5, 1.0, 2.0)}  # fmt: skip
    assert (dark[0.5] == 155).all()
    assert (dark[1.0] == 55).all()
    assert (dark[2.0] == 55).all()


@pytest.mark.parametrize("fitting", ["canvas", "own"])
def test_each_reference_is_encoded_alone(encoders: Encoders, fitting: str) -> None:
    """In company, its tokens are those it has alone, and only its time differs."""
    method = KaleidoMethod(fit=fitting)  # type: ignore[arg-type]
    row = [noise(1), noise(2, 48, 32), noise(3, 90, 20)]
    together, places = tokens_of(method.condition([row], [PROMPT], SHAPE, encoders))
    alone = [tokens_of(method.condition([[one]], [PROMPT], SHAPE, encoders)) for one in row]
    lengths = [values.shape[1] for values, _ in alone]
    assert lengths == ([6, 6, 6] if fitting == "canvas" else [6, 6, 4])
    for index, (values, own) in enumerate(zip(together.split(lengths, 1), alone, strict=True)):
        torch.testing.assert_close(values, own[0], atol=1e-6, rtol=0)
        part = places.split(lengths, 1)[index]
        assert torch.equal(part, own[1] + torch.tensor([index, 0, 0]))
    pixels = torch.from_numpy(row[0].image).permute(2, 0, 1)[None, :, None].float() / 127.5 - 1
    torch.testing.assert_close(alone[0][0], patchify(encoders.encode_video(pixels)), atol=1e-5, rtol=1e-4)
    assert torch.equal(alone[0][1][0], grid_positions((1, 2, 3)) + torch.tensor([0, 80, 80]))


def test_a_weight_of_zero_is_not_given(encoders: Encoders) -> None:
    first, second = noise(1), noise(2)
    for positions in ("shift-w-h", "staggered-negative"):  # the second counts the references
        method = KaleidoMethod(positions=positions)  # type: ignore[arg-type]
        left = tokens_of(method.condition([[replace(first, weight=0), second]], None, SHAPE, encoders))
        alone = tokens_of(method.condition([[second]], None, SHAPE, encoders))
        assert torch.equal(left[0], alone[0])
        assert torch.equal(left[1], alone[1])
    none = KaleidoMethod().condition([[replace(first, weight=0)]], None, SHAPE, encoders)
    assert none == Conditioning()


def test_no_references_are_the_plain_backbone(encoders: Encoders) -> None:
    model = make_transformer(in_channels=16)
    noisy, timestep, text = (
        torch.randn(2, 16, *SHAPE.latent),
        torch.tensor([700.0, 200.0]),
        torch.randn(2, 5, 32),
    )
    conditioning = KaleidoMethod().condition([[], []], None, SHAPE, encoders)
    ours = model(assemble(noisy, timestep, conditioning), encoder_hidden_states=TextContext(text)).sample
    assert torch.equal(ours, model(noisy, timestep, text).sample)
    # Beside a video with references, up to rounding.
    mixed = KaleidoMethod().condition([[], [noise(1)]], None, SHAPE, encoders)
    beside = model(assemble(noisy, timestep, mixed), encoder_hidden_states=TextContext(text)).sample
    assert (beside[0] - ours[0]).abs().max() < 1e-5
    assert (beside[1] - ours[1]).abs().max() > 1e-4


def test_every_reference_of_every_row_matters(encoders: Encoders) -> None:
    """Changing one changes its own video's output and gradient, and no other's (the release's trainer: only the first does)."""
    model = make_transformer(in_channels=16).requires_grad_(True)
    parameters = [
        model.patch_embedding.weight,
        model.blocks[0].attn1.to_k.weight,
        model.blocks[1].attn1.to_v.weight,
    ]
    noisy, timestep = torch.randn(3, 16, *SHAPE.latent), torch.tensor([800.0, 500.0, 200.0])
    text, method = TextContext(torch.randn(3, 5, 32)), KaleidoMethod(fit="own")

    def run(rows: Sequence[Sequence[Reference]]) -> list[tuple[Tensor, list[Tensor]]]:
        """Of each row: its output, and its loss's gradients."""
        conditioning = method.condition(rows, None, SHAPE, encoders)
        output = model(assemble(noisy, timestep, conditioning), encoder_hidden_states=text).sample
        losses = [row.square().sum() for row in output]
        return [
            (row.detach(), list(torch.autograd.grad(loss, parameters, retain_graph=True)))
            for row, loss in zip(output, losses, strict=True)
        ]

    rows = [[noise(1), noise(2, 48, 32)], [], [noise(3, 90, 20), noise(4), noise(5, 32, 32)]]
    before = run(rows)
    for row, references in enumerate(rows):
        for k in range(len(references)):
            changed = [list(one) for one in rows]
            changed[row][k] = noise(100 + k, *references[k].image.shape[:2])
            for video, (old, new) in enumerate(zip(before, run(changed), strict=True)):
                if video == row:
                    assert (old[0] - new[0]).abs().max() > 1e-4, (row, k)
                    assert all((a - b).norm() / a.norm() > 1e-4 for a, b in zip(old[1], new[1], strict=True))
                else:
                    assert (old[0] - new[0]).abs().max() < 1e-6, (row, k, video)
                    assert all((a - b).norm() / a.norm() < 1e-5 for a, b in zip(old[1], new[1], strict=True))


def test_rows_apart_are_rows_together(encoders: Encoders) -> None:
    """What the trainer joins of single samples is what the pipeline gets for the batch."""
    method = KaleidoMethod(fit="own", positions="staggered-negative")
    rows = [[noise(1, 90, 20)], [], [noise(2), noise(3)]]
    together = method.condition(rows, None, SHAPE, encoders)
    apart = concatenate([method.condition([row], None, SHAPE, encoders) for row in rows])
    for name in ("tokens_BLP", "positions_BL3", "visible_BL"):
        assert torch.equal(getattr(together, name), getattr(apart, name))
    assert together.visible_BL is not None
    assert together.visible_BL.sum(dim=1).tolist() == [4, 0, 12]
    assert together.reference_timestep is None, "modulated as the video is"
    assert method.unconditional(together) is together


def test_channel_concatenation(encoders: Encoders) -> None:
    method = KaleidoMethod(positions="channel-concat")
    first, second = noise(1), noise(2, 48, 32)
    conditioning = method.condition([[first, second], []], None, SHAPE, encoders)
    channels = conditioning.channels_BCTHW
    assert channels is not None
    assert conditioning.tokens_BLP is None
    assert channels.shape == (2, 20, 3, 4, 6)
    assert (channels[0, :4, :2] == 1).all()
    assert not channels[0, :, 2].any()
    assert not channels[1].any()
    sequence, _ = tokens_of(KaleidoMethod().condition([[first, second]], None, SHAPE, encoders))
    joined = torch.cat([patchify(channels[:1, 4:, index : index + 1]) for index in range(2)], dim=1)
    torch.testing.assert_close(joined, sequence, atol=1e-6, rtol=0)
    model = make_transformer()
    noisy, text = torch.randn(2, 16, *SHAPE.latent), TextContext(torch.randn(2, 5, 32))
    output = model(
        assemble(noisy, torch.tensor([500.0, 500.0]), conditioning), encoder_hidden_states=text
    ).sample
    assert output.shape == noisy.shape
    four = [noise(seed) for seed in range(4)]
    for refuse in (
        lambda: method.check(four, SHAPE),
        lambda: method.condition([four], None, SHAPE, encoders),
    ):
        with pytest.raises(ValueError, match="9 frames have channels for at most 3"):
            refuse()


def test_user_mistakes() -> None:
    method = KaleidoMethod()
    dog = noise(1, name="dog", phrase="big dog")
    method.check([dog] * 16, SHAPE)
    with pytest.raises(ValueError, match="17 references were given; Kaleido takes at most 16"):
        method.check([dog] * 17, SHAPE)
    thread = noise(2, 4, 29, name="thread")  # 7.25 tokens long at least, where a frame has 6
    method.check([thread], SHAPE)
    with pytest.raises(
        ValueError, match="'thread' is 29 x 4 pixels and would take 7 tokens, more than the 6"
    ):
        KaleidoMethod(fit="own").check([thread], SHAPE)
    for wrong, message in (
        ({"positions": "sideways"}, "positions is 'sideways'; it must be one of shift-w-h,.*channel-concat"),
        ({"offset": 80}, "offset is 80; it must be one of constant, per-clip"),
        ({"fit": "crop"}, "fit is 'crop'; it must be one of canvas, own"),
        ({"positions": "channel-concat", "fit": "own"}, "set fit to 'canvas'"),
        ({"max_references": 0}, "must be at least 1"),
        ({"cross_pair_probability": float("nan")}, "must lie between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            KaleidoMethod(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("positions", "offset", "size", "reached"),
    [
        ("shift-w-h", "constant", (1280, 2048), False),
        ("shift-w-h", "constant", (1296, 1296), True),
        ("shift-w-h", "per-clip", (1296, 1296), False),
        ("shift-w", "constant", (480, 1296), True),
        ("shift-h", "constant", (480, 1296), False),
        ("unshifted", "constant", (1296, 1296), False),
        ("concat", "constant", (1296, 1296), False),
    ],
)
def test_a_video_must_not_reach_the_references(
    positions: str, offset: str, size: tuple[int, int], reached: bool
) -> None:
    """Refused exactly where some position would be the video's and a reference's, unless the variant means that."""
    method, shape = KaleidoMethod(positions=positions, offset=offset), VideoShape(5, *size)  # type: ignore[arg-type]
    places = reference_positions(positions, [(2, 3)], shape.tokens, offset)  # type: ignore[arg-type]
    inside = bool((places < torch.tensor(shape.tokens)).all(dim=1).any())
    assert inside == (reached or positions == "unshifted")
    if reached:
        with pytest.raises(ValueError, match="reaches the positions of the references, 1280 pixels away"):
            method.check([], shape)
    else:
        method.check([], shape)


def test_shapes_and_frames() -> None:
    method = KaleidoMethod()
    assert method.sampled_shape(SHAPE, keep_canvas=False) == SHAPE
    frames = np.arange(13)
    assert method.output_frames(frames, keep_canvas=False) is frames
    assert method.training_frames(SHAPE) == 9
    clip = np.random.default_rng(0).integers(0, 256, (11, 32, 48, 3), dtype=np.uint8)
    np.testing.assert_array_equal(method.training_video(clip, [noise(1)], SHAPE), clip[:9])
    with pytest.raises(ValueError, match="the clip has 8 frames and 9 are trained on"):
        method.training_video(clip[:8], [], SHAPE)


def sample(subjects: int = 3) -> Sample:
    """Subject n's two cross-pairs have the shades 10 n + 1 and 10 n + 2, its crop 10 n + 3; the last has no references."""
    empty_masks, empty_boxes = np.zeros((5, 32, 48), bool), np.zeros((5, 4), np.int32)

    def subject(index: int) -> Subject:
        images = [np.full((8, 8, 3), 10 * index + shade, np.uint8) for shade in (1, 2, 3)]
        variants = (
            ReferenceVariant(images[0], "cross"),
            ReferenceVariant(images[1], "cross"),
            ReferenceVariant(images[2], "crop"),
        )
        phrase = f"man number {index}"
        given = variants if index < subjects else ()
        return Subject(f"who{index}", "person", "man", phrase, empty_masks, empty_boxes, given)

    frames = np.zeros((5, 32, 48, 3), np.uint8)
    return Sample("key", frames, 8.0, "a man", tuple(subject(index) for index in range(subjects + 1)))


def test_training_references_mix_cross_pairs_and_crops() -> None:
    drawn = [
        KaleidoMethod().training_references(sample(), np.random.default_rng(seed)) for seed in range(200)
    ]
    orders = {tuple(reference.name for reference in row) for row in drawn}
    assert orders == {(f"who{a}", f"who{b}", f"who{3 - a - b}") for a in range(3) for b in range(3) if a != b}
    shades = [int(reference.image[0, 0, 0]) % 10 for row in drawn for reference in row]
    assert {1, 2, 3} == set(shades)
    cross = sum(shade != 3 for shade in shades) / len(shades)
    assert abs(cross - 0.4) < 0.08, "600 draws: the deviation is 0.02"
    again = KaleidoMethod().training_references(sample(), np.random.default_rng(3))
    assert [one.image[0, 0, 0] for one in again] == [one.image[0, 0, 0] for one in drawn[3]]
    assert all(one.phrase == f"man number {(one.name or '')[-1]}" for one in again)
    for probability, expected in ((0.0, {3}), (1.0, {1, 2})):
        method = KaleidoMethod(cross_pair_probability=probability)
        row = method.training_references(sample(9), np.random.default_rng(0))
        assert {int(one.image[0, 0, 0]) % 10 for one in row} == expected
    assert len(KaleidoMethod(max_references=4).training_references(sample(9), np.random.default_rng(0))) == 4
