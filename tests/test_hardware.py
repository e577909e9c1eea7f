"""What is decided by the processor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import threadpoolctl
import torch as th

from sb3_gps import hardware


@pytest.mark.parametrize(
    ("name", "avx512", "amx", "fast"),
    [
        ("AMD EPYC 9554", True, False, True),
        ("Intel(R) Xeon(R) Processor", True, False, False),
        ("Intel(R) Xeon(R) Processor", True, True, True),
        ("AMD EPYC 7742", False, False, False),
    ],
)
def test_bf16_is_used_where_it_is_faster(name, avx512, amx, fast, monkeypatch):
    monkeypatch.setattr(hardware, "processor", lambda: name)
    monkeypatch.setattr(th.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(th.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(th.backends.mkldnn, "is_available", lambda: True)
    hardware.fast_bf16.cache_clear()
    assert hardware.fast_bf16(th.device("cpu")) is fast
    assert not hardware.fast_bf16(th.device("meta"))
    hardware.fast_bf16.cache_clear()


def test_the_processor_has_a_name_and_cores():
    assert hardware.processor() and hardware.cores() >= 1


def test_small_matrices_get_one_thread():
    def threads():
        return {
            Path(library["filepath"]).name: library["num_threads"]
            for library in threadpoolctl.threadpool_info()
        }

    with threadpoolctl.threadpool_limits(2):
        before = threads()
        with hardware.one_blas_thread():
            inside = threads()
        assert threads() == before
    blas = [name for name in inside if "openblas" in name or "mkl" in name]
    assert blas and all(inside[name] == 1 for name in blas)
    assert any(n == 2 for name, n in inside.items() if name not in blas)  # torch's own


@pytest.mark.skipif(hardware.peak_memory() is None, reason="this system does not tell")
def test_the_peak_of_memory_has_what_was_used():
    program = (  # a process of its own, whose peak is what it has now
        "import numpy as np; from sb3_gps.hardware import peak_memory; before = peak_memory(); "
        "used = np.ones(50_000_000); print(peak_memory() - before)"
    )
    grown = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert 350 <= int(grown.stdout) <= 450  # 400 MB


def test_a_small_network_gets_one_thread():
    before = th.get_num_threads()
    th.set_num_threads(2)
    try:
        with hardware.one_torch_thread():
            assert th.get_num_threads() == 1
        assert th.get_num_threads() == 2
    finally:
        th.set_num_threads(before)
