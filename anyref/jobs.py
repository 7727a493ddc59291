"""What `anyref generate` is asked for: its flags, and all checks, which come before a model is loaded."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from anyref.cases import Case, parse_reference, read_case_file
from anyref.files import check_writable, sha256

if TYPE_CHECKING:
    from anyref.methods import Method
    from anyref.methods.folder import ModelFolder
    from anyref.methods.request import Request

DEFAULT_METHOD = "magref"
MAX_SEED = 2**63 - 1
MAX_HASHED_BYTES = 4 * 10**9
"""Models up to this size are identified by all their bytes, larger ones by the names and sizes of their files."""


def shown(kind: str, default: str) -> object:
    """How the help shows a flag that has None for a default."""
    return tyro.conf.arg(metavar=kind, help_behavior_hint=f"(default: {default})")


ModelInt = Annotated[int | None, shown("INT", "the model's")]
ModelFloat = Annotated[float | None, shown("FLOAT", "the model's")]
ModelText = Annotated[str | None, shown("STR", "the model's")]


@dataclass(frozen=True)
class GenerateConfig:
    """Make a video in which the people and things of reference images do what a sentence says.

    Beside the video OUT.mp4 stand OUT.json (all that is needed to make it again) and OUT.png (references and frames on one sheet).
    """

    prompt: str = ""
    """What happens in the video."""
    reference: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """An image file; "red hat=hat.png" names its words of the prompt (the same words again: another view); "background:sky.png": all of it counts."""
    output: Annotated[Path | None, shown("PATH", "outputs/video.mp4, or outputs/cases")] = None
    """The video (.mp4, .mov, .mkv); with --case-file the folder of the videos. A file that is there is replaced."""
    method: Annotated[str | None, shown("STR", "the model's, or magref")] = None
    """How references reach the model: magref, kaleido or saber; `anyref methods` says what each accepts."""
    model: Annotated[str | None, shown("STR", "puppets/METHOD")] = None
    """An embedded model, a folder in diffusers' format, or a hub id."""
    seed: Annotated[int | None, shown("INT", "0; with --official the release's")] = None
    """Same seed, same video, on the same machine."""
    num_frames: ModelInt = None
    """How many frames, 4k + 1."""
    height: ModelInt = None
    """Rows of pixels, a multiple of 16."""
    width: ModelInt = None
    """Columns of pixels, a multiple of 16."""
    negative_prompt: ModelText = None
    """What guidance leads away from."""
    steps: ModelInt = None
    """Steps of the solver."""
    guidance: ModelFloat = None
    """Scale of guidance by the prompt; 1 is none, and twice as fast."""
    reference_guidance: ModelFloat = None
    """Scale of guidance by the references, away from the same video without them; 1 is none, others take half as long again."""
    shift: ModelFloat = None
    """How much of the steps goes to high noise."""
    solver: ModelText = None
    """unipc, euler or dpm++."""
    fps: ModelFloat = None
    """Frames per second of the file; does not change the frames."""
    anchor_strength: ModelFloat = None
    """How strongly each phrase is tied to its reference (MAGREF's subject disentanglement); 0 turns it off."""
    settings: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(name="set", metavar="NAME=VALUE"),
    ] = ()
    """One of the method's settings for this video, such as "positions=concat"; `anyref methods` lists them. Repeat it for each."""
    matter: Annotated[str | None, shown("STR", "the model's")] = None
    """What cuts subjects out for methods that want that: a segmenter's folder, or BiRefNet's hub id ZhengPeng7/BiRefNet, whose own code then runs."""
    keep_canvas: bool = False
    """Keep the first frames, in which the video leaves the canvas of references."""
    shuffle: bool = False
    """Put the references on the canvas in an order drawn from the seed."""
    official: bool = False
    """Sample exactly as the method's public release does."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes the accelerator if there is one."""
    dtype: str = "auto"
    """float32, bfloat16 or float16; auto is float32 on a CPU and bfloat16 elsewhere."""
    offload: Literal["none", "model", "group"] = "none"
    """Where weights wait: on the accelerator; in main memory, each model fetched when its turn comes; or block by block."""
    case_file: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="(default: none)")] = (
        None
    )
    """Text file with one video per line, key@@prompt@@image@@image...; finished ones are left as they are."""


