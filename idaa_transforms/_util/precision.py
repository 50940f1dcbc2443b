"""Tell whether bfloat16 is fast on a device. A CPU without instructions for it emulates it many times slower."""

from __future__ import annotations

import os
import platform
import sys

import torch


def has_bfloat16(device: torch.device | str) -> bool:
    """Whether ``device`` computes in bfloat16 itself: CUDA that supports it, or a CPU with AVX512-BF16, AMX or, on Arm,
    its own instructions. Other devices are not known to gain from it, and count as without."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu":
        return False
    try:  # also False where ONEDNN_MAX_CPU_ISA masks the instructions
        supported = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # a build without oneDNN
        return False
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return supported
    # oneDNN says yes to any AVX-512, where it converts to float32 and back.
    flags = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return supported and any(flag is None or flag() for flag in flags)


def use_bfloat16(asked: bool | None, device: torch.device | str) -> bool:
    """Whether to compute in bfloat16 on ``device``.

    Args:
        asked: True, False or, for yes where the device has it, None. True on a device without is answered with False,
            and a line on stderr that says so.
    """
    if asked is False:
        return False
    found = has_bfloat16(device)
    if asked and not found and os.environ.get("RANK", "0") == "0":
        print(f"{device} would emulate bfloat16, many times slower: this runs in float32", file=sys.stderr)
    return found
