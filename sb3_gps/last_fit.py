"""The last fit of a run is undone where the run goes on, which it then does as if never stopped.

It is longer than the others and from the controllers that were executed, so a student that it had
touched would learn otherwise from there: two halves of a run would not equal the whole.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from sb3_gps.policies import GPSPolicy


@dataclass
class Unfinished:
    """The student before the last fit, and the generator that drew its batches.

    :param weights: of the policy
    :param optimizer: its state
    :param updates: steps of the optimiser so far
    :param finished: digest of the weights that the last fit left; None: it was interrupted
    """

    weights: dict[str, Any]
    optimizer: dict[str, Any]
    rng: np.random.Generator
    updates: int
    finished: str | None = None

    @classmethod
    def of(cls, policy: GPSPolicy, rng: np.random.Generator, updates: int) -> Unfinished:
        """Copies of all that the last fit is going to change."""
        weights = {name: value.cpu().clone() for name, value in policy.state_dict().items()}
        optimizer = copy.deepcopy(policy.optimizer.state_dict())
        return cls(weights, optimizer, copy.deepcopy(rng), updates)

    def concerns(self, policy: GPSPolicy) -> bool:
        """Whether nobody has changed the policy since: what a user loaded into it stays."""
        return self.finished in (None, digest(policy))

    def restore(self, policy: GPSPolicy) -> tuple[np.random.Generator, int]:
        """Put the student back; the generator, and the steps of the optimiser."""
        policy.load_state_dict(self.weights)
        policy.optimizer.load_state_dict(self.optimizer)
        return self.rng, self.updates


def digest(policy: GPSPolicy) -> str:
    """Of all weights, equal where they are equal to the last bit."""
    whole = hashlib.sha256()
    for value in policy.state_dict().values():
        whole.update(value.cpu().numpy().tobytes())
    return whole.hexdigest()
