"""The recipe: every stage runs, stops, goes on, and leaves folders that load; the widened transformer begins as the narrow one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from anyref.backbone import load_backbone
from anyref.conditioning import Conditioning, assemble
from anyref.latents import TextContext
from anyref.matting import Segmenter
from anyref.methods import make_method
from anyref.pipeline import AnyRefPipeline
from anyref.puppets import STAGES, models
from anyref.puppets.budgets import BUDGETS
from anyref.puppets.plan import Recipe, record_of_stage
from anyref.puppets.recipe import _begin, run
from anyref.puppets.tuning import widen
from anyref.references import Reference


def test_every_budget_has_every_stage() -> None:
    assert all(set(budget.parts) == set(STAGES) for budget in BUDGETS.values())
    assert all(
        phase.until < 1
        for budget in BUDGETS.values()
        for part in budget.parts.values()
        for phase in part.phases
    )


def test_widened_transformer_begins_as_the_narrow_one() -> None:
    narrow, wide = (
        models.build_transformer(image_to_video=False),
        models.build_transformer(image_to_video=True),
    )
    models.initialise(narrow, 0)
    models.initialise(wide, 1)
    torch.nn.init.normal_(narrow.proj_out.weight, std=0.02)
    widen(narrow, wide)
    noisy, text = torch.randn(1, 16, 2, 4, 4), TextContext(torch.randn(1, 5, models.TEXT_WIDTH))
    canvas = Conditioning(
        channels_BCTHW=torch.randn(1, 20, 2, 4, 4), context_BSD=torch.randn(1, 7, models.IMAGE_WIDTH)
    )
    time = torch.tensor([500.0])
    with torch.no_grad():
        plain = narrow(assemble(noisy, time, Conditioning()), encoder_hidden_states=text, return_dict=False)[
            0
        ]
        widened = wide(assemble(noisy, time, canvas), encoder_hidden_states=text, return_dict=False)[0]
    assert plain.abs().max() > 0.01
    assert torch.allclose(plain, widened, atol=1e-5)


def test_tokenizer_takes_any_text() -> None:
    tokenizer = models.build_tokenizer(["a dog walks on a beach."] * 3)
    ids = tokenizer("a dog walks, \u00fcber \u72d7").input_ids
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "a dog walks, \u00fcber \u72d7"
    assert len(tokenizer("a dog walks").input_ids) == 4


def test_a_stage_goes_on_from_weights_of_before_and_says_so(tmp_path: Path) -> None:
    for name, width in (("t2v", 32), ("before/saber", 64)):
        narrow = models.build_transformer(image_to_video=False, width=width, layers=1)
        narrow.save_pretrained(tmp_path / "weights" / name / "transformer")
    before = tmp_path / "weights" / "before"
    (before / "saber" / "transformer" / "training.json").write_text('{"stage": "saber", "seed": 5}')
    anew = Recipe(tmp_path, "rehearsal")
    renewed = Recipe(tmp_path, "rehearsal", start=before)
    assert [_begin(one, "saber", "t2v").config.ffn_dim for one in (anew, renewed)] == [128, 256]
    with pytest.raises(ValueError, match="--start"):
        _begin(renewed, "kaleido", "t2v")
    assert record_of_stage(renewed, "saber")["start"] == {"stage": "saber", "seed": 5}
    assert "start" not in record_of_stage(anew, "saber")
    assert "start" not in record_of_stage(renewed, "magref")


@pytest.mark.slow
def test_rehearsal_stops_resumes_and_leaves_a_model(tmp_path: Path) -> None:
    run(Recipe(tmp_path, "rehearsal", workers=1, stop_after=1))
    assert not (tmp_path / "weights" / "magref").exists()
    run(Recipe(tmp_path, "rehearsal", workers=1))
    scores = json.loads((tmp_path / "weights" / "shared" / "vae" / "training.json").read_text())["psnr_db"]
    assert set(scores) == {"clips", "canvases"}
    picture = np.full((40, 30, 4), 255, np.uint8)
    for name in ("magref", "kaleido", "saber"):
        pipeline = AnyRefPipeline.from_pretrained(tmp_path / "weights" / name)
        assert pipeline.method.name == name
        assert pipeline.method.defaults.num_frames == models.NUM_FRAMES
        reference = Reference(picture, phrase="a dog", subject_mask=picture[..., 3] > 0)
        frames = pipeline("a dog walks on a beach.", [reference], num_inference_steps=1).frames[0]
        assert frames.shape == (models.NUM_FRAMES, models.HEIGHT, models.WIDTH, 3)
    assert isinstance(pipeline.matter, Segmenter)
    backbone = load_backbone(str(tmp_path / "weights" / "t2v"), make_method("magref"))
    assert backbone.transformer.config.in_channels == 36
    assert backbone.method.defaults.num_frames == models.NUM_FRAMES
