"""The commands that users start: what they write, and what they say of a mistake."""

from __future__ import annotations

import inspect
import json
import re
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from sb3_gps import GPS, Augmentation
from sb3_gps import __main__ as cli
from sb3_gps.commands import benchmark_paper, benchmark_trials
from sb3_gps.commands.demo import run_demo
from sb3_gps.commands.options import parse_options, parse_pairs
from sb3_gps.files import rewrite, write_json
from sb3_gps.paper import PAPER_TASKS
from sb3_gps.plotting import plot_success_vs_trials
from sb3_gps.protocol import Protocol, evaluate_policy_on_splits, wilson
from sb3_gps.provenance import command_line

TINY = {
    "iterations": 3,
    "teacher_iterations": 1,
    "pose_images": 60,
    "pose_steps": 4,
    "head_steps": 5,
    "end_to_end_steps": 2,
    "last_head_steps": 5,
    "last_end_to_end_steps": 2,
}
FEW = Protocol(train_repeats=1, spatial=2, visual=2)


@pytest.mark.slow
@pytest.mark.gl
def test_the_demo_leaves_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record, files = run_demo(
        "GPS/ShapeCube-v0",
        tmp_path,
        0,
        TINY,
        conditions=9,
        protocol=FEW,
        filmed={"spatial": 1, "visual": 1},
        curve=True,
        progress_bar=False,
    )
    course = [tmp_path / "iterations", tmp_path / "progress.json"]
    # Nothing temporary is left behind.
    assert sorted([*files, *course]) == sorted(tmp_path.iterdir())
    assert {path.suffix for path in files} >= {".zip", ".png", ".json"}
    assert all(path.stat().st_size > 1000 for path in files)

    written = json.loads((tmp_path / "result.json").read_text())
    assert written["trials"] == 27 and written["pose_images"] == 60
    assert [row["trials"] for row in written["curve"]] == [18]
    assert written["success"] == record["success"]
    assert written["success"]["spatial"]["episodes"] == 2
    assert written["history"][0]["train/loss"] is None  # JSON has no NaN

    monkeypatch.setattr("sb3_gps.protocol.QUICK", FEW)
    out = tmp_path / "evaluation.json"
    argv = ["evaluate", str(tmp_path / "model.zip"), "--protocol", "quick", "--out", str(out)]
    assert cli.main(argv) == 0
    assert json.loads(out.read_text())["success"] == record["success"]
    assert "unseen positions" in capsys.readouterr().out


def test_every_option_is_explained() -> None:
    page = (Path(__file__).parents[1] / "docs" / "options.md").read_text(encoding="utf-8")
    rows = [line.split(" | ")[:2] for line in page.splitlines() if line.startswith("| `")]
    listed = {name.strip("| `"): default.strip("`") for name, default in rows}
    expected = {
        name: repr(parameter.default).replace("'", '"')
        for name, parameter in inspect.signature(GPS).parameters.items()
        if name not in ("policy", "env", "_init_setup_model")
    }
    changes = expected.pop("augmentation"), listed.pop("augmentation")
    assert repr(eval(changes[1], {"Augmentation": Augmentation})) == changes[0]
    assert listed == expected
    assert GPS.__doc__ is not None
    documented = re.findall(r":param (\w+):", GPS.__doc__)
    assert set(documented) == {"policy", "env", "augmentation", *expected}


@pytest.mark.gl
def test_a_policy_that_is_not_trained_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", str(tmp_path / "none.zip")]) == 1
    assert "is not a file" in capsys.readouterr().err


