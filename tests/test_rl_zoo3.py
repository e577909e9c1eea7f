"""``--algo gps`` in RL Baselines3 Zoo; skipped where the zoo is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from gymnasium.envs.registration import registry

from sb3_gps import GPS

pytest.importorskip("rl_zoo3")
yaml = pytest.importorskip("yaml")  # the zoo needs it, GPS does not

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "examples" / "rl_zoo3"
HYPERPARAMETERS = yaml.safe_load((FOLDER / "gps.yml").read_text())


@pytest.mark.parametrize("env_id", HYPERPARAMETERS)
def test_every_entry_is_an_environment_with_options_of_gps(env_id):
    options = dict(HYPERPARAMETERS[env_id])
    assert options.pop("n_timesteps") > 0 and env_id in registry
    GPS(options.pop("policy"), env_id, **options)


def test_train_and_enjoy(tmp_path):
    short = {"n_timesteps": 100, "policy": "MlpPolicy", "conditions": 2, "head_steps": 2,
             "last_head_steps": 2, "last_end_to_end_steps": 0}  # fmt: skip
    (tmp_path / "short.yml").write_text(yaml.safe_dump({"Reacher-v5": short}))
    common = ["--algo", "gps", "--env", "Reacher-v5", "-f", "logs"]

    def run(*args: str) -> str:
        command = [sys.executable, str(FOLDER / "train.py"), *args]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(*common, "-conf", "short.yml", "--eval-freq", "-1")
    assert (tmp_path / "logs" / "gps" / "Reacher-v5_1" / "Reacher-v5.zip").exists()
    assert "Mean reward" in run("enjoy", *common, "--no-render", "-n", "60")
