"""Kaleido's SAT checkpoint through the converter: files written in that layout from a second statement of its table."""

import json
import os
import pickle
import random
import re
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_convert import make_components, original_name, weights
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from anyref.checkpoints.sat import SatCheckpoint, originals, read_sat_checkpoint
from anyref.checkpoints.wan import T2V_14B
from anyref.conditioning import Conditioning, assemble
from anyref.convert import ConvertOptions, convert, expected_shapes, plan, verify
from anyref.encoders import Encoders
from anyref.latents import TextContext, grid_positions, patchify
from anyref.pipeline import AnyRefPipeline
from anyref.transformer import AnyRefTransformer

PREFIX = "model.diffusion_model."
STATES = "mp_rank_00_model_states.pt"
KALEIDO = ConvertOptions("kaleido", dtype="float32")
# Two heads of 128: the head width is Wan's at every size.
TOY = {
    "num_attention_heads": 2,
    "text_dim": 20,
    "freq_dim": 32,
    "ffn_dim": 40,
    "num_layers": 2,
}
T2V_1_3B = T2V_14B | {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}
# Columns 3 and 1 of the table: Wan2.1's names and SAT's. N is the layer.
TO_SAT = {
    "patch_embedding": "mixins.patch_embed.proj",
    "text_embedding.0": "text_embedding.0",
    "text_embedding.2": "text_embedding.2",
    "time_embedding.0": "time_embed.0",
    "time_embedding.2": "time_embed.2",
    "time_projection.1": "adaln_projection.1",
    "head.head": "mixins.final_layer.linear",
    "head.modulation": "mixins.final_layer.adaLN_modulation",
    "blocks.N.modulation": "mixins.adaln_layer.adaLN_modulations.N",
    "blocks.N.self_attn.qkv": "transformer.layers.N.attention.query_key_value",
    "blocks.N.self_attn.o": "transformer.layers.N.attention.dense",
    "blocks.N.self_attn.norm_q": "mixins.adaln_layer.query_layernorm_list.N",
    "blocks.N.self_attn.norm_k": "mixins.adaln_layer.key_layernorm_list.N",
    "blocks.N.cross_attn.q": "transformer.layers.N.cross_attention.query",
    "blocks.N.cross_attn.kv": "transformer.layers.N.cross_attention.key_value",
    "blocks.N.cross_attn.o": "transformer.layers.N.cross_attention.dense",
    "blocks.N.cross_attn.norm_q": "mixins.adaln_layer.cross_query_layernorm_list.N",
    "blocks.N.cross_attn.norm_k": "mixins.adaln_layer.cross_key_layernorm_list.N",
    "blocks.N.norm3": "transformer.layers.N.post_cross_attention_layernorm",
    "blocks.N.ffn.0": "transformer.layers.N.mlp.dense_h_to_4h",
    "blocks.N.ffn.2": "transformer.layers.N.mlp.dense_4h_to_h",
}
Tensors = dict[str, Tensor]
Release = Callable[..., Path]


def to_sat(wan: Tensors) -> Tensors:
    """Tensors under Wan2.1's names as SAT has them: q, k, v joined, and k, v of cross-attention."""
    wan, sat = dict(wan), {}
    for name in list(wan):
        match = re.fullmatch(r"(.*\.(self|cross)_attn)\.v\.(weight|bias)", name)
        if match:
            together = "qkv" if match[2] == "self" else "kv"
            parts = [wan.pop(f"{match[1]}.{letter}.{match[3]}") for letter in together]
            wan[f"{match[1]}.{together}.{match[3]}"] = torch.cat(parts)
    for name, tensor in wan.items():
        stem, ending = re.fullmatch(r"(.*?)(\.weight|\.bias|)", name).groups()  # type: ignore[union-attr]
        layer = re.match(r"blocks\.(\d+)", stem)
        number = layer[1] if layer else ""
        row = re.sub(r"^blocks\.\d+", "blocks.N", stem)
        sat[PREFIX + TO_SAT[row].replace(".N", f".{number}") + ending] = tensor
    return sat


