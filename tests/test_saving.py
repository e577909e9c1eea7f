"""The state of a run in a saved model: every bit comes back, or it is said what does not."""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest
from toy_envs import QUICK

from sb3_gps import GPS
from sb3_gps.core.types import Trajectories
from sb3_gps.saving import MEMBER, pack
from sb3_gps.student import Batch


def symmetric(rng: np.random.Generator, *shape: int) -> np.ndarray:
    A = rng.normal(size=shape)
    return A + np.swapaxes(A, -1, -2)


def arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    odd, signed, lost = symmetric(rng, 3, 3), symmetric(rng, 2, 4, 4), symmetric(rng, 3, 3)
    odd[0, 1] = np.nextafter(odd[1, 0], np.inf)
    signed[0, 1, 2], signed[0, 2, 1] = 0.0, -0.0
    lost[0, 1] = lost[1, 0] = np.nan
    return {
        "symmetric": symmetric(rng, 5, 4, 6, 6),
        "symmetric but for the last bit": odd,
        "symmetric but for the sign of zero": signed,
        "symmetric with NaN": lost,
        "square": rng.normal(size=(7, 7)),
        "float32": rng.normal(size=(4, 3, 3)).astype(np.float32),
        "one number": np.array(1.25),
        "empty": np.zeros((0, 3, 3)),
        "transposed": rng.normal(size=(3, 4, 5)).transpose(2, 0, 1),
        "symmetric and transposed": symmetric(rng, 4, 3, 3).transpose(1, 2, 0),
        "Fortran": np.asfortranarray(rng.normal(size=(3, 4, 4))),
        "every other": rng.normal(size=(6, 6))[::2, ::2],
        "big endian": rng.normal(size=5).astype(">f8"),
        "whole numbers": rng.integers(9, size=(3, 3)),
        "infinite": np.array([np.inf, -np.inf, 5e-324]),
    }


def test_every_bit_comes_back(rng):
    for name, array in arrays(rng).items():
        back = pickle.loads(pack(array))
        assert (back.dtype, back.shape) == (array.dtype, array.shape), name
        assert back.tobytes() == array.tobytes(), name
        assert back.flags.writeable, name
        if array.base is None or name == "transposed":
            assert back.strides == array.strides, name  # products round by it


def test_symmetry_is_stored_once(rng):
    A = rng.normal(size=(20, 30, 30))
    assert len(pack(A + np.swapaxes(A, -1, -2))) < 0.55 * len(pack(A))


def test_what_is_shared_stays_shared(rng):
    samples = Trajectories(rng.normal(size=(3, 1, 50, 4)), rng.normal(size=(3, 1, 50, 2)))
    one, two = {"a": samples}, {"a": samples, "b": [samples]}
    assert len(pack(two)) < 1.05 * len(pack(one))
    back = pickle.loads(pack(two))
    assert back["b"][0] is back["a"]


def test_images_are_stored_as_changes(rng):
    still = rng.integers(256, size=(2, 3, 1, 3, 8, 8), dtype=np.uint8)
    images = np.repeat(still, 20, axis=2)
    images[:, :, 10:, 0] += 200  # wraps around
    vector = rng.normal(size=(2, 3, 20, 4)).astype(np.float32)
    samples = Trajectories(np.zeros((2, 3, 20, 1)), np.zeros((2, 3, 20, 1)))
    packed = pack(Batch(samples, {"image": images, "vector": vector}))
    back = pickle.loads(packed).observations
    for key, value in (("image", images), ("vector", vector)):
        np.testing.assert_array_equal(back[key], value)
        assert back[key].dtype == value.dtype and back[key].flags.writeable
    assert len(packed) < images.nbytes / 5 + vector.nbytes


def learned(**options) -> GPS:
    options = {**QUICK, "iterations": 2, "head_steps": 2, "last_head_steps": 0, **options}
    return GPS("MlpPolicy", gym.make("Toy/PointMass-v0"), **options).learn()


def test_a_file_that_may_only_be_written(tmp_path):
    gps = learned()
    with open(tmp_path / "a.zip", "wb") as file:
        gps.save(file)
    with open(tmp_path / "a.zip", "rb") as file:
        again = GPS.load(file, gym.make("Toy/PointMass-v0"))
    np.testing.assert_array_equal(again.teachers.controller.K, gps.teachers.controller.K)
    again.learn(total_timesteps=1)


def test_what_the_caller_gives_is_taken_instead(tmp_path):
    learned().save(tmp_path / "a")
    alone = GPS.load(tmp_path / "a", custom_objects={"teachers": None, "unknown": 1})
    assert alone.teachers is None and len(alone.batches) == 2
    assert not hasattr(alone, "unknown")
    assert GPS.load(tmp_path / "a", batches=[]).batches == []


def test_an_older_file_acts_but_does_not_learn(tmp_path, monkeypatch):
    """Its teachers, in whatever form, are among SB3's own data."""
    gps = learned()
    with monkeypatch.context() as patch:
        patch.setattr(GPS, "run_state", ())
        gps.save(tmp_path / "a")
    alone = GPS.load(tmp_path / "a", gym.make("Toy/PointMass-v0"))
    assert alone.teachers is None
    alone.predict(gym.make("Toy/PointMass-v0").reset()[0])
    with pytest.raises(ValueError, match="without its teachers after 2 iterations"):
        alone.learn()


def test_options_given_to_load_take_effect(tmp_path):
    learned().save(tmp_path / "a")
    again = GPS.load(tmp_path / "a", gym.make("Toy/PointMass-v0"), kl_step=0.5)
    again.learn(total_timesteps=1)
    assert again.teachers.options.kl_step == 0.5


@dataclass
class Gone:
    """A class that the next version does not have."""


def test_a_run_of_another_version_acts_but_does_not_learn(tmp_path, monkeypatch):
    gps = learned()
    gps.batches.append(Gone())
    gps.save(tmp_path / "a")
    monkeypatch.delitem(globals(), "Gone")
    with pytest.warns(UserWarning, match=r"a cannot be read.*can act, but not go on learning"):
        alone = GPS.load(tmp_path / "a", gym.make("Toy/PointMass-v0"))
    observation = gym.make("Toy/PointMass-v0").reset()[0]
    np.testing.assert_array_equal(alone.predict(observation)[0].shape, (2,))
    with pytest.raises(ValueError, match=r"without its teachers after 2 iterations.*new GPS"):
        alone.learn()


def test_damage_is_found(tmp_path):
    learned().save(tmp_path / "a")
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(MEMBER)
    data = bytearray(path.read_bytes())
    data[info.header_offset + info.file_size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.zip is damaged: Bad CRC"):
        GPS.load(path)
