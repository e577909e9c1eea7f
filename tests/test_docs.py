"""The documentation: every logged key is explained, every link leads somewhere, and it builds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import toy_envs  # noqa: F401  registers Toy/*
from stable_baselines3.common.logger import KVWriter, Logger
from toy_envs import QUICK, SMALL_POLICY

from sb3_gps import GPS, FeaturePointsCallback, StudentSuccessCallback

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


class Keys(KVWriter):
    """Remembers what was logged."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def write(self, key_values, key_excluded, step=0) -> None:
        self.seen |= set(key_values)

    def close(self) -> None:
        pass


def logged(env: str, policy: str, callbacks: bool = False, **options) -> set[str]:
    keys = Keys()
    model = GPS(policy, env, **{**QUICK, **options})
    model.set_logger(Logger(None, [keys]))
    following = [StudentSuccessCallback(env, split="spatial"), FeaturePointsCallback(env)]
    model.learn(callback=following if callbacks else None)
    return keys.seen


def documented() -> set[str]:
    return set(re.findall(r"^\| `(\w+/\w+)`", (DOCS / "metrics.md").read_text(), re.MULTILINE))


def test_every_logged_key_is_in_the_glossary_and_no_other():
    image = "Toy/ImagePointMass-v0"
    seen = logged(image, "CnnPolicy", callbacks=True, policy_kwargs=SMALL_POLICY)
    seen |= logged("Toy/Rewarded-v0", "MlpPolicy", update="badmm", sampling="student")
    named = {re.sub(r"^gps/cost_\d+$", "gps/cost_m", key) for key in seen}
    assert {re.sub("^feature_points/image$", "feature_points/KEY", key) for key in named} == (
        documented()
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} leads to {target}"


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_parser")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "kl_step" in (tmp_path / "api.html").read_text()
