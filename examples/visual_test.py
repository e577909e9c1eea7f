"""How a policy bears what it has not seen: positions, then objects, colours and light.

python -m sb3_gps train --out results/cube
python examples/visual_test.py results/cube/model.zip
"""

import argparse

from stable_baselines3.common.env_util import make_vec_env

from sb3_gps import GPS
from sb3_gps.evaluation import evaluate_split


def main() -> None:
    """Print the success without distractors, and with three strengths of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="saved by GPS, of one of the four tasks from images")
    parser.add_argument("--positions", type=int, default=50)
    args = parser.parse_args()
    model = GPS.load(args.model, device="cpu")
    # Beyond the positions that the tables report.
    first = 10_000
    plain = make_vec_env(model.env_id, 10)
    rate = evaluate_split(model, plain, "spatial", args.positions, first=first).rate
    print(f"{'plain':<8}{100 * rate:5.1f} %")
    for strength in ("mild", "medium", "strong"):
        env = make_vec_env(model.env_id, 10, env_kwargs={"visual": strength})
        rate = evaluate_split(model, env, "visual", args.positions, first=first).rate
        print(f"{strength:<8}{100 * rate:5.1f} %")


if __name__ == "__main__":
    main()
