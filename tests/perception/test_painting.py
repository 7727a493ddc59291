"""Inpainters leave what is outside the hole, variers draw at the asked size, seeds repeat: tiny pipelines of the real classes."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxFillPipeline,
    FluxPipeline,
    FluxPriorReduxPipeline,
    FluxTransformer2DModel,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from PIL import Image
from tiny_perception import CARD, clip_tokenizer, picture
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from anyref.perception import Inpainter, Varier
from anyref.perception.catalogue import open_model
from anyref.perception.inpainting import DiffusionInpainter, Painting, fitting
from anyref.perception.variation import Drawing, KontextVarier, QwenEditVarier, ReduxVarier


def hole(height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[height // 4 : height // 2, width // 4 : width // 2] = True
    return mask


def tokenizer() -> Any:
    made = clip_tokenizer()
    made.model_max_length = 77
    return made


def text_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=1000,
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=32,
    )


def vae(latents: int, widths: tuple[int, ...]) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=["DownEncoderBlock2D"] * len(widths),
        up_block_types=["UpDecoderBlock2D"] * len(widths),
        latent_channels=latents,
        norm_num_groups=1,
        layers_per_block=1,
        shift_factor=0.06,
    )


def flux_transformer(channels: int, out: int) -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=channels,
        out_channels=out,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
    )


def flux_words() -> dict[str, Any]:
    torch.manual_seed(0)
    t5 = T5Config(vocab_size=1000, d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4)
    return {
        "text_encoder": CLIPTextModel(text_config()).eval(),
        "tokenizer": tokenizer(),
        "text_encoder_2": T5EncoderModel(t5).eval(),
        "tokenizer_2": tokenizer(),
    }


def check_inpainter(inpainter: Any) -> None:
    assert isinstance(inpainter, Inpainter)
    one, mask = picture(50, 70), hole(50, 70)
    filled = inpainter.inpaint(one, mask, "a red cat", seed=3)
    assert filled.shape == one.shape and filled.dtype == np.uint8
    assert np.array_equal(filled[~mask], one[~mask]) and (filled[mask] != one[mask]).any()
    assert np.array_equal(inpainter.inpaint(one, mask, "a red cat", seed=3), filled)
    assert np.array_equal(inpainter.inpaint(one, np.zeros_like(mask), "", seed=0), one)
    with pytest.raises(ValueError, match="the hole"):
        inpainter.inpaint(one, mask.T, "", seed=0)


def test_telea() -> None:
    pytest.importorskip("cv2")
    inpainter = open_model("inpainter", "telea")
    check_inpainter(inpainter)
    grass = np.full((40, 40, 3), (20, 120, 30), np.uint8)
    dirty = grass.copy()
    dirty[hole(40, 40)] = 255
    assert isinstance(inpainter, Inpainter)
    filled = inpainter.inpaint(dirty, hole(40, 40), "", 0)
    assert np.abs(filled.astype(int) - grass).max() <= 2


def test_sdxl() -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=32,
        in_channels=9,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 1),
        projection_class_embeddings_input_dim=6 * 8 + 32,
        cross_attention_dim=64,
    )
    pipeline = StableDiffusionXLInpaintPipeline(
        vae=vae(4, (32, 64)),
        text_encoder=CLIPTextModel(text_config()),
        text_encoder_2=CLIPTextModelWithProjection(text_config()),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=unet,
        scheduler=EulerDiscreteScheduler(steps_offset=1, timestep_spacing="leading"),
    )
    check_inpainter(DiffusionInpainter(pipeline, Painting(side=64, steps=2), CARD))


def test_flux_fill() -> None:
    pipeline = FluxFillPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(2, (4,)),
        transformer=flux_transformer(20, 8),
        **flux_words(),
    )
    check_inpainter(
        DiffusionInpainter(pipeline, Painting(side=32, steps=2, guidance=30.0, strength=1.0), CARD)
    )


def test_redux() -> None:
    words = flux_words()
    seen = SiglipVisionConfig(
        image_size=16,
        patch_size=8,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    prior = FluxPriorReduxPipeline(
        image_encoder=SiglipVisionModel(seen).eval(),
        feature_extractor=SiglipImageProcessorPil(size={"height": 16, "width": 16}),
        image_embedder=ReduxImageEncoder(redux_dim=32, txt_in_features=32),
        **words,
    )
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(1, (4,)),
        transformer=flux_transformer(4, 4),
        **words,
    )
    varier = ReduxVarier(prior, pipeline, Drawing(side=32, steps=2), CARD)
    assert isinstance(varier, Varier)
    one = picture(40, 80)
    drawn = varier.vary(one, "a cat on grass", seed=1)
    assert drawn.shape == (16, 32, 3) and drawn.dtype == np.uint8
    assert np.array_equal(varier.vary(one, "a cat on grass", seed=1), drawn)
    assert not np.array_equal(varier.vary(one, "a cat on grass", seed=2), drawn)
    assert not np.array_equal(
        varier.vary(255 - one, "a cat on grass", seed=1), drawn
    )  # it looks at the picture


class Pipeline:
    """Remembers how it was called."""

    def set_progress_bar_config(self, disable: bool) -> None:
        assert disable

    def __call__(self, **asked: Any) -> SimpleNamespace:
        self.asked = asked
        return SimpleNamespace(images=[Image.new("RGB", (asked["width"], asked["height"]))])


def test_editors_ask_by_their_own_names() -> None:
    kontext, qwen = Pipeline(), Pipeline()
    for varier in (
        KontextVarier(kontext, Drawing(side=64), CARD),
        QwenEditVarier(qwen, Drawing(side=64), CARD),
    ):
        assert isinstance(varier, Varier)
        assert varier.vary(picture(40, 80), "from above", 5).shape == (32, 64, 3)
    assert kontext.asked["guidance_scale"] == 2.5 and kontext.asked["max_area"] == 32 * 64
    assert qwen.asked["true_cfg_scale"] == 2.5 and qwen.asked["negative_prompt"] == " "
    assert kontext.asked["generator"].initial_seed() == 5


def test_sides_fit_the_grid() -> None:
    assert fitting(picture(480, 832), 1024) == (1024, 592)
    assert fitting(picture(2, 900), 64) == (64, 16)
