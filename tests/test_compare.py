"""GPS beside other algorithms on one protocol: what a run counts, the command, its table."""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pytest
import toy_envs  # noqa: F401  registers Toy/*
from toy_envs import HORIZON, QUICK, SMALL_NETWORK, SMALL_POLICY

from sb3_gps import compare
from sb3_gps.commands import benchmark_compare as command
from sb3_gps.compare import OPPONENTS, Trial, run_dagger, run_gps, run_opponent
from sb3_gps.runs import read_record

ENV = "Toy/ImagePointMass-v0"
TRIAL = Trial(positions=4, every=60, n_envs=4)
SMALL = {
    "ppo": dict(n_steps=15, batch_size=30, n_epochs=1),
    "sac": dict(learning_starts=20, batch_size=8, buffer_size=200),
}


def small(name: str):
    """An opponent that learns nothing, soon."""
    opponent = OPPONENTS[name]
    kept = {k: v for k, v in opponent.options.items() if k == "policy_kwargs"}
    options = {**kept, **SMALL[name.split("-")[0].replace("tqc", "sac")]}
    return replace(opponent, options=options, n_envs=min(opponent.n_envs, 2))


@pytest.mark.parametrize("name", list(OPPONENTS))
def test_every_opponent_runs_and_goes_on(name, tmp_path):
    if name == "tqc":
        pytest.importorskip("sb3_contrib")
    seen = []
    filmed = replace(TRIAL, video=tmp_path / "film.gif")
    first = run_opponent(small(name), ENV, 0, 60, tmp_path, TRIAL)
    more = run_opponent(
        small(name), ENV, 0, 120, tmp_path, filmed, lambda curve: seen.append(len(curve))
    )
    assert [point["steps"] for point in first.curve] == [60]
    assert [point["steps"] for point in more.curve] == [60, 120] and seen == [1, 2]
    assert more.curve[0] == first.curve[0]
    assert more.curve[1]["seconds"] > more.curve[0]["seconds"] > 0
    assert all(0 <= point["spatial"] <= 100 for point in more.curve)
    assert filmed.video.exists() == small(name).sees_images


def test_pose_images_count():
    options = {k: v for k, v in {**QUICK, "policy_kwargs": SMALL_POLICY}.items() if k != "seed"}
    outcome = run_gps(ENV, 0, TRIAL, {**options, "pose_images": 10, "pose_steps": 1})
    assert outcome.before == {"pose images": 10}
    steps = [point["steps"] for point in outcome.curve]
    assert steps == sorted(steps) and (steps[-1] - 10) % HORIZON == 0


def test_the_training_of_the_expert_counts(monkeypatch, tmp_path):
    monkeypatch.setitem(compare.OPPONENTS, "sac-state", small("sac-state"))
    monkeypatch.setattr(compare, "MultiInputPolicy", tiny_student)
    sizes = dict(expert_steps=60, episodes=4, head_steps=2, end_to_end_steps=0)
    rounds = []

    def on_round(outcome):
        rounds.append(len(outcome.curve))

    outcome = run_dagger(ENV, 0, 60 + 2 * 4 * HORIZON, tmp_path, TRIAL, on_round, **sizes)
    assert outcome.before == {"expert": 60}
    assert [point["steps"] for point in outcome.expert] == [60]
    assert [point["steps"] for point in outcome.curve] == [60 + 4 * HORIZON, 60 + 8 * HORIZON]
    assert rounds == [1, 2]
    with pytest.raises(ValueError, match="raise the steps"):
        run_dagger(ENV, 0, 70, tmp_path, TRIAL, **sizes)


def test_dagger_cut_short_has_a_record_and_is_done_again(monkeypatch, tmp_path):
    points = [{"steps": 100, "seconds": 1.0, "spatial": 5.0}]
    expert = [{"steps": 60, "seconds": 1.0, "spatial": 59.0}]
    outcome = compare.Outcome(points, {"expert": 60}, expert)

    def interrupted(*args, **kwargs):
        args[-1](outcome)
        raise KeyboardInterrupt

    run = command.CompareRun(tmp_path, ENV, "dagger", 0, 120, 1, 60, 60, 2, False)
    monkeypatch.setattr(compare, "run_dagger", interrupted)
    with pytest.raises(KeyboardInterrupt):
        command.do(run)
    assert run.path.exists() and not run.finished
    monkeypatch.setattr(compare, "run_dagger", lambda *args, **kwargs: outcome)
    command.do(run)
    assert run.finished
    record = read_record(run.path)
    record["curve"][-1].update(train=0.0, visual=0.0)
    assert "| 60 expert (at 59 %) |" in command.table([record]).markdown()


def tiny_student(*args, **kwargs):
    from sb3_gps.policies import MultiInputPolicy

    return MultiInputPolicy(*args, features_extractor_kwargs=SMALL_NETWORK, **kwargs)


