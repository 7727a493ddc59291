"""Configurations of the embedded models: the real classes at toy size, and where they lie on disk.

Wan2.1's parts are AutoencoderKLWan, a UMT5 encoder, CLIP's image tower and the transformer; these are the same classes, 100 to 1,000 times
smaller, saved as ordinary diffusers folders. `weights/shared` holds the first three, `weights/<name>/transformer` the rest.
"""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

from anyref.transformer import AnyRefTransformer

WEIGHTS = Path(__file__).parent / "weights"
HEIGHT, WIDTH, NUM_FRAMES, FPS = 64, 96, 17, 8
TEXT_WIDTH, IMAGE_WIDTH, MODEL_WIDTH, HEAD_WIDTH = 128, 128, 256, 32


def build_autoencoder() -> AutoencoderKLWan:
    """Wan's autoencoder (z 16, strides 4 x 8 x 8) with the residual shortcuts of Wan2.2: it learns far faster with them."""
    return AutoencoderKLWan(
        base_dim=32,
        decoder_base_dim=32,
        z_dim=16,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.0] * 16,
        latents_std=[1.0] * 16,
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_temporal=4,
        scale_factor_spatial=8,
    )


def build_tokenizer(captions: list[str], size: int = 1024) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer learned from captions; every text has tokens, and each word of the captions is about one."""
    core = Tokenizer(BPE(unk_token=None))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(captions, trainer)
    core.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)]),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="</s>", model_max_length=512, padding_side="right"
    )


def build_text_encoder(tokenizer: PreTrainedTokenizerFast) -> UMT5EncoderModel:
    """A UMT5 encoder of 3 layers."""
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(tokenizer),
            d_model=TEXT_WIDTH,
            d_kv=32,
            d_ff=256,
            num_layers=3,
            num_heads=4,
            relative_attention_num_buckets=16,
            relative_attention_max_distance=32,
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
        )
    )


def build_image_encoder() -> CLIPVisionModel:
    """CLIP's image tower for 64 x 64 pictures: 65 tokens."""
    return CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=IMAGE_WIDTH,
            intermediate_size=2 * IMAGE_WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=64,
            patch_size=8,
            projection_dim=IMAGE_WIDTH,
            hidden_act="gelu",
        )
    )


def build_transformer(
    *, image_to_video: bool, width: int = MODEL_WIDTH, layers: int = 8
) -> AnyRefTransformer:
    """The T2V (16 input channels) or I2V (36 and CLIP features) transformer."""
    return AnyRefTransformer(
        patch_size=(1, 2, 2),
        num_attention_heads=width // HEAD_WIDTH,
        attention_head_dim=HEAD_WIDTH,
        in_channels=36 if image_to_video else 16,
        out_channels=16,
        text_dim=TEXT_WIDTH,
        freq_dim=256,
        ffn_dim=4 * width,
        num_layers=layers,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        eps=1e-6,
        image_dim=IMAGE_WIDTH if image_to_video else None,
        added_kv_proj_dim=width if image_to_video else None,
        rope_max_seq_len=256,
    )


def initialise(model: torch.nn.Module, seed: int) -> None:
    """Wan's initialisation: Xavier for linear layers, zeros for biases and for the output projection; seeded."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):  # gains of the autoencoder's norms, shaped [dim, 1, 1, 1]
                parameter.fill_(1.0)
            elif name.endswith("scale_shift_table"):
                parameter.normal_(0.0, parameter.shape[-1] ** -0.5, generator=generator)
            elif parameter.ndim >= 2:
                fan_out, fan_in = parameter.shape[0], parameter[0].numel()
                bound = (6.0 / (fan_in + fan_out)) ** 0.5
                parameter.uniform_(-bound, bound, generator=generator)
                if parameter.ndim == 5 and parameter.shape[2] > 1 and parameter.shape[3] > 1:
                    # The autoencoder begins as one of pictures: only the tap of the frame itself is not 0.
                    parameter[:, :, -1] *= parameter.shape[2] ** 0.5
                    parameter[:, :, :-1] = 0.0
            elif name.endswith("bias"):
                parameter.zero_()
        output = getattr(model, "proj_out", None)
        if output is not None:
            output.weight.zero_()


def write_model_folder(folder: Path, defaults: dict[str, object], **settings: object) -> None:
    """Write `anyref.json`: sampling defaults, where the shared parts lie, and the method with its settings.

    A backbone names no method: it is loaded as one of any method that its channels fit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = {"shared": "../shared", **settings, "defaults": defaults}
    (folder / "anyref.json").write_text(json.dumps(record, indent=1) + "\n")