@dataclass(frozen=True)
class Job:
    """A case and the file of its video."""

    case: Case
    output: Path

    @property
    def sheet(self) -> Path:
        """The contact sheet."""
        return self.output.with_suffix(".png")

    @property
    def record(self) -> Path:
        """All that is needed to make the video again; written last, so where it is the rest is."""
        return self.output.with_suffix(".json")


@dataclass(frozen=True)
class Model:
    """A model that is there, and not loaded yet. `sha256` and `folder` are None for one that is still on the hub."""

    name: str
    method: "Method"
    sha256: str | None
    folder: "ModelFolder | None" = None


@dataclass(frozen=True)
class Place:
    """Where to compute, and in what precision, by torch's names."""

    device: str
    dtype: str


def plan(config: GenerateConfig) -> tuple[Job, ...]:
    """What to make and where. Raises ValueError for references that are not there and places that cannot be written."""
    from anyref.media import check_video_path

    if config.seed is not None and not 0 <= config.seed <= MAX_SEED:
        raise ValueError(f"the seed is {config.seed}; it must lie between 0 and {MAX_SEED}")
    if config.case_file is not None:
        if config.prompt or config.reference:
            raise ValueError(
                "a case file has prompts and references of its own; leave out --prompt and --reference"
            )
        folder = config.output or Path("outputs/cases")
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"the output {folder} is a file; with --case-file give a folder")
        jobs = tuple(Job(case, folder / f"{case.key}.mp4") for case in read_case_file(config.case_file))
    else:
        if not config.reference:
            raise ValueError("no reference image was given; add at least one --reference image.png")
        output = config.output or Path("outputs/video.mp4")
        check_video_path(output)
        references = tuple(parse_reference(text) for text in config.reference)
        jobs = (Job(Case(output.stem, config.prompt, references), output),)
    for path in (path for job in jobs for path in (job.output, job.sheet, job.record)):
        if path.is_dir():
            raise ValueError(f"the output {path} is a folder; choose another name, or remove it")
        check_writable(path)
    return jobs


def find_place(device: str = "auto", dtype: str = "auto", offload: str = "none") -> Place:
    """Device and dtype. Raises ValueError for those that this machine or torch does not have."""
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    available = {"cpu": 1}
    if accelerator is not None:
        available[accelerator.type] = torch.accelerator.device_count()
    chosen = device if device != "auto" else list(available)[-1]
    kind, _, index = chosen.partition(":")
    if kind not in available or not (index == "" or (index.isdigit() and int(index) < available[kind])):
        raise ValueError(
            f"the device {device!r} is not there; this machine has {', '.join(available)}; auto chooses"
        )
    if offload != "none" and kind == "cpu":
        raise ValueError(f"--offload {offload} needs an accelerator, and the device is the CPU; leave it out")
    precision = dtype if dtype != "auto" else ("float32" if kind == "cpu" else "bfloat16")
    if precision not in {"float32", "bfloat16", "float16"}:
        raise ValueError(f"dtype is {dtype!r}; it must be float32, bfloat16, float16 or auto")
    return Place(chosen, precision)


def find_model(config: GenerateConfig) -> Model:
    """The model and its method, without loading it. Raises ValueError where there is none, it is not whole, or its matter is not there."""
    from anyref.methods import make_method
    from anyref.methods.folder import PARTS, RECORD, is_hub_id, read_folder, resolve_model

    matter = config.matter
    if matter is not None and not Path(matter).is_dir() and (Path(matter).exists() or not is_hub_id(matter)):
        raise ValueError(
            f"the matter {matter!r} is not there; give a segmenter's folder or BiRefNet's hub id, ZhengPeng7/BiRefNet"
        )
    method = make_method(config.method or DEFAULT_METHOD)
    name = config.model or f"puppets/{method.name}"
    path = Path(resolve_model(name))
    if not path.is_dir():
        return Model(name, method, None)
    recorded = (path / RECORD).is_file()
    folder = read_folder(path, config.method if recorded else method.name)
    parts = [part for part in map(folder.part, PARTS) if part is not None]
    return Model(name, folder.method, _fingerprint(parts), folder)


