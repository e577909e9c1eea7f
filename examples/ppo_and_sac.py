"""PPO and SAC with the spatial softmax: the network of GPS in any algorithm of Stable-Baselines3.

python examples/ppo_and_sac.py --algo sac --steps 20000
python -m sb3_gps film sac.zip --algo sac --env GPS/ShapeCube-v0
"""

import argparse

from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env

from sb3_gps import FeaturePointsCallback, VisuomotorExtractor

ENV = "GPS/ShapeCube-v0"
# Feature points of the image, beside the standardised joints.
NETWORK = dict(features_extractor_class=VisuomotorExtractor)


def main() -> None:
    """Train one of them; TensorBoard shows what it looks at."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algo", choices=("ppo", "sac"), default="ppo")
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--log", help="folder of TensorBoard")
    parser.add_argument("--out", help="file of the model [ALGO.zip]")
    args = parser.parse_args()
    if args.algo == "ppo":
        options = dict(n_steps=250, batch_size=250, gamma=0.98)
        model = PPO("MultiInputPolicy", make_vec_env(ENV, 4), policy_kwargs=NETWORK, **options)
    else:
        options = dict(buffer_size=20_000, gamma=0.98)
        model = SAC("MultiInputPolicy", make_vec_env(ENV, 1), policy_kwargs=NETWORK, **options)
    if args.log:
        model.tensorboard_log = args.log
    model.learn(args.steps, callback=FeaturePointsCallback(ENV, every=10_000))
    model.save(args.out or args.algo)


if __name__ == "__main__":
    main()
