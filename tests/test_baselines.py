"""PPO and SAC beside GPS: a run that is resumed, what counts as reached, the table and the plot."""

from __future__ import annotations

import argparse
import shutil

import numpy as np
import pytest
import toy_envs  # noqa: F401  registers Toy/*
from stable_baselines3.common.env_util import make_vec_env
from toy_envs import QUICK

from sb3_gps import baselines
from sb3_gps.baselines import mean_return, options_of, run_gps, run_sb3
from sb3_gps.commands import benchmark_environments as command
from sb3_gps.commands.tables import machines_table
from sb3_gps.curves import array, reached
from sb3_gps.provenance import machine
from sb3_gps.runs import records

ENV = "Toy/PointMass-v0"


@pytest.fixture
def small(monkeypatch):
    """Options of SAC and PPO on the toy, and short chunks."""
    monkeypatch.setattr(baselines, "CHUNK", 200)
    monkeypatch.setitem(baselines.ZOO["sac"], ENV, dict(learning_starts=50, batch_size=16))
    ppo = dict(normalize=True, n_envs=2, n_steps=50, batch_size=50, n_epochs=2)
    monkeypatch.setitem(baselines.ZOO["ppo"], ENV, ppo)


@pytest.mark.parametrize("algorithm", ["sac", "ppo"])
def test_a_run_goes_on_where_it_stopped(algorithm, small, tmp_path):
    seen = []
    folder = tmp_path / "run"

    def stop(curve: list) -> None:
        seen.append(curve[-1]["steps"])
        if len(seen) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sb3(algorithm, ENV, 0, 600, 2, folder, stop)
    curve = run_sb3(algorithm, ENV, 0, 600, 2, folder, stop)
    assert seen == [200, 200, 400, 600]  # what was interrupted there may not have been written
    assert [point["steps"] for point in curve] == [200, 400, 600]
    seconds = [point["seconds"] for point in curve]
    assert seconds == sorted(seconds) and seconds[0] > 0
    assert np.isfinite([point["return"] for point in curve]).all()
    assert run_sb3(algorithm, ENV, 0, 600, 2, folder) == curve  # it is done: nothing happens


def test_options_are_copies():
    first = options_of("ppo", "Reacher-v5")
    first["n_steps"] = 1
    assert options_of("ppo", "Reacher-v5")["n_steps"] == 512
    assert options_of("sac", "Nobody/Tuned-v0") == {}


def test_gps_is_evaluated_after_each_iteration():
    options = {name: value for name, value in QUICK.items() if name not in ("seed", "iterations")}
    curve = run_gps(ENV, 0, 240, options, 2)
    # The first iteration fits no policy; the last fit is one more point.
    assert [point["steps"] for point in curve] == [120, 180, 240]
    assert curve[-1]["seconds"] > curve[0]["seconds"] > 0
    assert curve[-1]["return"] > curve[0]["return"]
    again = run_gps(ENV, 0, 240, options, 2)
    assert [point["return"] for point in again] == [point["return"] for point in curve]


def test_all_see_the_same_episodes():
    class Still:
        def predict(self, observation, *_, **__):
            starts.append(np.array(observation))
            return np.zeros((len(observation), 2)), None

    env, starts = make_vec_env(ENV, 2, env_kwargs={"init_noise": 0.3}), []
    first = mean_return(Still(), env, 2)
    middle = len(starts)
    assert mean_return(Still(), env, 2) == first
    np.testing.assert_array_equal(starts[0], starts[middle])


def record(algorithm: str, seed: int, curve: list) -> dict:
    points = [{"steps": steps, "return": value} for steps, value in curve]
    return {
        "env": "Reacher-v5",
        "algorithm": algorithm,
        "seed": seed,
        "options": {"learning_rate": 3e-4},
        "curve": points,
        "machine": machine(),
        "runs_at_once": 1,
    }


RUNS = [
    record("sac", 0, [[100_000, -5.0], [200_000, -4.0]]),
    record("sac", 1, [[100_000, -5.0], [200_000, -6.0]]),
    record("gps", 0, [[900, -9.0], [2000, -5.5], [3000, -4.5]]),
    record("gps", 1, [[1100, -8.0], [2000, -4.1], [3000, -4.5], [4000, -1.0]]),
    record("ppo", 0, [[200_000, -7.0]]),
]


