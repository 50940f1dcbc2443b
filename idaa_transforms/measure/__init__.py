"""Measure how hard views are and how much identity they keep, and choose eps by that."""

from .calibration import Calibration, calibrate
from .identity import IdentityMeter
from .models import ModelError, load_model

__all__ = ["Calibration", "IdentityMeter", "ModelError", "calibrate", "load_model"]
