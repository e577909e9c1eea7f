"""On from GPS with PPO, which asks for no teachers: the weights go over as they are.

It shows the way; with these options PPO has not been seen to gain on GPS.

python examples/finetune_with_ppo.py
"""

import argparse

from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_gps import GPS


def main() -> None:
    """Train by GPS, fine-tune by PPO, and print the return after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="Reacher-v5")
    parser.add_argument("--gps-steps", type=int, default=8_000)
    parser.add_argument("--ppo-steps", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    env = make_vec_env(args.env, n_envs=4, seed=args.seed)

    # GPS has no use for a value function, PPO does: it gets layers of its own from the beginning.
    network = dict(net_arch=dict(pi=[40, 40], vf=[64, 64]))
    gps = GPS(
        "MlpPolicy",
        env,
        conditions=40,
        sampling="global",
        prior="network",
        trust_radius=100.0,
        min_eta=0.002,
        initial_std=0.1,
        min_action_std=0.02,
        policy_kwargs=network,
        seed=args.seed,
        verbose=1,
    )
    gps.learn(args.gps_steps)
    print("after GPS:", evaluate_policy(gps, env, n_eval_episodes=50))

    ppo = PPO(
        type(gps.policy),
        env,
        learning_rate=1e-4,
        n_steps=500,
        batch_size=100,
        n_epochs=5,
        gamma=0.9,
        target_kl=0.05,
        policy_kwargs=gps.policy_kwargs,
        seed=args.seed,
        device="cpu",
    )
    ppo.policy.load_state_dict(gps.policy.state_dict())  # mean, noise and value alike
    ppo.learn(args.ppo_steps)
    print("after PPO:", evaluate_policy(ppo, env, n_eval_episodes=50))


if __name__ == "__main__":
    main()
