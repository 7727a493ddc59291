"""The recipe: every embedded model from nothing, in stages, each resumable at any step.

autoencoder -> motion -> image-encoder -> text-to-video (with the text encoder) -> image-to-video -> magref; text-to-video ->
kaleido, saber. And those that look at videos: identity, which judges them, segmenter, phrase-segmenter, image-text, actions.
Each stage reads what the ones before it wrote under OUTPUT/weights (ordinary diffusers folders, bf16) and leaves its own. Encoders are
frozen once trained, as Wan's are. Budgets differ in numbers only; the seed and the world are the same.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKLWan

from anyref import files
from anyref.checkpoints.widening import widen_input
from anyref.methods.kaleido import KaleidoMethod
from anyref.methods.magref import MagrefMethod
from anyref.methods.saber import SaberMethod
from anyref.puppets import (
    Stage,
    action_reader,
    autoencoder,
    cards,
    identity,
    image_encoder,
    image_text,
    models,
    phrase_network,
    phrase_search,
    phrase_segmenter,
    segmenter,
)
from anyref.puppets.backbones import ImageToVideo, TextToVideo
from anyref.puppets.budgets import BUDGETS
from anyref.puppets.plan import ANCHOR_STRENGTH, CROSS_PAIRS, Recipe, finished, reached, record_of_stage
from anyref.puppets.tuning import load_encoders, train_stage, widen
from anyref.sampling import SamplingDefaults
from anyref.transformer import AnyRefTransformer
from anyref.worlds import PuppetWorld


def run(recipe: Recipe) -> None:
    """Run the stages that have not been run; a stage that is stopped before its end ends the run, for the next ones read what it leaves."""
    for stage in recipe.stages:
        _RUN[stage](recipe)
        if not (recipe.weights / _LEAVES[stage]).exists():
            return
    cards.write(recipe.weights)


def _save(model: Any, folder: Path, record: dict[str, Any]) -> None:
    """The parts and the record of the training beside them; `training.json` marks the folder as finished."""
    _save_parts(model, folder)
    files.write_json(folder / "training.json", record)


def _save_parts(model: Any, folder: Path) -> None:
    """bf16 safetensors and the configuration."""
    model.to("cpu", torch.bfloat16).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    # Where the training began is a path of that machine; and caches are known by this file.
    config.pop("_name_or_path", None)
    files.write_json(folder / "config.json", config)


def _train_autoencoder(recipe: Recipe) -> None:
    folder = recipe.weights / "shared" / "vae"
    if finished(folder):
        return
    vae = models.build_autoencoder()
    torch.manual_seed(recipe.seed)
    models.initialise(vae, recipe.seed)
    if _fit_autoencoder(recipe, "autoencoder", vae):
        _save_autoencoder(recipe, vae, folder, record_of_stage(recipe, "autoencoder"))


def _train_motion(recipe: Recipe) -> None:
    folder = recipe.weights / "shared" / "vae"
    if (folder / "motion.json").exists():
        return
    record = json.loads((folder / "training.json").read_text())
    vae = AutoencoderKLWan.from_pretrained(folder).float()
    if _fit_autoencoder(recipe, "motion", vae):
        _save_autoencoder(recipe, vae, folder, record)
        files.write_json(folder / "motion.json", record_of_stage(recipe, "motion"))


def _fit_autoencoder(recipe: Recipe, stage: Literal["autoencoder", "motion"], vae: AutoencoderKLWan) -> bool:
    """Train it on pictures and then clips, or further on what moves; whether the stage has taken all its steps."""
    config, budget = recipe.fit(stage), BUDGETS[recipe.budget]
    autoencoder.train(
        vae.to(recipe.device),
        config,
        recipe.shape,
        phases=autoencoder.PHASES if stage == "autoencoder" else autoencoder.MOTION_PHASES,
        compiled=budget.compiled,
        batch_scale=budget.batch_scale,
    )
    return reached(config)


def _save_autoencoder(recipe: Recipe, vae: AutoencoderKLWan, folder: Path, record: dict[str, Any]) -> None:
    """What is shipped is what is measured."""
    _save_parts(vae, folder)
    shipped = AutoencoderKLWan.from_pretrained(folder).float().eval()
    clips, canvases = autoencoder.measure_psnr(shipped, recipe.shape, 64, "test")
    files.write_json(folder / "training.json", record | {"psnr_db": {"clips": clips, "canvases": canvases}})


def _train_image_encoder(recipe: Recipe) -> None:
    folder = recipe.weights / "shared" / "image_encoder"
    if finished(folder):
        return
    torch.manual_seed(recipe.seed)
    tower = models.build_image_encoder()
    models.initialise(tower, recipe.seed + 1)
    config = recipe.fit("image-encoder")
    image_encoder.train(
        tower.to(recipe.device),
        config,
        recipe.shape,
        BUDGETS[recipe.budget].parts["image-encoder"].batch_size,
    )
    if reached(config):
        _save(tower, folder, record_of_stage(recipe, "image-encoder"))


def _train_text_to_video(recipe: Recipe) -> None:
    folder = recipe.weights / "t2v" / "transformer"
    if finished(folder):
        return
    shared = recipe.weights / "shared"
    if not (shared / "text_encoder" / "config.json").exists():
        world = PuppetWorld("train", seed=recipe.seed, height=recipe.height, width=recipe.width, num_frames=1)
        tokenizer = models.build_tokenizer([world.clip(index).caption for index in range(4000)])
        tokenizer.save_pretrained(shared / "tokenizer")
        text_encoder = models.build_text_encoder(tokenizer)
        models.initialise(text_encoder, recipe.seed + 2)
        text_encoder.save_pretrained(shared / "text_encoder")
    transformer = models.build_transformer(image_to_video=False)
    models.initialise(transformer, recipe.seed + 3)
    encoders = load_encoders(recipe.weights, recipe.device)
    method = TextToVideo(SamplingDefaults(**recipe.defaults))  # type: ignore[arg-type]
    config = train_stage(recipe, "text-to-video", method, encoders, transformer, train_text_encoder=True)
    if reached(config.fit):
        _save(encoders.text_encoder, shared / "text_encoder", record_of_stage(recipe, "text-to-video"))
        _save(transformer, folder, record_of_stage(recipe, "text-to-video"))
        models.write_model_folder(recipe.weights / "t2v", recipe.defaults)


def _train_image_to_video(recipe: Recipe) -> None:
    folder = recipe.weights / "i2v" / "transformer"
    if finished(folder):
        return
    narrow: AnyRefTransformer = AnyRefTransformer.from_pretrained(
        recipe.weights / "t2v" / "transformer", dtype=torch.float32
    )
    transformer = models.build_transformer(image_to_video=True)
    models.initialise(transformer, recipe.seed + 4)
    widen(narrow, transformer)
    method = ImageToVideo(defaults=SamplingDefaults(**recipe.defaults))  # type: ignore[arg-type]
    config = train_stage(
        recipe, "image-to-video", method, load_encoders(recipe.weights, recipe.device), transformer
    )
    if reached(config.fit):
        _save(transformer, folder, record_of_stage(recipe, "image-to-video"))
        models.write_model_folder(recipe.weights / "i2v", recipe.defaults)


def _train_magref(recipe: Recipe) -> None:
    folder = recipe.weights / "magref" / "transformer"
    if finished(folder):
        return
    transformer = _begin(recipe, "magref", "i2v")
    method = MagrefMethod(anchor_strength=ANCHOR_STRENGTH, defaults=SamplingDefaults(**recipe.defaults))  # type: ignore[arg-type]
    # Crops from the clip itself show where a picture's parts go in a few hundred steps; cross-pairs alone take far longer.
    eased = replace(method, cross_pair_probability=CROSS_PAIRS)
    encoders = load_encoders(recipe.weights, recipe.device)
    config = train_stage(recipe, "magref", eased, encoders, transformer, held_out=method)
    if reached(config.fit):
        _save(transformer, folder, record_of_stage(recipe, "magref"))
        models.write_model_folder(
            recipe.weights / "magref",
            recipe.method_defaults,
            method="magref",
            anchor_strength=ANCHOR_STRENGTH,
        )


def _train_kaleido(recipe: Recipe) -> None:
    folder = recipe.weights / "kaleido" / "transformer"
    if finished(folder):
        return
    transformer = _begin(recipe, "kaleido", "t2v")
    # Its own size: at 64 x 96 a white canvas would leave a third of a portrait's tokens to the portrait.
    method = KaleidoMethod(
        fit="own",
        cross_pair_probability=1.0,
        defaults=SamplingDefaults(**recipe.defaults),  # type: ignore[arg-type]
    )
    eased = replace(method, cross_pair_probability=CROSS_PAIRS)
    encoders = load_encoders(recipe.weights, recipe.device)
    config = train_stage(recipe, "kaleido", eased, encoders, transformer, held_out=method)
    if reached(config.fit):
        _save(transformer, folder, record_of_stage(recipe, "kaleido"))
        models.write_model_folder(
            recipe.weights / "kaleido", recipe.method_defaults, method="kaleido", fit="own"
        )


def _train_saber(recipe: Recipe) -> None:
    folder = recipe.weights / "saber" / "transformer"
    if finished(folder):
        return
    transformer = _begin(recipe, "saber", "t2v")
    method = SaberMethod(defaults=SamplingDefaults(**recipe.defaults))  # type: ignore[arg-type]
    widen_input(transformer, method.in_channels)
    encoders = load_encoders(recipe.weights, recipe.device)
    config = train_stage(recipe, "saber", method, encoders, transformer)
    if reached(config.fit):
        _save(transformer, folder, record_of_stage(recipe, "saber"))
        models.write_model_folder(recipe.weights / "saber", recipe.method_defaults, method="saber")


def _begin(recipe: Recipe, name: str, backbone: str) -> AnyRefTransformer:
    """What a method's training begins with: its backbone, or the method's own weights of before. Raises ValueError where they are not there."""
    folder = recipe.weights / backbone if recipe.start is None else recipe.start / name
    if not (folder / "transformer").is_dir():
        raise ValueError(
            f"there is no model {folder} to begin with; give another folder with --start, or train the stage {backbone} first"
        )
    transformer: AnyRefTransformer = AnyRefTransformer.from_pretrained(
        folder / "transformer", dtype=torch.float32
    )
    return transformer


def _train_segmenter(recipe: Recipe) -> None:
    folder = recipe.weights / "shared" / "matter"
    if finished(folder):
        return
    config = recipe.fit("segmenter")
    model = segmenter.train(config, BUDGETS[recipe.budget].parts["segmenter"].batch_size, recipe.device)
    if reached(config):
        segmenter.save(model, folder)
        world = PuppetWorld("test", seed=0, height=recipe.height, width=recipe.width, num_frames=1)
        iou = segmenter.mean_iou(segmenter.load(folder), world, 200)
        files.write_json(folder / "training.json", record_of_stage(recipe, "segmenter") | {"mask_iou": iou})


def _train_identity(recipe: Recipe) -> None:
    path = recipe.weights / "identity.safetensors"
    if path.exists():
        return
    config = recipe.fit("identity")
    encoder = identity.train(config, BUDGETS[recipe.budget].parts["identity"].batch_size, recipe.device)
    if reached(config):
        identity.save(encoder, path)


def _train_phrase_segmenter(recipe: Recipe) -> None:
    folder = recipe.weights / "shared" / "phrase_segmenter"
    if finished(folder):
        return
    config, part = recipe.fit("phrase-segmenter"), BUDGETS[recipe.budget].parts["phrase-segmenter"]
    model = phrase_segmenter.train(config, part.batch_size, recipe.device)
    if reached(config):
        phrase_network.save(model, folder)
        scores = phrase_search.measure(phrase_network.load(folder), _test_world(recipe), 200)
        files.write_json(
            folder / "training.json", record_of_stage(recipe, "phrase-segmenter") | {"test": scores}
        )


def _train_image_text(recipe: Recipe) -> None:
    folder = recipe.weights / "shared" / "image_text"
    if finished(folder):
        return
    config, part = recipe.fit("image-text"), BUDGETS[recipe.budget].parts["image-text"]
    tower = recipe.weights / "shared" / "image_encoder"
    towers = image_text.train(config, part.batch_size, recipe.device, tower if finished(tower) else None)
    if reached(config):
        image_text.save(towers, folder)
        scores = image_text.measure(image_text.load(folder), _test_world(recipe), 400)
        files.write_json(folder / "training.json", record_of_stage(recipe, "image-text") | {"test": scores})


def _train_actions(recipe: Recipe) -> None:
    folder = recipe.weights / "shared" / "actions"
    if finished(folder):
        return
    config, part = recipe.fit("actions"), BUDGETS[recipe.budget].parts["actions"]
    model = action_reader.train(config, part.batch_size, recipe.device)
    if reached(config):
        action_reader.save(model, folder)
        scores = action_reader.measure(action_reader.load(folder), _test_world(recipe), 400)
        files.write_json(folder / "training.json", record_of_stage(recipe, "actions") | {"test": scores})


def _test_world(recipe: Recipe) -> PuppetWorld:
    return PuppetWorld("test", seed=0, height=recipe.height, width=recipe.width)


_LEAVES: dict[Stage, str] = {
    "autoencoder": "shared/vae/training.json",
    "motion": "shared/vae/motion.json",
    "image-encoder": "shared/image_encoder/training.json",
    "text-to-video": "t2v/transformer/training.json",
    "image-to-video": "i2v/transformer/training.json",
    "magref": "magref/transformer/training.json",
    "kaleido": "kaleido/transformer/training.json",
    "segmenter": "shared/matter/training.json",
    "saber": "saber/transformer/training.json",
    "identity": "identity.safetensors",
    "phrase-segmenter": "shared/phrase_segmenter/training.json",
    "image-text": "shared/image_text/training.json",
    "actions": "shared/actions/training.json",
}
"""The last thing that a finished stage writes."""
_RUN: dict[Stage, Callable[[Recipe], None]] = {
    "autoencoder": _train_autoencoder,
    "motion": _train_motion,
    "image-encoder": _train_image_encoder,
    "text-to-video": _train_text_to_video,
    "image-to-video": _train_image_to_video,
    "magref": _train_magref,
    "kaleido": _train_kaleido,
    "segmenter": _train_segmenter,
    "saber": _train_saber,
    "identity": _train_identity,
    "phrase-segmenter": _train_phrase_segmenter,
    "image-text": _train_image_text,
    "actions": _train_actions,
}
