"""What a saved model needs to go on learning: one more member of SB3's zip.

SB3 writes attributes that are no networks as base64 of a pickle into JSON. Teachers and samples are
tens of megabytes of numbers, so they have a member of their own, in which float arrays lose what
their symmetry repeats and are compressed; every bit comes back.
"""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.save_util import open_path

MEMBER = "gps_run.pkl"


def append_run(path: Path | BufferedIOBase, run: dict[str, Any]) -> None:
    """Add the state of a run to a zip that SB3 has written.

    :param path: of the zip, or an open file that can be read and written
    :param run: by the names of the model's attributes; objects that share arrays stay so
    """
    with zipfile.ZipFile(path, mode="a") as archive:
        archive.writestr(MEMBER, pack(run))


def read_run(path: str | Path | BufferedIOBase) -> dict[str, Any]:
    """What ``append_run`` wrote; empty, with a warning where there is something else.

    :param path: as ``GPS.load`` takes it
    """
    file = open_path(path, "r", suffix="zip")
    try:
        with zipfile.ZipFile(file) as archive:
            if MEMBER not in archive.namelist():
                return {}
            return pickle.loads(archive.read(MEMBER))
    except (AttributeError, ImportError, TypeError, EOFError, pickle.UnpicklingError) as error:
        warnings.warn(
            f"the state of the run in {path} cannot be read, perhaps since another version of "
            f"sb3-gps wrote it ({error}): the model can act, but not go on learning",
            stacklevel=3,
        )
        return {}
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    finally:
        if file is not path:
            file.close()


def pack(value: Any) -> bytes:
    """A pickle, for ``pickle.loads``, whose float arrays are compressed."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is np.ndarray and obj.dtype in (np.float32, np.float64):
            return _expand, _compress(obj)
        return NotImplemented


def _compress(array: np.ndarray) -> tuple[bytes, tuple[int, ...], tuple[int, ...], str, bool]:
    # As it lies in memory, and so it comes back: products of transposed matrices round differently.
    axes = tuple(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))
    laid = array.transpose(axes)
    shape, size = laid.shape, array.dtype.itemsize
    # As whole numbers, or NaNs would differ from themselves and 0.0 be equal to -0.0.
    bits = np.ascontiguousarray(laid).view(f"u{size}").reshape(shape)
    square = len(shape) >= 2 and shape[-1] == shape[-2]
    symmetric = square and np.array_equal(bits, np.swapaxes(bits, -1, -2))
    if symmetric:
        bits = bits[(..., *np.triu_indices(shape[-1]))]
    # All first bytes, then all second ones: some of these are alike, whole numbers never.
    planes = np.ascontiguousarray(bits).view(np.uint8).reshape(-1, size).T
    return zlib.compress(planes.tobytes(), level=1), shape, axes, array.dtype.str, symmetric


def _expand(
    data: bytes, shape: tuple[int, ...], axes: tuple[int, ...], dtype: str, symmetric: bool
) -> np.ndarray:
    planes = np.frombuffer(zlib.decompress(data), np.uint8).reshape(np.dtype(dtype).itemsize, -1)
    values = planes.T.copy().view(dtype)
    if symmetric:
        rows, columns = np.triu_indices(shape[-1])
        values = values.reshape(*shape[:-2], len(rows))
        laid = np.empty(shape, dtype)
        laid[..., rows, columns] = values
        laid[..., columns, rows] = values
    else:
        laid = values.reshape(shape)
    return laid.transpose(np.argsort(axes))
