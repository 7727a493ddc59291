"""The pipeline through its public arguments, against diffusers' image-to-video pipeline, and on disk."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from conftest import make_image_encoder, make_text_encoder, make_tokenizer, make_transformer, make_vae
from diffusers import FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline, WanTransformer3DModel
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image

import anyref
from anyref.encoders import Encoders
from anyref.matting import Segmenter
from anyref.methods.folder import read_folder, resolve_model
from anyref.methods.magref import MagrefMethod
from anyref.pipeline import AnyRefPipeline
from anyref.puppets.segmenter import build as build_segmenter
from anyref.references import Reference
from anyref.sampling import SamplingDefaults, make_scheduler
from anyref.transformer import AnyRefTransformer

DEFAULTS = SamplingDefaults(
    height=32,
    width=48,
    num_frames=5,
    num_inference_steps=2,
    shift=3.0,
    guidance_scale=2.5,
    fps=8,
    negative_prompt="blurry static",
    sigmas="linear",
)
PROMPT = "a dog wearing a red hat walks on the beach"


@pytest.fixture(scope="module")
def pipeline(encoders: Encoders, transformer: AnyRefTransformer) -> AnyRefPipeline:
    pipe = AnyRefPipeline(
        tokenizer=encoders.tokenizer,
        text_encoder=encoders.text_encoder,
        vae=encoders.vae,
        transformer=transformer,
        scheduler=make_scheduler("unipc", 3.0),
        image_encoder=encoders.image_encoder,
        method=MagrefMethod(anchor_strength=0.5, defaults=DEFAULTS),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents_of(pipe: AnyRefPipeline, references: Any, prompt: Any = PROMPT, **arguments: Any) -> torch.Tensor:
    return pipe(prompt, references, generator=seeded(), output_type="latent", **arguments).frames


def test_asked_frames_are_returned_frames(pipeline: AnyRefPipeline, references: list[Reference]) -> None:
    frames = pipeline(PROMPT, references, generator=seeded()).frames
    assert frames.shape == (1, 5, 32, 48, 3)
    assert frames.min() >= 0
    assert frames.max() <= 1
    assert latents_of(pipeline, references).shape == (1, 16, 3, 4, 6), "5 frames asked for, 9 sampled"
    (kept,) = pipeline(
        PROMPT, references, generator=seeded(), keep_canvas=True, output_type="pt", return_dict=False
    )
    assert kept.shape == (1, 5, 3, 32, 48)
    assert latents_of(pipeline, references, keep_canvas=True).shape == (1, 16, 2, 4, 6)
    (video,) = pipeline(PROMPT, references, generator=seeded(), output_type="pil").frames
    assert len(video) == 5
    assert video[0].size == (48, 32)
    np.testing.assert_allclose(np.asarray(video[0]) / 255, frames[0, 0], atol=0.5 / 255 + 1e-6)


def test_the_seed_decides(pipeline: AnyRefPipeline, references: list[Reference]) -> None:
    first, again = latents_of(pipeline, references), latents_of(pipeline, references)
    assert torch.equal(first, again)
    other = pipeline(PROMPT, references, generator=seeded(8), output_type="latent").frames
    assert not torch.allclose(first, other, atol=1e-2)


@pytest.mark.parametrize("fold_padding", [True, False])
def test_equals_diffusers_image_to_video(pipeline: AnyRefPipeline, fold_padding: bool) -> None:
    """One reference of the canvas's own size: the canvas is the image, the mask is full, as in plain image-to-video."""
    image = np.random.default_rng(3).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    noise = torch.randn(1, 16, 3, 4, 6, generator=seeded())
    plain = replace(pipeline.encoders, fold_padding=False)
    config = {name: value for name, value in pipeline.transformer.config.items() if not name.startswith("_")}
    stock = WanTransformer3DModel(**config).eval()
    stock.load_state_dict(pipeline.transformer.state_dict())
    theirs = WanImageToVideoPipeline(
        pipeline.tokenizer, pipeline.text_encoder, pipeline.vae, make_scheduler("unipc", 3.0),
        image_encoder=pipeline.image_encoder, transformer=stock,
    )  # fmt: skip
    theirs.set_progress_bar_config(disable=True)
    # Their processor would crop the centre; theirs is given our context of the whole image.
    context = plain.encode_images(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1)
    theirs.encode_image = lambda *_: context
    expected = theirs(
        Image.fromarray(image),
        prompt_embeds=plain.encode_text([PROMPT]).tokens_BSD,
        negative_prompt_embeds=plain.encode_text(["blurry static"]).tokens_BSD,
        height=32, width=48, num_frames=9, num_inference_steps=3, guidance_scale=2.5, latents=noise,
    ).frames  # fmt: skip
    pipeline.fold_padding = fold_padding
    try:
        ours = pipeline(
            PROMPT,
            image,
            num_frames=9,
            num_inference_steps=3,
            latents=noise,
            keep_canvas=True,
            anchor_strength=0,
        ).frames
    finally:
        pipeline.fold_padding = True
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_no_anchor_strength_is_no_anchors(pipeline: AnyRefPipeline, references: list[Reference]) -> None:
    silent = AnyRefPipeline(**pipeline.components, method=MagrefMethod(defaults=DEFAULTS))
    silent.set_progress_bar_config(disable=True)
    with_zero = latents_of(pipeline, references, anchor_strength=0)
    assert torch.equal(with_zero, latents_of(silent, references))
    assert not torch.equal(with_zero, latents_of(pipeline, references))


