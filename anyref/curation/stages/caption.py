"""S3: what happens in the clip, said around its subjects (MAGREF B.1, Kaleido 3.2 (1), Saber)."""

from dataclasses import dataclass
from typing import ClassVar, cast

from anyref.curation.clips import ONE_CPU, clip_of, device_of, evenly, inside, pictures
from anyref.curation.records import Caption, to_json
from anyref.curation.stage import Outcome, Record, Resources
from anyref.curation.store import Store
from anyref.perception import Captioner, Picture
from anyref.perception.models import Task


@dataclass(frozen=True)
class CaptionStage:
    """Captions a clip from evenly spaced frames, black bars cut off.

    16 frames and the prompt's wishes (appearance and changes of the subject; environment and camera kept) as MAGREF B.1 and OpenS2V's
    released pipeline have them; the model's adapter holds the prompt.
    """

    model: str = "qwen2.5-vl-7b"
    """A captioner of `anyref.perception.catalogue`."""
    num_frames: int = 16
    prompt_id: str = "subject-centric"
    resources: Resources = ONE_CPU
    name: ClassVar[str] = "caption"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"source", "clip"})
    writes: ClassVar[frozenset[str]] = frozenset({"caption"})

    def models(self) -> dict[Task, str]:
        """See `OpensModels`."""
        return {"captioner": self.model}

    def open(self) -> "CaptionWorker":
        """See `Stage`."""
        from anyref.perception.catalogue import open_model

        model = open_model("captioner", self.model, device_of(self.resources))
        return CaptionWorker(self, cast("Captioner", model))


@dataclass(frozen=True)
class CaptionWorker:
    """See `CaptionStage`."""

    stage: CaptionStage
    captioner: Captioner

    def __call__(self, record: Record, store: Store) -> Outcome:
        """Writes `caption`; a clip about which the model says nothing is dropped."""
        clip = clip_of(record)
        numbers = evenly(clip, self.stage.num_frames)
        frames = [
            cast("Picture", inside(frame, clip.crop)).copy() for frame in pictures(record, store, numbers)
        ]
        text = " ".join(self.captioner.caption(frames).split())
        if not text:
            return Outcome("dropped", "caption: the model said nothing about the clip")
        card = self.captioner.card
        caption = Caption(
            text=text,
            model=f"{card.source}@{card.revision}",
            prompt_id=self.stage.prompt_id,
            num_frames=len(numbers),
            seed=None,
            status="ok" if text[-1] in '.!?"' else "truncated",
        )
        return Outcome.ok(record.with_values({"caption": to_json(caption)}))
