"""What should follow the convolutions? Pose errors of four architectures on one set of images.

    python examples/pose_architectures.py --seeds 0 1 2 --out examples/results/pose

Writes a JSON a run and a table; a run whose file exists is not repeated. Source: Levine et al.
2016, the comparison of architectures by pose error. Their errors are those of a real robot's
camera at 240 x 240 pixels.
"""

import argparse
import json
from functools import cache
from pathlib import Path

import numpy as np
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecTransposeImage

from sb3_gps import Augmentation
from sb3_gps.architectures import ARCHITECTURES
from sb3_gps.files import rewrite_text, write_json
from sb3_gps.pretraining import pretrain_pose
from sb3_gps.rollout import random_poses

PAPER = {  # cm: mean, standard deviation
    "softmax + feature points": (1.30, 0.73),
    "softmax + fully connected": (2.59, 1.19),
    "fully connected": (4.75, 2.29),
    "max-pooling + fully connected": (3.71, 1.73),
}

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--env", default="GPS/ShapeCube-v0", help="id of the task")
parser.add_argument("--images", type=int, default=2000, help="of random poses, to train on")
parser.add_argument("--unseen", type=int, default=1000, help="others, to test on")
parser.add_argument("--steps", type=int, default=4000, help="of the network")
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
parser.add_argument("--out", type=Path, default=Path("examples/results/pose"))
arguments = parser.parse_args()
SETTINGS = {key: getattr(arguments, key) for key in ("env", "images", "unseen", "steps")}


@cache
def images_and_poses(count: int, seed: int) -> tuple:
    """The same for all architectures and, but for the order of training, for all seeds."""
    env = make_vec_env(arguments.env, seed=seed)
    drawn = random_poses(VecTransposeImage(env), count, np.random.default_rng(seed))
    env.close()
    return drawn


def run(name: str, seed: int) -> dict:
    """Train one network and measure it on the unseen images."""
    observations, poses = images_and_poses(arguments.images, seed=0)
    unseen, truth = images_and_poses(arguments.unseen, seed=1)
    space = VecTransposeImage(make_vec_env(arguments.env)).observation_space
    th.manual_seed(seed)
    result = pretrain_pose(
        ARCHITECTURES[name](space),
        observations,
        poses,
        steps=arguments.steps,
        rng=np.random.default_rng(seed),
        augment=Augmentation(shapes=3, colour=0.1),
    )
    errors = result.estimator.errors_cm(unseen, truth)
    parameters = sum(p.numel() for p in result.estimator.extractor.parameters())
    return {
        "architecture": name,
        "seed": seed,
        **SETTINGS,
        "target_cm": float(errors[:, 0].mean()),  # only the image tells where it is
        "target_std_cm": float(errors[:, 0].std()),  # over the images
        "held_cm": float(errors[:, 1:].mean()),  # points of the object in the gripper
        "parameters": parameters,
        "seconds": round(result.seconds, 1),
    }


lines = [
    "| architecture | parameters | target, cm | the paper's | held object, cm |",
    "|---|---|---|---|---|",
]
for name in ARCHITECTURES:
    runs = []
    for seed in arguments.seeds:
        path = arguments.out / f"{name.replace(' + ', '_').replace(' ', '_')}_seed{seed}.json"
        if not path.exists():
            write_json(path, run(name, seed))
        runs.append(json.loads(path.read_text()))
        if SETTINGS.items() - runs[-1].items():
            raise SystemExit(f"{path} is not of {SETTINGS}: remove it or choose another --out")
    errors = [run["target_cm"] for run in runs]
    spread = np.mean([run["target_std_cm"] for run in runs])
    held = np.mean([run["held_cm"] for run in runs])
    paper = "{:.2f} ± {:.2f}".format(*PAPER[name])
    seeds = f"(seeds: {min(errors):.2f} to {max(errors):.2f})"
    lines.append(
        f"| {name} | {runs[0]['parameters']:,} | {np.mean(errors):.2f} ± {spread:.2f} {seeds} "
        f"| {paper} | {held:.2f} |"
    )
table = "\n".join(lines) + "\n"
rewrite_text(arguments.out / "summary.md", table)
print(table)
