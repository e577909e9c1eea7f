"""GPS in RL Baselines3 Zoo: its ``train`` and ``enjoy``, with ``gps`` among the algorithms.

    pip install sb3-gps rl_zoo3
    python examples/rl_zoo3/train.py --algo gps --env Reacher-v5
    python examples/rl_zoo3/train.py enjoy --algo gps --env Reacher-v5 --no-render -f logs

Hyperparameters come from ``gps.yml`` beside this file, unless ``--conf-file`` names others.
"""

from __future__ import annotations

import sys
from pathlib import Path

import rl_zoo3
import rl_zoo3.enjoy
import rl_zoo3.train

from sb3_gps import GPS

HYPERPARAMETERS = Path(__file__).with_name("gps.yml")


def main() -> None:
    """As the zoo's own commands; the first argument may be ``enjoy``."""
    rl_zoo3.ALGOS["gps"] = GPS
    if sys.argv[1:2] == ["enjoy"]:
        del sys.argv[1]
        rl_zoo3.enjoy.enjoy()
        return
    if not {"-conf", "--conf-file"} & set(sys.argv):
        sys.argv += ["--conf-file", str(HYPERPARAMETERS)]
    rl_zoo3.train.train()


if __name__ == "__main__":
    main()
