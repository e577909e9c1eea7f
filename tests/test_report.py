"""What a run leaves in its folder, and the page that is made of it."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import toy_envs  # noqa: F401  registers Toy/*
from stable_baselines3.common.env_util import make_vec_env
from toy_envs import QUICK, SMALL_POLICY

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
pytest.importorskip("imageio")

from sb3_gps import GPS
from sb3_gps.commands import plot
from sb3_gps.experiment import run_experiment
from sb3_gps.files import write_json
from sb3_gps.protocol import Protocol
from sb3_gps.recording import RunRecorder, iteration_arrays, read_iterations
from sb3_gps.report import finished, read_run, write_report
from sb3_gps.teacher_plots import plot_actions, plot_trajectories

ENV = "Toy/ImagePointMass-v0"
OPTIONS = {
    **{k: v for k, v in QUICK.items() if k != "seed"},
    "policy_kwargs": SMALL_POLICY,
    "iterations": 3,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Folder of a finished run from images."""
    folder = tmp_path_factory.mktemp("run")
    protocol = Protocol(train_repeats=1, spatial=4, visual=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPTIONS, "update", "badmm")
        trained, record = run_experiment(ENV, 0, OPTIONS, protocol=protocol, folder=folder)
    trained.model.save(folder / "model.zip")
    write_json(folder / "result.json", record)
    return folder


@pytest.fixture
def peg() -> GPS:
    """Trained for two iterations on a task that has points."""
    env = make_vec_env("GPS/PegInsertion-v0")
    return GPS("MlpPolicy", env, seed=0, iterations=2, head_steps=20, last_head_steps=0)


def test_every_iteration_is_written(run):
    iterations = read_iterations(run)
    assert list(iterations) == [1, 2, 3]
    M, T = iterations[3]["gain"].shape
    assert iterations[3]["student_actions"].shape == iterations[3]["teacher_actions"].shape
    assert iterations[3]["teacher_actions"].shape == (M, T, 2)
    assert "student_actions" not in iterations[1]  # nobody had been fitted
    assert np.isnan(iterations[1]["held_out_error"]).all()
    assert np.isfinite(iterations[2]["held_out_error"]).all()
    assert "points" not in iterations[3]  # the toy does not say where they are
    rows = read_run(run)["history"]
    np.testing.assert_allclose(iterations[3]["cost"], rows[2]["gps/costs"], rtol=1e-6)
    np.testing.assert_allclose(iterations[3]["kl"].mean(), rows[2]["gps/kl"], rtol=1e-5)


def test_arrays_are_what_they_are_called(peg, tmp_path):
    peg.learn(callback=RunRecorder(tmp_path))
    p, samples = peg.teachers.controller, peg.batches[-1].samples
    dims = np.arange(14, 23)
    arrays = iteration_arrays(peg, dims)
    x = samples.X[1, 0, 50]
    np.testing.assert_allclose(arrays["teacher_actions"][1, 50], p.K[1, 50] @ x + p.k[1, 50])
    mean, _ = peg.predict(x.astype(np.float32), deterministic=True)
    np.testing.assert_allclose(arrays["student_actions"][1, 50].clip(-1, 1), mean, atol=1e-4)
    np.testing.assert_array_equal(arrays["points"], samples.X[..., dims])
    # What is expected begins where the trials did, with covariances that are some.
    np.testing.assert_allclose(arrays["next_points"][:, 0], samples.X[:, 0, 0, dims], atol=1e-9)
    assert (np.linalg.eigvalsh(arrays["next_covariance"]) > 0).all()
    written = read_iterations(tmp_path)
    assert list(written) == [1, 2]
    np.testing.assert_allclose(written[2]["points"], arrays["points"], atol=1e-6)
    assert plot_trajectories(written, tmp_path / "points.png")
    assert (tmp_path / "points.png").stat().st_size > 10_000


def test_another_run_in_the_folder_leaves_nothing_of_the_first(peg, tmp_path):
    (tmp_path / "iterations").mkdir()
    np.savez(tmp_path / "iterations" / "0007.npz", cost=np.zeros(4))
    peg.learn(400, callback=RunRecorder(tmp_path, {"env": "GPS/PegInsertion-v0"}))
    assert list(read_iterations(tmp_path)) == [1]
    assert read_run(tmp_path)["env"] == "GPS/PegInsertion-v0"


def test_before_the_first_iteration_there_is_nothing(peg):
    with pytest.raises(ValueError, match="before the first iteration"):
        iteration_arrays(peg)
    assert not plot_trajectories({1: {}}, Path("never.png"))
    assert not plot_actions({"teacher_actions": np.zeros((1, 2, 3))}, Path("never.png"))


def test_the_page_shows_all_that_there_is(run, tmp_path):
    page = write_report(run, tmp_path)
    text = page.read_text()
    shown = set(re.findall(r'src="([^"]+)"', text))
    assert shown == {
        "learning_curve.png", "conditions.png", "controllers.png", "actions.png",
        "feature_points_image.png", "train.mp4", "spatial.mp4", "visual.mp4",
    }  # fmt: skip
    assert all((tmp_path / file).stat().st_size > 500 for file in shown)
    for words in ("unseen positions", "iterations", "python -m sb3_gps train", "held out error"):
        assert words in text
    assert "http-equiv" not in text  # it does not load itself again


def test_a_run_that_goes_on_has_a_page_too(run, tmp_path):
    progress = {k: v for k, v in read_run(run).items() if k not in ("success", "seconds")}
    write_json(tmp_path / "progress.json", progress)
    assert not finished(tmp_path)
    text = write_report(tmp_path, refresh=5).read_text()
    assert "the run goes on" in text and 'http-equiv="refresh" content="5"' in text
    write_json(tmp_path / "progress.json", {**progress, "history": [], "trials": 0})
    assert "<img" not in write_report(tmp_path).read_text()  # it has just begun
    with pytest.raises(ValueError, match=r"neither result\.json nor progress\.json"):
        write_report(tmp_path / "elsewhere")


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    plot.add_arguments(parser)
    return parser.parse_args(words)


def test_watching_ends_with_the_run(run, tmp_path, capsys):
    record = read_run(run)
    write_json(tmp_path / "progress.json", {**record, "history": record["history"][:1]})

    def end() -> None:
        time.sleep(0.3)
        write_json(tmp_path / "progress.json", record)
        write_json(tmp_path / "result.json", record)

    thread = threading.Thread(target=end)
    thread.start()
    out = tmp_path / "page"
    line = (str(tmp_path), "--watch", "0.05", "--no-video", "--out", str(out))
    assert plot.main(arguments(*line)) == 0
    thread.join()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 2 and lines[-1] == str(out / "index.html")
    assert "http-equiv" not in (out / "index.html").read_text()
    with pytest.raises(ValueError, match="seconds above zero"):
        plot.main(arguments(str(tmp_path), "--watch", "0"))


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
# What a browser has made of the page: broken pictures, and videos that it cannot play.
CHECK = """<script>
addEventListener("load", () => setTimeout(() => {
  const images = [...document.images].filter(i => !i.naturalWidth).map(i => i.src);
  const videos = [...document.querySelectorAll("video")].filter(v => !v.videoWidth).map(v => v.src);
  document.body.dataset.broken = JSON.stringify([...images, ...videos]);
}, 3000));
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="no chromium")
def test_a_browser_opens_the_page(run, tmp_path):
    page = write_report(run, tmp_path)
    page.write_text(page.read_text().replace("</body>", CHECK))
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom",
        page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert 'data-broken="[]"' in done.stdout
    assert "CONSOLE" not in done.stderr
