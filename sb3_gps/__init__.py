"""Guided policy search as a stable-baselines3 algorithm; importing it registers the GPS/* tasks."""

__version__ = "0.1.0"

import gps_envs  # noqa: F401  (registers the tasks)
from sb3_gps.augmentation import Augmentation
from sb3_gps.callbacks import FeaturePointsCallback, StudentSuccessCallback
from sb3_gps.features import SpatialSoftmax, StateExtractor, VisuomotorExtractor
from sb3_gps.gps import GPS
from sb3_gps.policies import CnnPolicy, GPSPolicy, MlpPolicy, MultiInputPolicy
from sb3_gps.simulator import SimulatorState

__all__ = [
    "GPS",
    "Augmentation",
    "CnnPolicy",
    "FeaturePointsCallback",
    "GPSPolicy",
    "MlpPolicy",
    "MultiInputPolicy",
    "SimulatorState",
    "SpatialSoftmax",
    "StateExtractor",
    "StudentSuccessCallback",
    "VisuomotorExtractor",
]
