"""Stop a run and go on: the two halves are, to the last bit, the run that never stopped.

python examples/resume.py
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import gymnasium as gym
import numpy as np

from sb3_gps import GPS

ENV = "GPS/PegInsertion-v0"


def main() -> None:
    """Train twice as long at once, and in two sittings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1200, help="of each half")
    args = parser.parse_args()
    whole = GPS("MlpPolicy", ENV, seed=0).learn(2 * args.steps)

    with TemporaryDirectory() as folder:
        path = Path(folder) / "half.zip"
        GPS("MlpPolicy", ENV, seed=0).learn(args.steps).save(path)
        # Here the process may end: teachers, samples, optimiser and random states are in the file.
        resumed = GPS.load(path, gym.make(ENV))
    resumed.learn(args.steps, reset_num_timesteps=False)

    observation = resumed.get_env().reset()
    here, there = (model.predict(observation, deterministic=True)[0] for model in (whole, resumed))
    print(f"{resumed.trials} trials; actions differ by {np.abs(here - there).max():.1g}")


if __name__ == "__main__":
    main()
