"""Where numbers come from is said without saying where on a machine."""

import re
import subprocess
import sys

from idaa_transforms._util.provenance import _commit, provenance


def test_command_without_absolute_paths(monkeypatch):
    programs = {"/usr/bin/idaa": "idaa", ".venv/bin/idaa": "idaa", "benchmarks/x.py": "python benchmarks/x.py"}
    for program, start in programs.items():
        monkeypatch.setattr(sys, "argv", [program, "train-vae", "/secret/place/data.npz", "--about", "two words"])
        run = provenance()
        assert run["command"] == f"{start} train-vae data.npz --about 'two words'"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", run["date"])
    assert all(run[key] for key in ("commit", "machine", "versions"))
    assert "/secret" not in str(run)


def test_results_of_earlier_runs_do_not_make_the_code_dirty(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    assert _commit(tmp_path).startswith("release ")
    code, result = tmp_path / "code.py", tmp_path / "benchmarks" / "results" / "a.json"
    result.parent.mkdir(parents=True)
    for file in (code, result):
        file.write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    clean = git("rev-parse", "--short", "HEAD")
    result.write_text("2")
    (tmp_path / "untracked").write_text("3")
    assert _commit(tmp_path) == clean
    code.write_text("4")
    assert _commit(tmp_path) == f"{clean}-dirty"
