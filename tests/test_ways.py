"""The paper's three ways of training: what each of them trains."""

from __future__ import annotations

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from sb3_gps.evaluation import evaluate_split
from sb3_gps.perception import PosePrediction
from sb3_gps.ways import make_env, policy_for, train

TINY = dict(
    iterations=2, teacher_iterations=1, pose_images=40, pose_steps=3,
    head_steps=4, end_to_end_steps=2, last_head_steps=4, last_end_to_end_steps=2,
)  # fmt: skip


class Convolutions(BaseCallback):
    """Those of the policy after pose pretraining, before it is fitted."""

    before: th.Tensor | None = None

    def _on_step(self) -> bool:
        if self.before is None:
            self.before = self.of(self.model)
        return True

    @staticmethod
    def of(model) -> th.Tensor:
        parameters = model.policy.features_extractor.convolutions.parameters()
        return th.cat([p.detach().flatten() for p in parameters]).clone()


@pytest.mark.gl
@pytest.mark.parametrize(("way", "frozen"), [("end-to-end", False), ("pose-features", True)])
def test_what_moves_the_convolutions(way: str, frozen: bool) -> None:
    spy = Convolutions()
    trained = train(way, "GPS/ShapeCube-v0", 0, TINY, num_conditions=9, callback=spy)
    assert trained.actor is trained.model and trained.pose_images == 40
    assert spy.before is not None
    assert th.equal(spy.before, Convolutions.of(trained.model)) is frozen


@pytest.mark.gl
def test_prediction_sees_images_and_its_policy_does_not() -> None:
    trained = train("pose-prediction", "GPS/ShapeCube-v0", 0, TINY, num_conditions=9)
    assert isinstance(trained.actor, PosePrediction)
    assert "image" not in trained.model.observation_space.spaces
    assert trained.pose_images == 40 and np.isfinite(trained.pose_error_cm)
    assert trained.model.pose_images_used == 0
    env = make_vec_env("GPS/ShapeCube-v0", n_envs=2)
    assert evaluate_split(trained.actor, env, "visual", 2).success.shape == (2,)


def test_policies_and_ways_by_name() -> None:
    env = make_env("pose-prediction", "GPS/ShapeCube-v0", 9)
    assert policy_for(env.observation_space) == "MultiInputPolicy"
    assert (
        policy_for(make_env("end-to-end", "GPS/PegInsertion-v0").observation_space) == "MlpPolicy"
    )
    with pytest.raises(ValueError, match="available: end-to-end, pose-features, pose-prediction"):
        make_env("end to end", "GPS/ShapeCube-v0")
