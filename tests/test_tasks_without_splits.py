"""The commands on an environment that knows nothing of GPS: no positions, no splits, no success."""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from toy_envs import SMALL_POLICY, ImagePointMass

from sb3_gps import GPS
from sb3_gps import __main__ as cli
from sb3_gps.evaluation import EVALUATION_SEED, evaluate_returns
from sb3_gps.protocol import Protocol, evaluate_by_the_book

ENV = "InvertedPendulum-v5"
TINY = ["iterations=2", "conditions=2", "head_steps=5", "last_head_steps=5", "end_to_end_steps=0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a tiny run."""
    out = tmp_path_factory.mktemp("run")
    words = ["train", "--env", ENV, "--protocol", "quick", "--out", str(out), "--set", *TINY]
    assert cli.main(words) == 0
    return out


def test_a_run_is_judged_by_its_return(run, tmp_path, capsys):
    record = json.loads((run / "result.json").read_text())
    assert record["success"] == {} and record["returns"]["episodes"] == 40
    assert (run / "learning_curve.png").exists()
    again = tmp_path / "again.json"
    words = ["evaluate", str(run / "model.zip"), "--protocol", "quick", "--out", str(again)]
    assert cli.main(words) == 0
    assert json.loads(again.read_text())["returns"] == record["returns"]
    assert f"return {record['returns']['mean']:.1f} ±" in capsys.readouterr().out


def test_returns_are_those_of_episodes_run_by_hand():
    class Still:
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return np.zeros((len(observation), 1), np.float32), None

    by_hand, env = [], gym.make(ENV)
    for i in range(3):
        env.reset(seed=EVALUATION_SEED + i)
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = env.step(np.zeros(1))
            total, over = total + reward, terminated or truncated
        by_hand.append(total)
    assert len(set(by_hand)) > 1
    vectorised = make_vec_env(ENV, 3)
    for _ in range(2):  # the same episodes again
        assert sorted(evaluate_returns(Still(), vectorised, 3)) == sorted(by_hand)


def test_splits_of_other_names_are_left_out(monkeypatch):
    monkeypatch.setattr(ImagePointMass, "splits", ("train", "elsewhere"))
    model = GPS("MultiInputPolicy", "Toy/ImagePointMass-v0", policy_kwargs=SMALL_POLICY)
    few = Protocol(train_repeats=1, spatial=2, visual=2)
    found = evaluate_by_the_book(model, "Toy/ImagePointMass-v0", 4, few)
    assert list(found["success"]) == ["train"]
    monkeypatch.setattr(ImagePointMass, "splits", ("elsewhere",))
    found = evaluate_by_the_book(model, "Toy/ImagePointMass-v0", 4, few)
    assert found["success"] == {} and found["returns"]["episodes"] == 2


@pytest.mark.gl
def test_it_has_a_page_and_a_film(run, tmp_path, capsys):
    assert cli.main(["plot", str(run)]) == 0
    page = next(run.rglob("index.html"))
    assert "Return " in page.read_text() and list(page.parent.glob("episodes.*"))
    film = tmp_path / "film.gif"
    assert cli.main(["film", str(run / "model.zip"), "--out", str(film)]) == 0
    assert film.stat().st_size > 0
    words = ["evaluate", str(run / "model.zip"), "--protocol", "quick", "--video", str(film)]
    assert cli.main(words) == 0


@pytest.mark.gl
def test_a_page_does_not_need_the_film(run, monkeypatch):
    from gymnasium.error import DependencyNotInstalled

    def refuse(*args, **kwargs):
        raise DependencyNotInstalled("pygame is not installed")

    monkeypatch.setattr("sb3_gps.video.film_splits", refuse)
    assert cli.main(["plot", str(run)]) == 0
    assert "pygame is not installed" in next(run.rglob("index.html")).read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [(["--conditions", "3"], "give GPS conditions=3"), (["--curve"], "has none called 'spatial'")],
)
def test_what_it_has_not_is_refused(words, says, tmp_path: Path, capsys):
    assert cli.main(["train", "--env", ENV, "--out", str(tmp_path), *words]) == 1
    assert says in capsys.readouterr().err


def test_a_task_that_is_not_registered_is_asked_for(tmp_path, capsys):
    assert cli.main(["train", "--env", "None-v0", "--out", str(tmp_path)]) == 1
    assert "`None`" in capsys.readouterr().err


def test_a_model_of_such_a_task_says_how_to_name_it(run, capsys, monkeypatch):
    registry = {key: spec for key, spec in gym.registry.items() if key != ENV}
    monkeypatch.setattr(gym, "registry", registry)
    assert cli.main(["evaluate", str(run / "model.zip")]) == 1
    assert f"my_module:{ENV}" in capsys.readouterr().err