def test_seeds_that_were_tried_at_other_steps_are_as_they_were_found_last():
    early = [record("gps", 0, [[10, 1.0], [30, 3.0]]), record("gps", 1, [[20, 5.0], [35, 7.0]])]
    curves = array(early, "return")
    assert curves.tolist() == [[[20, 1.0], [30, 3.0]], [[20, 5.0], [30, 5.0]]]
    once = [record("gps", 0, [[10, 1.0]]), record("gps", 1, [[20, 5.0]])]
    assert array(once, "return").tolist() == [[[20, 1.0]], [[20, 5.0]]]


def test_reached_is_when_the_mean_of_the_seeds_is_there():
    gps = [run for run in RUNS if run["algorithm"] == "gps"]
    assert reached(gps, "return", -5.0) == 2000.0
    assert reached(gps, "return", -8.5) == 1100.0  # before, the second has not been tried
    assert reached(gps, "return", -1.0) is None  # one seed alone is no mean
    assert reached(gps[1:], "return", -1.0) == 4000.0


def test_the_table_the_plot_and_the_page(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    command.write_summary(RUNS, tmp_path)
    row = (tmp_path / "summary.md").read_text().splitlines()[2]
    assert row == (
        "| Reacher-v5 | -5.0 [-6.0] at 200 k | -7.0 [-7.0] at 200 k | -2.8 [-4.5] at 4 k | 4,000 "
        "| 2,000 | 100 | 100,000 |"
    )
    assert (tmp_path / "returns.png").stat().st_size > 1000
    page = (tmp_path / "index.html").read_text()
    for shown in ("-2.8 [-4.5] at 4 k", 'src="returns.png"', "learning_rate=0.0003"):
        assert shown in page
    (row,) = machines_table(RUNS).rows
    assert row[0] == "5" and row[-1] == "1"
    assert all(f"<td>{cell}</td>" in page for cell in row)
    assert "*" not in page and "`" not in page  # Markdown is shown as it is written
    never = [record("sac", 0, [[200_000, 0.0]]), *RUNS[2:]]
    assert command.table(never).markdown().endswith("| 4,000 | – | – | 200,000 |")
    longer = [*RUNS[:2], record("sac", 2, [[200_000, -9.0], [300_000, 0.0]])]
    assert command.table([*longer, *RUNS[2:]]).markdown().endswith(" – |")
    # Neither without SAC, nor while it is on its way, is there anything to reach.
    for sac in ([], [record("sac", 0, [[50_000, -5.0]])]):
        assert command.table([*sac, *RUNS[2:]]).markdown().endswith("| 4,000 |  |  |  |")


def test_the_command_runs_what_is_missing(here, small, monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    monkeypatch.setattr(command, "OPTIONS", {ENV: {"head_steps": 2, "last_head_steps": 0}})
    monkeypatch.setattr(command, "GPS_STEPS", 120)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    arguments = ["--algorithms", "gps", "ppo", "--seeds", "3", "--steps", "200", "--episodes", "1"]
    args = parser.parse_args([*arguments, "--jobs", "1", "--out", str(tmp_path)])
    args.envs = [ENV]
    for _ in range(2):
        assert command.main(args) == 0
    args.steps = 400
    assert command.main(args) == 0
    # Of PPO, which was to go further than it is, more is missing.
    assert here == [["gps_seed3.json", "ppo_seed3.json"], [], ["ppo_seed3.json"]]
    assert f"| {ENV} |  | " in capsys.readouterr().out
    steps = [run["curve"][-1]["steps"] for run in records(tmp_path) if run["algorithm"] == "ppo"]
    assert steps == [400]
    shutil.rmtree(tmp_path / ENV.replace("/", "_") / "ppo_seed3")
    args.steps = 600  # from nothing, it would write over what is there
    with pytest.raises(ValueError, match=r"ends after 400 steps, .* has no model to go on from"):
        command.main(args)
    args.steps = 400
    args.episodes = 2  # other figures than those that are there
    with pytest.raises(ValueError, match="run with episodes 1, not 2; remove it"):
        command.main(args)
