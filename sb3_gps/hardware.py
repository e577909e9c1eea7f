"""What the processor is, and what it does well."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch as th
from threadpoolctl import ThreadpoolController


def cores() -> int:
    """Cores that this process may use: in a container, often fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def peak_memory() -> int | None:
    """The most memory that this process has had so far, in MB; None where nothing tells."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kB on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """numpy's and scipy's linear algebra in one thread, while the block runs; torch's as it was.

    On many small matrices more threads gain little, and wait for each other by spinning: two are a
    tenth faster than one where both have a core, and 2.6 times slower where another process has one
    of them (``examples/benchmarks/blas_threads.py``).
    """
    libraries = ThreadpoolController()
    torch_home = str(Path(th.__file__).parent)
    paths = [
        library["filepath"]
        for library in libraries.info()
        if library["user_api"] == "blas" and not library["filepath"].startswith(torch_home)
    ]
    with libraries.select(filepath=paths).limit(limits=1):
        yield


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """The same for torch, around small networks; also a decorator."""
    threads = th.get_num_threads()
    th.set_num_threads(1)
    try:
        yield
    finally:
        th.set_num_threads(threads)


@cache
def processor() -> str:
    """Its name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


@cache
def fast_bf16(device: th.device) -> bool:
    """Whether convolutions in bf16 are known to be faster on it, and not only possible.

    Measured on a training step of the visuomotor network: 2 to 3 times faster with the AVX-512
    instructions on an AMD EPYC, 1.4 times *slower* with the same ones on an Intel Xeon, which has
    AMX for that.
    """
    if device.type != "cpu" or not th.backends.mkldnn.is_available():
        return False
    amd = "AMD" in processor() and th.cpu._is_avx512_bf16_supported()
    return amd or th.cpu._is_amx_tile_supported()