@pytest.fixture(scope="module")
def toy() -> AnyRefTransformer:
    """Every tensor is random, norms and biases too: any two that change places change the output."""
    model = AnyRefTransformer(**TOY).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
    return model


@pytest.fixture(scope="module")
def module(toy: AnyRefTransformer) -> Tensors:
    return to_sat({original_name(name): tensor for name, tensor in toy.state_dict().items()})


@pytest.fixture
def release(tmp_path: Path, module: Tensors) -> Release:
    """A function that writes the toy, with changes, as SAT does: latest, and the model states in the folder it names."""

    def write(states: str = STATES, top: dict[str, Any] | None = None, **changes: Any) -> Path:
        folder = tmp_path / "sat"
        (folder / "1").mkdir(parents=True)
        (folder / "latest").write_text("1\n")
        changed = {PREFIX + name.replace("__", "."): value for name, value in changes.items()}
        tensors = {name: tensor for name, tensor in (module | changed).items() if tensor is not None}
        torch.save({"module": tensors} | (top or {}), folder / "1" / states)
        return folder

    return write


def velocity(model: AnyRefTransformer) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(1, 16, 2, 4, 4, generator=generator)
    text = torch.randn(1, 7, 20, generator=generator)
    with torch.no_grad():
        return model(latents, torch.tensor([500.0]), text).sample


def assert_is_toy(folder: Path, toy: AnyRefTransformer) -> None:
    converted = weights(folder)
    assert converted.keys() == toy.state_dict().keys()
    assert all(torch.equal(converted[name], tensor) for name, tensor in toy.state_dict().items())


def test_a_sat_folder_becomes_a_diffusers_folder(
    release: Release, toy: AnyRefTransformer, tmp_path: Path
) -> None:
    output = convert(release(), tmp_path / "out", KALEIDO)
    assert_is_toy(output, toy)
    model = AnyRefTransformer.from_pretrained(output / "transformer").eval()
    assert dict(model.config) | TOY == dict(model.config)
    torch.testing.assert_close(velocity(model), velocity(toy), rtol=0, atol=1e-5)
    assert json.loads((output / "anyref.json").read_text()) == {"method": "kaleido"}
    assert json.loads((output / "conversion.json").read_text())["files"][0]["name"] == STATES


def test_bfloat16_is_the_default_and_norms_stay_float32(release: Release, tmp_path: Path) -> None:
    converted = weights(convert(release(), tmp_path / "out", ConvertOptions("kaleido")))
    assert converted["blocks.0.attn1.to_q.weight"].dtype == torch.bfloat16
    assert converted["blocks.0.norm2.weight"].dtype == torch.float32
    assert converted["blocks.0.scale_shift_table"].dtype == torch.float32


