"""How many training positions? ShapeCube at equal trials, on positions kept for such choices.

    python examples/number_of_positions.py --seeds 0 1 2 3 4 --out examples/results/positions

Writes a JSON a run and a table; a run whose file exists is not repeated. The unseen positions are
none of those that results are reported on.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from stable_baselines3.common.env_util import make_vec_env

from sb3_gps import GPS
from sb3_gps.evaluation import evaluate_split
from sb3_gps.files import rewrite_text, write_json

LAYOUTS = {16: 9, 25: 6, 36: 4}  # positions -> iterations: about 146 trials
FIRST, UNSEEN = 10_000, 200  # first of the unseen positions, and how many of them

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
parser.add_argument("--out", type=Path, default=Path("examples/results/positions"))
arguments = parser.parse_args()

lines = ["| positions | iterations | trials | unseen | with distractors |", "|---|---|---|---|---|"]
for positions, iterations in LAYOUTS.items():
    runs = []
    for seed in arguments.seeds:
        path = arguments.out / f"{positions}_seed{seed}.json"
        if not path.exists():
            env = make_vec_env("GPS/ShapeCube-v0", env_kwargs={"num_conditions": positions})
            model = GPS("CnnPolicy", env, iterations=iterations, seed=seed).learn()
            test = make_vec_env("GPS/ShapeCube-v0", n_envs=16, env_kwargs={"init_noise": 0.01})
            success = {
                split: 100 * evaluate_split(model, test, split, UNSEEN, first=FIRST).rate
                for split in ("spatial", "visual")
            }
            write_json(path, {"positions": positions, "trials": model.trials, "success": success})
            env.close(), test.close()
        runs.append(json.loads(path.read_text()))
    cells = [
        f"{np.mean(rates):.1f} ± {np.std(rates):.1f} ({min(rates):.1f})"
        for rates in ([run["success"][split] for run in runs] for split in ("spatial", "visual"))
    ]
    lines.append(f"| {positions} | {iterations} | {runs[0]['trials']} | {' | '.join(cells)} |")
table = "\n".join(lines) + "\n"
rewrite_text(arguments.out / "summary.md", table)
print(table)