def test_noise_that_is_asked_for_replaces_the_protocols(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def spy(env_id: str, n_envs: int, env_kwargs: dict[str, Any]) -> None:
        seen.update(env_kwargs)
        raise InterruptedError

    monkeypatch.setattr("sb3_gps.protocol.make_vec_env", spy)
    for asked, used in (({}, 0.01), ({"init_noise": 0.1}, 0.1)):
        with pytest.raises(InterruptedError):
            evaluate_policy_on_splits(None, "GPS/ShapeCube-v0", 9, FEW, **asked)
        assert seen["init_noise"] == FEW.given(asked).init_noise == used


def test_pairs_are_literals_or_strings() -> None:
    assert parse_pairs(["a=1", "b=x=y", "c=(1, 2)", "d=None"], "--set") == {
        "a": 1,
        "b": "x=y",
        "c": (1, 2),
        "d": None,
    }


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["iterations"], "takes KEY=VALUE, got 'iterations'"),
        (["=3"], "takes KEY=VALUE"),
        (["iterations=1", "iterations=2"], "twice"),
        (["iteration=1"], "did you mean 'iterations'"),
        (["qqqq=1"], "Available: learning_rate"),
        (["seed=1"], "no such option"),
    ],
)
def test_wrong_options_say_what_is_right(pairs: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_options(pairs)


def test_an_augmentation_can_be_typed() -> None:
    assert parse_options(['augmentation={"shapes": 3}'])["augmentation"].shapes == 3


def test_the_command_of_a_run_can_be_typed_again() -> None:
    options = {"update": "mdgps", "augmentation": Augmentation(shapes=2), "initial_gains": (1, 0)}
    words = shlex.split(command_line("Task-v0", 3, options, "end-to-end", 9, 2, {"chamfer": 0}))
    at = {flag: words.index(flag) for flag in ("--set", "--env-set")}
    assert words[3 : at["--set"]] == [
        "train", "--env", "Task-v0", "--seed", "3", "--conditions", "9", "--n-envs", "2",
    ]  # fmt: skip
    assert parse_options(words[at["--set"] + 1 : at["--env-set"]]) == options
    assert parse_pairs(words[at["--env-set"] + 1 :], "--env-set") == {"chamfer": 0}


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "result.json"
    write_json(path, {"a": [1.5, float("nan")], "b": (float("inf"), "x")})
    assert json.loads(path.read_text()) == {"a": [1.5, None], "b": [None, "x"]}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        rewrite(path, fail)
    assert json.loads(path.read_text())["a"] == [1.5, None]
    assert list(path.parent.iterdir()) == [path]


def test_the_interval_holds_the_true_rate(rng: np.random.Generator) -> None:
    n, rate = 40, 0.95
    intervals = [wilson(k / n, n) for k in rng.binomial(n, rate, size=2000)]
    held = np.mean([low <= rate <= high for low, high in intervals])
    assert 0.92 < held < 0.99
    assert wilson(1.0, 40)[0] == pytest.approx(0.912, abs=1e-3) and wilson(1.0, 40)[1] == 1.0


def _record(trials: int, seed: int, rate: float) -> dict[str, Any]:
    return {
        "env": "GPS/ShapeCube-v0",
        "seed": seed,
        "num_conditions": 36,
        "way": "end-to-end",
        "update": "mdgps",
        "options": {"update": "mdgps", "iterations": 8},
        "protocol": asdict(Protocol()),
        "command": "python -m sb3_gps train",
        "trials": trials,
        "pose_images": 2000,
        "runs_at_once": 1,
        "seconds": {"total": 100.0 + seed},
        "machine": dict(processor="none", cpu_count=2, torch="2", mujoco="4", commit="abc1234"),
        "success": {split: {"success": rate} for split in ("train", "spatial", "visual")},
    }


def test_the_table_has_mean_worst_and_the_paper() -> None:
    lines = benchmark_trials.table([_record(288, 0, 90.0), _record(288, 1, 100.0)]).splitlines()
    assert "| mdgps | 288 | 2000 | 2 | 95.0 ± 5.0 (90.0) |" in lines[2]
    assert lines[2].endswith("| 100 |") or lines[2].endswith("| 101 |")
    assert "96.3 | 91.7 | 87.5" in lines[-1]
    assert len({line.count("|") for line in lines}) == 1


def test_a_task_without_distractors_has_a_table_and_a_plot(tmp_path: Path) -> None:
    records = [_record(288, seed, 90.0) for seed in (0, 1)]
    for record in records:
        del record["success"]["visual"]
    benchmark_trials.write_summary(records, tmp_path)
    summary = (tmp_path / "summary.md").read_text()
    assert "unseen positions | seconds |" in summary and "sb3_gps abc1234" in summary
    assert (tmp_path / "success_vs_trials.png").stat().st_size > 1000


def test_a_plot_needs_runs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run has finished"):
        plot_success_vs_trials([], tmp_path / "plot.png")


def test_a_benchmark_goes_on_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All runs are there: nothing is trained, the summary is written."""
    monkeypatch.setattr(benchmark_trials, "BUDGETS", {300: (36, 8)})
    for seed in (0, 1):
        write_json(tmp_path / f"mdgps_300_seed{seed}.json", _record(288, seed, 90.0 + seed))
    argv = ["benchmark", "trials", "--out", str(tmp_path), "--seeds", "0", "1"]
    assert cli.main(argv) == 0
    out = capsys.readouterr().out
    assert out.count("present, skipped") == 2 and "90.5 ± 0.5" in out
    assert (tmp_path / "success_vs_trials.png").stat().st_size > 1000
    assert "success_vs_trials.png" in (tmp_path / "summary.md").read_text()
    # Asked for in pieces, the table is still that of all.
    assert cli.main([*argv[:-1]]) == 0
    assert "90.5 ± 0.5" in capsys.readouterr().out
    # A file of a run with other options is not taken for this one.
    assert cli.main([*argv, "--set", "nu=0.5"]) == 1
    assert "choose another --out" in capsys.readouterr().err


CLEARANCE = {  # m
    "GPS/CoatHanger-v0": 0.013,
    "GPS/ShapeCube-v0": 0.003,
    "GPS/ToyHammer-v0": 0.0035,
    "GPS/BottleCap-v0": 0.004,
}


def _paper_record(env: str, way: str, seed: int, rate: float) -> dict[str, Any]:
    return {**_record(170, seed, rate), "env": env, "way": way, "pose_error_cm": 0.4}


def test_the_papers_table_has_ours_and_theirs(tmp_path: Path) -> None:
    runs = [
        _paper_record(env, way, seed, rate + seed)
        for seed in (0, 1)
        for env in ("GPS/CoatHanger-v0", "GPS/ShapeCube-v0")
        for way, rate in (("end-to-end", 98.0), ("pose-prediction", 50.0))
    ]
    lines = benchmark_paper.table(runs).splitlines()
    assert len(lines) == 2 + 4
    assert lines[2].startswith("| CoatHanger | end-to-end | 36 | 170 (156) | 2 | **98.5** ± 0.5")
    assert "(100.0)" in lines[2] and "(66.7)" in lines[3]  # the paper's
    assert lines[5].count("(–)") == 1  # what the paper did not try
    benchmark_paper.write_summary(runs, tmp_path)
    assert (tmp_path / "success.png").stat().st_size > 1000
    assert lines[2] in (tmp_path / "summary.md").read_text()


def test_the_papers_benchmark_plans_every_cell(tmp_path: Path) -> None:
    parser = cli.make_parser("benchmark")
    args = parser.parse_args(["benchmark", "paper", "--out", str(tmp_path), "--seeds", "0", "1"])
    runs = list(benchmark_paper.plan(args))
    tasks = [env for env in PAPER_TASKS if env in gym.registry]
    assert len({run.path for run in runs}) == len(runs) == 2 * len(tasks) * 3
    for run in runs:
        # No more trials than the paper's.
        assert run.conditions * run.options["iterations"] <= PAPER_TASKS[run.env].trials
        # Most unseen positions are farther from what was trained on than what the task forgives.
        layout = gym.make(run.env, num_conditions=run.conditions).unwrapped.layout
        trained = layout.training[: run.conditions]
        unseen = np.array([layout.unseen("spatial", i) for i in range(200)])
        gaps = np.linalg.norm(unseen[:, None, :2] - trained[:, :2], axis=-1)
        gaps[unseen[:, None, 2] != trained[:, 2]] = np.inf  # another grasp
        assert np.median(gaps.min(axis=1)) > CLEARANCE[run.env]
    one = ["benchmark", "paper", "--tasks", "ShapeCube", "--ways", "pose-features"]
    (run, *_) = benchmark_paper.plan(parser.parse_args([*one, "--trials", "300"]))
    assert (run.way, run.conditions, run.options) == ("pose-features", 60, {"iterations": 5})
