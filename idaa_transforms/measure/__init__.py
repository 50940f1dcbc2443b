"""How hard views are and how much identity they keep, according to a reference model; and which eps to use."""

from .calibration import Calibration, calibrate
from .identity import IdentityMeter
from .models import ModelError, load_model

__all__ = ["Calibration", "IdentityMeter", "ModelError", "calibrate", "load_model"]
