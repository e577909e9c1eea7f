"""What a policy looks at, as a video, and how much of its action comes from each point.

python -m sb3_gps train --out results/cube
python examples/feature_point_video.py results/cube/model.zip

``python -m sb3_gps film`` does the same; this shows the parts.
"""

import argparse
from pathlib import Path

from stable_baselines3.common.env_util import make_vec_env

from sb3_gps import GPS
from sb3_gps.evaluation import what_is_seen
from sb3_gps.feature_points import every_moment, read_feature_points
from sb3_gps.rollout import Start
from sb3_gps.video import write_video


def main() -> None:
    """One episode at an unseen position."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="saved by GPS")
    parser.add_argument("--condition", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("feature_points.mp4"))
    args = parser.parse_args()
    model = GPS.load(args.model, device="cpu")
    env = make_vec_env(model.env_id, 1)
    start = Start({"split": "spatial", "condition": args.condition}, seed=0)
    seen = what_is_seen(model, env, start)  # a dict of (T, ...) arrays

    (points,) = read_feature_points(model.policy, seen)
    for rank, k in enumerate(points.order[:5], start=1):
        print(f"{rank}. point {k}: influence {points.influence[k]:.3f} of the action")
    print(write_video(every_moment(points, seen), args.out))


if __name__ == "__main__":
    main()
