"""What the options of ``GPS`` may be, checked before anything is built or simulated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

Options = TypeVar("Options")

CHOICES = {
    "update": ("badmm", "mdgps"),
    "sampling": ("teacher", "student", "global"),
    "teacher": ("lqr",),
    "step_rule": ("classic", "global"),
    "dynamics": ("fitted", "mujoco"),
    "prior": ("pooled", "mixture", "network"),
}
# Whole numbers and their minimum; those of OPTIONAL may also be None.
WHOLE = {
    **dict.fromkeys(("iterations", "samples_per_condition", "inner_iterations"), 1),
    **dict.fromkeys(("batch_size", "prior_batches", "student_batches", "stats_window_size"), 1),
    **dict.fromkeys(("head_steps", "end_to_end_steps", "pose_images", "pose_steps"), 0),
    **dict.fromkeys(("last_head_steps", "last_end_to_end_steps", "prior_window"), 0),
    "conditions": 1,
    "imagined_rounds": 0,
    "imagined_conditions": 2,
    "imagined_tries": 1,
    "imagined_horizon": 2,
    "horizon": 2,
    "teacher_iterations": 0,
}
OPTIONAL = ("conditions", "horizon", "teacher_iterations")
FLAGS = ("adapt_nu", "kl_penalty")
POSITIVE = (
    "learning_rate",
    "kl_step",
    "initial_std",
    "min_eta",
    "min_action_std",
    "min_dynamics_variance",
    "ridge",
    "prior_strength",
    "nu",
    "trust_radius",
)
NOT_NEGATIVE = ("noise_smoothing", "rollback", "rollback_slack", "dual_rate")


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse values without a meaning.

    :param options: by the names of the keywords of ``GPS``; those not listed above are ignored
    :raises ValueError: naming the first bad one, and what is expected of it
    """
    for name, valid in CHOICES.items():
        if options[name] not in valid:
            raise ValueError(f"{name} must be one of {valid}, got {options[name]!r}")
    if options["sampling"] == "global" and options["update"] == "badmm":
        raise ValueError(
            "sampling='global' has new conditions in every iteration, and the multipliers of "
            "update='badmm' belong to those of the last; use update='mdgps'"
        )
    for name, minimum in WHOLE.items():
        value = options[name]
        if value is None and name in OPTIONAL:
            continue
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or value < minimum:
            raise ValueError(f"{name} must be a whole number of at least {minimum}, got {value!r}")
    if options["imagined_rounds"] and not (
        options["sampling"] == "global"
        and options["prior"] == "network"
        and options["dynamics"] == "fitted"
    ):
        raise ValueError(
            "imagined_rounds needs the model of sampling='global', prior='network' and "
            "dynamics='fitted', got "
            + ", ".join(f"{name}={options[name]!r}" for name in ("sampling", "prior", "dynamics"))
        )
    if 0 < options["pose_images"] < 10:
        raise ValueError(
            f"pose_images must be 0 or at least 10 (a tenth is held out), got "
            f"{options['pose_images']}"
        )
    for name in FLAGS:
        if not isinstance(options[name], (bool, np.bool_)):
            raise ValueError(f"{name} must be True or False, got {options[name]!r}")
    augmentation = options["augmentation"]
    if augmentation is not None and not callable(augmentation):
        raise ValueError(
            f"augmentation must be None or a callable such as Augmentation(shapes=3), got "
            f"{augmentation!r}"
        )
    for name in POSITIVE:
        value = options[name]
        if name == "learning_rate" and callable(value):  # a schedule
            continue
        if not (_finite(value) and value > 0):
            raise ValueError(f"{name} must be positive and finite, got {value!r}")
    for name in NOT_NEGATIVE:
        if not (_finite(options[name]) and options[name] >= 0):
            raise ValueError(f"{name} must be finite and not negative, got {options[name]!r}")
    gains = options["initial_gains"]
    if isinstance(gains, str):
        if gains != "lqr":
            raise ValueError(f"initial_gains must be (kp, kd) or 'lqr', got {gains!r}")
    elif not (np.shape(gains) == (2,) and all(_finite(g) and g >= 0 for g in gains)):
        raise ValueError(f"initial_gains must be (kp, kd), each at least 0, got {gains!r}")


def pick(record: type[Options], options: Mapping[str, Any]) -> Options:
    """The record of those options that are its fields; its others keep their defaults."""
    names = [f.name for f in fields(record)]  # type: ignore[arg-type]
    return record(**{name: options[name] for name in names if name in options})


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and math.isfinite(value)
