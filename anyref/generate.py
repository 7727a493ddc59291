"""The command that makes videos: checks everything first, then samples, then writes video, contact sheet and record."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyref.files import write_json
from anyref.jobs import (
    GenerateConfig,
    Job,
    Model,
    Place,
    check,
    describe,
    find_model,
    find_place,
    is_done,
    plan,
)
from anyref.provenance import record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from anyref.matting import Matter
    from anyref.methods.request import Request
    from anyref.pipeline import AnyRefPipeline


def generate(config: GenerateConfig) -> None:
    """Make the videos. Raises ValueError, before a model is loaded and anything written, for what cannot be made."""
    jobs = plan(config)
    place = find_place(config.device, config.dtype, config.offload)
    model = find_model(config)
    requests = [describe(job, check(job, model, config), model, config) for job in jobs]
    todo = [
        pair for pair in zip(jobs, requests, strict=True) if config.case_file is None or not is_done(*pair)
    ]
    if len(todo) < len(jobs):
        print(f"{len(jobs) - len(todo)} of {len(jobs)} videos were finished before")
    if not todo:
        return
    start = time.perf_counter()
    pipeline = load(model, place, config)
    load_s = time.perf_counter() - start
    for number, (job, request) in enumerate(todo, start=1):
        if len(todo) > 1:
            print(f"[{number}/{len(todo)}] {job.case.key}")
        start = time.perf_counter()
        frames_FYX3 = sample(pipeline, check(job, model, config), request["seed"], config)
        timing = {"load_s": round(load_s, 2), "sample_s": round(time.perf_counter() - start, 2)}
        write(
            job,
            frames_FYX3,
            request,
            {"place": {**asdict(place), "offload": config.offload}, "timing": timing},
            config,
        )


def load(model: Model, place: Place, config: GenerateConfig) -> "AnyRefPipeline":
    """The pipeline, on its device, with what cuts subjects out where the user names that."""
    import torch
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    from anyref.pipeline import AnyRefPipeline

    if not sys.stderr.isatty():
        diffusers_logging.disable_progress_bar()
        transformers_logging.disable_progress_bar()
    dtype = getattr(torch, place.dtype)
    matter = None if config.matter is None else load_matter(config.matter, place)
    pipeline = AnyRefPipeline.from_pretrained(
        model.name, method=model.method.name, dtype=dtype, matter=matter
    )
    pipeline.set_progress_bar_config(desc="sampling", disable=None)  # None: only where somebody watches
    if config.offload == "model":
        pipeline.enable_model_cpu_offload(device=place.device)
    elif config.offload == "group":
        pipeline.enable_group_offload(torch.device(place.device), num_blocks_per_group=1, use_stream=True)
    else:
        pipeline.to(place.device)
    return pipeline


def load_matter(name: str, place: Place) -> "Matter":
    """What cuts subjects out: a folder's segmenter, or BiRefNet under its hub id, which is fetched when a picture needs it.

    Raises ValueError for a folder that holds no segmenter.
    """
    from anyref.matting import BiRefNet, Segmenter

    if not Path(name).is_dir():
        return BiRefNet(name, device=place.device)
    try:
        return Segmenter.from_pretrained(name)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(
            f"the matter {name!r} cannot be loaded ({reason.rstrip('.')}); give the folder of a segmenter of transformers"
        ) from error


def sample(
    pipeline: "AnyRefPipeline", request: "Request", seed: int, config: GenerateConfig
) -> "NDArray[np.uint8]":
    """The video, uint8 [F, Y, X, 3]. The noise is drawn on the CPU, so that a seed means the same on every device."""
    import torch

    from anyref.methods.catalogue import read_settings

    sampling = request.sampling
    videos = pipeline(
        prompt=request.prompts,
        reference_images=request.references,
        negative_prompt=sampling.negative_prompt,
        height=sampling.height,
        width=sampling.width,
        num_frames=sampling.num_frames,
        num_inference_steps=sampling.num_inference_steps,
        guidance_scale=sampling.guidance_scale,
        reference_guidance_scale=sampling.reference_guidance_scale,
        generator=torch.Generator("cpu").manual_seed(seed),
        keep_canvas=config.keep_canvas,
        official=config.official,
        shuffle=config.shuffle or None,
        anchor_strength=config.anchor_strength,
        shift=config.shift,
        solver=None if config.solver is None else sampling.solver,
        settings=read_settings(type(request.method), config.settings),
        return_dict=False,
    )[0]
    frames: NDArray[np.uint8] = (videos[0] * 255).round().astype("uint8")
    return frames


def write(
    job: Job,
    frames_FYX3: "NDArray[np.uint8]",
    request: dict[str, Any],
    about: dict[str, Any],
    config: GenerateConfig,
) -> None:
    """Video, contact sheet, and last the record."""
    from anyref.media import contact_sheet, save_image, write_video
    from anyref.references import load_reference

    write_video(frames_FYX3, job.output, fps=request["sampling"]["fps"])
    images = [load_reference(file.path).image for file in job.case.references]
    labels = [file.phrase or file.path.stem for file in job.case.references]
    save_image(contact_sheet(images, frames_FYX3, job.case.prompt, labels), job.sheet)
    files = [job.output, *(file.path for file in job.case.references)]
    write_json(job.record, {"request": request, **about, **record(config, files)})
    count, rows, columns = frames_FYX3.shape[:3]
    sample_s = about["timing"]["sample_s"]
    print(
        f"{job.output}: {count} frames of {rows} x {columns}, sampled in {sample_s} s; contact sheet: {job.sheet}"
    )
