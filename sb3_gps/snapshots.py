"""Earlier states of the policy that a run can go back to.

The last fit of a run is undone where the run goes on. It is longer than the others and from the
controllers that were executed, so a student that it had touched would learn otherwise from there:
two halves of a run would not equal the whole.

Where every iteration begins from new starts, conditions cannot be compared with what they were, and
so not rolled back; but the student can. What such a run leaves is the student that acted in its
last trials: the next one has never been tried (of nine runs of InvertedPendulum, three ended with
one that fell). Where the run goes on, it is there again.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th

from sb3_gps.policies import GPSPolicy


@dataclass
class Snapshot:
    """Weights of a policy and the state of its optimiser."""

    weights: dict[str, Any]
    optimizer: dict[str, Any]

    @classmethod
    def of(cls, policy: GPSPolicy) -> Snapshot:
        """A copy, on the CPU: a run that was saved with a GPU can go on without."""
        return cls(_on_cpu(policy.state_dict()), _on_cpu(policy.optimizer.state_dict()))

    def restore(self, policy: GPSPolicy) -> None:
        """Put the policy back."""
        policy.load_state_dict(self.weights)
        policy.optimizer.load_state_dict(copy.deepcopy(self.optimizer))


@dataclass
class Unfinished:
    """The student that a run goes on with, and the generator, as they were before its end.

    :param updates: steps of the optimiser so far
    :param finished: digest of the weights that the end left; None: it was interrupted
    """

    policy: Snapshot
    rng: np.random.Generator
    updates: int
    finished: str | None = None

    @classmethod
    def of(cls, policy: GPSPolicy, rng: np.random.Generator, updates: int) -> Unfinished:
        """Copies of all that the end is going to change."""
        return cls(Snapshot.of(policy), copy.deepcopy(rng), updates)

    def concerns(self, policy: GPSPolicy) -> bool:
        """Whether nobody has changed the policy since: what a user loaded into it stays."""
        return self.finished in (None, digest(policy))

    def restore(self, policy: GPSPolicy) -> tuple[np.random.Generator, int]:
        """Put the student back; the generator, and the steps of the optimiser."""
        self.policy.restore(policy)
        return self.rng, self.updates


@dataclass
class Champion:
    """The student whose own trials cost the least so far."""

    policy: Snapshot
    cost: float  # mean of its trials


def _on_cpu(state: Any) -> Any:
    """A copy of what is nested in dicts and lists."""
    if isinstance(state, dict):
        return {name: _on_cpu(value) for name, value in state.items()}
    if isinstance(state, th.Tensor):
        return state.detach().cpu().clone()
    return copy.deepcopy(state)


def digest(policy: GPSPolicy) -> str:
    """Of all weights, equal where they are equal to the last bit."""
    whole = hashlib.sha256()
    for value in policy.state_dict().values():
        whole.update(value.cpu().numpy().tobytes())
    return whole.hexdigest()
