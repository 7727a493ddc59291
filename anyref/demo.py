"""The demo: draws reference images of a world nobody trained on, and makes a video of them with the ordinary command."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from anyref.jobs import GenerateConfig
from anyref.provenance import command_line


@dataclass(frozen=True)
class DemoConfig:
    """Draw reference images, then make a video of them on this machine; needs no download."""

    output: Path = Path("outputs/demo")
    """Folder for the reference images, the video and its contact sheet."""
    index: int = 21
    """Which scene of the world's test split: its identities and photographs are in no training data."""
    seed: int = 0
    """Seed of the video's noise."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps; auto takes the accelerator if there is one."""


def demo(config: DemoConfig) -> None:
    """Draw the references of a test scene, generate from the files and the scene's caption, say where everything is."""
    from anyref.generate import generate

    prompt, references = draw_references(config)
    request = GenerateConfig(
        prompt=prompt,
        reference=references,
        output=config.output / "video.mp4",
        seed=config.seed,
        device=config.device,
    )
    print(
        f"Reference images, drawn just now, of a scene that no training saw: {config.output / 'references'}"
    )
    print(
        f"Prompt: {prompt}\n\nThe demo now does the same as this command, which takes your own images too:\n"
    )
    print(f"  {as_command(request)}\n")
    generate(request)


def draw_references(config: DemoConfig) -> tuple[str, tuple[str, ...]]:
    """The caption of a test scene, and `phrase=path` of a picture of everything in it, in another pose and light than the scene's."""
    from PIL import Image

    from anyref.files import check_writable
    from anyref.media import save_image
    from anyref.worlds import PuppetWorld

    if config.index < 0:
        raise ValueError(f"the index is {config.index}; it must be 0 or more")
    folder = config.output / "references"
    check_writable(folder / "1.png")
    sample = PuppetWorld("test").clip(config.index)
    references = []
    for number, subject in enumerate(sample.subjects, start=1):
        pictures = [variant.image for variant in subject.references if variant.variant == "cross"]
        if not pictures:
            continue
        path = folder / f"{number}_{subject.label.replace(' ', '_')}.png"
        save_image(Image.fromarray(pictures[0]), path)
        references.append(f"{subject.phrase}={path}")
    return sample.caption, tuple(references)


def as_command(config: GenerateConfig) -> str:
    """The command line that asks for the same."""
    words = [*command_line(), "generate"]
    for text in config.reference:
        words += ["--reference", text]
    words += ["--prompt", config.prompt, "--seed", str(config.seed), "--output", str(config.output)]
    return shlex.join(words)
