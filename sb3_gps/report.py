"""The report of a run: one page of curves, tables, feature points and videos, that opens from disk.

It is made from what a run leaves in its folder (``progress.json``, ``result.json``,
``iterations/``, ``model.zip``), of which the first is enough: a run that goes on has a report, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gymnasium.error import DependencyNotInstalled
from PIL import Image
from stable_baselines3.common.env_util import make_vec_env

from sb3_gps.evaluation import offered_splits, what_is_seen
from sb3_gps.feature_points import (
    has_feature_points,
    moments_of_an_episode,
    read_feature_points,
)
from sb3_gps.files import rewrite
from sb3_gps.gps import GPS
from sb3_gps.page import Section, Table, write_page
from sb3_gps.plotting import plot_learning_curve
from sb3_gps.protocol import in_words, splits_of
from sb3_gps.recording import read_iterations
from sb3_gps.rollout import Start
from sb3_gps.runs import read_record
from sb3_gps.teacher_plots import (
    plot_actions,
    plot_conditions,
    plot_controllers,
    plot_trajectories,
)

_LOGGED = 12  # iterations in the table
_FILMED_FROM = 500  # condition of a split, beyond those that are reported
_COLUMNS = (  # of the log
    "gps/trials", "gps/cost", "gps/teacher_success", "gps/student_success", "gps/kl", "gps/kl_met",
    "gps/epsilon", "gps/eta", "gps/predicted_improvement", "gps/actual_improvement",
    "gps/rolled_back", "gps/held_out_error", "train/loss",
)  # fmt: skip


def finished(run: Path) -> bool:
    """Whether a folder holds a result, and not that of a run before the one that goes on there."""
    result, progress = run / "result.json", run / "progress.json"
    if not (result.exists() and progress.exists()):
        return result.exists()
    return result.stat().st_mtime >= progress.stat().st_mtime


def read_run(run: Path) -> dict[str, Any]:
    """The record of a run, finished or not.

    :raises ValueError: a folder that no run has written to
    """
    path = run / ("result.json" if finished(run) else "progress.json")
    if not path.exists():
        raise ValueError(
            f"{run} holds neither result.json nor progress.json: give the folder that train or "
            "demo wrote to (--out)"
        )
    return read_record(path)


def write_report(
    run: Path, out: Path | None = None, videos: bool = True, refresh: int | None = None
) -> Path:
    """
    Write the page, with its pictures beside it.

    :param run: folder of the run
    :param out: folder of the page; None: "report" in that of the run
    :param videos: whether to film the saved model, which takes some seconds
    :param refresh: seconds after which a browser loads the page again; None: never
    :return: the page
    :raises ValueError: as ``read_run``
    """
    record = read_run(run)
    out = run / "report" if out is None else out
    out.mkdir(parents=True, exist_ok=True)
    iterations = read_iterations(run)
    sections = [_summary(record, out)]
    if iterations:
        sections += [_teachers(iterations, out), _followers(iterations, out)]
    # Until the run is done, the model in its folder is that of another.
    if videos and finished(run) and (run / "model.zip").exists():
        sections += _films(run / "model.zip", record, out)
    sections += [_log(record), _configuration(record)]
    page = out / "index.html"
    write_page(page, f"{record['env']}, seed {record['seed']}", sections, refresh)
    return page


def _summary(record: dict[str, Any], out: Path) -> Section:
    done = "success" in record
    trials = record["trials"]
    text = [f"{trials} trials so far: the run goes on." if not done else f"{trials} trials."]
    tables, pictures = [], []
    if done:
        seconds = record["seconds"]
        text.append(
            f"Training took {seconds['training']:.0f} s, evaluation {seconds['evaluation']:.0f} s."
        )
        rows = []
        for split, words in splits_of(record).items():
            figures = record["success"][split]
            low, high = figures["interval_95"]
            rows.append(
                [words, f"{figures['success']:.1f}", f"{low:.1f} to {high:.1f}",
                 str(figures["episodes"])]
            )  # fmt: skip
        if rows:
            tables.append(Table(["success, %", "this run", "95 % interval", "episodes"], rows))
        if returns := record.get("returns"):
            text.append(f"Return {in_words(returns)}.")
    if record["history"]:
        plot_learning_curve(record, out / "learning_curve.png")
        pictures.append(("learning_curve.png", "Cost and success over the trials."))
    return Section("Summary", text, tables, pictures)


def _teachers(iterations: Mapping[int, Any], out: Path) -> Section:
    last = iterations[max(iterations)]
    plot_conditions(iterations, out / "conditions.png")
    plot_controllers(last, out / "controllers.png")
    pictures = [
        ("conditions.png", "A line a condition. Healthy: costs fall, eta falls to its floor, "
         "improvements lie near the diagonal while they are large, models err less at the end."),
        ("controllers.png", "The controllers that are next."),
    ]  # fmt: skip
    if plot_trajectories(iterations, out / "trajectories.png"):
        words = (
            "What the models expected of the trials, and what came: the conditions that cost most."
        )
        pictures.append(("trajectories.png", words))
    return Section("Teachers", pictures=pictures)


def _followers(iterations: Mapping[int, Any], out: Path) -> Section:
    number = max(iterations)
    if not plot_actions(iterations[number], out / "actions.png"):
        return Section("Teachers and student", ["No student has been fitted yet."])
    words = (
        f"After iteration {number}, in the states of its trials: the three conditions in which "
        "they differ most. The student is fitted before the teachers' last step, and is not to "
        "follow noise."
    )
    return Section("Teachers and student", pictures=[("actions.png", words)])


def _films(path: Path, record: dict[str, Any], out: Path) -> list[Section]:
    """What the saved policy looks at, and some of its episodes of each split."""
    from sb3_gps.video import film_splits, write_video

    model = GPS.load(path, device="cpu")
    kwargs = record.get("env_kwargs", {})
    sections = []
    if points := 12 * has_feature_points(model.policy):
        sections.append(_feature_points(model, record["env"], kwargs, points, out))
    pictures = []
    for split, words in (splits_of(record) or {"": "episodes"}).items():
        first = 0 if split == "train" else _FILMED_FROM
        try:
            frames = film_splits(model, record["env"], {split: 2}, first, points=points, **kwargs)
        except DependencyNotInstalled as error:  # of the environment's renderer
            return [*sections, Section("Episodes", [f"They could not be filmed: {error}"])]
        film = write_video(frames, out / f"{split or 'episodes'}.mp4")
        pictures.append((film.name, f"{words.capitalize()}."))
    return [*sections, Section("Episodes", pictures=pictures)]


def _feature_points(
    model: GPS, env_id: str, env_kwargs: dict[str, Any], shown: int, out: Path
) -> Section:
    """Where the policy looks at an unseen position, and which points its actions hang on."""
    env = make_vec_env(env_id, 1, env_kwargs=env_kwargs)
    unseen = "spatial" in offered_splits(env)
    options = {"split": "spatial", "condition": _FILMED_FROM} if unseen else {}
    seen = what_is_seen(model, env, Start(options, seed=0), model.horizon)
    env.close()
    pictures, tables = [], []
    for read in read_feature_points(model.policy, seen):
        strip = Image.fromarray(moments_of_an_episode(read, seen, shown))
        name = f"feature_points_{read.image}.png"
        rewrite(out / name, partial(strip.save, format="PNG"))
        pictures.append((name, f"{read.image}, from the first step to the last."))
        rows = [
            [str(rank + 1), str(k), f"{read.influence[k]:.3f}", f"{read.presence[:, k].mean():.2f}"]
            for rank, k in enumerate(read.order[:shown])
        ]
        tables.append(Table(["rank", "channel", "influence", "mean presence"], rows))
    words = (
        "Each point has a colour by its rank; the fuller its circle, the more it is present, and "
        "its trail shows where it was. Influence: how much of the action comes with its motion "
        "(rms, linear, in units of the action)."
    )
    return Section("Feature points", [words], tables, pictures)


def _log(record: dict[str, Any]) -> Section:
    """The last iterations as the log has them."""
    rows = record["history"][-_LOGGED:]
    keys = [key for key in _COLUMNS if any(row.get(key) is not None for row in rows)]
    header = ["iteration", *(key.split("/")[1].replace("_", " ") for key in keys)]
    cells = [
        [str(round(row["gps/iteration"])), *(_number(row.get(key)) for key in keys)] for row in rows
    ]
    return Section("Log", ["What each is: docs/metrics.md."], [Table(header, cells)])


def _configuration(record: dict[str, Any]) -> Section:
    """What was asked for, by which versions, and how to do it again."""
    options = record.get("options", {})
    rows = [[name, str(value)] for name, value in options.items()]
    tables = [Table(["option", "value"], rows)] if rows else []
    machine = [[name, str(value)] for name, value in record.get("machine", {}).items()]
    tables.append(Table(["version or machine", "value"], machine))
    text = ["Options that are not named here are the defaults."]
    return Section("Configuration", text, tables, code=record.get("command", ""))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
