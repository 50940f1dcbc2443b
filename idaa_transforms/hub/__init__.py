"""Weights by name: the folder format, the names of this release, and the Hugging Face Hub."""

from .folder import WeightsError, save
from .registry import PRETRAINED, Where, find, list_pretrained, load, push

__all__ = ["PRETRAINED", "WeightsError", "Where", "find", "list_pretrained", "load", "push", "save"]
