"""What the table of models holds, and the table: one row per model and task, read by `anyref.perception.catalogue` and by the reports.

Revisions are commits of the hub repository (those that other projects pin, too), tags of a release where the weights are an asset of it, or
"sha256:..." of a file whose repository's commit is not known: it is fetched as it stands there and refused where it is another.
"""

from dataclasses import dataclass
from typing import Literal

Task = Literal[
    "detector",
    "segmenter",
    "image-encoder",
    "image-text-encoder",
    "video-text-encoder",
    "face-analyser",
    "aesthetic",
    "imaging-quality",
    "video-quality",
    "captioner",
    "tagger",
    "inpainter",
    "varier",
    "judge",
]


@dataclass(frozen=True)
class Entry:
    """A model for a task. The same model may serve several tasks, under the same name."""

    name: str
    task: Task
    module: str
    """ "module:function"; the function takes this entry and a device ("cpu", "cuda", "cuda:1") and returns the model."""
    source: str
    """Hub id, folder, file or address; "" where there is nothing to fetch."""
    revision: str
    licence: str
    """Of the weights, which may be stricter than that of the code."""
    commercial: bool
    """Whether that licence permits commercial use."""
    extra: str = ""
    """The extra of this package that installs what it needs beyond the core; several separated by commas; "" for the core."""
    note: str = ""
    packages: tuple[str, ...] = ()
    """Import names that must be there beyond the core."""
    install: str = ""
    """The line that installs `packages`, where no extra of ours does."""


_HERE = "anyref.perception"
_VBENCH = "pictures resized without antialiasing, as VBench does"
_CLIP_L = "32bd64288804d66eefd0ccbe215aa642df71cc41"
_CLIP_B = "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"

_FINDING: tuple[Entry, ...] = (
    Entry(
        "grounding-dino-base",
        "detector",
        f"{_HERE}.grounding_dino:open_grounding_dino",
        "IDEA-Research/grounding-dino-base",
        "12bdfa3120f3e7ec7b434d90674b3396eccf88eb",
        "Apache-2.0",
        True,
    ),
    Entry(
        "grounding-dino-tiny",
        "detector",
        f"{_HERE}.grounding_dino:open_grounding_dino",
        "IDEA-Research/grounding-dino-tiny",
        "a2bb814dd30d776dcf7e30523b00659f4f141c71",
        "Apache-2.0",
        True,
        note="4 to 8 s a picture on two CPU cores",
    ),
    *(
        Entry(
            f"sam2.1-{size}",
            "segmenter",
            f"{_HERE}.sam2:open_sam2",
            f"facebook/sam2.1-hiera-{size}",
            revision,
            "Apache-2.0",
            True,
        )
        for size, revision in (
            ("tiny", "de431c4043854a71d8101e17995dfe596bf101a5"),
            ("small", "ee5bba1d82bb8749febdf90f45e84b687142ba03"),
            ("large", "665f8e2ad61cf5f53d65644ff27c8ee525124610"),
        )
    ),
)

