"""benchmarks/small_vae.py: between two eps, identity is read off at equal hardness."""

import pytest

from benchmarks.small_vae import at_gain


def test_identity_at_equal_hardness_lies_on_the_line_between_two_eps():
    rows = [{"gain": 0.1, "kept": 0.9}, {"gain": 0.3, "kept": 0.5}]
    found = [at_gain(rows, "kept", gain) for gain in (0.0, 0.05, 0.1, 0.2, 0.3)]
    assert found == pytest.approx([1.0, 0.95, 0.9, 0.7, 0.5])
    with pytest.raises(ValueError, match=r"raised the loss by 0\.3 at most; 0\.4 needs a larger eps"):
        at_gain(rows, "kept", 0.4)
