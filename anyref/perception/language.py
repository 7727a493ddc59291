"""Describes clips, names what a caption names, judges videos: prompts and answers of a language model that sees.

The model is a `Chat`: an OpenAI-compatible address (`anyref.perception.endpoint`) or Qwen2.5-VL in this process
(`anyref.perception.qwen_chat`). Answers are read strictly: what is not in the caption is no tag, what is no number from 1 to 5 is no rating.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from anyref.perception import ModelCard, Picture, Tag
from anyref.perception.endpoint import open_endpoint
from anyref.perception.models import Entry
from anyref.perception.qwen_chat import open_qwen
from anyref.samples import KINDS

NUM_FRAMES = 16
"""Frames that a captioner and a judge are shown, evenly spread with first and last (OpenS2V)."""
CAPTION_TOKENS = 512
ATTEMPTS = 3
_NEXT_ATTEMPT = 1000

CAPTION = (
    "These are frames of one video clip, in order. Describe the clip in one paragraph, beginning with its main subjects: what they are, how "
    "they look (clothing, colours, distinctive things), how they change and what they do from the first frame to the last. Then describe "
    "the surroundings and how the camera moves. Say only what can be seen; do not mention frames or guess names."
)
TAG = (
    "Below is the caption of a video clip. List the things that it names and that could be cut out of a frame, and the surroundings. "
    'Answer with JSON only: {"tags": [{"phrase": ..., "kind": ..., "label": ...}]}. '
    '"phrase" is copied from the caption letter by letter, the shortest words that name the thing with its own adjectives '
    '("red top", not "top"), without articles and numbers. "kind" is one of person, animal, clothing, object, background. "label" is its '
    "class, one singular noun. Leave out parts of bodies, actions, feelings, light and anything that cannot be touched, except the "
    "background. Caption:\n"
)
JUDGE = (
    "\nThese frames, in order, are from a video made for the prompt below. Answer with JSON only: an object that maps the name of each "
    "criterion to a number from 1 (worst) to 5 (best). Prompt:\n"
)


class Chat(Protocol):
    """A language model that sees."""

    card: ModelCard

    def ask(self, text: str, pictures: Sequence[Picture], max_tokens: int, seed: int | None = None) -> str:
        """The answer to a text about pictures (or none): the likeliest, or with a seed one that is drawn, another for another seed.

        Raises ValueError for an answer that is none, ConnectionError where none is to be had now.
        """


class Mention(NamedTuple):
    """What a model says that a caption names."""

    phrase: str
    kind: str
    label: str


class ChatCaptioner:
    """See `anyref.perception.Captioner`."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self.card = chat.card

    def caption(self, frames: Sequence[Picture]) -> str:
        """Sixteen of the frames go to the model."""
        return " ".join(self._chat.ask(CAPTION, spread(frames, NUM_FRAMES), CAPTION_TOKENS).split())


class ChatTagger:
    """See `anyref.perception.Tagger`."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self.card = chat.card

    def tags(self, caption: str) -> list[Tag]:
        """Raises ValueError if the model does not answer with JSON, three times."""
        answer = ask_json(self._chat, TAG + caption, ())
        listed = answer.get("tags")
        mentions = []
        for item in listed if isinstance(listed, list) else []:
            if isinstance(item, dict) and all(isinstance(item.get(key), str) for key in ("phrase", "kind")):
                label = item.get("label")
                mentions.append(
                    Mention(item["phrase"], item["kind"], label if isinstance(label, str) else "")
                )
        return place(caption, mentions)


class ChatJudge:
    """See `anyref.perception.Judge`."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self.card = chat.card

    def judge(
        self, frames: Sequence[Picture], prompt: str, instructions: str, seed: int = 0
    ) -> dict[str, float]:
        """Raises ValueError if the model does not answer with JSON, or a rating is not a number from 1 to 5."""
        answer = ask_json(self._chat, instructions + JUDGE + prompt, spread(frames, NUM_FRAMES), seed)
        ratings = {}
        for criterion, value in answer.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 5:
                raise ValueError(
                    f"{self.card.name} rated {criterion!r} with {value!r}; a rating is a number from 1 to 5: use another judge"
                )
            ratings[criterion] = float(value)
        return ratings


def ask_json(chat: Chat, text: str, pictures: Sequence[Picture], seed: int | None = None) -> dict[str, Any]:
    """The JSON object in the model's answer, wherever it stands in it. Raises ValueError after three answers without one."""
    answer = ""
    for attempt in range(ATTEMPTS):
        # A seed of its own: the same request would get the same answer.
        drawn = None if seed is None else seed + attempt * _NEXT_ATTEMPT
        answer = chat.ask(text, pictures, CAPTION_TOKENS, drawn)
        start = answer.find("{")
        while start >= 0:
            try:
                found, _ = json.JSONDecoder().raw_decode(answer, start)
            except json.JSONDecodeError:
                start = answer.find("{", start + 1)
                continue
            if isinstance(found, dict):
                return found
    raise ValueError(
        f"{chat.card.name} did not answer with JSON in {ATTEMPTS} attempts (last: {answer[:80]!r}); use another model"
    )


def place(caption: str, mentions: Iterable[Mention]) -> list[Tag]:
    """Where each phrase stands in the caption, as whole words, at its first place that is free; longer phrases choose first.

    Phrases that are not in the caption, and kinds that there are not, are left out: models invent both (OpenS2V, curation.md 4.1).
    """
    taken = np.zeros(len(caption), dtype=np.bool_)
    tags = []
    for mention in sorted(dict.fromkeys(mentions), key=lambda mention: -len(mention.phrase)):
        phrase = mention.phrase.strip()
        if not phrase or mention.kind not in KINDS:
            continue
        for match in re.finditer(rf"(?<!\w){re.escape(phrase)}(?!\w)", caption, re.IGNORECASE):
            if not taken[match.start() : match.end()].any():
                taken[match.start() : match.end()] = True
                label = mention.label.strip().lower() or phrase.split()[-1].lower()
                tags.append(Tag(match.start(), match.end(), mention.kind, label))
                break
    return sorted(tags, key=lambda tag: tag.start)


def spread(frames: Sequence[Picture], count: int) -> list[Picture]:
    """At most `count` of the frames, evenly spread, first and last among them. Raises ValueError for no frames."""
    if not frames:
        raise ValueError("there are no frames to look at; give at least one")
    if len(frames) <= count:
        return list(frames)
    return [frames[int(index)] for index in np.linspace(0, len(frames) - 1, count)]


def open_endpoint_captioner(entry: Entry, device: str) -> ChatCaptioner:
    """See `anyref.perception.endpoint`."""
    return ChatCaptioner(open_endpoint(entry, device))


def open_endpoint_tagger(entry: Entry, device: str) -> ChatTagger:
    """See `anyref.perception.endpoint`."""
    return ChatTagger(open_endpoint(entry, device))


def open_endpoint_judge(entry: Entry, device: str) -> ChatJudge:
    """See `anyref.perception.endpoint`."""
    return ChatJudge(open_endpoint(entry, device))


def open_qwen_captioner(entry: Entry, device: str) -> ChatCaptioner:
    """See `anyref.perception.qwen_chat`."""
    return ChatCaptioner(open_qwen(entry, device))


def open_qwen_tagger(entry: Entry, device: str) -> ChatTagger:
    """See `anyref.perception.qwen_chat`."""
    return ChatTagger(open_qwen(entry, device))


def open_qwen_judge(entry: Entry, device: str) -> ChatJudge:
    """See `anyref.perception.qwen_chat`."""
    return ChatJudge(open_qwen(entry, device))
