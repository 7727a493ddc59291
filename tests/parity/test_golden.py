"""The recorded outputs of the public reference implementations, through both ways into the transformer."""

from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors.torch import load_file
from torch import Tensor

from anyref.conditioning import Conditioning, assemble
from anyref.latents import TextContext, grid_positions, patchify
from anyref.transformer import AnyRefTransformer

GOLDEN = Path(__file__).parents[2] / ".." / "shared" / "golden"


def load(name: str) -> dict[str, Tensor]:
    path = GOLDEN / f"{name}.safetensors"
    if not path.exists():
        pytest.skip(f"golden values are not here ({path})")
    return load_file(path)


def build(record: dict[str, Tensor], **config: object) -> AnyRefTransformer:
    original = {
        name.removeprefix("weights."): tensor.float()
        for name, tensor in record.items()
        if name.startswith("weights.")
    }
    model = AnyRefTransformer(num_layers=2, **config)
    model.load_state_dict(convert_wan_transformer_to_diffusers(original), strict=True)
    return model.eval().requires_grad_(False)


TINY = {"num_attention_heads": 4, "attention_head_dim": 24, "text_dim": 48, "freq_dim": 64, "ffn_dim": 192}


def test_wan_i2v_through_both_paths() -> None:
    record = load("wan_i2v_tiny_seed1")
    model = build(record, in_channels=36, image_dim=1280, added_kv_proj_dim=96, **TINY)
    latents, channels, timestep = (record[f"inputs.{name}"] for name in ("latents", "condition", "timestep"))
    text, image = record["inputs.text_embeds"], record["inputs.image_embeds"]

    plain = model(torch.cat([latents, channels], dim=1), timestep, text, image).sample
    conditioning = Conditioning(channels_BCTHW=channels, context_BSD=image)
    sequence = assemble(latents, timestep, conditioning)
    ours = model(sequence, encoder_hidden_states=TextContext(text)).sample

    assert (plain - record["outputs.velocity"]).abs().max() < 2e-5
    assert torch.equal(ours, plain)


def test_wan_t2v_through_both_paths() -> None:
    record = load("wan_t2v_tiny_seed3")
    model = build(record, **TINY)
    latents, timestep, text = (record[f"inputs.{name}"] for name in ("latents", "timestep", "text_embeds"))

    plain = model(latents, timestep, text).sample
    ours = model(assemble(latents, timestep, Conditioning()), encoder_hidden_states=TextContext(text)).sample

    assert (plain - record["outputs.velocity"]).abs().max() < 2e-5
    assert torch.equal(ours, plain)


@pytest.mark.parametrize(
    ("case", "count", "offset"),
    [
        ("shipped_n1", 1, (0, 80, 80)),
        ("shipped_n3", 3, (0, 80, 80)),
        ("concat_baseline", 3, (3, 0, 0)),
        ("shift_w", 3, (0, 0, 80)),
    ],
)
def test_kaleido_positions(case: str, count: int, offset: tuple[int, int, int]) -> None:
    record = load("kaleido_rrope")
    model = build(record, num_attention_heads=2, attention_head_dim=128, text_dim=64, ffn_dim=384)
    video, references = record["inputs.x"].transpose(1, 2), record["inputs.refs"]
    patches = [patchify(references[:, index, :, None]) for index in range(count)]
    places = [grid_positions((1, 6, 8)) + torch.tensor([offset[0] + i, *offset[1:]]) for i in range(count)]
    conditioning = Conditioning(
        tokens_BLP=torch.cat(patches, dim=1), positions_BL3=torch.cat(places, dim=0)[None]
    )

    sequence = assemble(video, record["inputs.t"], conditioning)
    velocity = model(sequence, encoder_hidden_states=record["inputs.ctx"]).sample

    expected = record[f"velocity_{case}"].transpose(1, 2)
    assert (velocity - expected).norm() / expected.norm() < 1e-5
