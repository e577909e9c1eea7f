"""From images to torques: train, save, load, act. A few minutes on two cores.

python examples/quickstart.py
"""

import gymnasium as gym

from sb3_gps import GPS  # registers GPS/*

env = gym.make("GPS/ShapeCube-v0")  # Dict(image uint8 HxWx3, proprio float32), Box(-1, 1, (7,))
model = GPS("CnnPolicy", env, verbose=1, seed=0)
model.learn(progress_bar=True)  # the default budget; or total_timesteps=...
model.save("shape_cube")

model = GPS.load("shape_cube")
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
