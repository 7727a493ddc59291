"""The puppet world: endless drawn clips with captions, masks, boxes, identities and reference images."""

from anyref.worlds.actions import ACTIONS
from anyref.worlds.captions import unknown_words, vocabulary
from anyref.worlds.dataset import PuppetWorld
from anyref.worlds.identities import LABELS, SETTINGS
from anyref.worlds.preview import write_preview

__all__ = ["ACTIONS", "LABELS", "SETTINGS", "PuppetWorld", "unknown_words", "vocabulary", "write_preview"]
