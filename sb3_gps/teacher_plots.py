"""Pictures of the inside of a run: what teachers expect and do, and how the student follows.

All are drawn from the arrays of :mod:`sb3_gps.recording`; a colour is a condition, the same in all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sb3_gps.plotting import save_figure, tidy

Arrays = Mapping[str, np.ndarray]
Iterations = Mapping[int, Arrays]  # by number, from 1
SHOWN = 6  # conditions, where each has a panel
_POINTS = ("C0", "C1", "C2")


def plot_conditions(iterations: Iterations, path: Path) -> None:
    """Write a PNG of each condition over the iterations: cost, KL, bound, eta, and what was kept.

    Of the improvements, points on the diagonal came as promised.
    """
    numbers = list(iterations)
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    series = (
        ("cost", "cost of the trials", "linear"),
        ("kl", "KL of the step, nats a trial", "log"),
        ("epsilon", "bound of the KL, nats a trial", "log"),
        ("eta", "multiplier of the KL, eta", "log"),
    )
    for axes, (key, label, scale) in zip(panels, series, strict=False):
        values = np.array([iterations[i][key] for i in numbers])  # (iterations, M)
        for m, colour in enumerate(_colours(values.shape[1])):
            axes.plot(numbers, values[:, m], "-", color=colour, lw=1)
        if key == "cost":
            back = np.array([iterations[i]["rolled_back"] for i in numbers])
            row, of = np.nonzero(back)
            axes.plot(np.take(numbers, row), values[row, of], "kx", ms=5, label="rolled back")
            if back.any():
                axes.legend(fontsize=8)
        axes.set(xlabel="iteration", title=label, yscale=scale)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _improvements(panels[4], iterations)
    _held_out(panels[5], iterations)
    tidy(*panels)
    save_figure(figure, path)


def _improvements(axes: Axes, iterations: Iterations) -> None:
    """Predicted against actual, a point a condition and iteration."""
    predicted = np.concatenate([a["predicted"] for a in iterations.values()])
    actual = np.concatenate([a["actual"] for a in iterations.values()])
    M = len(next(iter(iterations.values()))["cost"])
    colours = np.tile(_colours(M), (len(iterations), 1))
    axes.scatter(predicted, actual, s=14, c=colours)
    axes.axline((0, 0), slope=1, color="grey", lw=1, ls=":")
    axes.axhline(0, color="grey", lw=0.5)
    axes.set(xlabel="predicted", ylabel="actual", title="improvement of the cost")


def _held_out(axes: Axes, iterations: Iterations) -> None:
    """Of the fitted models, on the trials after them."""
    for number, arrays in iterations.items():
        shade = matplotlib.colormaps["viridis"](number / max(iterations))
        axes.plot(arrays["held_out_error"], color=shade, lw=1.2, label=f"iteration {number}")
    axes.set(xlabel="step", title="relative one-step error on new trials")
    axes.set_ylim(bottom=0)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend([handles[0], handles[-1]], [labels[0], labels[-1]], fontsize=8)


def plot_trajectories(iterations: Iterations, path: Path, every: int = 20) -> bool:
    """Write a PNG in 3-D: the points of the object as predicted, with ellipsoids, and as executed.

    Of the conditions, those that cost most, in the last iteration that was predicted.

    :param every: steps between two ellipsoids, of two deviations
    :return: whether there was anything to draw: two iterations, of a task that has points
    """
    numbers = list(iterations)
    if len(numbers) < 2 or "points" not in iterations[numbers[-1]]:
        return False
    before, after = iterations[numbers[-2]], iterations[numbers[-1]]
    worst = np.argsort(-after["cost"])[:SHOWN]
    columns = min(3, len(worst))
    rows = -(-len(worst) // columns)
    figure = Figure(figsize=(4.2 * columns, 4.0 * rows), layout="constrained")
    for place, m in enumerate(worst, start=1):
        axes = figure.add_subplot(rows, columns, place, projection="3d")
        for p, colour in enumerate(_POINTS):
            dims = slice(3 * p, 3 * p + 3)
            expected = 100 * before["next_points"][m, :, dims]  # cm
            axes.plot(*expected.T, "--", color=colour, lw=1)
            for trial in after["points"][m]:
                axes.plot(*(100 * trial[:, dims]).T, "-", color=colour, lw=1.2)
            for t in range(0, len(expected), every):
                cloud = _ellipsoid(expected[t], 1e4 * before["next_covariance"][m, t, p])
                axes.plot_wireframe(*cloud, color=colour, alpha=0.25, lw=0.5)
        axes.plot([0], [0], [0], "k+", ms=10)
        axes.set(title=f"condition {m}: cost {after['cost'][m]:.1f}")
        axes.set(xlabel="x, cm", ylabel="y, cm", zlabel="z, cm")
        axes.set_box_aspect(None, zoom=0.85)  # else the last label is cut off
    figure.suptitle(
        f"Points of the object from their targets (+) in iteration {numbers[-1]}: "
        "dashed as the models expected, solid as executed"
    )
    save_figure(figure, path)
    return True


def plot_actions(arrays: Arrays, path: Path) -> bool:
    """Write a PNG: actions of teacher and student in the same states, a panel an actuator.

    Of the three conditions in which they differ most.

    :param arrays: of one iteration
    :return: whether there was a student
    """
    if "student_actions" not in arrays:
        return False
    teacher, student = arrays["teacher_actions"], arrays["student_actions"]
    M, _, dU = teacher.shape
    worst = np.argsort(-np.square(teacher - student).mean(axis=(1, 2)))[:3]
    colours = _colours(M)
    columns = min(4, dU)
    rows = -(-dU // columns)
    figure = Figure(figsize=(3.3 * columns, 2.4 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for u, axes in enumerate(panels[:dU]):
        for m in worst:
            axes.plot(teacher[m, :, u], "--", color=colours[m], lw=1, label=f"teacher {m}")
            axes.plot(student[m, :, u], "-", color=colours[m], lw=1.2, label="student there")
        axes.set(title=f"action {u}", xlabel="step")
    for axes in panels[dU:]:
        axes.axis("off")
    tidy(*panels[:dU])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=6, fontsize=8)
    save_figure(figure, path)
    return True


def plot_controllers(arrays: Arrays, path: Path) -> None:
    """Write a PNG: gains, noise, and the weights of agreement, of each condition over time.

    :param arrays: of one iteration
    """
    maps = {
        "gain": "norm of the gains K",
        "noise": "deviation of the noise, rms",
        "multiplier": "norm of the multipliers lambda",
        "nu": "weight nu of the KL to the student",
    }
    shown = {key: words for key, words in maps.items() if np.ptp(arrays[key]) > 0}
    figure = Figure(figsize=(4.2 * max(1, len(shown)), 3.4), layout="constrained")
    panels = figure.subplots(1, max(1, len(shown)), squeeze=False)[0]
    for axes, (key, words) in zip(panels, shown.items(), strict=False):
        image = axes.imshow(arrays[key], aspect="auto", interpolation="nearest")
        axes.set(title=words, xlabel="step", ylabel="condition")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        figure.colorbar(image, ax=axes)
    save_figure(figure, path)


def _ellipsoid(centre: np.ndarray, covariance: np.ndarray, deviations: float = 2.0) -> np.ndarray:
    """x, y and z of its surface, (3, n, n)."""
    values, vectors = np.linalg.eigh(covariance)
    u, v = np.linspace(0, 2 * np.pi, 13), np.linspace(0, np.pi, 7)
    ball = np.stack(
        [np.outer(np.cos(u), np.sin(v)), np.outer(np.sin(u), np.sin(v)),
         np.outer(np.ones_like(u), np.cos(v))]
    )  # fmt: skip
    half = deviations * vectors * np.sqrt(np.maximum(values, 0.0))
    return centre[:, None, None] + np.einsum("ij,jab->iab", half, ball)


def _colours(M: int) -> np.ndarray:
    """(M, 4)"""
    return matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, M))
