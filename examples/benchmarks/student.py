"""Images a second in the student's training, by network and precision.

    python examples/benchmarks/student.py

64 x 64 pixels, batches of 64, all cores. End to end, with augmentation, and the fully connected
layers alone, whose features are computed once. float32 and what "auto" chooses learn from the same
batches: the loss at the end says whether the precision harms. Prints and writes rates and ratios.
"""

import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from teacher_update import profile

from sb3_gps.core.types import StudentTargets
from sb3_gps.files import write_json
from sb3_gps.gps import DEFAULT_AUGMENTATION
from sb3_gps.policies import MultiInputPolicy
from sb3_gps.provenance import machine
from sb3_gps.supervised import fit_student

IMAGES, STEPS, BATCH = 2000, 150, 64
NETWORKS = {
    "default": {},
    "paper": dict(filters=(64, 32, 32), strides=(2, 1, 1)),
}


def data() -> tuple[dict[str, np.ndarray], StudentTargets]:
    """Images of the task, and the target's position as what is to be learned of them."""
    env = gym.make("GPS/ShapeCube-v0")
    images, proprio, wanted = [], [], []
    for i in range(IMAGES):
        observation, info = env.reset(seed=i, options={"random_pose": True})
        images.append(observation["image"].transpose(2, 0, 1))
        proprio.append(observation["proprio"])
        wanted.append(10 * np.resize(info["pose"][:3] - info["pose"][3:6], 7))
    mean = np.array(wanted, dtype=np.float64)
    precision = np.broadcast_to(np.eye(7), (IMAGES, 7, 7))
    observations = {"image": np.array(images), "proprio": np.array(proprio)}
    return observations, StudentTargets(mean - mean.mean(axis=0), precision)


def fit(network: dict, precision: str, observations: dict, targets: StudentTargets) -> tuple:
    """Images a second end to end and of the head alone, and the loss at the end."""
    th.manual_seed(0)
    parts = {
        "image": spaces.Box(0, 255, observations["image"].shape[1:], np.uint8),
        "proprio": spaces.Box(-np.inf, np.inf, observations["proprio"].shape[1:]),
    }
    policy = MultiInputPolicy(
        spaces.Dict(parts),
        spaces.Box(-1, 1, (7,), np.float32),
        lambda _: 1e-3,
        features_extractor_kwargs=dict(network, precision=precision),
    )
    kwargs = dict(batch_size=BATCH, augment=DEFAULT_AUGMENTATION, rng=np.random.default_rng(0))
    fit_student(policy, observations, targets, head_steps=0, end_to_end_steps=5, **kwargs)  # warm
    begin = time.perf_counter()
    fit_student(policy, observations, targets, head_steps=STEPS, end_to_end_steps=0, **kwargs)
    head = time.perf_counter() - begin
    result = fit_student(
        policy, observations, targets, head_steps=0, end_to_end_steps=STEPS, **kwargs
    )
    return STEPS * BATCH / result.seconds_end_to_end, STEPS * 256 / head, result.loss


def main() -> None:
    """Measure, print, write."""
    observations, targets = data()
    rates, ratios, losses = {}, {}, {}
    for name, network in NETWORKS.items():
        for precision in ("float32", "auto"):
            measured = fit(network, precision, observations, targets)
            key = f"{name}, {precision}"
            rates[key], rates[f"{key}, head alone"], losses[key] = measured
            print(f"{key:18} {rates[key]:7.0f} images a second, head alone "
                  f"{rates[f'{key}, head alone']:8.0f}, loss {losses[key]:.4f}")  # fmt: skip
        ratios[f"{name}: auto, times float32"] = rates[f"{name}, auto"] / rates[f"{name}, float32"]
    ratios["default, times paper"] = rates["default, auto"] / rates["paper, auto"]
    for name, value in ratios.items():
        print(f"{value:8.2f} {name}")
    where = profile(lambda: fit(NETWORKS["paper"], "auto", observations, targets))
    print(f"profile of the paper's network:\n{where}")
    record = {"images_a_second": rates, "losses": losses, "ratios": ratios, "profile": where}
    write_json(Path("examples/results/timing/student.json"), {**record, "machine": machine()})


if __name__ == "__main__":
    main()
