"""The figures of Levine et al. 2016 that results are shown beside, and our budgets within theirs.

The paper's are those of a real PR2 robot, ours of a simulated arm of its proportions: a comparison
of budgets, not of robots.
"""

from __future__ import annotations

from dataclasses import dataclass

from sb3_gps.protocol import SPLITS

POSE_IMAGES = 1000


@dataclass(frozen=True)
class PaperTask:
    """What the paper says of a task, and our layouts within its budget.

    :param trials: of the paper, teachers' pretraining included
    :param success: percent on training positions, unseen ones and unseen with distractors, by way;
        None: not tried
    :param layouts: trials at most -> (conditions, iterations) with one sample a condition
    """

    trials: int
    success: dict[str, tuple[float | None, float | None, float | None]]
    layouts: dict[int, tuple[int, int]]

    def percent(self, way: str, split: str) -> float | None:
        """The paper's figure of one cell."""
        return self.success[way][list(SPLITS).index(split)]


# Tables of sec. 6, success of 18 to 60 trials a cell.
PAPER_TASKS = {
    "GPS/CoatHanger-v0": PaperTask(
        trials=156,
        success={
            "end-to-end": (100.0, 100.0, 100.0),
            "pose-features": (88.9, 87.5, 83.3),
            "pose-prediction": (55.6, 58.3, 66.7),
        },
        layouts={156: (10, 15), 300: (10, 30)},
    ),
    "GPS/ShapeCube-v0": PaperTask(
        trials=171,
        success={
            "end-to-end": (96.3, 91.7, 87.5),
            "pose-features": (70.4, 83.3, 40.0),
            "pose-prediction": (0.0, 0.0, None),
        },
        layouts={171: (34, 5), 300: (60, 5)},
    ),
    "GPS/ToyHammer-v0": PaperTask(
        trials=240,
        success={
            "end-to-end": (91.1, 86.7, 78.3),
            "pose-features": (62.2, 75.0, 53.3),
            "pose-prediction": (8.9, 18.3, None),
        },
        layouts={240: (48, 5), 300: (60, 5)},
    ),
    "GPS/BottleCap-v0": PaperTask(
        trials=288,
        success={
            "end-to-end": (88.9, 83.3, 62.5),
            "pose-features": (55.6, 58.3, 27.5),
            "pose-prediction": (None, None, None),
        },
        layouts={288: (32, 9), 300: (33, 9)},
    ),
}


def short_name(env_id: str) -> str:
    """The task in a word: "ShapeCube" of "GPS/ShapeCube-v0"."""
    return env_id.removeprefix("GPS/").removesuffix("-v0")