def test_guidance_as_a_batch_or_as_two_passes(pipeline: AnyRefPipeline, references: list[Reference]) -> None:
    two = latents_of(pipeline, references, guidance_batch=False)
    torch.testing.assert_close(
        latents_of(pipeline, references, guidance_batch=True), two, atol=2e-5, rtol=1e-4
    )
    unguided = latents_of(pipeline, references, guidance_scale=1.0)
    assert torch.equal(unguided, latents_of(pipeline, references, guidance_scale=1.0, guidance_batch=True))
    assert not torch.allclose(unguided, two, atol=1e-3)


def test_several_videos_and_prompts(pipeline: AnyRefPipeline, references: list[Reference]) -> None:
    prompts = [PROMPT, "the cat jumps in the house at night with a hat and a dog"]
    nested = [references, [replace(references[0], label="ball")]]
    four = [seeded(n) for n in range(4)]
    with pytest.warns(UserWarning, match="is not anchored"):
        batch = pipeline(
            prompts, nested, num_videos_per_prompt=2, generator=four, output_type="latent"
        ).frames
    assert batch.shape[0] == 4
    alone = pipeline(prompts[0], references, generator=seeded(1), output_type="latent").frames
    torch.testing.assert_close(batch[1:2], alone, atol=2e-5, rtol=1e-4)
    shared = pipeline(prompts, references, generator=seeded(), output_type="latent").frames
    assert shared.shape[0] == 2


def test_embeddings_stand_in_for_prompts(pipeline: AnyRefPipeline, references: list[Reference]) -> None:
    encoders = pipeline.encoders
    positive, negative = encoders.encode_text([PROMPT]), encoders.encode_text(["blurry static"])
    given = latents_of(pipeline, references, None, prompt_embeds=positive, negative_prompt_embeds=negative)
    assert torch.equal(given, latents_of(pipeline, references, anchor_strength=0))


