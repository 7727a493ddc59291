"""The converter, on folders of the release's layout at toy size and on a hollow one at 14B."""

import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from anyref.checkpoints.wan import I2V_14B, WanCheckpoint, read_wan_checkpoint, rename
from anyref.convert import ConvertOptions, convert, expected_shapes, plan, verify
from anyref.encoders import Encoders
from anyref.pipeline import AnyRefPipeline
from anyref.transformer import AnyRefTransformer

TOY = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 36,
    "text_dim": 20,
    "freq_dim": 32,
    "ffn_dim": 40,
    "num_layers": 3,
    "image_dim": 1280,
    "added_kv_proj_dim": 24,
}
# The release's own config.json, at toy size.
CONFIG = {
    "_class_name": "WanModel",
    "_diffusers_version": "0.30.0",
    "dim": 24,
    "eps": 1e-06,
    "ffn_dim": 40,
    "freq_dim": 32,
    "in_dim": 36,
    "model_type": "i2v",
    "num_heads": 2,
    "num_layers": 3,
    "out_dim": 16,
    "text_dim": 20,
    "text_len": 512,
}
ORIGINAL = [
    (r"^scale_shift_table", "head.modulation"),
    (r"\.scale_shift_table", ".modulation"),
    (r"^proj_out", "head.head"),
    (r"condition_embedder\.time_embedder\.linear_1", "time_embedding.0"),
    (r"condition_embedder\.time_embedder\.linear_2", "time_embedding.2"),
    (r"condition_embedder\.text_embedder\.linear_1", "text_embedding.0"),
    (r"condition_embedder\.text_embedder\.linear_2", "text_embedding.2"),
    (r"condition_embedder\.time_proj", "time_projection.1"),
    (r"condition_embedder\.image_embedder\.norm1", "img_emb.proj.0"),
    (r"condition_embedder\.image_embedder\.ff\.net\.0\.proj", "img_emb.proj.1"),
    (r"condition_embedder\.image_embedder\.ff\.net\.2", "img_emb.proj.3"),
    (r"condition_embedder\.image_embedder\.norm2", "img_emb.proj.4"),
    (r"(blocks\.\d+)\.norm2", r"\1.norm3"),
    (r"attn1", "self_attn"),
    (r"attn2", "cross_attn"),
    (r"to_out\.0", "o"),
    (r"to_([qkv])\.", r"\1."),
    (r"add_([kv])_proj", r"\1_img"),
    (r"norm_added_k", "norm_k_img"),
    (r"ffn\.net\.0\.proj", "ffn.0"),
    (r"ffn\.net\.2", "ffn.2"),
]
Release = Callable[..., Path]


def original_name(name: str) -> str:
    for pattern, replacement in ORIGINAL:
        name = re.sub(pattern, replacement, name)
    return name


@pytest.fixture(scope="module")
def toy() -> AnyRefTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return AnyRefTransformer(**TOY).eval().requires_grad_(False)


@pytest.fixture
def release(tmp_path: Path, toy: AnyRefTransformer) -> Release:
    """A function that writes the toy as a release: a folder of shards, or one file if there is one shard."""

    def write(shards: int = 3, prefix: str = "", dtype: torch.dtype = torch.float32, **extra: Tensor) -> Path:
        folder = tmp_path / "release"
        folder.mkdir()
        tensors = {
            prefix + original_name(name): tensor.to(dtype) for name, tensor in toy.state_dict().items()
        }
        tensors |= extra
        if shards == 1:
            save_file(tensors, folder / "magref.safetensors")
            return folder / "magref.safetensors"
        weight_map = {}
        names = sorted(tensors)
        for index in range(shards):
            file = f"diffusion_pytorch_model-{index + 1:05}-of-{shards:05}.safetensors"
            part = names[index::shards]
            save_file({name: tensors[name] for name in part}, folder / file)
            weight_map |= dict.fromkeys(part, file)
        index_file = folder / "diffusion_pytorch_model.safetensors.index.json"
        index_file.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
        (folder / "config.json").write_text(json.dumps(CONFIG))
        return folder

    return write


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "magref_config.json"
    path.write_text(json.dumps(CONFIG))
    return path


def velocity(model: AnyRefTransformer) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    inputs = [
        torch.randn(shape, generator=generator) for shape in ((1, 36, 2, 4, 4), (1, 7, 20), (1, 4, 1280))
    ]
    with torch.no_grad():
        return model(inputs[0], torch.tensor([500.0]), inputs[1], inputs[2]).sample


