"""Weights by name: the folder format, the names of this release, and the Hugging Face Hub."""

from .folder import WeightsError, save
from .publish import push
from .registry import PRETRAINED, find, list_pretrained, load
from .remote import Where

__all__ = ["PRETRAINED", "WeightsError", "Where", "find", "list_pretrained", "load", "push", "save"]