def test_callbacks(pipeline: AnyRefPipeline, references: list[Reference]) -> None:
    seen = []

    def look(
        pipe: AnyRefPipeline, step: int, timestep: torch.Tensor, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        seen.append((step, int(timestep), sorted(tensors)))
        assert pipe.num_timesteps == 2
        return {"latents": tensors["latents"] * 0} if step == 1 else {}

    names = ["latents", "prompt_embeds", "negative_prompt_embeds"]
    result = latents_of(
        pipeline, references, callback_on_step_end=look, callback_on_step_end_tensor_inputs=names
    )
    assert [(step, kind) for step, _, kind in seen] == [(0, sorted(names)), (1, sorted(names))]
    assert result.abs().max() == 0

    def other_words(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"prompt_embeds": torch.zeros_like(tensors["prompt_embeds"])} if step == 0 else {}

    changed = latents_of(
        pipeline, references, callback_on_step_end=other_words, callback_on_step_end_tensor_inputs=names
    )
    assert not torch.equal(changed, latents_of(pipeline, references)), (
        "the new text was used, not the cached old one"
    )


def test_a_callback_interrupts(pipeline: AnyRefPipeline, references: list[Reference]) -> None:
    steps = []

    def stop(pipe: Any, step: int, *_: Any) -> dict[str, Any]:
        steps.append(step)
        pipe._interrupt = True
        return {}

    latents_of(pipeline, references, num_inference_steps=4, callback_on_step_end=stop)
    assert steps == [0]


def test_official_is_the_release(pipeline: AnyRefPipeline, references: list[Reference]) -> None:
    timesteps: list[int] = []

    def note(_: Any, __: int, timestep: torch.Tensor, ___: Any) -> dict[str, Any]:
        timesteps.append(int(timestep))
        return {}

    small = {
        "height": 32,
        "width": 48,
        "num_frames": 5,
        "output_type": "latent",
        "callback_on_step_end": note,
    }
    first = pipeline(PROMPT, references, official=True, **small).frames
    assert timesteps[:3] == [999, 991, 982]
    assert len(timesteps) == 40
    seeded_by_hand = pipeline(PROMPT, references, official=True, generator=seeded(3407), **small).frames
    assert torch.equal(first, seeded_by_hand)


def test_sampling_arguments(pipeline: AnyRefPipeline, references: list[Reference]) -> None:
    usual = latents_of(pipeline, references)
    assert torch.equal(usual, latents_of(pipeline, references, shift=3.0, solver="unipc"))
    for changed in ({"shift": 5.0}, {"solver": "euler"}, {"solver": "dpm++"}, {"sigmas": [1.0, 0.3]}):
        assert not torch.allclose(usual, latents_of(pipeline, references, **changed), atol=1e-4), changed
    assert latents_of(pipeline, references, sigmas=[0.9, 0.5, 0.2]).isfinite().all()


def test_no_references_is_the_backbone_on_a_blank_frame(pipeline: AnyRefPipeline) -> None:
    assert torch.equal(latents_of(pipeline, None), latents_of(pipeline, []))
    assert latents_of(pipeline, None).isfinite().all()


def test_shuffle_comes_from_the_generator(pipeline: AnyRefPipeline, references: list[Reference]) -> None:
    runs = [
        pipeline(PROMPT, references, generator=seeded(n), shuffle=True, output_type="latent").frames
        for n in range(4)
    ]
    in_order = [
        pipeline(PROMPT, references, generator=seeded(n), output_type="latent").frames for n in range(4)
    ]
    same = [torch.equal(run, plain) for run, plain in zip(runs, in_order, strict=True)]
    assert set(same) == {True, False}, "the same noise, sometimes another order"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": ""}, "say in words"),
        ({"prompt": ["a dog", " "]}, "say in words"),
        ({"prompt": None}, "either prompt or prompt_embeds"),
        ({"height": 50}, "height is 50; it must be a multiple of 16"),
        ({"width": 0}, "width is 0"),
        ({"num_frames": 16}, "must be 4k"),
        ({"num_frames": -3}, "num_frames is -3"),
        ({"height": 16000, "width": 16000, "num_frames": 401}, "tokens"),
        ({"num_inference_steps": 0}, "positive"),
        ({"num_inference_steps": 5000}, "between 1 and 1000"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"num_videos_per_prompt": 0}, "num_videos_per_prompt is 0"),
        ({"reference_images": ["nowhere.png"]}, "does not exist"),
        ({"reference_images": [[], []]}, "2 lists for 1 prompts"),
        ({"reference_images": [3]}, "a reference is a int"),
        ({"negative_prompt": ["a", "b"]}, "2 negative prompts"),
        ({"output_type": "gif"}, "output_type"),
        ({"solver": "heun"}, "solver is 'heun'"),
        ({"shift": -1.0}, "positive"),
        ({"sigmas": [0.2, 0.9]}, "must fall"),
        ({"anchor_strength": -1.0}, "anchor_strength"),
        ({"settings": {"anchor_strength": -1.0}}, "anchor_strength"),
        ({"settings": {"positions": "concat"}}, "magref' has no setting 'positions'"),
        ({"settings": {"positions": None}}, "magref' has no setting 'positions'"),
        ({"reference_guidance_scale": float("nan")}, "reference_guidance_scale"),
        ({"latents": torch.zeros(1, 16, 2, 4, 6)}, "latents have the shape"),
        ({"generator": [torch.Generator(), torch.Generator()]}, "2 generators for 1 videos"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "noise"),
    ],
)
def test_mistakes_are_one_sentence_before_any_work(
    pipeline: AnyRefPipeline, arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Encoders, "encode_video", lambda *_: pytest.fail("work was done"))
    monkeypatch.setattr(Encoders, "encode_text", lambda *_: pytest.fail("work was done"))
    with pytest.raises(ValueError, match=message) as error:
        pipeline(**{"prompt": PROMPT, "output_type": "latent", **arguments})
    assert "\n" not in str(error.value)


