"""Models open by name from a folder of the user's own, with the files that the hub's repositories hold; what is not there is one sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_perception import (
    bert_tokenizer,
    clip_tokenizer,
    picture,
    qwen_processor,
    qwen_tokenizer,
    tiny_clip,
    tiny_grounding_dino,
    tiny_qwen2_vl,
    tiny_sam2,
)
from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
    GroundingDinoImageProcessorPil,
)

from anyref.perception import Box, Detector, ImageEncoder, ImageTextEncoder, Segmenter
from anyref.perception.catalogue import open_model


def test_grounding_dino(tmp_path: Path) -> None:
    tiny_grounding_dino().save_pretrained(tmp_path)
    bert_tokenizer().save_pretrained(tmp_path)
    GroundingDinoImageProcessorPil(size={"shortest_edge": 128, "longest_edge": 192}).save_pretrained(tmp_path)
    model = open_model("detector", f"grounding-dino-base@{tmp_path}")
    assert isinstance(model, Detector) and model.card.source == str(tmp_path)
    assert isinstance(model.detect(picture(60, 80), ["cat"]), list)


def test_sam2(tmp_path: Path) -> None:
    tiny_sam2().save_pretrained(tmp_path)
    model = open_model("segmenter", f"sam2.1-small@{tmp_path}")
    assert isinstance(model, Segmenter)
    assert model.segment(picture(60, 80), [Box(0, 0, 30, 30)]).shape == (1, 60, 80)
    # Other weights are another model: what was scored with one is not taken for the other's.
    assert model.card.revision.startswith("sha256:")
    (tmp_path / "note").touch()
    assert open_model("segmenter", f"sam2.1-small@{tmp_path}").card.revision != model.card.revision


@pytest.mark.parametrize("name", ["clip-l14", "gme-2b"])
def test_pictures_and_words(tmp_path: Path, name: str) -> None:
    if name == "clip-l14":
        tiny_clip().save_pretrained(tmp_path)
        clip_tokenizer().save_pretrained(tmp_path)
        CLIPImageProcessorPil(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ).save_pretrained(tmp_path)
    else:
        tiny_qwen2_vl().save_pretrained(tmp_path)
        qwen_tokenizer().save_pretrained(tmp_path)
        qwen_processor().save_pretrained(tmp_path)
    model = open_model("image-text-encoder", f"{name}@{tmp_path}")
    assert isinstance(model, ImageTextEncoder)
    seen, read = model.encode([picture(40, 50)]), model.encode_text(["a cat"])
    assert seen.shape == read.shape and np.isfinite(seen).all() and np.isfinite(read).all()


@pytest.mark.parametrize("name", ["dino-b16", "dinov2-base"])
def test_pictures(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    if name == "dino-b16":
        ViTModel(ViTConfig(image_size=224, patch_size=32, **shape)).save_pretrained(tmp_path)
    else:
        Dinov2Model(Dinov2Config(image_size=42, patch_size=14, **shape)).save_pretrained(tmp_path)
        BitImageProcessorPil(
            size={"shortest_edge": 48}, crop_size={"height": 42, "width": 42}
        ).save_pretrained(tmp_path)
    model = open_model("image-encoder", f"{name}@{tmp_path}")
    assert isinstance(model, ImageEncoder) and model.encode([picture(40, 70)]).shape == (1, 32)


def test_an_empty_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"the weights of sam2.1-small could not be had .* say sam2.1-small@FOLDER"
    ):
        open_model("segmenter", f"sam2.1-small@{tmp_path}")
    with pytest.raises(ValueError, match="face_detection_yunet"):
        open_model("face-analyser", f"yunet-sface@{tmp_path}")
