"""GPS beside other algorithms on one protocol: what a run counts, the command, its table."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest
import toy_envs  # noqa: F401  registers Toy/*
from toy_envs import HORIZON, QUICK, SMALL_NETWORK, SMALL_POLICY

from sb3_gps import compare
from sb3_gps.commands import benchmark_compare as command
from sb3_gps.compare import OPPONENTS, Trial, run_dagger, run_gps, run_opponent

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
    first = run_opponent(small(name), ENV, 0, 60, tmp_path, TRIAL)
    more = run_opponent(
        small(name), ENV, 0, 120, tmp_path, TRIAL, lambda curve, _: seen.append(len(curve))
    )
    assert [steps for steps, _ in first.curve] == [60]
    assert [steps for steps, _ in more.curve] == [60, 120] and seen == [2]
    assert tuple(more.curve[0]) == tuple(first.curve[0]) and more.seconds > first.seconds > 0
    assert all(0 <= success <= 100 for _, success in more.curve)


def test_pose_images_count():
    options = {k: v for k, v in {**QUICK, "policy_kwargs": SMALL_POLICY}.items() if k != "seed"}
    outcome = run_gps(ENV, 0, TRIAL, {**options, "pose_images": 10, "pose_steps": 1})
    assert outcome.before == {"pose images": 10}
    steps = [steps for steps, _ in outcome.curve]
    assert steps == sorted(steps) and (steps[-1] - 10) % HORIZON == 0


def test_the_training_of_the_expert_counts(monkeypatch, tmp_path):
    monkeypatch.setitem(compare.OPPONENTS, "sac-state", small("sac-state"))
    monkeypatch.setattr(compare, "MultiInputPolicy", tiny_student)
    sizes = dict(expert_steps=60, episodes=4, head_steps=2, end_to_end_steps=0)
    outcome = run_dagger(ENV, 0, 60 + 2 * 4 * HORIZON, tmp_path, TRIAL, **sizes)
    assert outcome.before == {"expert": 60}
    assert [steps for steps, _ in outcome.curve] == [60 + 4 * HORIZON, 60 + 8 * HORIZON]
    with pytest.raises(ValueError, match="raise the steps"):
        run_dagger(ENV, 0, 70, tmp_path, TRIAL, **sizes)


def tiny_student(*args, **kwargs):
    from sb3_gps.policies import MultiInputPolicy

    return MultiInputPolicy(*args, features_extractor_kwargs=SMALL_NETWORK, **kwargs)


def test_a_missing_package_is_named():
    opponent = replace(OPPONENTS["tqc"], algorithm="no_such_package:TQC")
    with pytest.raises(ValueError, match="pip install no-such-package"):
        _ = opponent.kind


def test_the_command(here, monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setitem(compare.OPPONENTS, "ppo-state", small("ppo-state"))
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    line = f"--tasks {ENV} --algos ppo-state --seeds 0 1 --steps 60 --every 30 --positions 2"
    args = parser.parse_args([*line.split(), "--out", str(tmp_path)])
    assert command.main(args) == 0 and command.main(args) == 0
    assert here == [["ppo-state_seed0.json", "ppo-state_seed1.json"], []]
    assert f"| {ENV} | ppo-state | 2 | 60 |  | " in capsys.readouterr().out
    assert (tmp_path / "success.png").stat().st_size > 1000
    assert "never" in (tmp_path / "summary.md").read_text()


def record(algorithm: str, curve: list, **before: int) -> dict:
    row = {"env": "GPS/ShapeCube-v0", "algorithm": algorithm, "seconds": 360.0}
    return {**row, "curve": curve, "before": before}


def test_the_table():
    runs = [
        record("gps", [[5_000, 80.0], [9_000, 96.0]], images=2000),
        record("gps", [[5_000, 95.0], [9_000, 100.0]], images=2000),
        record("sac", [[10_000, 0.0], [200_000, 40.0]]),
    ]
    rows = command.table(runs).splitlines()[2:]
    assert rows == [
        "| GPS/ShapeCube-v0 | gps | 2 | 9,000 | 2,000 images | 98.0 [96.0] | 9,000 | 0.10 |",
        "| GPS/ShapeCube-v0 | sac | 1 | 200,000 |  | 40.0 [40.0] | – | 0.10 |",
    ]


def test_names_of_the_command_are_those_of_the_algorithms():
    assert set(command.ALGORITHMS) == set(compare.ALGORITHMS)