def test_too_many_references_and_foreign_phrases(
    pipeline: AnyRefPipeline, references: list[Reference]
) -> None:
    with pytest.raises(ValueError, match="9 references were given; MAGREF takes at most 8"):
        pipeline(PROMPT, references[:1] * 9)
    with pytest.raises(ValueError, match="the phrase 'blue cat' of reference 'dog' is not in the prompt"):
        pipeline(PROMPT, [replace(references[0], phrase="blue cat")])


def build(method: Any, in_channels: int = 36, image_encoder: bool = True) -> AnyRefPipeline:
    return AnyRefPipeline(
        make_tokenizer(),
        make_text_encoder(),
        make_vae(),
        make_transformer(in_channels),
        make_scheduler("unipc", 3.0),
        make_image_encoder() if image_encoder else None,
        method,
    )


def test_parts_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="needs a method"):
        build(None)
    with pytest.raises(ValueError, match="takes 16 channels and magref gives 36"):
        build("magref", in_channels=16)
    with pytest.raises(ValueError, match="give the model an image_encoder"):
        build("magref", image_encoder=False)
    with pytest.raises(ValueError, match="the method 'sora' is unknown"):
        build("sora")


def test_save_and_load(pipeline: AnyRefPipeline, references: list[Reference], tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    loaded = AnyRefPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.method == pipeline.method
    torch.testing.assert_close(
        latents_of(loaded, references), latents_of(pipeline, references), atol=1e-5, rtol=1e-5
    )
    half = AnyRefPipeline.from_pretrained(str(tmp_path), dtype=torch.bfloat16, vae=pipeline.vae)
    assert half.transformer.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
    assert half.image_encoder.dtype == torch.float32
    assert half.vae is pipeline.vae
    half.set_progress_bar_config(disable=True)
    close = latents_of(half, references)
    assert close.dtype == torch.float32
    torch.testing.assert_close(close, latents_of(pipeline, references), atol=0.2, rtol=0.2)
    with pytest.raises(ValueError, match="checkpoint of 'magref', not of 'saber'"):
        AnyRefPipeline.from_pretrained(tmp_path, method="saber")


def test_a_matter_reaches_the_encoders_and_the_disk(pipeline: AnyRefPipeline, tmp_path: Path) -> None:
    matter = Segmenter(build_segmenter().eval())
    own = AnyRefPipeline(**pipeline.components, method=pipeline.method, matter=matter)
    assert own.encoders.matter is matter
    assert pipeline.encoders.matter is None
    own.save_pretrained(tmp_path)
    loaded = AnyRefPipeline.from_pretrained(tmp_path)
    assert isinstance(loaded.encoders.matter, Segmenter)
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(loaded.encoders.matter.cut(image), matter.cut(image))
    assert AnyRefPipeline.from_pretrained(tmp_path, matter=matter).encoders.matter is matter


def test_settings_for_one_call(pipeline: AnyRefPipeline, references: list[Reference]) -> None:
    by_name = latents_of(pipeline, references, settings={"anchor_strength": 0.0})
    assert torch.equal(by_name, latents_of(pipeline, references, anchor_strength=0.0))
    assert not torch.equal(by_name, latents_of(pipeline, references))
    assert pipeline.method.anchor_strength == 0.5, "for this call only"


def test_a_setting_that_asks_for_another_transformer() -> None:
    pipe = build("kaleido", in_channels=16, image_encoder=False)
    with pytest.raises(ValueError, match="takes 16 channels and kaleido gives 36"):
        pipe(PROMPT, None, settings={"positions": "channel-concat"})


def test_the_scheduler_on_disk_is_kept(pipeline: AnyRefPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    FlowMatchEulerDiscreteScheduler(shift=4.0).save_pretrained(tmp_path / "scheduler")
    loaded = AnyRefPipeline.from_pretrained(tmp_path)
    assert isinstance(loaded.scheduler, FlowMatchEulerDiscreteScheduler)
    assert loaded.scheduler.shift == 4.0


def test_a_backbones_scheduler_is_not_the_methods(pipeline: AnyRefPipeline, tmp_path: Path) -> None:
    """A folder of Wan's has UniPC at its own shift; a method that is asked for by name is sampled as it was published."""
    pipeline.save_pretrained(tmp_path)
    (tmp_path / "anyref.json").unlink()
    FlowMatchEulerDiscreteScheduler(shift=4.0).save_pretrained(tmp_path / "scheduler")
    loaded = AnyRefPipeline.from_pretrained(tmp_path, method="magref")
    assert isinstance(loaded.scheduler, diffusers.UniPCMultistepScheduler)
    assert loaded.scheduler.config.flow_shift == loaded.method.defaults.shift


def test_official_with_its_canvas_is_all_that_the_release_samples() -> None:
    pipe = build("magref")
    small = {"height": 32, "width": 48, "num_inference_steps": 1, "output_type": "latent"}
    shapes = [
        pipe(PROMPT, None, official=True, keep_canvas=keep, **small).frames.shape[2] for keep in (False, True)
    ]
    assert shapes == [21, 21], "81 frames either way"


def test_models_that_share_their_parts(
    pipeline: AnyRefPipeline, tmp_path: Path, make_family: Callable[[Path, Any], Path]
) -> None:
    folder = make_family(tmp_path, pipeline)
    loaded = AnyRefPipeline.from_pretrained(folder)
    assert loaded.method.defaults.height == 64
    assert loaded.method.defaults.num_inference_steps == 25
    assert loaded.method.anchor_strength == 0.25
    assert loaded.scheduler.config.flow_shift == 3.0
    assert isinstance(loaded.scheduler, diffusers.UniPCMultistepScheduler)
    assert read_folder(folder).part("vae") == folder / "../shared/vae"


def test_wrong_models(tmp_path: Path, pipeline: AnyRefPipeline) -> None:
    with pytest.raises(ValueError, match="the model 'puppets/nothing' is not there"):
        resolve_model("puppets/nothing")
    with pytest.raises(ValueError, match="is not there; give a folder"):
        AnyRefPipeline.from_pretrained("no such model")
    with pytest.raises(ValueError, match=r"has no anyref.json that names its method"):
        AnyRefPipeline.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has no folder 'transformer'"):
        AnyRefPipeline.from_pretrained(tmp_path, method="magref")
    (tmp_path / "anyref.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        AnyRefPipeline.from_pretrained(tmp_path)
    (tmp_path / "anyref.json").write_text('{"method": "magref", "colour": 3}')
    with pytest.raises(ValueError, match="has no setting 'colour'"):
        AnyRefPipeline.from_pretrained(tmp_path)
    pipeline.save_pretrained(tmp_path)
    weights = tmp_path / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be loaded") as error:
        AnyRefPipeline.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)
    assert resolve_model("owner/model") == "owner/model"


def test_embedded_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "family" / "weights" / "magref"
    folder.mkdir(parents=True)
    (folder / "anyref.json").write_text("{}")
    (tmp_path / "family" / "__init__.py").touch()
    monkeypatch.setattr("anyref.methods.folder._PACKAGE", tmp_path)
    assert resolve_model("family/magref") == str(folder)
    assert resolve_model(folder) == str(folder)
    with pytest.raises(ValueError, match=r"embedded one \(family/magref\)"):
        resolve_model("family/sora")


def test_a_hub_id_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr("anyref.methods.folder.snapshot_download", offline)
    with pytest.raises(ValueError, match="the model 'owner/model' could not be downloaded"):
        AnyRefPipeline.from_pretrained("owner/model", method="magref")


def test_lora(pipeline: AnyRefPipeline, references: list[Reference], tmp_path: Path) -> None:
    usual = latents_of(pipeline, references)
    pipeline.transformer.add_adapter(
        LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
    )
    layers = get_peft_model_state_dict(pipeline.transformer)
    AnyRefPipeline.save_lora_weights(tmp_path, transformer_lora_layers=layers)
    pipeline.unload_lora_weights()
    pipeline.load_lora_weights(tmp_path, weight_name="pytorch_lora_weights.safetensors")
    try:
        adapted = latents_of(pipeline, references)
        assert not torch.allclose(adapted, usual, atol=1e-4)
        muted = latents_of(pipeline, references, attention_kwargs={"scale": 0.0})
        torch.testing.assert_close(muted, usual, atol=1e-5, rtol=1e-5)
    finally:
        pipeline.unload_lora_weights()
    assert torch.equal(latents_of(pipeline, references), usual)


def test_public_names() -> None:
    assert set(anyref.__all__) == set(dir(anyref))
    for name in anyref.__all__:
        assert getattr(anyref, name) is not None
    assert anyref.AnyRefPipeline is AnyRefPipeline
    with pytest.raises(AttributeError):
        _ = anyref.NoSuchName
