"""What is embedded: small enough, complete, without paths of the machine it was made on, and it samples."""

import re

import numpy as np
import pytest
import torch

from anyref.methods.folder import embedded_models
from anyref.pipeline import AnyRefPipeline
from anyref.puppets import identity
from anyref.puppets.models import WEIGHTS
from anyref.worlds import PuppetWorld

pytestmark = pytest.mark.skipif(
    not (WEIGHTS / "magref").is_dir(), reason="no embedded weights in this checkout"
)
MAX_BYTES = 80_000_000


def test_all_weights_together_are_small() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) <= MAX_BYTES


def test_every_model_has_a_card_and_no_absolute_paths() -> None:
    for folder in (WEIGHTS / "shared", *embedded_models().values()):
        assert "## Training" in (folder / "README.md").read_text(encoding="utf-8")
    for path in [*WEIGHTS.rglob("*.json"), *WEIGHTS.rglob("*.md")]:
        if path.name not in {"tokenizer.json", "tokenizer_config.json"}:
            assert not re.search(r'"/\w', path.read_text(encoding="utf-8")), path


def test_every_embedded_model_samples_what_it_says() -> None:
    for name in embedded_models():
        pipeline = AnyRefPipeline.from_pretrained(name)
        pipeline.set_progress_bar_config(disable=True)
        defaults = pipeline.method.defaults
        video = pipeline(
            "a dog walks on a beach.", num_inference_steps=1, generator=torch.Generator().manual_seed(0)
        ).frames[0]
        assert video.shape == (defaults.num_frames, defaults.height, defaults.width, 3)
        assert np.isfinite(video).all()


def test_autoencoder_reconstructs_unseen_identities() -> None:
    # Far below what it scores (docs/log.md): this catches broken or mismatched weights, not a worse training.
    pipeline = AnyRefPipeline.from_pretrained("puppets/magref")
    frames = PuppetWorld("test").clip(0).frames_FYX3
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    encoders = pipeline.encoders
    error = ((encoders.decode_latents(encoders.encode_video(video)) - video) / 2).square().mean()
    assert -10 * torch.log10(error) > 20


def test_the_judge_loads() -> None:
    judge = identity.load(WEIGHTS / "identity.safetensors")
    vectors = judge(torch.zeros(2, 3, identity.SIZE, identity.SIZE))
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2), atol=1e-5)
