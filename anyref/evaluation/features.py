"""Arrays that models made of a video, kept on disk, so that a second metric, a new threshold or a resumed run does not compute them again."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyref.files import atomic


@dataclass(frozen=True)
class FeatureCache:
    """The features of one video: one .npz a key. `folder` None: nothing is kept, as tests and single videos want it."""

    folder: Path | None
    video_sha256: str = ""

    def get_or_compute(self, key: tuple[str, ...], compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array of `key`, computed at most once.

        The key names all that decides the array beside the video's bytes: the model and its revision, what was done to which frames, and the
        references' hash where they enter. A file that cannot be read is computed again.
        """
        if self.folder is None:
            return compute()
        text = json.dumps([self.video_sha256, *key])
        name = hashlib.sha256(text.encode()).hexdigest()
        path = self.folder / name[:2] / f"{name}.npz"
        kept = _read(path, text)
        if kept is not None:
            return kept
        values = compute()
        with atomic(path) as partial:
            np.savez_compressed(partial, values=values, key=np.array(text))
        return values


def _read(path: Path, key: str) -> NDArray[Any] | None:
    if not path.is_file():
        return None
    try:
        # Opened here, because np.load leaves a damaged file open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            values: NDArray[Any] = file["values"]
            return values if str(file["key"]) == key else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
