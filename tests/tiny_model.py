"""A model folder of the real classes with random weights, small enough to sample in a second."""

import json
from pathlib import Path

import torch
from conftest import make_image_encoder, make_text_encoder, make_tokenizer, make_transformer, make_vae

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


def write_tiny_model(folder: Path) -> Path:
    """Write it and return its folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        parts = {
            "vae": make_vae(),
            "text_encoder": make_text_encoder(),
            "tokenizer": make_tokenizer(),
            "image_encoder": make_image_encoder(),
            "transformer": make_transformer(),
        }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    record = {"method": "magref", "anchor_strength": 0.5, "defaults": SAMPLING}
    (folder / "anyref.json").write_text(json.dumps(record))
    return folder
