"""An SB3 algorithm that saves all that a run needs to go on.

SB3 writes attributes that are no networks as base64 of a pickle into JSON. The state of a run can
be tens of megabytes of numbers, so it has a member of its own in the zip, in which float arrays
lose what their symmetry repeats and are compressed; every bit comes back.
"""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from io import BufferedIOBase
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import open_path
from stable_baselines3.common.type_aliases import GymEnv

from sb3_gps.files import rewrite

Self = TypeVar("Self", bound="ResumableAlgorithm")

MEMBER = "run.pkl"


class ResumableAlgorithm(BaseAlgorithm):
    """Saves the attributes of ``run_state`` in a member of its own, and a file whole or not at all.

    They are pickled together: objects that they share are stored once, and shared again.
    """

    run_state: ClassVar[tuple[str, ...]] = ()

    def save(
        self,
        path: str | Path | BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """As SB3's, with all that a run needs to go on; a file appears whole or not at all.

        :param path: of the file, ".zip" is added where it has no suffix; or an open file
        :param exclude: attributes to leave out
        :param include: attributes to save that are left out otherwise
        """
        exclude = list(exclude or ())
        run = {name: getattr(self, name) for name in self.run_state if name not in exclude}

        def write(file: Any) -> None:
            super(ResumableAlgorithm, self).save(file, exclude, include)
            if run:
                with zipfile.ZipFile(file, mode="a") as archive:
                    archive.writestr(MEMBER, pack(run))

        if isinstance(path, BufferedIOBase):
            whole = io.BytesIO()  # adding to a zip reads it, and the user's file may not allow that
            write(whole)
            path.write(whole.getbuffer())
            return
        path = Path(path)
        rewrite(path if path.suffix else path.with_suffix(".zip"), write)

    @classmethod
    def load(
        cls: type[Self],
        path: str | Path | BufferedIOBase,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> Self:
        """As SB3's; ``learn`` goes on exactly where the saved run stood."""
        # Older files have the state among SB3's own data, in another form.
        own = {**dict.fromkeys(cls.run_state), **(custom_objects or {})}
        model = super().load(path, env, device, own, print_system_info, force_reset, **kwargs)
        given = {**(custom_objects or {}), **kwargs}
        for name, value in read_run(path).items():
            setattr(model, name, given.get(name, value))
        return model

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), *self.run_state]


def read_run(path: str | Path | BufferedIOBase) -> dict[str, Any]:
    """The state of a run in a saved model; empty, with a warning where it cannot be read.

    :param path: as ``load`` takes it
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
