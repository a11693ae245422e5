"""oneDNN's own answer to which instruction set it uses, against which ours is checked.

TensorFlow does not export oneDNN's function for it; oneDNN prints it in its verbose mode, so a
process of its own has to compute something. Its answer is kept, as it takes seconds.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from contextlib import suppress
from functools import cache

from tasks.core.errors import StageError, StorageError
from tasks.core.records import digest_of
from tasks.engine.processor import CAPS, cpu_description
from tasks.storage.files import write_atomically
from tasks.storage.object_cache import cache_folder

log = logging.getLogger("fashion_flow")

ASK_S = 120.0
PRODUCT = "import tensorflow as tf; tf.linalg.matmul(tf.ones((64, 64)), tf.ones((64, 64)))"
# What oneDNN 3.7 calls its instruction sets (`get_name` in its cpu_isa_traits.cpp), and our names.
BOOST, BF16 = " with Intel DL Boost", " and bfloat16 support"
HALF = "Intel AVX-512 with float16, Intel DL Boost" + BF16
NAMES = {
    "Intel SSE4.1": "SSE4.1",
    "Intel AVX": "AVX",
    "Intel AVX2": "AVX2",
    f"Intel AVX2{BOOST}": "AVX2 VNNI",
    f"Intel AVX2{BOOST}, float16{BF16}": "AVX2 VNNI 2",
    "Intel AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions": "AVX-512",
    f"Intel AVX-512{BOOST}": "AVX-512 VNNI",
    f"Intel AVX-512{BOOST}{BF16}": "AVX-512 BF16",
    HALF: "AVX-512 FP16",
    f"{HALF} and Intel AMX with bfloat16 and 8-bit integer support": "AVX-512 AMX",
    f"{HALF} and Intel AMX with bfloat16, float16 and 8-bit integer support": "AVX-512 AMX FP16",
}


@cache
def check_instruction_set(expected: str, tensorflow: str) -> None:
    """Compare the instruction set in the profile with the one that oneDNN uses on this machine.

    Args:
        expected: as `tasks.engine.processor.kernels` names it.
        tensorflow: the version of TensorFlow, which contains oneDNN.

    Raises:
        StageError: oneDNN uses another one, so results would be stored under a wrong key.
    """
    found = _answer(tensorflow)
    if found not in (None, expected):
        # What was kept may be from before a change of this machine.
        found = _answer(tensorflow, again=True)
    if found is None:
        log.warning(
            "oneDNN does not say which instruction set it uses: check that it is %s, for which "
            "results are kept",
            expected,
        )
    elif found != expected:
        raise StageError(
            f"this processor was taken for one with {expected}, but oneDNN uses {found}, so "
            f"results would be kept under a wrong key; set {CAPS[0]} to an instruction set that "
            "both know, e.g. AVX2, and report this."
        )


def _answer(tensorflow: str, *, again: bool = False) -> str | None:
    """Our name of the instruction set that oneDNN uses, from the cache unless asked `again`."""
    asked = [cpu_description(), tensorflow, *(os.environ.get(name) for name in CAPS)]
    found = None
    # Without a folder for the cache, each process asks.
    with suppress(OSError, ValueError, TypeError, StorageError):
        kept = cache_folder() / f"onednn-{digest_of(asked)[:16]}.json"
        if kept.exists() and not again:
            found = str(json.loads(kept.read_text(encoding="utf-8"))["instruction_set"])
    if found is None:
        found = ask_onednn()
        with suppress(OSError, StorageError):
            kept = cache_folder() / f"onednn-{digest_of(asked)[:16]}.json"
            if found:
                write_atomically(kept, json.dumps({"instruction_set": found}).encode())
    return NAMES.get(found, found) if found else None


def ask_onednn() -> str | None:
    """What oneDNN calls its instruction set in a new process; None if it does not say."""
    verbose = {"ONEDNN_VERBOSE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    # A module of the working folder must not stand in for one of the standard library.
    verbose["PYTHONSAFEPATH"] = "1"
    try:
        output = subprocess.run(  # noqa: S603 - the command is a constant
            [sys.executable, "-c", PRODUCT],
            env=os.environ | verbose,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ASK_S,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"^(?:one)?dnnl?_verbose,.*info,cpu,isa:(.+)$", output, re.MULTILINE)
    return found[1].strip() if found else None
