"""Model cards of the embedded models, written from what the recipe and the measurement recorded."""

import json
from pathlib import Path
from typing import Any

SCORES = "measure.json"
_ABOUT = {
    "shared": "Autoencoder, text encoder with its tokenizer, image encoder; what cuts subjects out; and what looks at videos.",
    "t2v": "Text-to-video backbone. It takes no references; the others are fine-tuned from it.",
    "i2v": "Image-to-video backbone, fine-tuned from the text-to-video one.",
    "magref": "MAGREF (arXiv 2505.23742), fine-tuned from the image-to-video backbone on cross-pairs with shuffled slots.",
    "kaleido": "Kaleido (arXiv 2510.18573), fine-tuned from the text-to-video backbone: clean reference tokens at positions of their own.",
    "saber": "Saber (arXiv 2512.06905), fine-tuned from the text-to-video backbone with wider patches, on masked frames of clips alone.",
}


def write(weights: Path) -> list[Path]:
    """A README.md in each model folder under `weights`; returns the cards."""
    written = []
    for name, about in _ABOUT.items():
        folder = weights / name
        if folder.is_dir():
            card = folder / "README.md"
            card.write_text(_card(name, about, folder), encoding="utf-8")
            written.append(card)
    return written


def _card(name: str, about: str, folder: Path) -> str:
    lines = [
        f"# puppets/{name}",
        "",
        about,
        "",
        "A toy of Wan2.1's architecture for a drawn world: it shows how the method works, not what the published weights look like.",
        "Trained from nothing by `anyref puppets train` on clips of `anyref/worlds`; no outside data but the photographs listed there.",
        "Apache-2.0.",
        "",
        "## Training",
        "",
    ]
    for path in sorted([*folder.glob("*/training.json"), *folder.glob("*/motion.json")]):
        record = json.loads(path.read_text(encoding="utf-8"))
        numbers = ", ".join(f"{key} {_short(value)}" for key, value in record["numbers"].items() if value)
        lines.append(
            f"* `{path.parent.name}`: stage {record['stage']}, budget {record['budget']}, seed {record['seed']} ({numbers})"
        )
        if "mask_iou" in record:
            lines.append(f"  Mask IoU on pictures of test identities: {record['mask_iou']:.3f}.")
        if "test" in record:
            shown = ", ".join(f"{key} {value:.3f}" for key, value in record["test"].items())
            lines.append(f"  On test identities: {shown}.")
        if "psnr_db" in record:
            scores = record["psnr_db"]
            lines.append(
                f"  Reconstruction of test identities: {scores['clips']:.1f} dB on clips, {scores['canvases']:.1f} dB on canvases."
            )
    scores_path = folder / SCORES
    if scores_path.is_file():
        lines += _scores(json.loads(scores_path.read_text(encoding="utf-8")))
    return "\n".join([*lines, ""])


def _scores(record: dict[str, Any]) -> list[str]:
    real = record.get("real", {})
    rows = [
        (
            name,
            _interval(one),
            str(one["trials"]),
            "" if one.get("chance") is None else f"{one['chance']:.3f}",
            _interval(real[name]) if name in real else "",
        )
        for name, one in record["results"].items()
    ]
    return [
        "",
        "## Scores on test identities",
        "",
        "With 95 % bootstrap intervals over clips; `anyref puppets measure` says what each one means.",
        "",
        "| measure | value | clips | chance | real clips |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _interval(one: dict[str, Any]) -> str:
    return f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


def _short(value: Any) -> str:
    return json.dumps(value) if isinstance(value, list | dict) else f"{value}"
