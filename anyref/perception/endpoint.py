"""A language model that sees, behind any OpenAI-compatible address: vLLM, SGLang, a hosted one.

Nothing but the standard library. The address and the model are the catalogue's source, "http://HOST:PORT/v1#MODEL"; a key, where one is
needed, comes from the environment variable ANYREF_API_KEY and is never written anywhere.
"""

import base64
import io
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from PIL import Image

from anyref.perception import ModelCard, Picture
from anyref.perception.models import Entry
from anyref.perception.preparation import card, pil

KEY = "ANYREF_API_KEY"
LONGER_SIDE = 512
"""Pixels of a picture that is sent, at most (OpenS2V's judge)."""
TEMPERATURE, TOP_P, REPETITION = 0.1, 0.001, 1.05
"""As OpenS2V captions; its judge is asked at the server's own temperature."""
_ATTEMPTS = 5
_LATER = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""HTTP statuses after which asking again can help."""


class NoAnswerError(ConnectionError):
    """A server that is not there, or will not answer: no fault of what was asked, which may be asked again later."""


class Endpoint:
    """See the module. `sleep` is replaced in tests."""

    def __init__(
        self,
        address: str,
        model: str,
        card: ModelCard,
        *,
        timeout_s: float = 300.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not address.startswith(("http://", "https://")) or not model:
            raise ValueError(
                f"{address!r} with the model {model!r} is no address of a language model; say endpoint@http://HOST:PORT/v1#MODEL"
            )
        self._url = address.rstrip("/") + "/chat/completions"
        self._model = model
        self._timeout_s = timeout_s
        self._sleep = sleep
        self.card = card

    def ask(self, text: str, pictures: Sequence[Picture], max_tokens: int, seed: int | None = None) -> str:
        """See `anyref.perception.language.Chat`. Busy and failing servers are asked up to five times, 1, 2, 4, 8 s apart.

        Raises NoAnswerError, a ConnectionError, for one that does not answer, ValueError for an answer that is none of a chat.
        """
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": as_url(image)}} for image in pil(pictures)
        ]
        content.append({"type": "text", "text": text})
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": max_tokens,
            **({"temperature": TEMPERATURE, "top_p": TOP_P, "seed": 0} if seed is None else {"seed": seed}),
        }
        answer = self._post(body)
        try:
            spoken = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            spoken = None
        if not isinstance(spoken, str):
            raise ValueError(
                f"{self._url} gave no chat answer ({str(answer)[:120]}); check the address and the model"
            )
        return spoken

    def _post(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        request = Request(self._url, json.dumps(body).encode(), headers)
        reason = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._sleep(2.0 ** (attempt - 1))
            try:
                with urlopen(request, timeout=self._timeout_s) as response:
                    return json.loads(response.read())
            except HTTPError as error:
                reason = f"HTTP {error.code}: {error.read()[:200].decode(errors='replace')}"
                if error.code not in _LATER:
                    break
            except (URLError, TimeoutError, ConnectionError, json.JSONDecodeError) as error:
                reason = str(error)
        raise NoAnswerError(
            f"{self._url} did not answer ({reason}); start the server or give another endpoint@ADDRESS#MODEL"
        )


def as_url(picture: Image.Image) -> str:
    """A picture, shrunk to 512 pixels on its longer side, as a JPEG inside an address."""
    small = picture.copy()
    small.thumbnail((LONGER_SIDE, LONGER_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, format="JPEG", quality=92)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def open_endpoint(entry: Entry, device: str) -> Endpoint:  # noqa: ARG001 - it computes elsewhere
    """Nothing is asked yet, so a server that is not there shows with the first question."""
    address, _, model = entry.source.partition("#")
    return Endpoint(address, model, card(entry))