_ENCODING: tuple[Entry, ...] = (
    Entry(
        "clip-l14",
        "image-text-encoder",
        f"{_HERE}.clip:open_clip",
        "openai/clip-vit-large-patch14",
        _CLIP_L,
        "MIT",
        True,
    ),
    Entry(
        "clip-b32",
        "image-text-encoder",
        f"{_HERE}.clip:open_clip",
        "openai/clip-vit-base-patch32",
        _CLIP_B,
        "MIT",
        True,
    ),
    Entry(
        "clip-b32-vbench",
        "image-text-encoder",
        f"{_HERE}.clip:open_clip_vbench",
        "openai/clip-vit-base-patch32",
        _CLIP_B,
        "MIT",
        True,
        note=_VBENCH,
    ),
    Entry(
        "dino-b16",
        "image-encoder",
        f"{_HERE}.dino:open_dino_vbench",
        "facebook/dino-vitb16",
        "f205d5d8e640a89a2b8ef0369670dfc37cc07fc2",
        "Apache-2.0",
        True,
        note=_VBENCH,
    ),
    Entry(
        "dinov2-base",
        "image-encoder",
        f"{_HERE}.dino:open_dinov2",
        "facebook/dinov2-base",
        "f9e44c814b77203eaa57a6bdbbd535f21ede1415",
        "Apache-2.0",
        True,
    ),
    Entry(
        "dinov2-small",
        "image-encoder",
        f"{_HERE}.dino:open_dinov2",
        "facebook/dinov2-small",
        "ed25f3a31f01632728cabb09d1542f84ab7b0056",
        "Apache-2.0",
        True,
    ),
    Entry(
        "gme-7b",
        "image-text-encoder",
        f"{_HERE}.gme:open_gme",
        "Alibaba-NLP/gme-Qwen2-VL-7B-Instruct",
        "477027a6480f8630363be77751f169cc3434b673",
        "Apache-2.0",
        True,
        note="16 GB",
    ),
    Entry(
        "gme-2b",
        "image-text-encoder",
        f"{_HERE}.gme:open_gme",
        "Alibaba-NLP/gme-Qwen2-VL-2B-Instruct",
        "cfeb66885b598de483cc04eb08c7d9da534d7afe",
        "Apache-2.0",
        True,
        note="fast; its scores do not compare with those of gme-7b",
    ),
    Entry(
        "viclip-l14",
        "video-text-encoder",
        f"{_HERE}.viclip:open_viclip",
        "OpenGVLab/ViCLIP-L-14-hf",
        "1652361522e1cb41c28cdfae870f690d00e7456b",
        "none given; trained on InternVid (CC BY-NC-SA 4.0)",
        False,
    ),
)

_FACES: tuple[Entry, ...] = (
    *(
        Entry(
            f"insightface-{name}",
            "face-analyser",
            f"{_HERE}.faces:open_insightface",
            pack,
            "v0.7",
            "InsightFace model packs: non-commercial research only",
            False,
            "perception",
            "the package fetches the pack from its release; insightface-...@FOLDER takes a folder of .onnx files instead",
            ("insightface", "onnxruntime"),
        )
        for name, pack in (("buffalo-l", "buffalo_l"), ("antelopev2", "antelopev2"))
    ),
    Entry(
        "curricularface",
        "face-analyser",
        f"{_HERE}.curricularface:open_curricularface",
        "BestWishYsh/OpenS2V-Weight",
        "sha256:aa54ae6dc9f7ac6e262809f1a81d6108e221952bf836aee4cb677ef19246c6ec",
        "none given; trained on Glint360K: treat as non-commercial",
        False,
        "perception,curation",
        "faces found by InsightFace, vectors by CurricularFace IR-101 (OpenS2V's FaceSim-Cur)",
        ("insightface", "onnxruntime", "cv2"),
    ),
    Entry(
        "yunet-sface",
        "face-analyser",
        f"{_HERE}.faces:open_yunet_sface",
        "opencv/face_detection_yunet+opencv/face_recognition_sface",
        "3cc26e7f1014a5ee5d74a42acee58bafc9d0a310+3d7082438a6e4551e840c9b2bb60b71e8da4b524",
        "MIT (YuNet), Apache-2.0 (SFace)",
        True,
        "curation",
        "the path without non-commercial weights; its cosines do not compare with ArcFace's",
        ("cv2",),
    ),
)

_RATING: tuple[Entry, ...] = (
    Entry(
        "laion-v2",
        "aesthetic",
        f"{_HERE}.aesthetic:open_laion_v2",
        "https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/6934dd81792f086e613a121dbce43082cb8be85e"
        "/sac+logos+ava1-l14-linearMSE.pth",
        "sha256:21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
        "Apache-2.0",
        True,
        note="sac+logos+ava1-l14-linearMSE on openai/clip-vit-large-patch14",
    ),
    Entry(
        "laion-v1",
        "aesthetic",
        f"{_HERE}.aesthetic:open_laion_v1",
        "https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_l_14_linear.pth",
        "sha256:2cd4e60f4f24ae3bcd57b847b13c1f3ba27edc28cc1a7f9ce74ee9f421243cba",
        "MIT",
        True,
        note=f"VBench's; {_VBENCH}",
    ),
    Entry(
        "musiq-spaq",
        "imaging-quality",
        f"{_HERE}.musiq:open_musiq",
        "musiq-spaq",
        "pyiqa 0.1.16",
        "weights Apache-2.0; the package pyiqa is PolyForm-Noncommercial",
        False,
        packages=("pyiqa",),
        install="pip install 'pyiqa>=0.1.16'",
    ),
    Entry(
        "one-align",
        "video-quality",
        f"{_HERE}.one_align:open_one_align",
        "q-future/one-align",
        "pyiqa 0.1.16",
        "MIT on the hub, S-Lab non-commercial in its repository: treat as non-commercial",
        False,
        note="8B; one forward a frame",
        packages=("pyiqa",),
        install="pip install 'pyiqa>=0.1.16'",
    ),
)

