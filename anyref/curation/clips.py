"""What a stage's worker takes from a clip and leaves in the store: frames, pictures, vectors, and seeds that are equal in every run."""

import hashlib
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref import footage
from anyref.curation.records import Clip, Rectangle, from_json
from anyref.curation.stage import Record, Resources
from anyref.curation.store import Store
from anyref.perception import Picture

ONE_CPU = Resources()
"""What a worker needs that computes little, or whose model runs on a CPU."""


def clip_of(record: Record) -> Clip:
    """The clip of a record of kind "clip"."""
    return from_json(Clip, record["clip"])


def evenly(clip: Clip, count: int) -> list[int]:
    """Up to `count` frame numbers of the film, evenly spaced over the clip, its first and last frame among them (one: the middle)."""
    if count == 1:
        return [clip.start_frame + clip.num_frames // 2]
    places = np.linspace(0, clip.num_frames - 1, min(count, clip.num_frames)).round().astype(int)
    return [clip.start_frame + int(place) for place in np.unique(places)]


def pictures(record: Record, store: Store, frames: Sequence[int]) -> list[Picture]:
    """Frames of the clip's film by their numbers, whole, as displayed."""
    clip = clip_of(record)
    with store.film(record["source"]["uri"]) as path:
        return footage.frames_at(path, list(frames), start=footage.Start(clip.start_frame, clip.start_pts))


def inside(picture: NDArray[np.generic], crop: Rectangle) -> NDArray[np.generic]:
    """The part of a frame or mask [Y, X, ...] that is left when black bars are cut off."""
    top, left, bottom, right = (int(side) for side in crop)
    return picture[top:bottom, left:right]


def put_picture(store: Store, picture: NDArray[np.uint8]) -> str:
    """Keep a picture, RGB or RGBA, as PNG; returns its name."""
    data = io.BytesIO()
    Image.fromarray(picture).save(data, format="PNG", compress_level=6)
    return store.put(data.getvalue(), ".png")


def read_picture(store: Store, uri: str) -> NDArray[np.uint8]:
    """A picture that `put_picture` kept: uint8 [Y, X, 3 or 4]."""
    with store.open(uri) as file:
        return np.array(Image.open(io.BytesIO(file.read())))


def put_vectors(store: Store, vectors_ND: NDArray[np.float32]) -> str:
    """Keep vectors as a NumPy file; returns its name."""
    data = io.BytesIO()
    np.save(data, np.ascontiguousarray(vectors_ND, dtype=np.float32), allow_pickle=False)
    return store.put(data.getvalue(), ".npy")


def read_vectors(store: Store, uri: str) -> NDArray[np.float32]:
    """Vectors that `put_vectors` kept."""
    vectors: NDArray[np.float32] = np.load(io.BytesIO(store.read(uri)), allow_pickle=False)
    return vectors


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors [..., D] scaled to length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def seed_of(*parts: object) -> int:
    """A seed, 0 to 2**31 - 1, that is a function of the parts' texts."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def device_of(resources: Resources) -> str:
    """Where a worker's models run: an accelerator where it asked for one. Not a setting, because it is not part of what is computed."""
    return "cuda" if resources.gpus > 0 else "cpu"
