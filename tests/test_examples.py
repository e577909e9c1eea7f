"""Every example runs, with tiny settings, as a user would run it; none is longer than a page."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from toy_envs import SMALL_POLICY

from sb3_gps import GPS

EXAMPLES = Path(__file__).parents[1] / "examples"
LINES = 79  # of an example that is read from top to bottom
TINY = dict(
    conditions=2, iterations=2, head_steps=2, end_to_end_steps=1, last_head_steps=0,
    last_end_to_end_steps=0, pose_images=0, policy_kwargs=SMALL_POLICY,
)  # fmt: skip


@pytest.fixture(scope="module")
def cube(tmp_path_factory) -> Path:
    """A model of the cube that has learned next to nothing."""
    model = GPS("CnnPolicy", "GPS/ShapeCube-v0", seed=0, **TINY)
    path = tmp_path_factory.mktemp("cube") / "model.zip"
    model.learn().save(path)
    return path


def run(name: str, *words: str | Path) -> str:
    """What an example prints."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_own_environment():
    assert re.search(
        r"\d+ % of unseen goals reached", run("own_environment.py", "--iterations", "2")
    )


@pytest.mark.parametrize("dynamics", ["fitted", "mujoco"])
def test_teachers_only(dynamics):
    said = run("teachers_only.py", "--iterations", "2", "--dynamics", dynamics)
    assert re.findall(r"slot (\d): cost", said) == ["0", "1", "2", "3"] and "8 trials" in said


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_ppo_and_sac(algorithm, tmp_path):
    out = tmp_path / "model.zip"
    run("ppo_and_sac.py", "--algo", algorithm, "--steps", "110", "--out", out, "--log", tmp_path)
    assert out.exists() and list(tmp_path.rglob("events*"))


@pytest.mark.slow
def test_finetune_with_ppo():
    # Two iterations of 40 trials of 50 steps, since the first has no student yet.
    said = run("finetune_with_ppo.py", "--gps-steps", "4000", "--ppo-steps", "10")
    assert "after GPS: (" in said and "after PPO: (" in said


@pytest.mark.slow
def test_resume():
    said = run("resume.py", "--steps", "400")
    assert "8 trials; actions differ by 0\n" in said


@pytest.mark.slow
@pytest.mark.gl
def test_visual_test(cube):
    said = run("visual_test.py", cube, "--positions", "1")
    assert re.findall(r"^(\w+) +[\d.]+ %", said, re.MULTILINE) == [
        "plain", "mild", "medium", "strong",
    ]  # fmt: skip


@pytest.mark.gl
def test_feature_point_video(cube, tmp_path):
    pytest.importorskip("imageio")
    said = run("feature_point_video.py", cube, "--out", tmp_path / "film.gif")
    assert said.count("of the action") == 5 and (tmp_path / "film.gif").exists()


@pytest.mark.gl
def test_quickstart(monkeypatch, tmp_path, capsys):
    pytest.importorskip("rich")

    class Quick(GPS):
        """With options for which there is no flag: the example shows the defaults."""

        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **{**TINY, **kwargs})

    monkeypatch.setattr("sb3_gps.GPS", Quick)
    monkeypatch.setattr(sys, "argv", ["", "--steps", "100", "--out", str(tmp_path / "cube")])
    runpy.run_path(str(EXAMPLES / "quickstart.py"))
    assert re.search(r"\d+ of 20 unseen positions solved", capsys.readouterr().out)


def test_examples_are_short():
    shown = [path for path in EXAMPLES.glob("*.py") if "results" not in path.read_text()]
    assert len(shown) >= 7
    long = {path.name: n for path in shown if (n := len(path.read_text().splitlines())) > LINES}
    assert not long
