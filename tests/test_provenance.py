"""Where numbers come from is said without saying where on a machine."""

import re
import sys

from idaa_transforms.provenance import provenance


def test_command_without_absolute_paths(monkeypatch):
    programs = {"/usr/bin/idaa": "idaa", ".venv/bin/idaa": "idaa", "benchmarks/x.py": "python benchmarks/x.py"}
    for program, start in programs.items():
        monkeypatch.setattr(sys, "argv", [program, "train-vae", "/secret/place/data.npz", "--about", "two words"])
        run = provenance()
        assert run["command"] == f"{start} train-vae data.npz --about 'two words'"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", run["date"])
    assert all(run[key] for key in ("commit", "machine", "versions"))
    assert "/secret" not in str(run)
