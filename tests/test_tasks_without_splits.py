"""The commands on an environment that knows nothing of GPS: no positions, no splits, no success."""

import json
from pathlib import Path

import gymnasium as gym
import pytest

from sb3_gps import __main__ as cli

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
    assert record["returns"]["mean"] >= 1  # the pole stands for a step, at least
    assert (run / "learning_curve.png").exists()
    again = tmp_path / "again.json"
    words = ["evaluate", str(run / "model.zip"), "--protocol", "quick", "--out", str(again)]
    assert cli.main(words) == 0
    assert json.loads(again.read_text())["returns"] == record["returns"]
    assert f"return {record['returns']['mean']:.1f} ±" in capsys.readouterr().out


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
    [(["--conditions", "3"], "give GPS conditions=3"), (["--curve"], "has none: its returns")],
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
