"""A model folder of the real classes with random weights, small enough to sample in a second."""

import json
from pathlib import Path
from typing import Any

import torch
from conftest import make_image_encoder, make_text_encoder, make_tokenizer, make_transformer, make_vae

from anyref.transformer import AnyRefTransformer

SAMPLING = {
    "height": 32,
    "width": 48,
    "num_frames": 5,
    "num_inference_steps": 2,
    "shift": 3.0,
    "guidance_scale": 2.0,
    "fps": 8,
    "negative_prompt": "",
    "sigmas": "linear",
}
SETTINGS: dict[str, dict[str, Any]] = {"magref": {"anchor_strength": 0.5}, "kaleido": {}, "saber": {}}


def make_parts(method: str = "magref") -> dict[str, Any]:
    """The components of a model of this method, by their folders' names; random, but the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        parts: dict[str, Any] = {
            "vae": make_vae(),
            "text_encoder": make_text_encoder(),
            "tokenizer": make_tokenizer(),
        }
        if method == "magref":
            parts["image_encoder"] = make_image_encoder()
            parts["transformer"] = make_transformer()
        else:
            parts["transformer"] = make_transformer(in_channels=16)
        if method == "saber":  # a text-to-video backbone with wider patches
            parts["transformer"] = AnyRefTransformer.from_config(
                {**parts["transformer"].config, "in_channels": 36}
            ).eval()
    return parts


def write_tiny_model(folder: Path, method: str = "magref") -> Path:
    """Write it and return its folder."""
    for name, part in make_parts(method).items():
        part.save_pretrained(folder / name)
    record = {"method": method, **SETTINGS[method], "defaults": SAMPLING}
    (folder / "anyref.json").write_text(json.dumps(record))
    return folder
