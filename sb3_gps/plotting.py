"""Pictures of what ``run_experiment`` writes down: the learning curve of one run, success of many.

Bands are the range over conditions or seeds, bars the 95 % intervals of the episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from sb3_gps.curves import array
from sb3_gps.files import rewrite
from sb3_gps.paper import PAPER_TASKS, short_name
from sb3_gps.protocol import SPLITS, in_words, splits_of
from sb3_gps.statistics import THRESHOLDS, Comparison
from sb3_gps.ways import WAYS

_COLOURS = {"train": "#1f77b4", "spatial": "#2ca02c", "visual": "#d62728"}
_GREY = "#666666"


def plot_learning_curve(record: dict[str, Any], path: Path) -> None:
    """
    Write a PNG of one run: cost, success while training, and the final success on each split.

    :param record: as from :func:`sb3_gps.experiment.run_experiment`; without "success" of a run
        that goes on
    :raises ValueError: when the run has no finished iteration
    """
    history = record["history"]
    if not history:
        raise ValueError("there is no curve without a finished iteration: call learn() first")
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    trials = [row["gps/trials"] for row in history]

    costs = np.array([row["gps/costs"] for row in history])  # (iterations, M)
    left.fill_between(trials, costs.min(axis=1), costs.max(axis=1), color=_GREY, alpha=0.2, lw=0)
    left.plot(trials, costs.mean(axis=1), "o-", color="black", ms=4)
    left.set(
        xlabel="trials", ylabel="cost of an episode", title="Cost: mean and range of positions"
    )

    for who, style in (("teacher", "o-"), ("student", "s--")):
        key = f"gps/{who}_success"
        rows = [row for row in history if row.get(key) is not None]  # not all tasks judge it
        if rows:
            label = f"{who}s with exploration noise" if who == "teacher" else "student with noise"
            middle.plot(
                [row["gps/trials"] for row in rows], [100 * row[key] for row in rows],
                style, color="black", ms=4, label=label,
            )  # fmt: skip
    curve = record.get("curve", [])
    for split, name in (("train", "train"), ("spatial", "validation")):
        points = [(row["trials"], row[name]) for row in curve]
        if points:
            if "success" in record:
                points.append((record["trials"], record["success"][split]["success"]))
            label = f"student, {SPLITS[split]}"
            middle.plot(*zip(*points, strict=True), "s-", color=_COLOURS[split], ms=4, label=label)
    middle.set(xlabel="trials", title="Success in training", ylim=(-3, 105), ylabel="success, %")
    if middle.lines:
        middle.legend(fontsize=8)

    if record.get("success"):
        _bars(right, record)
    else:
        right.axis("off")  # the run goes on, or the task has no splits
        if returns := record.get("returns"):
            right.text(0.5, 0.5, f"return\n{in_words(returns)}", ha="center", va="center")
    for axes in (left, middle, right):
        tidy(axes, grid="y")
    for axes in (left, middle):
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    save_figure(figure, path)


def _bars(axes: Axes, record: dict[str, Any]) -> None:
    """Final success of each split, with its interval."""
    words = splits_of(record)
    for i, split in enumerate(words):
        figures = record["success"][split]
        success, (low, high) = figures["success"], figures["interval_95"]
        axes.bar(i, success, 0.6, color=_COLOURS[split], alpha=0.85)
        error = np.array([[success - low], [high - success]]).clip(min=0)
        axes.errorbar(i, success, error, color="black", capsize=4, lw=1)
    ticks = [
        f"{record['success'][split]['success']:.1f} %\n" + name.replace(" ", "\n", 1)
        for split, name in words.items()
    ]
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set(title=f"The policy after {record['trials']} trials", ylim=(-3, 105))
    axes.set_ylabel("success, % (bars: 95 %)")


def plot_success_vs_trials(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a PNG of success against trials: a panel a split, mean and seeds, the paper's point.

    :param records: of several seeds, budgets and updates
    :raises ValueError: without records
    """
    if not records:
        raise ValueError("there is nothing to plot: no run has finished")
    words = splits_of(records[0])
    figure = Figure(figsize=(4 * len(words), 3.8), layout="constrained")
    panels = figure.subplots(1, len(words), sharey=True, squeeze=False)[0]
    updates = sorted({record["update"] for record in records})
    lowest = min(min(figures["success"] for figures in r["success"].values()) for r in records)
    for axes, (split, name) in zip(panels, words.items(), strict=True):
        for u, update in enumerate(updates):
            budgets: dict[int, list[float]] = {}
            for record in records:
                if record["update"] == update:
                    rate = record["success"][split]["success"]
                    budgets.setdefault(record["trials"], []).append(rate)
            trials = sorted(budgets)
            mean = [np.mean(budgets[n]) for n in trials]
            colour = f"C{u}"
            axes.plot(trials, mean, "o-", color=colour, label=f"{update}, mean of seeds")
            axes.fill_between(
                trials, [min(budgets[n]) for n in trials], [max(budgets[n]) for n in trials],
                color=colour, alpha=0.15, lw=0,
            )  # fmt: skip
            for n in trials:
                axes.plot([n] * len(budgets[n]), budgets[n], ".", color=colour, alpha=0.6, ms=5)
        if paper := PAPER_TASKS.get(records[0]["env"]):
            percent = paper.percent("end-to-end", split)
            axes.plot(paper.trials, percent, "k*", ms=12, label="paper (real PR2)")
        axes.set(title=name, xlabel="trials", xlim=(0, None))
        axes.set_ylim(min(lowest - 5, 75), 101.5)
        tidy(axes)
    panels[0].set_ylabel("success, %")
    panels[0].legend(loc="lower right", fontsize=8)
    save_figure(figure, path)


