"""Episodes of a policy as a video: the scene, beside what the student sees of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.type_aliases import PolicyPredictor
from stable_baselines3.common.vec_env import VecEnv

from gps_envs.rendering import choose_backend
from sb3_gps.environment import resolve_horizon
from sb3_gps.feature_points import draw_feature_points, read_feature_points
from sb3_gps.features import split_space
from sb3_gps.files import rewrite
from sb3_gps.gif import FPS, write_gif
from sb3_gps.observations import map_observation, parts_of
from sb3_gps.protocol import SPLITS
from sb3_gps.rollout import Start, run_episodes

SIDE, CAPTION = 240, 32  # pixels; both multiples of 16, as H.264 wants them
HOLD = 14  # frames for which the outcome stays
_GREEN, _RED, _PLAIN = (20, 140, 60), (190, 30, 30), (40, 40, 40)


def film_episodes(
    model: PolicyPredictor, env: VecEnv, starts: Sequence[Start], points: int = 0
) -> tuple[list[np.ndarray], np.ndarray]:
    """Run the deterministic policy once from each start.

    :param env: with ``render_mode="rgb_array"``, an environment for each start; closed at the end
    :param starts: a caption names the split and condition of each
    :param points: feature points that are shown on the student's image, the most influential first
    :return: RGB frames of all episodes one after another, each ending with its outcome; and
        whether each succeeded, (episodes,) bool
    """
    images = list(split_space(env.observation_space)[0])
    scenes: list[list[np.ndarray]] = []  # of each step
    observations: list[Any] = []

    def actor(observation: Any, x: np.ndarray, t: int, episodes: np.ndarray) -> np.ndarray:
        scenes.append(env.env_method("render"))
        observations.append(map_observation(np.copy, observation))
        return model.predict(observation, deterministic=True)[0]

    result = run_episodes(env, starts, actor, resolve_horizon(None, env), None, False)
    env.close()
    frames = []
    for i, (start, success) in enumerate(zip(starts, result.success, strict=True)):
        lived = range(result.length[i])
        views = [[_square(scenes[t][i])] for t in lived]
        if images:
            seen = [map_observation(itemgetter(i), observations[t]) for t in lived]
            for view, image in zip(views, _seen(model, seen, images[0], points), strict=True):
                view.append(_square(image))
        episode = [np.hstack(view) for view in views]
        name = _name(start)
        frames += [_captioned(view, name, _PLAIN) for view in episode]
        if np.isnan(success):  # the task does not say
            outcome = (f"return {result.rewards[i].sum():.1f}", _PLAIN)
        else:
            outcome = ("success", _GREEN) if success > 0.5 else ("failure", _RED)
        frames += [_captioned(episode[-1], f"{name}: {outcome[0]}", outcome[1])] * HOLD
    return frames, result.success > 0.5


def film_splits(
    model: PolicyPredictor,
    env_id: str,
    episodes: dict[str, int],
    first: int = 500,
    make_env: Callable[..., VecEnv] = make_vec_env,
    points: int = 0,
    **env_kwargs: Any,
) -> list[np.ndarray]:
    """Frames of some episodes of each split.

    :param episodes: split -> how many; "" for a task that has none
    :param make_env: (env_id, n_envs=, env_kwargs=) -> what the policy acts in
    :param points: as of ``film_episodes``
    :param first: condition of each split, or seed; beyond those that are evaluated
    """
    starts = [
        Start({"split": split, "condition": first + i}, seed=i) if split else Start(seed=first + i)
        for split, count in episodes.items()
        for i in range(count)
    ]
    # Our tasks do this themselves. Those of others would try a window first, and not all need GL.
    with suppress(RuntimeError):
        choose_backend()
    env_kwargs = {"render_mode": "rgb_array", **env_kwargs}
    env = make_env(env_id, n_envs=len(starts), env_kwargs=env_kwargs)
    return film_episodes(model, env, starts, points)[0]


def _name(start: Start) -> str:
    """What a caption calls it."""
    if (split := start.options.get("split")) is None:
        return f"seed {start.seed}"
    return f"{SPLITS.get(split, split)}, no. {start.options.get('condition', '?')}"


def _seen(model: PolicyPredictor, seen: list[Any], key: str, points: int) -> list[np.ndarray]:
    """What the student saw in each step of an episode, with its feature points.

    :param seen: an observation a step
    """
    images = [parts_of(o)[key] for o in seen]
    if not points:
        return images
    policy: Any = getattr(model, "policy", model)
    stacked = (
        {name: np.stack([o[name] for o in seen]) for name in seen[0]}
        if isinstance(seen[0], dict)
        else np.stack(seen)
    )
    (read,) = [p for p in read_feature_points(policy, stacked) if p.image == key]
    return [
        draw_feature_points(image, read, t, points, side=SIDE) for t, image in enumerate(images)
    ]


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
