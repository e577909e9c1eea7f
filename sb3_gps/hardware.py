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
    if sys.platform == "darwin":
        import resource

        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
    # On Linux, ru_maxrss begins with the peak of the process that started this one.
    peak = _value("/proc/self/status", "VmHWM")  # as "1234 kB"
    return round(int(peak.split()[0]) * 1024 / 1e6) if peak else None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """numpy's and scipy's linear algebra in one thread, while the block runs; torch's as it was.

    On many small matrices more threads gain nothing where each has a core, and wait for each other
    by spinning where another process has one: two are then half as fast as one
    (``examples/benchmarks/threads.py``).
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
    """The same for torch, around small networks; also a decorator.

    Beside another process, two threads are 4.6 times slower there (the same benchmark).
    """
    threads = th.get_num_threads()
    th.set_num_threads(1)
    try:
        yield
    finally:
        th.set_num_threads(threads)


@cache
def processor() -> str:
    """Its name."""
    return _value("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def _value(file: str, name: str) -> str | None:
    """Of the first "name : value" in what Linux tells; None on other systems."""
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in pairs if key.strip() == name), None)


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
