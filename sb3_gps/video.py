"""Episodes of a policy as a video: the scene, beside what the student sees of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.type_aliases import PolicyPredictor
from stable_baselines3.common.vec_env import VecEnv

from sb3_gps.environment import resolve_horizon
from sb3_gps.experiment import SPLITS
from sb3_gps.features import split_space
from sb3_gps.files import rewrite
from sb3_gps.rollout import Start, run_episodes

FPS = 20  # of the tasks' control, so that videos run in real time
SIDE, CAPTION = 240, 32  # pixels; both multiples of 16, as H.264 wants them
HOLD = 14  # frames for which the outcome stays
_GREEN, _RED, _PLAIN = (20, 140, 60), (190, 30, 30), (40, 40, 40)


def film_episodes(
    model: PolicyPredictor, env: VecEnv, starts: Sequence[Start]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Run the deterministic policy once from each start.

    :param env: with ``render_mode="rgb_array"``, an environment for each start; closed at the end
    :param starts: a caption names the split and condition of each
    :return: RGB frames of all episodes one after another, each ending with its outcome; and
        whether each succeeded, (episodes,) bool
    """
    images = list(split_space(env.observation_space)[0])
    views: list[list[np.ndarray]] = [[] for _ in starts]

    def actor(observation: Any, x: np.ndarray, t: int, episodes: np.ndarray) -> np.ndarray:
        seen = observation[images[0]] if isinstance(observation, dict) else observation
        for i, scene in enumerate(env.env_method("render")):
            pair = [scene, seen[i]] if images else [scene]
            views[i].append(np.hstack([_square(image) for image in pair]))
        return model.predict(observation, deterministic=True)[0]

    result = run_episodes(env, starts, actor, resolve_horizon(None, env), None, False)
    env.close()
    frames = []
    for start, episode, success in zip(starts, views, result.success > 0.5, strict=True):
        split = start.options.get("split", "")
        name = f"{SPLITS.get(split, split)}, no. {start.options.get('condition', '?')}"
        frames += [_captioned(view, name, _PLAIN) for view in episode]
        outcome = ("success", _GREEN) if success else ("failure", _RED)
        frames += [_captioned(episode[-1], f"{name}: {outcome[0]}", outcome[1])] * HOLD
    return frames, result.success > 0.5


def film_splits(
    model: PolicyPredictor,
    env_id: str,
    episodes: dict[str, int],
    first: int = 500,
    make_env: Callable[..., VecEnv] = make_vec_env,
    **env_kwargs: Any,
) -> list[np.ndarray]:
    """Frames of some episodes of each split.

    :param episodes: split -> how many
    :param make_env: (env_id, n_envs=, env_kwargs=) -> what the policy acts in
    :param first: condition of each split; beyond those that are evaluated
    """
    starts = [
        Start({"split": split, "condition": first + i}, seed=i)
        for split, count in episodes.items()
        for i in range(count)
    ]
    env_kwargs = {"render_mode": "rgb_array", **env_kwargs}
    env = make_env(env_id, n_envs=len(starts), env_kwargs=env_kwargs)
    return film_episodes(model, env, starts)[0]


def write_video(frames: Sequence[np.ndarray], path: Path) -> Path:
    """Write an MP4, or a GIF of half the frames where that is asked for or ffmpeg is missing.

    :param path: ending in .mp4 or .gif
    :return: the file that was written
    """
    import imageio.v2 as imageio

    if path.suffix not in (".mp4", ".gif"):
        raise ValueError(f"a video must end in .mp4 or .gif, got {path}")
    if path.suffix == ".mp4" and _has_ffmpeg():
        rewrite(path, lambda name: imageio.mimwrite(name, list(frames), format="FFMPEG", fps=FPS))
    else:
        path = path.with_suffix(".gif")
        rewrite(path, lambda name: write_gif(frames[::2], name, FPS // 2))
    return path


def write_gif(frames: Sequence[np.ndarray], path: Path, fps: int) -> None:
    """Write a looping GIF in 64 colours."""
    pages = [Image.fromarray(frame).quantize(64) for frame in frames]
    pages[0].save(
        path, format="GIF", save_all=True, append_images=pages[1:], duration=1000 // fps, loop=0
    )


def _has_ffmpeg() -> bool:
    try:
        import_module("imageio_ffmpeg").get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        return False
    return True


def _square(image: np.ndarray) -> np.ndarray:
    """Any (H, W, 3) image as SIDE x SIDE pixels; small ones keep their pixels visible."""
    height, width = image.shape[:2]
    return image[np.arange(SIDE) * height // SIDE][:, np.arange(SIDE) * width // SIDE]


def _captioned(view: np.ndarray, text: str, colour: tuple[int, int, int]) -> np.ndarray:
    page = Image.new("RGB", (view.shape[1], view.shape[0] + CAPTION), colour)
    page.paste(Image.fromarray(view), (0, CAPTION))
    font = ImageFont.load_default(size=15)
    ImageDraw.Draw(page).text((10, CAPTION / 2), text, fill="white", font=font, anchor="lm")
    return np.asarray(page)
