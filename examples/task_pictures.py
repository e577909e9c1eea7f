"""Pictures of a task for its documentation, one file per split.

    python examples/task_pictures.py --folder docs/images

Above: four resets at 240 x 240 pixels. Below: the same as the student sees them, at 64 x 64.
"""

import argparse
from pathlib import Path

import gymnasium as gym
import imageio.v3 as iio
import numpy as np

import gps_envs  # noqa: F401  (registers the tasks)

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--task", default="ShapeCube")
parser.add_argument("--folder", type=Path, default=Path("docs/images"))
arguments = parser.parse_args()

name = "".join("_" * c.isupper() + c.lower() for c in arguments.task).strip("_")  # ShapeCube
arguments.folder.mkdir(parents=True, exist_ok=True)
for split in ("train", "spatial", "visual"):
    rows = []
    for size in (240, 64):
        env = gym.make(f"GPS/{arguments.task}-v0", split=split, image_size=size)
        images = [env.reset(options={"condition": m})[0]["image"] for m in range(4)]
        pixels = np.arange(240) * size // 240  # nearest neighbour, so that each pixel shows
        rows.append(np.hstack([image[pixels][:, pixels] for image in images]))
        env.close()
    path = arguments.folder / f"{name}_{split}.png"
    iio.imwrite(path, np.vstack(rows))
    print(path)