def test_a_missing_package_is_named():
    opponent = replace(OPPONENTS["tqc"], algorithm="no_such_package:TQC")
    with pytest.raises(ValueError, match="pip install no-such-package"):
        _ = opponent.kind


def test_the_command(here, monkeypatch, tmp_path, capsys):
    for package in ("matplotlib", "rliable", "jinja2"):
        pytest.importorskip(package)
    monkeypatch.setitem(compare.OPPONENTS, "ppo-state", small("ppo-state"))
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    line = f"--tasks {ENV} --algos ppo-state --seeds 0 1 --steps 60 --every 30 --positions 2"
    args = parser.parse_args([*line.split(), "--out", str(tmp_path)])
    assert command.main(args) == 0 and command.main(args) == 0
    assert here == [["ppo-state_seed0.json", "ppo-state_seed1.json"], []]
    assert f"| {ENV} | ppo-state | 2 | 60 |  | " in capsys.readouterr().out
    for picture in ("success.png", "seconds.png"):
        assert (tmp_path / picture).stat().st_size > 1000
    assert "never" in (tmp_path / "summary.md").read_text()
    monkeypatch.setitem(compare.OPPONENTS, "ppo-state", OPPONENTS["ppo"])
    with pytest.raises(ValueError, match=r"run with options .*remove it"):
        command.main(args)


def record(algorithm: str, curve: list, env: str = "GPS/ShapeCube-v0", **before: int) -> dict:
    points = [
        {"steps": steps, "seconds": steps / 25, "spatial": spatial, "train": 50.0, "visual": 25.0}
        for steps, spatial in curve
    ]
    machine = dict.fromkeys(
        ("processor", "cpu_count", "torch", "mujoco", "stable_baselines3", "commit"), "one"
    )
    return {
        "env": env,
        "algorithm": algorithm,
        "options": {"gamma": 0.98},
        "curve": points,
        "before": before,
        "machine": machine,
        "runs_at_once": 1,
    }


RUNS = [
    record("gps", [[5_000, 80.0], [9_000, 96.0]], images=2000),
    record("gps", [[5_000, 95.0], [9_000, 100.0]], images=2000),
    record("sac", [[10_000, 0.0], [200_000, 40.0]]),
]


def test_the_table():
    rows = command.table(RUNS).markdown().splitlines()[2:]
    others = "50.0 [50.0] | 25.0 [25.0]"
    assert rows == [
        f"| GPS/ShapeCube-v0 | gps | 2 | 9,000 | 2,000 images | 98.0 [96.0] | {others} | 9,000 "
        "| 0.10 |",
        f"| GPS/ShapeCube-v0 | sac | 1 | 200,000 |  | 40.0 [40.0] | {others} | – | 2.22 |",
    ]


def test_what_an_opponent_sees():
    """Images, and the time where it is told."""
    for name, opponent in OPPONENTS.items():
        env = replace(opponent, normalize=False).make_env(ENV, 2)
        seen = [env.reset()]
        for _ in range(3):
            seen.append(env.step(np.zeros((2, *env.action_space.shape)))[0])
        assert ("image" in seen[0]) == opponent.sees_images, name
        assert ("time" in seen[0]) == opponent.time == (name == "ppo-state-time")
        if opponent.time:
            passed = np.stack([observation["time"] for observation in seen])[:, :, 0]
            np.testing.assert_allclose(passed.T, [np.arange(4) / HORIZON] * 2, rtol=1e-6)
        env.close()


def test_the_page_has_every_figure_and_video(tmp_path):
    for package in ("matplotlib", "rliable", "jinja2"):
        pytest.importorskip(package)
    film = tmp_path / "GPS_ShapeCube-v0" / "gps_seed0.mp4"
    film.parent.mkdir()
    film.write_bytes(b"")
    elsewhere = record("ppo", [[10_000, 0.0]], env="GPS/BottleCap-v0")
    command.write_summary([*RUNS, elsewhere], tmp_path)
    page = (tmp_path / "index.html").read_text()
    for shown in ("success.png", "seconds.png", "profiles.png", "GPS_ShapeCube-v0/gps_seed0.mp4"):
        assert f'src="{shown}"' in page and (tmp_path / shown).exists()
    assert "<td>98.0 [96.0]</td>" in page and "gamma=0.98" in page
    summary = (tmp_path / "summary.md").read_text()
    assert "| sac | 0.40 [0.40, 0.40] | 1.00 [1.00, 1.00] |" in summary
    assert "for want of a task: ppo" in summary and "![" in summary


def test_names_of_the_command_are_those_of_the_algorithms():
    assert set(command.ALGORITHMS) == {"gps", *OPPONENTS, "dagger"}