def plot_paper_table(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a PNG: a panel a task, bars of each way of training on each split, the paper's stars.

    Where a task and way has several budgets, the one nearest to the paper's is shown.

    :param records: of tasks of the paper
    :raises ValueError: without records
    """
    if not records:
        raise ValueError("there is nothing to plot: no run has finished")
    tasks = [env for env in PAPER_TASKS if any(r["env"] == env for r in records)]
    ways = [way for way in WAYS if any(r["way"] == way for r in records)]
    figure = Figure(figsize=(3.4 * len(tasks) + 1.2, 3.8), layout="constrained")
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    width = 0.8 / len(ways)
    for axes, env in zip(panels, tasks, strict=True):
        paper = PAPER_TASKS[env]
        shown = set()
        for w, way in enumerate(ways):
            runs = [r for r in records if (r["env"], r["way"]) == (env, way)]
            if not runs:
                continue
            trials = min((r["trials"] for r in runs), key=lambda n: abs(n - paper.trials))
            runs = [r for r in runs if r["trials"] == trials]
            shown.add(trials)
            for i, split in enumerate(SPLITS):
                x = i + (w - (len(ways) - 1) / 2) * width
                rates = [r["success"][split]["success"] for r in runs]
                axes.bar(x, np.mean(rates), 0.9 * width, color=f"C{w}", alpha=0.85,
                         label=way if i == 0 else None)  # fmt: skip
                axes.plot([x] * len(rates), rates, ".", color="black", ms=4)
                if (percent := paper.percent(way, split)) is not None:
                    axes.plot(x, percent, "*", color="white", mec="black", ms=11, zorder=5,
                              label="paper (real PR2)" if (i, w) == (0, 0) else None)  # fmt: skip
        budgets = " or ".join(map(str, sorted(shown)))
        axes.set(title=f"{short_name(env)}, {budgets} trials", ylim=(-3, 105))
        axes.set_xticks(range(len(SPLITS)), [w.replace(" ", "\n", 1) for w in SPLITS.values()])
        tidy(axes, grid="y")
    panels[0].set_ylabel("success, % (points: seeds)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center",
                  ncols=len(ways) + 1, fontsize=8)  # fmt: skip
    save_figure(figure, path)


def plot_returns(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a PNG: a panel an environment, return against steps, mean and range of the seeds.

    :param records: of ``benchmark environments``
    :raises ValueError: without records
    """
    _plot_curves(records, path, "steps", "return", level_of="sac")


def plot_success_vs_steps(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a PNG: a panel a task, success on unseen positions against steps, mean and range.

    What is spent before a policy learns (pose images, an expert) is a bar below its curve.

    :param records: of ``benchmark compare``
    :raises ValueError: without records
    """
    _plot_curves(records, path, "steps", "spatial")


def plot_success_vs_seconds(records: Sequence[dict[str, Any]], path: Path) -> None:
    """The same against the seconds of training, without evaluation."""
    _plot_curves(records, path, "seconds", "spatial")


_LABELS = {
    "return": "return",
    "spatial": "success on unseen positions, %",
    "steps": "steps of the environment",
    "seconds": "seconds of training",
}


_NAMES = {
    "dagger": "DAgger",
    "ppo-nature": "PPO with NatureCNN",
    "ppo-state": "PPO on the state",
    "ppo-state-time": "PPO on the state and the time",
    "sac-state": "SAC on the state",
    "sac-asymmetric": "asymmetric SAC",
}


def _name(algorithm: str) -> str:
    """As a legend has it."""
    return _NAMES.get(algorithm, algorithm.upper())


def _plot_curves(
    records: Sequence[dict[str, Any]],
    path: Path,
    x: str,
    y: str,
    level_of: str | None = None,
) -> None:
    """A panel an environment, a curve an algorithm.

    :param x: key of the points, as ``y``
    :param level_of: the algorithm whose end is a line to compare with
    """
    if not records:
        raise ValueError("there is nothing to plot: no run has finished")
    envs = list(dict.fromkeys(record["env"] for record in records))
    names = sorted({record["algorithm"] for record in records}, key=lambda n: (n != "gps", n))
    columns = min(4, len(envs))
    rows = -(-len(envs) // columns)
    width = max(3.4 * columns, 6.0)  # the legend needs some
    figure = Figure(figsize=(width, 2.9 * rows + 0.4), layout="constrained")
    share = y == "spatial"  # returns have ranges of their own
    panels = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).ravel()
    for axes in panels[len(envs) :]:
        axes.axis("off")
    handles = {}
    for axes, env in zip(panels, envs, strict=False):
        for a, name in enumerate(names):
            runs = [r for r in records if (r["env"], r["algorithm"]) == (env, name)]
            if not runs:
                continue
            points = array(runs, y) if x == "steps" else array(runs, x, y)
            along, values = points[..., -2].mean(axis=0), points[..., -1]
            (handles[name],) = axes.plot(
                along, values.mean(axis=0), color=f"C{a}", marker="." if len(along) == 1 else None
            )
            low, high = values.min(axis=0), values.max(axis=0)
            axes.fill_between(along, low, high, color=f"C{a}", alpha=0.2, lw=0)
            if name == level_of:
                axes.axhline(values[:, -1].mean(), color=f"C{a}", ls=":", lw=1)
            if x == "steps" and (before := sum(runs[0].get("before", {}).values())):
                axes.plot([before / 5, before], [-4 - 3 * a] * 2, color=f"C{a}", lw=3, alpha=0.6)
        axes.set(title=env, xscale="log", xlabel=_LABELS[x])
        axes.xaxis.set_minor_formatter(NullFormatter())  # where a decade is wide, they overlap
        tidy(axes)
    panels[0].set_ylabel(_LABELS[y])
    labels = [_name(name) for name in handles]
    figure.legend(list(handles.values()), labels, loc="outside upper center", ncols=4)
    save_figure(figure, path)


def plot_profiles(comparison: Comparison, path: Path) -> None:
    """Write a PNG: the share of runs that end above each success, with 95 % intervals."""
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    for a, (name, share) in enumerate(comparison.profiles.items()):
        axes.plot(100 * THRESHOLDS, 100 * share.value, color=f"C{a}", label=_name(name))
        axes.fill_between(
            100 * THRESHOLDS, 100 * share.low, 100 * share.high, color=f"C{a}", alpha=0.15, lw=0
        )
    axes.set(xlabel="success of a run above, %", ylabel="share of runs, %", ylim=(-3, 103))
    tidy(axes)
    figure.legend(loc="outside right upper", fontsize=8)
    save_figure(figure, path)


def tidy(*panels: Axes, grid: Literal["x", "y", "both"] = "both") -> None:
    """A light grid, and no frame above and on the right."""
    for axes in panels:
        axes.grid(axis=grid, alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    rewrite(path, lambda temporary: figure.savefig(temporary, dpi=120, format="png"))