def weights(folder: Path) -> dict[str, Tensor]:
    merged: dict[str, Tensor] = {}
    for path in sorted((folder / "transformer").glob("*.safetensors")):
        merged |= load_file(path)
    return merged


def test_names_of_the_toy_are_the_releases(toy: AnyRefTransformer) -> None:
    names = list(toy.state_dict())
    assert rename([original_name(name) for name in names]) == names
    assert original_name("blocks.2.attn2.norm_added_k.weight") == "blocks.2.cross_attn.norm_k_img.weight"


def test_a_sharded_release(release: Release, toy: AnyRefTransformer, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    options = ConvertOptions(dtype="float32", shard_gb=2e-3)
    output = convert(release(), tmp_path / "out", options, lambda done, total: seen.append((done, total)))
    files = sorted(path.name for path in (output / "transformer").iterdir())
    assert files[0] == "config.json"
    assert files[-1] == "diffusion_pytorch_model.safetensors.index.json"
    assert len(files) > 4
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    for path in (output / "transformer").glob("*.safetensors"):
        assert path.stat().st_size < 10e6
    assert set(weights(output)) == set(toy.state_dict())
    loaded = AnyRefTransformer.from_pretrained(output / "transformer")
    assert {**loaded.config}.items() >= TOY.items()
    assert (velocity(loaded) - velocity(toy)).abs().max() < 1e-6
    assert json.loads((output / "anyref.json").read_text()) == {"method": "magref", "anchor_strength": 0.0}
    assert not (output / "plan.json").exists()
    assert not list(tmp_path.glob(".*"))


def test_bfloat16_keeps_what_diffusers_keeps(
    release: Release, toy: AnyRefTransformer, tmp_path: Path
) -> None:
    converted = weights(convert(release(), tmp_path / "out"))
    for name, tensor in toy.state_dict().items():
        kept = any(part in name for part in ("time_embedder", "scale_shift_table", "norm1", "norm2"))
        assert torch.equal(converted[name], tensor if kept else tensor.bfloat16()), name
    loaded = AnyRefTransformer.from_pretrained(tmp_path / "out" / "transformer", torch_dtype=torch.bfloat16)
    assert loaded.blocks[0].norm2.weight.dtype == torch.float32
    assert loaded.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model."])
def test_a_single_fp8_file(
    release: Release, config_file: Path, toy: AnyRefTransformer, tmp_path: Path, prefix: str
) -> None:
    source = release(shards=1, prefix=prefix, dtype=torch.float8_e4m3fn)
    output = convert(source, tmp_path / "out", ConvertOptions(config=config_file))
    assert [path.name for path in (output / "transformer").glob("*.safetensors")] == [
        "diffusion_pytorch_model.safetensors"
    ]
    converted = weights(output)
    for name, tensor in toy.state_dict().items():
        assert torch.equal(converted[name], tensor.to(torch.float8_e4m3fn).bfloat16())


def test_golden_weights_through_the_converter(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / ".." / "shared" / "golden" / "wan_i2v_tiny_seed1.safetensors"
    if not golden.exists():
        pytest.skip("golden values are not here")
    record = load_file(golden)
    source = tmp_path / "release"
    source.mkdir()
    tensors = {name.removeprefix("weights."): t for name, t in record.items() if name.startswith("weights.")}
    save_file(tensors, source / "diffusion_pytorch_model.safetensors")
    config = CONFIG | {
        "dim": 96,
        "ffn_dim": 192,
        "freq_dim": 64,
        "text_dim": 48,
        "num_heads": 4,
        "num_layers": 2,
    }
    (source / "config.json").write_text(json.dumps(config))
    model = AnyRefTransformer.from_pretrained(convert(source, tmp_path / "out") / "transformer")
    latents = torch.cat([record["inputs.latents"], record["inputs.condition"]], dim=1)
    with torch.no_grad():
        out = model(
            latents, record["inputs.timestep"], record["inputs.text_embeds"], record["inputs.image_embeds"]
        ).sample
    assert (out - record["outputs.velocity"]).abs().max() < 2e-5  # the golden weights are exact in bfloat16


def hollow_file(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A safetensors file with a true header and a hole for its data: 33 GB that take no room."""
    header, start = {}, 0
    for name, shape in shapes.items():
        end = start + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + start)


def test_magref_14b(tmp_path: Path) -> None:
    shapes = expected_shapes(I2V_14B)
    assert len(shapes) == 1303
    originals = {original_name(name): shape for name, shape in shapes.items()}
    names = list(originals)
    try:
        for index in range(7):
            part = {name: originals[name] for name in names[index::7]}
            hollow_file(tmp_path / f"diffusion_pytorch_model-{index + 1:05}-of-00007.safetensors", part)
        checkpoint = read_wan_checkpoint(tmp_path)
    except (OSError, ValueError) as error:
        pytest.skip(f"this file system keeps no sparse files of this size ({error})")
    assert checkpoint.config == I2V_14B
    assert verify(checkpoint) == shapes
    count = sum(torch.Size(shape).numel() for shape in shapes.values())
    assert 16.35e9 < count < 16.45e9
    shards = plan(shapes, checkpoint.dtypes, torch.bfloat16, 5.0)
    sizes = [sum(entry.num_bytes for entry in shard) for shard in shards]
    assert len(shards) == 7
    assert max(sizes) <= 5e9
    assert sum(sizes) == 2 * count
    # The release's own configuration says the same.
    release_config = CONFIG | {
        "dim": 5120,
        "ffn_dim": 13824,
        "freq_dim": 256,
        "num_heads": 40,
        "num_layers": 40,
    }
    release_config.pop("text_dim")
    (tmp_path / "config.json").write_text(json.dumps(release_config))
    assert read_wan_checkpoint(tmp_path).config == I2V_14B | {"cross_attn_norm": True}


def test_interrupted_conversion_goes_on(
    release: Release, toy: AnyRefTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = release(), tmp_path / "out"
    options = ConvertOptions(dtype="float32", shard_gb=2e-3)
    read, names = WanCheckpoint.read, list(toy.state_dict())
    reads: list[str] = []

    def failing(checkpoint: WanCheckpoint, name: str) -> Tensor:
        if name == names[60]:
            raise KeyboardInterrupt
        return read(checkpoint, name)

    def counting(checkpoint: WanCheckpoint, name: str) -> Tensor:
        reads.append(name)
        return read(checkpoint, name)

    monkeypatch.setattr(WanCheckpoint, "read", failing)
    with pytest.raises(KeyboardInterrupt):
        convert(source, output, options)
    assert not output.exists()
    partial = tmp_path / ".out.partial"
    finished = {path.name: path.stat().st_mtime_ns for path in partial.glob("transformer/*.safetensors")}
    assert finished
    (partial / "transformer" / ".killed.safetensors").touch()

    monkeypatch.setattr(WanCheckpoint, "read", counting)
    convert(source, output, options)
    assert 0 < len(reads) < len(names)
    kept = {path.name: path.stat().st_mtime_ns for path in (output / "transformer").glob("*.safetensors")}
    assert kept.items() >= finished.items()
    assert not [name for name in kept if name.startswith(".")]
    assert all(torch.equal(tensor, toy.state_dict()[name]) for name, tensor in weights(output).items())


def test_interrupted_conversion_of_something_else_starts_again(release: Release, tmp_path: Path) -> None:
    partial = tmp_path / ".out.partial" / "transformer"
    partial.mkdir(parents=True)
    (partial / "diffusion_pytorch_model.safetensors").write_bytes(b"of another conversion")
    (partial.parent / "plan.json").write_text("{}")
    output = convert(release(), tmp_path / "out")
    assert len(weights(output)) > 60


def test_each_tensor_is_read_once(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, reads = WanCheckpoint.read, []
    monkeypatch.setattr(WanCheckpoint, "read", lambda self, name: (reads.append(name), read(self, name))[1])
    convert(release(), tmp_path / "out")
    assert len(reads) == len(set(reads)) == len(expected_shapes(TOY))


def test_wan_backbones(tmp_path: Path) -> None:
    """Wan2.1's own T2V: nothing to sample with yet, a backbone to train from; its folder names no method."""
    model = AnyRefTransformer(
        **TOY | {"in_channels": 16, "image_dim": None, "added_kv_proj_dim": None}
    ).requires_grad_(False)
    source = tmp_path / "wan"
    source.mkdir()
    tensors = {original_name(name): tensor for name, tensor in model.state_dict().items()}
    save_file(tensors, source / "diffusion_pytorch_model.safetensors")
    (source / "config.json").write_text(json.dumps(CONFIG | {"model_type": "t2v", "in_dim": 16}))
    base = make_components(tmp_path / "base")
    shutil.rmtree(base / "image_encoder")
    output = convert(source, tmp_path / "out", ConvertOptions("wan", components=base, dtype="float32"))
    assert not (output / "anyref.json").exists()
    converted = weights(output)
    assert converted.keys() == model.state_dict().keys()
    assert all(torch.equal(converted[name], tensor) for name, tensor in model.state_dict().items())


def make_components(folder: Path) -> Path:
    for name in ("tokenizer", "text_encoder", "vae", "image_encoder", "scheduler"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
    index = {
        "tokenizer": ["transformers", "T5TokenizerFast"],
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("copied", [False, True])
def test_components_of_the_base_model(release: Release, tmp_path: Path, copied: bool) -> None:
    base = make_components(tmp_path / "base")
    output = convert(release(), tmp_path / "out", ConvertOptions(components=base, copy_components=copied))
    assert (output / "vae").is_symlink() is not copied
    assert (output / "text_encoder" / "config.json").read_text() == "{}"
    index = json.loads((output / "model_index.json").read_text())
    assert index["_class_name"] == "AnyRefPipeline"
    assert index["transformer"] == ["anyref.transformer", "AnyRefTransformer"]
    assert index["tokenizer"] == ["transformers", "T5TokenizerFast"]
    assert index["image_encoder"] == ["transformers", "CLIPVisionModel"]
    shutil.rmtree(base / "image_encoder")
    with pytest.raises(ValueError, match="has no folder image_encoder"):
        convert(tmp_path / "release", tmp_path / "out2", ConvertOptions(components=base))


def test_the_pipeline_reads_what_was_converted(tmp_path: Path, encoders: Encoders) -> None:
    """From the release's folder to a video, at toy size."""
    base, source = tmp_path / "base", tmp_path / "release"
    vision = CLIPVisionConfig(
        hidden_size=1280,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    encoders.vae.save_pretrained(base / "vae")
    encoders.text_encoder.save_pretrained(base / "text_encoder")
    encoders.tokenizer.save_pretrained(base / "tokenizer")
    CLIPVisionModel(vision).save_pretrained(base / "image_encoder")
    model = AnyRefTransformer(**TOY | {"text_dim": 32})
    source.mkdir()
    tensors = {original_name(name): tensor for name, tensor in model.state_dict().items()}
    save_file(tensors, source / "magref.safetensors")
    (source / "config.json").write_text(json.dumps(CONFIG | {"text_dim": 32}))

    output = convert(source, tmp_path / "out", ConvertOptions(components=base))
    pipeline = AnyRefPipeline.from_pretrained(output)
    pipeline.set_progress_bar_config(disable=True)
    frames = pipeline(
        "a dog walks",
        np.full((20, 30, 3), 90, dtype=np.uint8),
        height=32,
        width=32,
        num_frames=5,
        num_inference_steps=1,
        generator=torch.Generator().manual_seed(0),
    ).frames
    assert frames.shape == (1, 5, 32, 32, 3)
    assert np.isfinite(frames).all()


def refused(source: Path, output: Path, message: str, options: ConvertOptions | None = None) -> None:
    """ValueError of one sentence, and nothing written."""
    before = sorted(output.parent.rglob("*"))
    with pytest.raises(ValueError, match=message) as caught:
        convert(source, output, options)
    assert "\n" not in str(caught.value)
    assert sorted(output.parent.rglob("*")) == before


def test_scaled_fp8_is_refused(release: Release, config_file: Path, tmp_path: Path) -> None:
    scale = {"blocks.0.self_attn.q.scale_weight": torch.ones(1)}
    source = release(shards=1, dtype=torch.float8_e4m3fn, **scale)
    refused(source, tmp_path / "out", "scaled or quantised", ConvertOptions(config=config_file))


def test_scale_marker_and_integers_are_refused(release: Release, config_file: Path, tmp_path: Path) -> None:
    options = ConvertOptions(config=config_file)
    source = release(shards=1, scaled_fp8=torch.ones(2))
    refused(source, tmp_path / "out", "scaled or quantised", options)
    save_file({"blocks.0.self_attn.q.weight": torch.ones(2, dtype=torch.int8)}, source)
    refused(source, tmp_path / "out", "holds blocks.0.self_attn.q.weight as I8, a quantised format", options)


def test_other_formats_are_refused(tmp_path: Path, toy: AnyRefTransformer) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    refused(tmp_path / "nowhere", tmp_path / "out", "is not there; download")
    refused(folder, tmp_path / "out", "holds no safetensors")
    (folder / "magref-Q4_K.gguf").write_bytes(b"GGUF")
    refused(folder, tmp_path / "out", "is GGUF")
    refused(folder / "magref-Q4_K.gguf", tmp_path / "out", "is GGUF")
    (folder / "magref.pth").write_bytes(b"")
    refused(folder / "magref.pth", tmp_path / "out", "is not a safetensors file")
    (folder / "broken.safetensors").write_bytes(b"\x00" * 20)
    refused(folder / "broken.safetensors", tmp_path / "out", "cannot be read as safetensors")
    toy.save_pretrained(tmp_path / "diffusers")
    refused(tmp_path / "diffusers", tmp_path / "out", "has diffusers' parameter names already")


def test_truncated_and_missing_shards_are_refused(release: Release, tmp_path: Path) -> None:
    source = release()
    last = sorted(source.glob("*.safetensors"))[-1]
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    refused(source, tmp_path / "out", "cannot be read as safetensors")
    last.unlink()
    refused(source, tmp_path / "out", "lacks diffusion_pytorch_model-00003-of-00003.safetensors")
    (source / "diffusion_pytorch_model.safetensors.index.json").unlink()
    refused(source, tmp_path / "out", "does not fit its configuration: .* missing")
    (source / "diffusion_pytorch_model.safetensors.index.json").write_text("{")
    refused(source, tmp_path / "out", "is not a safetensors index")


def test_wrong_names_and_shapes_are_listed(release: Release, config_file: Path, tmp_path: Path) -> None:
    source = release(shards=1)
    options = ConvertOptions(config=config_file)
    refused(source, tmp_path / "out", r"missing .* of another shape")  # taken for 14B
    tensors = load_file(source)
    tensors["blocks.0.vace.weight"] = tensors.pop("blocks.0.self_attn.o.bias")
    tensors["head.head.bias"] = torch.zeros(3)
    save_file(tensors, source)
    message = (
        r"1 missing \(blocks.0.attn1.to_out.0.bias\); 1 unexpected \(blocks.0.vace.weight\); "
        r"1 of another shape \(proj_out.bias is \(3,\), not \(64,\)\)"
    )
    refused(source, tmp_path / "out", message, options)
    animate = {"motion_encoder.enc.net_app.convs.0.1.bias": torch.zeros(1, 4, 1, 1)}
    save_file(animate, source)
    refused(source, tmp_path / "out", "1 unexpected", options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a JSON configuration"),
        ("[]", "is not a JSON configuration"),
        ('{"model_type": "vace"}', r"is not the configuration of a Wan2.1 T2V or I2V model"),
        ('{"num_attention_heads": 40}', "is not the configuration of a Wan2.1 T2V or I2V model"),
        ('{"dim": "wide"}', "is not the configuration of a Wan2.1 model"),
        ('{"num_heads": 0}', "is not the configuration of a Wan2.1 model"),
    ],
)
def test_wrong_configurations_are_refused(
    release: Release, tmp_path: Path, content: str, message: str
) -> None:
    source = release()
    (source / "config.json").write_text(content)
    refused(source, tmp_path / "out", message)


def test_occupied_outputs_and_small_disks(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, taken = release(), tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("keep")
    refused(source, taken, "exists; choose another place")
    refused(source, tmp_path / "out", r"shard size is 0", ConvertOptions(shard_gb=0))
    refused(source, source / "config.json" / "out", "cannot write the output")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    refused(source, tmp_path / "out", "GB are free")
    monkeypatch.undo()
    empty = tmp_path / "empty"
    empty.mkdir()
    assert len(weights(convert(source, empty))) > 60


def test_values_the_type_cannot_hold_are_refused(
    release: Release, toy: AnyRefTransformer, tmp_path: Path
) -> None:
    source = release()
    path = next(source.glob("*00001-of*"))
    tensors = load_file(path)
    tensors[next(name for name in tensors if name.endswith("ffn.0.weight"))][0, 0] = 1e6
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"not finite in torch\.float16; convert to bfloat16"):
        convert(source, tmp_path / "out", ConvertOptions(dtype="float16"))
    assert not (tmp_path / "out").exists()
    assert len(weights(convert(source, tmp_path / "out"))) == len(toy.state_dict())
