"""The trainer end to end at toy size: every field of a sample reaches the gradient, runs resume to the bit, and the loss falls."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_image_encoder, make_text_encoder, make_tokenizer, make_transformer, make_vae

from anyref.conditioning import Conditioning
from anyref.encoders import Encoders
from anyref.latents import VideoShape
from anyref.methods import make_method
from anyref.methods.kaleido import KaleidoMethod
from anyref.methods.magref import MagrefMethod
from anyref.references import Reference
from anyref.training import data
from anyref.training.flow import FlowConfig
from anyref.training.loop import FitConfig
from anyref.training.optimizers import OptimizerConfig
from anyref.training.trainer import (
    FrozenText,
    Phase,
    TrainConfig,
    TrainingData,
    batch_loss,
    clip_losses,
    flow_at,
    pad_text,
    train,
)
from anyref.worlds import PuppetWorld

SHAPE = VideoShape(9, 32, 48)
METHOD = MagrefMethod(anchor_strength=1.0)


def make_encoders() -> Encoders:
    torch.manual_seed(1)
    return Encoders(
        make_vae().eval(), make_text_encoder().eval(), make_tokenizer(), make_image_encoder().eval()
    )


def encode(indices: range | list[int]) -> list[data.Example]:
    world = PuppetWorld("train", seed=0, height=32, width=48, num_frames=8)
    samples = [world.clip(index, background_reference=False) for index in indices]
    rngs = [np.random.default_rng(index) for index in indices]
    return data.encode_samples(samples, METHOD, make_encoders(), SHAPE, rngs)


@pytest.fixture(scope="module")
def examples() -> list[data.Example]:
    return encode(range(6))


def config(folder: Path, steps: int = 4) -> TrainConfig:
    optimizer = OptimizerConfig(learning_rate=3e-3, schedule="constant")
    fit = FitConfig(folder, steps, optimizer=optimizer, ema_decay=0.0, checkpoint_every=2, log_every=100)
    return TrainConfig(fit=fit, batch_size=2, precision="float32")


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def run(folder: Path, examples: list[data.Example], settings: TrainConfig) -> list[float]:
    torch.manual_seed(2)
    train(make_transformer(), METHOD, make_encoders(), TrainingData(examples, SHAPE), settings)
    return losses(folder)


def test_killed_and_resumed_losses_are_bit_equal(tmp_path: Path, examples: list[data.Example]) -> None:
    whole = run(tmp_path / "whole", examples, config(tmp_path / "whole"))
    settings = config(tmp_path / "parts")
    run(tmp_path / "parts", examples, replace(settings, fit=replace(settings.fit, stop_after=3)))
    assert run(tmp_path / "parts", examples, settings) == whole


def test_each_step_draws_one_shape_and_resumes_to_the_sample(
    tmp_path: Path, examples: list[data.Example]
) -> None:
    """Two shapes, drawn by the number of their samples; killed in the middle, the losses are bit-equal."""
    shape = VideoShape(5, 48, 32)
    world = PuppetWorld("train", seed=0, height=48, width=32, num_frames=METHOD.training_frames(shape))
    rngs = [np.random.default_rng(n) for n in range(2)]
    other = data.encode_samples([world.clip(n) for n in range(2)], METHOD, make_encoders(), shape, rngs)
    both = TrainingData(examples, SHAPE, other[:0], buckets=[TrainingData(other, shape, other)])
    drawn: list[tuple[int, ...]] = []

    def fitted(folder: Path, stop_after: int | None = None) -> list[float]:
        settings = config(folder, 8)
        torch.manual_seed(2)
        transformer = make_transformer()
        transformer.register_forward_pre_hook(lambda _, inputs: drawn.append(inputs[0].grid))
        fit = replace(settings.fit, stop_after=stop_after)
        train(transformer, METHOD, make_encoders(), both, replace(settings, fit=fit))
        return losses(folder)

    whole = fitted(tmp_path / "whole")
    assert len(set(drawn)) == 2
    fitted(tmp_path / "parts", 3)
    assert fitted(tmp_path / "parts") == whole


def test_loss_falls(tmp_path: Path, examples: list[data.Example]) -> None:
    settings = replace(config(tmp_path, 40), text_dropout=0.0, reference_dropout=0.0)
    values = run(tmp_path, examples[:1], settings)
    assert np.mean(values[-8:]) < 0.9 * np.mean(values[:8])


def test_the_shift_goes_by_the_size_of_the_samples_where_it_is_asked_to() -> None:
    by_size = FlowConfig(shift="resolution")
    assert flow_at(by_size, VideoShape(81, 512, 896)).shift == pytest.approx(2.138, abs=1e-3)
    assert flow_at(by_size, VideoShape(81, 720, 1280)).shift == pytest.approx(2.904, abs=1e-3)
    assert flow_at(FlowConfig(shift=5.0), SHAPE).shift == 5.0


def test_gradient_checkpointing_changes_nothing(tmp_path: Path, examples: list[data.Example]) -> None:
    plain = run(tmp_path / "plain", examples, config(tmp_path / "plain", 2))
    saving = replace(config(tmp_path / "saving", 2), gradient_checkpointing=True)
    assert run(tmp_path / "saving", examples, saving) == pytest.approx(plain, rel=1e-5)


def test_bfloat16_is_near_float32(tmp_path: Path, examples: list[data.Example]) -> None:
    exact = run(tmp_path / "exact", examples, config(tmp_path / "exact", 2))
    rounded = replace(config(tmp_path / "rounded", 2), precision="bfloat16")
    assert run(tmp_path / "rounded", examples, rounded) == pytest.approx(exact, rel=0.05)


def test_canvas_words_and_anchors_of_every_row_matter(examples: list[data.Example]) -> None:
    transformer, encoders = make_transformer(), make_encoders()
    empty = METHOD.condition([[]], None, SHAPE, encoders)
    kept, captions = [True, True], [example.caption for example in examples[:2]]
    settings = TrainConfig(fit=FitConfig(Path("unused"), 1), precision="float32")
    noise = torch.randn(2, 16, *SHAPE.latent)

    def loss(batch: data.Batch) -> torch.Tensor:
        with torch.no_grad():
            return batch_loss(transformer, encoders, batch, torch.tensor([0.5, 0.5]), noise, settings)

    batch = data.collate(examples[:2], empty, kept, captions)
    usual = loss(batch)
    for row in range(2):
        other = [index == row for index in range(2)]
        dropped = loss(data.collate(examples[:2], empty, [not flag for flag in other], captions))
        retold = loss(
            replace(
                batch,
                captions=tuple("a cat" if flag else text for flag, text in zip(other, captions, strict=True)),
            )
        )
        for changed in (dropped, retold):
            assert changed[row] != usual[row]
            assert changed[1 - row] == pytest.approx(float(usual[1 - row]), abs=1e-6)
    anchors = batch.conditioning.anchors
    assert anchors is not None
    unanchored = loss(replace(batch, conditioning=replace(batch.conditioning, anchors=None)))
    assert not torch.equal(unanchored, usual)


def test_cache_is_the_same_whoever_builds_it(tmp_path: Path) -> None:
    data.build_cache(tmp_path, 3, lambda: encode)
    loaded = data.load_cache(tmp_path, 3)
    fresh = encode([2])[0]
    assert torch.equal(loaded[2].latents_CTHW, fresh.latents_CTHW.bfloat16())
    assert loaded[2].caption == fresh.caption
    assert torch.equal(loaded[2].weight_THW, fresh.weight_THW)


def test_incomplete_cache_and_other_configuration_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lacks shard-00000"):
        data.load_cache(tmp_path, 3)
    data.write_manifest(tmp_path, {"shape": 1}, 3)
    data.write_manifest(tmp_path, {"shape": 1}, 3)
    with pytest.raises(ValueError, match="another configuration"):
        data.write_manifest(tmp_path, {"shape": 2}, 3)


def test_a_cache_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = list[int]()

    def counted(indices: range | list[int]) -> list[data.Example]:
        encoded.extend(indices)
        return encode(indices)

    monkeypatch.setattr(data, "SHARD", 2)
    for count in (3, 5, 2):
        data.write_manifest(tmp_path, {"shape": (1, 2)}, count)
        data.build_cache(tmp_path, count, lambda: counted)
        assert len(data.load_cache(tmp_path, count)) == count
    assert encoded == [0, 1, 2, 2, 3, 4], "only the shard in which the first three ended is written again"
    assert torch.equal(data.load_cache(tmp_path, 5)[4].latents_CTHW, encode([4])[0].latents_CTHW.bfloat16())


def test_draws_are_a_function_of_the_step(examples: list[data.Example]) -> None:
    empty = METHOD.condition([[]], None, SHAPE, make_encoders())

    def draw(seed: int) -> data.Batch:
        (batch,) = data.draw_batches(examples, empty, 4, 0.5, 0.5, np.random.default_rng(seed))
        return batch

    assert draw(1).captions == draw(1).captions
    assert torch.equal(draw(1).latents_BCTHW, draw(1).latents_BCTHW)
    assert any(draw(1).captions != draw(seed).captions for seed in range(2, 6))


def test_samples_with_about_as_many_tokens_are_computed_together() -> None:
    """Kaleido's references are hidden tokens where they are fewer; the same samples, and the same losses, in any number of parts."""
    method, encoders, transformer = KaleidoMethod(fit="own"), make_encoders(), make_transformer(16)
    world, shape = PuppetWorld("train", seed=0, num_frames=5), VideoShape(5, 64, 96)
    samples = [world.clip(index) for index in range(4)]
    rngs = [np.random.default_rng(index) for index in range(4)]
    pool = data.encode_samples(samples, method, encoders, shape, rngs)
    tokens = pool[0].conditioning.tokens_BLP
    assert tokens is not None
    visible = torch.arange(tokens.shape[1])[None] % 3 > 0
    pool[0] = replace(pool[0], conditioning=replace(pool[0].conditioning, visible_BL=visible))
    empty = method.condition([[]], None, shape, encoders)
    settings = TrainConfig(fit=FitConfig(Path("unused"), 1), precision="float32")

    def losses_of(num_groups: int) -> tuple[dict[str, float], list[int]]:
        rng = np.random.default_rng(3)
        batches = data.draw_batches(pool, empty, 12, 0.0, 0.2, rng, num_groups)
        found, lengths = {}, []
        for batch in batches:
            noise = torch.ones(batch.latents_BCTHW.shape)
            with torch.no_grad():
                values = batch_loss(
                    transformer, encoders, batch, torch.full((len(batch.captions),), 0.5), noise, settings
                )
            tokens = batch.conditioning.tokens_BLP
            lengths.append(0 if tokens is None else tokens.shape[1])
            for row, value in enumerate(values.tolist()):
                found[f"{batch.captions[row]} {value:.4f}"] = value
        return found, lengths

    whole, one = losses_of(1)
    parts, lengths = losses_of(3)
    assert len(one) == 1
    assert len(lengths) == 3
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1] == one[0]
    assert sorted(whole) == sorted(parts)


