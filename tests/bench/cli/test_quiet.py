"""Packages that are there without their library print; standard output and error are the command's and the summary's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOISY = """
import os, sys
os.write(1, b"noise by descriptor\\n"); os.write(2, b"noise by descriptor\\n")
print("noise"); print("noise", file=sys.stderr)
"""


@pytest.mark.parametrize("then", ["raise KeyError('libamd_smi.so')", "def amdsmi_init(*_): exec(NOISY); raise OSError"])
@pytest.mark.parametrize("command", [["doctor"], ["energy", "--", "echo", "out"]])
def test_a_noisy_amdsmi_is_not_heard(command: list[str], then: str, tmp_path: Path) -> None:
    package = tmp_path / "amdsmi"
    package.mkdir()
    (package / "__init__.py").write_text(f"NOISY = {NOISY!r}\nexec(NOISY)\n{then}\n")
    done = subprocess.run(
        [sys.executable, "-m", "greenprune", *command],
        capture_output=True, text=True, timeout=120, env=os.environ | {"PYTHONPATH": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "noise" not in done.stdout + done.stderr
    assert done.stdout == "out\n" if command[0] == "energy" else done.stdout
