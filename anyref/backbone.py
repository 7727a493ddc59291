"""Load what a training begins with: a pipeline of a method from a backbone that may lack some of its input channels."""

from pathlib import Path

import torch

from anyref.checkpoints.widening import widen_input
from anyref.methods import Method
from anyref.methods.folder import read_folder, resolve_model
from anyref.pipeline import AnyRefPipeline
from anyref.transformer import AnyRefTransformer


def load_backbone(name: str, method: Method) -> AnyRefPipeline:
    """A float32 pipeline of this method from an embedded name, a folder or a hub id; input channels that it lacks are added as zeros.

    Also called in processes of their own, which encode. Raises ValueError where there is no such model or it does not fit the method.
    """
    path = Path(resolve_model(name))
    if path.is_dir():
        found = read_folder(path, method.name).load("transformer", AnyRefTransformer, torch.float32)
    else:
        found = AnyRefTransformer.from_pretrained(name, subfolder="transformer", dtype=torch.float32)
    widen_input(found, method.in_channels)
    return AnyRefPipeline.from_pretrained(name, method=method, transformer=found)