def test_foreground_cells_follow_the_masks() -> None:
    sample = PuppetWorld("train", seed=0, height=32, width=48, num_frames=8).clip(0, num_subjects=1)
    cells = data.subject_cells(sample, SHAPE, 8)
    assert cells.shape == SHAPE.latent
    assert not cells[0].any(), "the canvas frame holds no subject of the clip"
    assert cells[1:].any() and not cells.all()


def test_held_out_loss_repeats(examples: list[data.Example]) -> None:
    transformer, encoders = make_transformer(), make_encoders()
    settings = TrainConfig(fit=FitConfig(Path("unused"), 1), precision="float32")
    values = [clip_losses(transformer, encoders, Conditioning(), examples, settings) for _ in range(2)]
    assert values[0] == values[1]
    assert min(values[0]) > 0


def test_padding_the_text_changes_nothing(examples: list[data.Example]) -> None:
    transformer, encoders = make_transformer().eval(), make_encoders()
    text = encoders.encode_text([examples[0].caption])
    latents = torch.randn(1, 36, *SHAPE.latent)
    arguments = (latents, torch.tensor([500.0]))
    with torch.no_grad():
        short = transformer(*arguments, text, examples[0].conditioning.context_BSD, return_dict=False)[0]
        long = transformer(
            *arguments, pad_text(text, 60), examples[0].conditioning.context_BSD, return_dict=False
        )[0]
    assert torch.allclose(short, long, atol=1e-5)