def check(job: Job, model: Model, config: GenerateConfig) -> "Request":
    """Read the references and fill in the model's defaults. Raises ValueError for what the model cannot make of them."""
    from anyref.methods.request import Prompts, check_cut_out, read_request, sampling_for_call
    from anyref.references import load_reference

    method = _method(model, config)
    try:
        sampling = sampling_for_call(
            method, config.official, config.keep_canvas,
            height=config.height, width=config.width, num_frames=config.num_frames, fps=config.fps,
            num_inference_steps=config.steps, guidance_scale=config.guidance, shift=config.shift, solver=config.solver,
            negative_prompt=config.negative_prompt, reference_guidance_scale=config.reference_guidance,
        )  # fmt: skip
        if not math.isfinite(sampling.shift):
            raise ValueError(
                f"shift is {sampling.shift}; it must be a positive number; 1 leaves the sigmas as they are"
            )
        if not sampling.fps <= 240:
            raise ValueError(f"fps is {sampling.fps}; it must be above 0 and at most 240")
        references = [load_reference(f.path, phrase=f.phrase, kind=f.kind) for f in job.case.references]
        request = read_request(
            method,
            sampling,
            Prompts(job.case.prompt),
            references,
            num_videos=1,
            keep_canvas=config.keep_canvas,
        )
        folder = model.folder
        check_cut_out(
            request, config.matter is not None or folder is None or folder.part("matter") is not None
        )
        return request
    except ValueError as error:
        if job.case.line is None:
            raise
        raise ValueError(
            f"the case file {config.case_file} cannot be used; line {job.case.line}: {error}"
        ) from error


def _method(model: Model, config: GenerateConfig) -> "Method":
    """The model's method with the settings asked for. Raises ValueError for those that it, or the model's transformer, cannot have."""
    from anyref.methods.catalogue import read_settings
    from anyref.methods.folder import check_parts
    from anyref.methods.request import for_call

    given = {"anchor_strength": config.anchor_strength, "shuffle": config.shuffle or None}
    settings = read_settings(type(model.method), config.settings)
    method = for_call(model.method, config.official, given, settings)
    if model.folder is not None and (parts := model.folder.transformer_config()) is not None:
        check_parts(method, parts, has_image_encoder=model.folder.part("image_encoder") is not None)
    return method


def describe(job: Job, request: "Request", model: Model, config: GenerateConfig) -> dict[str, Any]:
    """All that decides which video comes out, as JSON: two equal descriptions ask for the same video."""
    from anyref.methods.folder import record_of

    settings = {name: value for name, value in record_of(request.method).items() if name != "defaults"}
    return {
        "prompt": job.case.prompt,
        "references": [
            {"phrase": file.phrase, "kind": file.kind, "sha256": sha256(file.path)}
            for file in job.case.references
        ],
        "model": {"name": model.name, "sha256": model.sha256},
        "method": settings,
        "sampling": asdict(request.sampling),
        "matter": config.matter,
        "official": config.official,
        "keep_canvas": config.keep_canvas,
        "seed": config.seed if config.seed is not None else request.sampling.seed or 0,
    }


def is_done(job: Job, request: dict[str, Any]) -> bool:
    """Whether the video of this request was finished before."""
    try:
        made = json.loads(job.record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    asked = json.loads(json.dumps(request))  # as JSON has it: lists for tuples
    return job.output.is_file() and isinstance(made, dict) and made.get("request") == asked


def _fingerprint(folders: list[Path]) -> str:
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
    large = sum(file.stat().st_size for file in files) > MAX_HASHED_BYTES
    listing = [
        f"{file.parent.name}/{file.name} {file.stat().st_size if large else sha256(file)}" for file in files
    ]
    return hashlib.sha256("\n".join(listing).encode()).hexdigest()
