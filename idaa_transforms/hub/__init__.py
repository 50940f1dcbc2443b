"""Weights by name: the folder format, the names of this release, and the Hugging Face Hub."""

from .folder import WeightsError, save
from .publish import push
from .registry import PRETRAINED, find, list_pretrained, load
from .remote import HubOptions

__all__ = ["PRETRAINED", "HubOptions", "WeightsError", "find", "list_pretrained", "load", "push", "save"]
