"""From images to torques: train, save, load, act. A few minutes on two cores.

python examples/quickstart.py
"""

import argparse

import gymnasium as gym

from sb3_gps import GPS  # registers GPS/*

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, help="of the environment [the default budget]")
parser.add_argument("--out", default="shape_cube")
args = parser.parse_args()

env = gym.make("GPS/ShapeCube-v0")  # Dict(image uint8 HxWx3, proprio float32), Box(-1, 1, (7,))
model = GPS("CnnPolicy", env, verbose=1, seed=0)
model.learn(args.steps, progress_bar=True)
model.save(args.out)

model = GPS.load(args.out)
unseen = gym.make("GPS/ShapeCube-v0", split="spatial")  # positions that it was not trained on
solved = 0
for i in range(20):
    observation, info = unseen.reset(options={"condition": i})
    done = False
    while not done:
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, terminated, truncated, info = unseen.step(action)
        done = terminated or truncated
    solved += info["is_success"]
print(f"{solved} of 20 unseen positions solved")