def test_a_frozen_text_encoder_reads_a_caption_once(
    examples: list[data.Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders, read = make_encoders(), []
    plain = Encoders.encode_text
    monkeypatch.setattr(Encoders, "encode_text", lambda self, prompts: read.append(1) or plain(self, prompts))
    frozen = FrozenText(encoders.vae, encoders.text_encoder, encoders.tokenizer, encoders.image_encoder)
    captions = [examples[0].caption, "", examples[1].caption]
    for order in (captions, captions[::-1]):
        ours, theirs = frozen.encode_text(order), plain(encoders, order)
        assert ours.bias_BS is not None and theirs.bias_BS is not None
        assert torch.equal(ours.bias_BS, theirs.bias_BS)
        assert torch.allclose(ours.tokens_BSD, theirs.tokens_BSD, atol=1e-5)
    assert len(read) == 3
    full = FrozenText(encoders.vae, encoders.text_encoder, encoders.tokenizer, text_bytes=0)
    assert torch.allclose(
        full.encode_text([captions[0]]).tokens_BSD, plain(encoders, [captions[0]]).tokens_BSD
    )
    assert not full.known


def test_the_beginning_of_a_sample_is_a_shorter_sample(examples: list[data.Example]) -> None:
    encoders = make_encoders()
    empty = METHOD.condition([[]], None, SHAPE, encoders)
    world = PuppetWorld("train", seed=0, height=32, width=48, num_frames=8)
    sample = world.clip(0, background_reference=False)
    short = data.encode_samples([sample], METHOD, encoders, SHAPE, [np.random.default_rng(0)], 2)[0]
    assert short.latents_CTHW.shape[1] == 2
    cut = data.first_frames(data.collate(examples[:1], empty, [True], [""]), 2)
    assert torch.allclose(cut.latents_BCTHW[0], short.latents_CTHW, atol=1e-5)
    channels = short.conditioning.channels_BCTHW
    assert channels is not None
    assert cut.conditioning.channels_BCTHW is not None
    assert torch.allclose(cut.conditioning.channels_BCTHW, channels, atol=1e-5)
    assert torch.equal(cut.weight_BTHW[0], short.weight_THW.float())


@pytest.mark.parametrize("name", ["saber", "magref-token-concat"])
def test_references_after_the_video_follow_a_shorter_one(name: str) -> None:
    method, encoders = make_method(name), make_encoders()
    picture = np.full((24, 24, 3), 90, np.uint8)
    row = [[Reference(picture, subject_mask=np.ones((24, 24), bool))]]
    whole, short = (method.condition(row, None, VideoShape(frames, 32, 48), encoders) for frames in (17, 5))
    cut = data.shortened(whole, 2)
    assert cut.positions_BL3 is not None
    assert short.positions_BL3 is not None
    assert torch.equal(cut.positions_BL3, short.positions_BL3)
    again = data.shortened(cut, 2).positions_BL3
    assert again is not None
    assert torch.equal(again, short.positions_BL3)


def test_short_samples_serve_the_phases_they_are_long_enough_for(
    tmp_path: Path, examples: list[data.Example]
) -> None:
    empty = METHOD.condition([[]], None, SHAPE, make_encoders())
    cut = data.first_frames(data.collate(examples[:1], empty, [True], [""]), 2)
    conditioning = data.shortened(examples[0].conditioning, 2)
    short = [data.Example(cut.latents_BCTHW[0], conditioning, "a short one", cut.weight_BTHW[0].bool())]
    pools = TrainingData(examples, SHAPE, short=short)
    assert pools.examples_of(1) is short
    assert pools.examples_of(2) is short
    assert pools.examples_of(3) is examples
    settings = replace(config(tmp_path, 2), phases=(Phase(0.5, 2, 2),), reference_dropout=0.5)
    train(make_transformer(), METHOD, make_encoders(), pools, settings)
    assert len(losses(tmp_path)) == 2


def test_weights_lie_where_the_target_shows_the_clip() -> None:
    sample = PuppetWorld("train", seed=0, height=32, width=48, num_frames=12).clip(1, num_subjects=1)
    cells = data.subject_cells(sample, SHAPE, METHOD.training_frames(SHAPE))
    masks = sample.subjects[0].masks_FYX
    first_latent = masks[:4].reshape(4, 4, 8, 6, 8).any(axis=(0, 2, 4))
    assert np.array_equal(cells[1], first_latent)
    assert not cells[0].any()
