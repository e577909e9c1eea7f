"""Observations, alike whether they are one array or a Dict of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch as th

# The name of the only part of an observation that is not a Dict.
SINGLE = "observation"

Array = TypeVar("Array", np.ndarray, th.Tensor)
Observations = np.ndarray | dict[str, np.ndarray]
TensorObs = th.Tensor | dict[str, th.Tensor]


def map_observation(function: Callable[[Any], Any], observation: Any) -> Any:
    """``function`` of an observation array, or of each of a Dict's."""
    if isinstance(observation, dict):
        return {key: function(value) for key, value in observation.items()}
    return function(observation)


def parts_of(observation: Array | dict[str, Array]) -> dict[str, Array]:
    """The arrays of an observation by their names; ``SINGLE`` where it is no Dict."""
    return observation if isinstance(observation, dict) else {SINGLE: observation}