def test_golden_velocity_from_the_sat_layout(tmp_path: Path) -> None:
    """The release's own network's output, from its weights written as SAT's and converted."""
    golden = Path(__file__).parents[1] / ".." / "shared" / "golden" / "kaleido_rrope.safetensors"
    if not golden.exists():
        pytest.skip("golden values are not here")
    record = load_file(golden)
    wan = {name.removeprefix("weights."): t for name, t in record.items() if name.startswith("weights.")}
    torch.save({"module": to_sat(wan)}, tmp_path / STATES)
    output = convert(tmp_path / STATES, tmp_path / "out", KALEIDO)
    model = AnyRefTransformer.from_pretrained(output / "transformer").eval()
    latents, references = (record[f"inputs.{name}"].transpose(1, 2) for name in ("x", "refs"))
    count, grid = references.shape[2], (1, references.shape[3] // 2, references.shape[4] // 2)
    positions = [grid_positions(grid) + torch.tensor([index, 80, 80]) for index in range(count)]
    conditioning = Conditioning(
        tokens_BLP=patchify(references), positions_BL3=torch.cat(positions)[None].expand(1, -1, -1)
    )
    with torch.no_grad():
        sequence = assemble(latents, record["inputs.t"], conditioning)
        found = model(sequence, encoder_hidden_states=TextContext(record["inputs.ctx"])).sample
    expected = record["velocity_shipped_n3"].transpose(1, 2)
    assert (found - expected).norm() / expected.norm() < 1e-5


TRAINING_STATE = {
    "iteration": 5000,
    "ds_version": "0.15.4",
    "lr_scheduler": {"num_iterations": 5000, "start_lr": 5e-6},
    "param_shapes": [OrderedDict(a=torch.Size([3, 4]))],
    "buffer_names": [],
    "random_rng_state": random.Random(1).getstate(),
    "np_rng_state": np.random.RandomState(1).get_state(),
    "torch_rng_state": torch.Generator().get_state(),
    "dp_world_size": 32,
    "optimizer": None,
}


@pytest.mark.parametrize("states", [STATES, "fsdp2_rank_0000_checkpoint.pt"])
def test_training_state_and_other_parts_are_passed_over(
    release: Release, module: Tensors, toy: AnyRefTransformer, tmp_path: Path, states: str
) -> None:
    others = {"conditioner.embedders.0.weight": torch.ones(3), "first_stage_model.encoder": torch.ones(2)}
    parameters = {name: nn.Parameter(tensor) for name, tensor in module.items()}
    folder = release(states, {**TRAINING_STATE, "module": OrderedDict(parameters | others)})
    (folder / "1" / "zero_pp_rank_0_mp_rank_00_optim_states.pt").write_bytes(b"\x80\x02")
    (tmp_path / "release").mkdir()
    folder.rename(tmp_path / "release" / "model")
    (tmp_path / "release" / "Wan2.1_VAE.pth").write_bytes(b"not looked at")
    assert_is_toy(convert(tmp_path / "release", tmp_path / "out", KALEIDO), toy)


def test_tensors_that_share_a_storage_or_are_turned(
    release: Release, module: Tensors, toy: AnyRefTransformer, tmp_path: Path
) -> None:
    """FSDP keeps parameters as views of one flat buffer; nothing says that rows come first."""
    flat = torch.cat([tensor.flatten() for tensor in module.values()])
    sizes = [tensor.numel() for tensor in module.values()]
    views = flat.split(sizes)
    shared = {name: view.view(module[name].shape) for name, view in zip(module, views, strict=True)}
    for name in ("attention.query_key_value", "mlp.dense_4h_to_h"):
        key = f"{PREFIX}transformer.layers.1.{name}.weight"
        shared[key] = module[key].t().contiguous().t()
        assert not shared[key].is_contiguous()
    assert_is_toy(convert(release(top={"module": shared}), tmp_path / "out", KALEIDO), toy)


def test_parts_that_each_hold_some_tensors(module: Tensors, toy: AnyRefTransformer, tmp_path: Path) -> None:
    folder, names = tmp_path / "parts", sorted(module)
    folder.mkdir()
    for index in range(11):
        part = {name: module[name] for name in names[index::11]}
        torch.save({"module": part} if index % 2 else part, folder / f"model.part{index}.pt")
    output = convert(folder, tmp_path / "out", KALEIDO)
    assert_is_toy(output, toy)
    sources = json.loads((output / "conversion.json").read_text())["files"]
    assert [source["name"] for source in sources] == [f"model.part{index}.pt" for index in range(11)]
    (folder / "model.part10.pt").unlink()
    refused(folder, tmp_path / "out2", r"does not fit its configuration: \d+ missing")
    torch.save({"module": part}, folder / "again1.pt")
    torch.save({"module": part}, folder / "again2.pt")
    refused(folder, tmp_path / "out2", "again1.pt and again2.pt both hold ")


def test_one_file_cut_into_pieces(release: Release, toy: AnyRefTransformer, tmp_path: Path) -> None:
    """Cuts fall inside tensors; ten pieces and more, so that the order of names is not that of letters."""
    folder = release()
    whole = folder / "1" / STATES
    content = whole.read_bytes()
    size = len(content) // 11 + 1
    for index in range(11):
        piece = content[index * size : (index + 1) * size]
        (folder / "1" / f"{STATES}.part{index}").write_bytes(piece)
    whole.unlink()
    assert_is_toy(convert(folder, tmp_path / "out", KALEIDO), toy)
    refused(
        folder / "1" / f"{STATES}.part0", tmp_path / "out2", "is not a whole PyTorch file; .* cut into pieces"
    )
    (folder / "1" / f"{STATES}.part10").unlink()
    refused(folder, tmp_path / "out2", "is not a whole PyTorch file")


def rewrite(path: Path, change: Callable[[bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """The same archive, written by another program."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(content) if name.endswith("data.pkl") else content)


class OldArray:
    """Pickled as NumPy 1 pickled its arrays."""

    def __reduce__(self) -> tuple[Any, ...]:
        _, arguments, state = np.arange(5, dtype=np.uint32).__reduce__()  # type: ignore[misc]
        return sys.modules["numpy.core.multiarray"]._reconstruct, arguments, state


def test_generators_of_older_numpy(
    release: Release, toy: AnyRefTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = types.ModuleType("numpy.core.multiarray")
    stub._reconstruct = types.FunctionType(OldArray.__reduce__.__code__, {}, "_reconstruct")  # type: ignore[attr-defined]
    stub._reconstruct.__module__ = stub.__name__
    stub._reconstruct.__qualname__ = "_reconstruct"
    monkeypatch.setitem(sys.modules, stub.__name__, stub)
    folder = release(top={"np_rng_state": ("MT19937", OldArray(), 624)})
    monkeypatch.undo()
    with zipfile.ZipFile(folder / "1" / STATES) as archive:
        assert b"numpy.core.multiarray\n_reconstruct" in archive.read("mp_rank_00_model_states/data.pkl")
    assert_is_toy(convert(folder, tmp_path / "out", KALEIDO), toy)


@pytest.mark.parametrize(
    ("config", "sat_count", "count", "parameters"),
    [(T2V_14B, 855, 1095, 14_288_491_584), (T2V_1_3B, 645, 825, 1_418_996_800)],
    ids=["14B", "1.3B"],
)
def test_the_published_sizes(
    tmp_path: Path, config: dict[str, Any], sat_count: int, count: int, parameters: int
) -> None:
    """A hollow float32 file: at 14B its 57 GB are more than many a machine's memory, and take no room on the disk."""
    shapes = expected_shapes(config)
    assert len(shapes) == count
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == parameters
    with FakeTensorMode():
        hollow = to_sat({original_name(name): torch.empty(shape) for name, shape in shapes.items()})
        assert len(hollow) == sat_count
        try:
            with torch.serialization.skip_data(materialize_fake_tensors=True):
                torch.save({"module": hollow}, tmp_path / STATES)
        except (OSError, RuntimeError) as error:
            pytest.skip(f"this file system keeps no sparse files of this size ({error})")
    if (tmp_path / STATES).stat().st_size < 4 * parameters:
        pytest.skip("this PyTorch writes no hollow files")
    checkpoint = read_sat_checkpoint(tmp_path)
    assert {name for name, _, _ in originals(int(config["num_layers"])).values()} == {
        name.removeprefix(PREFIX) for name in hollow
    }
    assert checkpoint.config == config
    assert verify(checkpoint) == shapes
    assert set(checkpoint.dtypes.values()) == {torch.float32}
    sizes = [
        sum(entry.num_bytes for entry in shard)
        for shard in plan(shapes, checkpoint.dtypes, torch.bfloat16, 5.0)
    ]
    assert max(sizes) <= 5e9
    # One third of a joined tensor is read, and nothing else.
    width = 128 * int(config["num_attention_heads"])
    last = f"blocks.{int(config['num_layers']) - 1}.attn1.to_v.weight"
    tensor = checkpoint.read(last)
    assert tensor.shape == (width, width)
    assert tensor.untyped_storage().nbytes() == 4 * width**2


def test_each_tensor_is_read_once(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, reads = SatCheckpoint.read, []
    monkeypatch.setattr(SatCheckpoint, "read", lambda self, name: (reads.append(name), read(self, name))[1])
    convert(release(), tmp_path / "out", KALEIDO)
    assert sorted(reads) == sorted(expected_shapes(TOY | {"attention_head_dim": 128}))


def test_heads_that_are_not_128_wide_need_a_configuration(tmp_path: Path) -> None:
    model = AnyRefTransformer(**TOY | {"attention_head_dim": 24}).requires_grad_(False)
    named = {original_name(name): tensor for name, tensor in model.state_dict().items()}
    torch.save({"module": to_sat(named)}, tmp_path / STATES)
    refused(
        tmp_path / STATES,
        tmp_path / "out",
        "48 wide, no multiple of Wan's head width 128; give a config.json",
    )
    given = {"dim": 48, "num_heads": 2, "ffn_dim": 40, "freq_dim": 32, "text_dim": 20, "num_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps(given | {"model_type": "t2v"}))
    options = ConvertOptions("kaleido", tmp_path / "config.json", dtype="float32")
    converted = weights(convert(tmp_path / STATES, tmp_path / "out", options))
    assert all(torch.equal(converted[name], tensor) for name, tensor in model.state_dict().items())


def test_parts_of_the_base_model_without_its_scheduler(release: Release, tmp_path: Path) -> None:
    base = make_components(tmp_path / "base")
    output = convert(release(), tmp_path / "out", ConvertOptions("kaleido", components=base))
    assert sorted(path.name for path in output.iterdir() if path.is_symlink()) == [
        "image_encoder",
        "text_encoder",
        "tokenizer",
        "vae",
    ]
    assert "scheduler" not in json.loads((output / "model_index.json").read_text())


def test_the_pipeline_samples_what_was_converted(tmp_path: Path, encoders: Encoders) -> None:
    """From the release's folder to a video, with Kaleido's own solver."""
    for name in ("vae", "text_encoder", "tokenizer"):
        getattr(encoders, name).save_pretrained(tmp_path / "base" / name)
    model = AnyRefTransformer(**TOY | {"text_dim": 32})
    named = {original_name(name): tensor for name, tensor in model.state_dict().items()}
    torch.save({"module": to_sat(named)}, tmp_path / STATES)
    options = ConvertOptions("kaleido", components=tmp_path / "base", dtype="float32")
    pipeline = AnyRefPipeline.from_pretrained(convert(tmp_path / STATES, tmp_path / "out", options))
    pipeline.set_progress_bar_config(disable=True)
    assert type(pipeline.scheduler).__name__ == "FlowMatchEulerDiscreteScheduler"
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


def refused(source: Path, output: Path, message: str, options: ConvertOptions = KALEIDO) -> None:
    """ValueError of one sentence, and nothing written."""
    before = sorted(output.parent.rglob("*"))
    with pytest.raises(ValueError, match=message) as caught:
        convert(source, output, options)
    assert "\n" not in str(caught.value)
    assert sorted(output.parent.rglob("*")) == before


class Sly:
    """What a pickle can do to those who trust it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["beside the tensors", "as a tensor"])
def test_nothing_in_a_pickle_is_run(release: Release, tmp_path: Path, place: str) -> None:
    sly = Sly(tmp_path / "run")
    source = release(top={"args": sly}) if place == "beside the tensors" else release(extra=sly)
    refused(source, tmp_path / "out", r"holds \w+\.mkdir beside its tensors, which could run code")
    assert not (tmp_path / "run").exists()


def test_missing_and_extra_tensors_are_listed(release: Release, module: Tensors, tmp_path: Path) -> None:
    joined = PREFIX + "transformer.layers.1.attention.query_key_value.bias"
    changed = dict(module)
    changed["model.diffusion_model.mixins.pos_embed.freqs_cos"] = torch.ones(4)
    changed.pop(PREFIX + "transformer.layers.0.cross_attention.key_value.bias")
    changed[joined] = torch.zeros(3 * 256 + 1)
    changed[PREFIX + "mixins.final_layer.linear.bias"] = torch.zeros(3)
    message = (
        r"2 missing \(blocks.0.attn2.to_k.bias, blocks.0.attn2.to_v.bias\); "
        r"1 unexpected \(model.diffusion_model.mixins.pos_embed.freqs_cos\); "
        r"4 of another shape \(blocks.1.attn1.to_q.bias is \(769,\), not \(256,\), "
    )
    refused(release(top={"module": changed}), tmp_path / "out", message)


def test_reference_tables_are_refused(release: Release, tmp_path: Path) -> None:
    table = {"mixins__adaln_layer__subject_adaLN_modulations__0": torch.zeros(1, 6, 256)}
    refused(release(**table), tmp_path / "out", "modulation tables of its own for references")


def test_quantised_and_empty_tensors_are_refused(release: Release, tmp_path: Path) -> None:
    name = "transformer__layers__0__attention__dense__weight"
    source = release(**{name: torch.ones(256, 256, dtype=torch.int8)})
    refused(source, tmp_path / "out", "as torch.int8; use the release's float32 or bfloat16 file")
    (source / "1" / STATES).unlink()
    torch.save({"module": {f"{PREFIX}{name}": torch.empty(2, 2, device="meta")}}, source / "1" / STATES)
    refused(source, tmp_path / "out", "does not hold .* as torch.save writes tensors")
    torch.save({"module": {f"{PREFIX}{name}": 3}}, source / "1" / STATES)
    refused(source, tmp_path / "out", "as int; use")


def test_incomplete_folders_are_refused(release: Release, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(tmp_path / "nowhere", out, "is not there; download the release first .*zai-org/Kaleido-14B-S2V")
    source = release()
    (source / "1" / STATES).rename(source / "1" / "mp_rank_01_model_states.pt")
    (source / "1" / STATES).write_bytes(b"PK\x03\x04")
    refused(source, out, "is cut into 2 model-parallel ranks")
    (source / "1" / "mp_rank_01_model_states.pt").unlink()
    refused(source, out, "is not a whole PyTorch file; finish the download")
    (source / "1" / STATES).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n")
    refused(source, out, "is a Git LFS pointer, not the weights; run `git lfs pull`")
    (source / "1" / STATES).unlink()
    refused(source, out, "holds no .pt files; give the folder of a SAT checkpoint")
    (source / "latest").write_text("2")
    refused(source, out, "names '2' and there is no such folder")


def test_other_files_are_refused(release: Release, module: Tensors, tmp_path: Path) -> None:
    out, source = tmp_path / "out", release()
    path = source / "1" / STATES
    for compression in (
        zipfile.ZIP_DEFLATED,
        zipfile.ZIP_STORED,
    ):  # tensors would be sought in the wrong places
        rewrite(path, lambda content: content, compression)
        refused(path, out, "does not hold model.diffusion_model.* as torch.save writes tensors")
    rewrite(path, lambda content: content[:-9])
    refused(path, out, "cannot be read as a PyTorch file")
    path.write_bytes(pickle.dumps({"module": 1}))
    refused(path, out, "is not a whole PyTorch file")
    torch.save(dict(module), path, _use_new_zipfile_serialization=False)
    refused(path, out, "is not a whole PyTorch file")
    torch.save([1, 2], path)
    refused(path, out, "holds no table of tensors")
    torch.save({name.removeprefix(PREFIX): tensor for name, tensor in module.items()}, path)
    refused(path, out, "holds no tensor named model.diffusion_model")
    torch.save({PREFIX + "patch_embedding.weight": torch.ones(2)}, path)
    refused(path, out, "lacks model.diffusion_model.mixins.patch_embed.proj.weight")
    torch.save({PREFIX + "mixins.patch_embed.proj.weight": torch.ones(2)}, path)
    refused(path, out, r"has \(2,\) as the shape of model.diffusion_model.mixins.patch_embed.proj.weight")


def test_the_default_method_names_the_right_one(release: Release, tmp_path: Path) -> None:
    source = release()
    for place in (source, source / "1", source / "1" / STATES):
        refused(place, tmp_path / "out", "name its method .--method kaleido", ConvertOptions())
