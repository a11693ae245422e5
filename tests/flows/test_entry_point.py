"""How the process of a command ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

# An object that says when Python takes the modules apart, and a library's thread that goes on.
PROGRAM = """
import sys, threading, types

class Witness:
    def __del__(self):
        print("modules are being taken apart", flush=True)

sys.modules["witness"] = types.ModuleType("witness")
sys.modules["witness"].value = Witness()
threading.Thread(target=threading.Event().wait, daemon=True).start()
import flows.__main__
import flows.cli.app
flows.cli.app.main = lambda: print("done", end="") or {status}
flows.__main__.main()
"""


@pytest.mark.parametrize("status", [0, 3])
def test_a_command_ends_before_python_takes_its_modules_apart(status: int) -> None:
    # There, a thread of a library may be stopped in the middle of C++ code, which aborts.
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(status=status)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "done", "")