_MAKING: tuple[Entry, ...] = (
    Entry(
        "sdxl-inpaint",
        "inpainter",
        f"{_HERE}.inpainting:open_sdxl_inpaint",
        "diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
        "115134f363124c53c7d878647567d04daf26e41e",
        "OpenRAIL++",
        True,
    ),
    Entry(
        "flux-fill",
        "inpainter",
        f"{_HERE}.inpainting:open_flux_fill",
        "black-forest-labs/FLUX.1-Fill-dev",
        "358293da0354175698b67ec8299acf928313a78a",
        "FLUX.1 [dev] Non-Commercial",
        False,
    ),
    Entry(
        "telea",
        "inpainter",
        f"{_HERE}.inpainting:open_telea",
        "",
        "OpenCV 4",
        "Apache-2.0",
        True,
        "curation",
        "no network: smears what surrounds the hole into it",
        ("cv2",),
    ),
    Entry(
        "flux-redux",
        "varier",
        f"{_HERE}.variation:open_flux_redux",
        "black-forest-labs/FLUX.1-Redux-dev",
        "1282f955f706b5240161278f2ef261d2a29ad649",
        "FLUX.1 [dev] Non-Commercial",
        False,
        note="Kaleido's; draws with FLUX.1-dev",
    ),
    Entry(
        "flux-kontext",
        "varier",
        f"{_HERE}.variation:open_flux_kontext",
        "black-forest-labs/FLUX.1-Kontext-dev",
        "af58063aa431f4d2bbc11ae46f57451d4416a170",
        "FLUX.1 [dev] Non-Commercial",
        False,
    ),
    Entry(
        "qwen-image-edit",
        "varier",
        f"{_HERE}.variation:open_qwen_image_edit",
        "Qwen/Qwen-Image-Edit-2509",
        "d3968ef930e841f4c73640fb8afa3b306a78167e",
        "Apache-2.0",
        True,
        "gpu",
        note="its processor needs torchvision",
        packages=("torchvision",),
    ),
)

_WORDS: tuple[Entry, ...] = tuple(
    entry
    for task in ("captioner", "tagger", "judge")
    for entry in (
        Entry(
            "qwen2.5-vl-7b",
            task,
            f"{_HERE}.language:open_qwen_{task}",
            "Qwen/Qwen2.5-VL-7B-Instruct",
            "cc594898137f460bfe9f0759e9844b3ce807cfb5",
            "Apache-2.0",
            True,
            note="in process; useless on a CPU",
        ),
        Entry(
            "endpoint",
            task,
            f"{_HERE}.language:open_endpoint_{task}",
            "http://localhost:8000/v1#Qwen/Qwen2.5-VL-7B-Instruct",
            "",
            "that of the served model",
            True,
            note=(
                "any OpenAI-compatible address, such as vLLM's: endpoint@http://HOST:PORT/v1#MODEL; "
                "a key is read from ANYREF_API_KEY"
            ),
        ),
    )
)

_PUPPETS: tuple[Entry, ...] = tuple(
    Entry(
        "puppets",
        task,
        f"{_HERE}.puppets:{task.replace('-', '_')}",
        "anyref/puppets/weights",
        "",
        "Apache-2.0",
        True,
        note="embedded; knows the puppet world and nothing else",
    )
    for task in (
        "detector",
        "segmenter",
        "image-encoder",
        "image-text-encoder",
        "face-analyser",
        "aesthetic",
        "captioner",
        "tagger",
        "inpainter",
        "varier",
    )
)

ENTRIES: tuple[Entry, ...] = (*_FINDING, *_ENCODING, *_FACES, *_RATING, *_MAKING, *_WORDS, *_PUPPETS)
"""Every model, by task."""
