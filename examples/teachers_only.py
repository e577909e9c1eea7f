"""Teachers without a student: LQG on MuJoCo. A controller of each of four slots, from the state.

python examples/teachers_only.py

What is left of GPS is iterative LQR on dynamics that are fitted to one trial a slot and iteration,
or those of the simulator itself. The controllers are u ~ N(K_t x + k_t, C_t).
"""

import argparse

import gymnasium as gym
import numpy as np

from sb3_gps import GPS, SimulatorState


def main() -> None:
    """Train the teachers, and execute the mean of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--dynamics", choices=("fitted", "mujoco"), default="fitted")
    args = parser.parse_args()
    env = gym.make("GPS/PegInsertion-v0")
    if args.dynamics == "mujoco":
        env = SimulatorState(env)
    # A student that learns nothing: BADMM's teachers, with a weight of zero, are then on their own.
    alone = dict(head_steps=0, end_to_end_steps=0, last_head_steps=0, last_end_to_end_steps=0)
    model = GPS(
        "MlpPolicy",
        env,
        update="badmm",
        kl_penalty=False,
        dual_rate=0.0,
        iterations=args.iterations,
        dynamics=args.dynamics,
        seed=0,
        **alone,
    )
    model.learn()
    teachers = model.teachers.controller  # K (M, T, dU, dX), k (M, T, dU), C (M, T, dU, dU)
    for m in range(teachers.k.shape[0]):
        _, info = env.reset(options={"condition": m})
        cost = 0.0
        for t in range(teachers.k.shape[1]):
            action = teachers.K[m, t] @ info["state"] + teachers.k[m, t]
            clipped = np.clip(action, -1, 1).astype(np.float32)
            _, reward, _, _, info = env.step(clipped)
            cost -= reward
        print(f"slot {m}: cost {cost:.1f}, {'in' if info['is_success'] else 'not in'}")
    print(f"{model.trials} trials")


if __name__ == "__main__":
    main()
