"""How time and memory grow with conditions, with the size of the images, and with T.

    python examples/benchmarks/scaling.py

Two iterations of ShapeCube with images, without pose pretraining and the last fit, one trial a
condition; one of the three is changed at a time. Each run has a process of its own, so that its
memory is its own as well. Prints and writes the seconds of an iteration by phase, and the peak of
the memory.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import gymnasium as gym
import numpy as np

from sb3_gps import GPS
from sb3_gps.files import write_json
from sb3_gps.hardware import peak_memory
from sb3_gps.provenance import machine

ITERATIONS = 2
USUAL = dict(conditions=16, image_size=64, T=100)
SERIES = dict(conditions=(4, 9, 16, 36, 64), image_size=(64, 128), T=(25, 50, 100, 200))


def run(conditions: int, image_size: int, T: int) -> dict[str, float]:
    """Seconds of an iteration by phase, and GB at most."""
    env = gym.make(
        "GPS/ShapeCube-v0",
        num_conditions=max(9, conditions),  # no layout has fewer; of these, the first are taken
        image_size=image_size,
        max_episode_steps=T,
    )
    model = GPS(
        "CnnPolicy",
        env,
        conditions=conditions,
        iterations=ITERATIONS,
        teacher_iterations=0,
        pose_images=0,
        last_head_steps=0,
        last_end_to_end_steps=0,
        seed=0,
    ).learn()
    phases = {name: seconds / ITERATIONS for name, seconds in model.seconds.items()}
    return {**phases, "whole": sum(phases.values()), "GB": (peak_memory() or np.nan) / 1000}


def main() -> None:
    """Measure, print, write."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    context = multiprocessing.get_context("spawn")
    for name, values in SERIES.items():
        result[name] = {}
        for value in values:
            with ProcessPoolExecutor(1, context) as process:
                measured = process.submit(run, **{**USUAL, name: value}).result()
            result[name][str(value)] = measured
            cells = "  ".join(f"{key} {number:.2f}" for key, number in measured.items())
            print(f"{name} = {value:3}: {cells}", flush=True)
            record = {"usual": USUAL, "an_iteration": result, "machine": machine()}
            write_json(Path("examples/results/timing/scaling.json"), record)


if __name__ == "__main__":
    main()
