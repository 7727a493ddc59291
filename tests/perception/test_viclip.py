"""The port of ViCLIP: its text tower is CLIP's, its video tower with one frame is CLIP's too; indices as VBench samples them."""

import numpy as np
import pytest
import torch
from tiny_perception import CARD, clip_tokenizer, picture
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from anyref.perception.viclip import (
    TextTower,
    ViClip,
    ViClipEncoder,
    VideoTextEncoder,
    VideoTower,
    middle_indices,
)

WORDS = len(clip_tokenizer())


def tiny(num_frames: int = 8) -> ViClip:
    torch.manual_seed(0)
    video = VideoTower(size=28, patch=14, width=64, layers=2, out=24, num_frames=num_frames)
    return ViClip(video, TextTower(vocabulary=WORDS, width=64, layers=2, out=24))


def copy_blocks(blocks: nn.ModuleList, layers: nn.ModuleList) -> None:
    """Our blocks' weights into transformers' layers."""
    for block, layer in zip(blocks, layers, strict=True):
        attention, theirs = block.attn, layer.self_attn
        for part, weight, bias in zip(
            (theirs.q_proj, theirs.k_proj, theirs.v_proj),
            attention.in_proj_weight.chunk(3),
            attention.in_proj_bias.chunk(3),
            strict=True,
        ):
            part.weight.data, part.bias.data = weight.data, bias.data
        theirs.out_proj.load_state_dict(attention.out_proj.state_dict())
        layer.layer_norm1.load_state_dict(block.ln_1.state_dict())
        layer.layer_norm2.load_state_dict(block.ln_2.state_dict())
        layer.mlp.fc1.load_state_dict(block.mlp.c_fc.state_dict())
        layer.mlp.fc2.load_state_dict(block.mlp.c_proj.state_dict())


def test_the_text_tower_is_clips() -> None:
    tower = tiny().text_encoder.eval()
    shape = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 1}
    config = CLIPTextConfig(
        vocab_size=WORDS,
        max_position_embeddings=32,
        projection_dim=24,
        eos_token_id=WORDS - 1,
        hidden_act="quick_gelu",
        **shape,
    )
    clip = CLIPTextModelWithProjection(config).eval()
    body = clip.text_model
    body.embeddings.token_embedding.weight.data = tower.token_embedding.weight.data
    body.embeddings.position_embedding.weight.data = tower.positional_embedding.data
    copy_blocks(tower.transformer.resblocks, body.encoder.layers)
    body.final_layer_norm.load_state_dict(tower.ln_final.state_dict())
    clip.text_projection.weight.data = tower.text_projection.data.T
    tokens = torch.zeros(1, 32, dtype=torch.long)
    tokens[0, :5] = torch.tensor([WORDS - 2, 3, 4, 5, WORDS - 1])
    assert tower(tokens).detach().numpy() == pytest.approx(
        clip(input_ids=tokens).text_embeds.detach().numpy(), abs=1e-5
    )


def test_the_video_tower_with_one_frame_is_clips() -> None:
    tower = tiny(num_frames=1).vision_encoder.eval()
    shape = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 1}
    clip = CLIPVisionModelWithProjection(
        CLIPVisionConfig(image_size=28, patch_size=14, projection_dim=24, hidden_act="quick_gelu", **shape)
    ).eval()
    body = clip.vision_model
    body.embeddings.class_embedding.data = tower.class_embedding.data
    body.embeddings.patch_embedding.weight.data = tower.conv1.weight.data[:, :, 0]
    body.embeddings.position_embedding.weight.data = tower.positional_embedding.data
    copy_blocks(tower.transformer.resblocks, body.encoder.layers)
    body.pre_layrnorm.load_state_dict(tower.ln_pre.state_dict())
    body.post_layernorm.load_state_dict(tower.ln_post.state_dict())
    clip.visual_projection.weight.data = tower.proj.data.T
    pixels = torch.randn(2, 3, 28, 28)
    ours = tower(pixels[:, :, None]).detach().numpy()
    assert ours == pytest.approx(clip(pixel_values=pixels).image_embeds.detach().numpy(), abs=1e-5)


def test_time_matters_only_through_its_embedding() -> None:
    tower = tiny().vision_encoder.eval()
    frames = torch.randn(1, 3, 8, 28, 28)
    assert torch.allclose(tower(frames), tower(frames.flip(2)), atol=1e-5)  # released start: zeros
    nn.init.normal_(tower.temporal_positional_embedding)
    assert not torch.allclose(tower(frames), tower(frames.flip(2)), atol=1e-3)


def test_weights_load_under_any_prefix_and_strictly() -> None:
    state: dict[str, Tensor] = {f"viclip.{name}": value for name, value in tiny().state_dict().items()}
    tiny().load_released({**state, "viclip.temp": torch.ones(())})
    state.popitem()
    with pytest.raises(RuntimeError, match="Missing"):
        tiny().load_released(state)


def test_the_encoder_gives_unit_vectors_and_reads_32_tokens() -> None:
    encoder = ViClipEncoder(tiny(), clip_tokenizer(), CARD)
    assert isinstance(encoder, VideoTextEncoder)
    frames = [picture(40, 60, n) for n in range(8)]
    video = encoder.encode_video(frames)
    assert video.shape == (24,) and np.linalg.norm(video) == pytest.approx(1)
    long = "a red cat on grass " * 10
    texts = encoder.encode_text([long, long + "dog", "dog"])
    assert np.array_equal(texts[0], texts[1]) and not np.allclose(texts[0], texts[2])
    with pytest.raises(ValueError, match="looks at 8"):
        encoder.encode_video(frames[:3])


def test_indices_are_the_middles() -> None:
    # By hand from VBench: edges int(linspace(0, 81, 9)) = 0 10 20 30 40 50 60 70 81.
    assert middle_indices(81) == [4, 14, 24, 34, 44, 54, 64, 75]
    assert middle_indices(16) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert middle_indices(3) == [0, 1, 2, 2, 2, 2, 2, 2]
    with pytest.raises(ValueError, match="no frames"):
        middle_indices(0)
