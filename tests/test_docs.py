"""The documentation: every logged key is explained, every link leads somewhere, and it builds."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import toy_envs  # noqa: F401  registers Toy/*
from stable_baselines3.common.logger import KVWriter, Logger
from toy_envs import QUICK, SMALL_POLICY

from sb3_gps import GPS, FeaturePointsCallback, StudentSuccessCallback
from sb3_gps.__main__ import make_parser

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
    practice = dict(sampling="global", prior="network", imagined_rounds=1, imagined_conditions=4)
    seen |= logged("Toy/PointMass-v0", "MlpPolicy", **practice)
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


def test_the_table_of_environments_is_that_of_the_records():
    """Which is copied into the README by hand."""
    summary = ROOT / "examples" / "results" / "environments" / "summary.md"
    rows = [line for line in summary.read_text().splitlines() if line.startswith("|")]
    assert len(rows) == 9
    assert "\n".join(rows) in (ROOT / "README.md").read_text()


def cells(line: str) -> list[str]:
    return [cell.strip().strip("*") for cell in line.strip("|").split("|")]


def test_the_table_of_the_comparison_is_that_of_the_records():
    """Of steps to 90 % where there are such, else success at the end; nothing where nothing ran."""
    summary = ROOT / "examples" / "results" / "compare" / "summary.md"
    found = {}
    for line in summary.read_text().splitlines()[2:]:
        if line.startswith("| GPS/"):
            task, name, _, steps, _, unseen, _, _, there, _ = cells(line)
            ends = f"{float(unseen.split()[0]):.0f} % at {steps}"
            found[task[4:-3], name] = ends if there == "–" else there
    columns = ("gps", "ppo", "dagger", "sac-asymmetric", "ppo-state", "sac-state")
    table = (ROOT / "README.md").read_text().split("| | GPS | PPO |")[1].split("\n\n")[0]
    rows = [cells(line) for line in table.splitlines()[4:]]
    assert [row[0] for row in rows] == ["ShapeCube", "CoatHanger", "ToyHammer", "BottleCap"]
    for task, *values in rows:
        assert values == [found.get((task, name), "") for name in columns], task


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_parser")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "kl_step" in (tmp_path / "api.html").read_text()


def blocks(language: str) -> list[str]:
    """What pages show in a language, whole."""
    text = "\n".join(page.read_text() for page in PAGES)
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands() -> list[str]:
    """Every command that the pages show, without its comment."""
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    tables = re.findall(r"^\| `(python [^`]+)`", (ROOT / "README.md").read_text(), re.MULTILINE)
    shown = [line.split("  #")[0].strip() for line in lines] + tables
    return sorted({command for command in shown if command and not command.startswith("#")})


@pytest.mark.parametrize("command", commands())
def test_every_command_that_is_shown_is_one(command):
    """Our own are taken by their parsers, with all options; examples and targets are there."""
    words = [word for word in shlex.split(command) if word != "..."]
    while "=" in words[0]:  # variables of the environment
        words = words[1:]
    if words[:3] == ["python", "-m", "sb3_gps"]:
        make_parser(words[3]).parse_args(words[3:])
    elif words[0] == "python" and words[1].startswith("examples/"):
        assert (ROOT / words[1]).exists()
        options = [word for word in words[2:] if word.startswith("--")]
        source = (ROOT / words[1]).read_text()
        if "rl_zoo3" not in words[1]:  # whose own options those are
            assert all(f'"{option}"' in source for option in options)
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    else:
        assert words[0] in ("pip", "python", "git", "tensorboard", "apt-get"), command


@pytest.mark.gl
def test_the_quickstart_of_the_readme(monkeypatch, tmp_path):
    pytest.importorskip("rich")
    code = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    tiny = dict(QUICK, conditions=2, iterations=2, pose_images=0, policy_kwargs=SMALL_POLICY)

    class Quick(GPS):
        """With a budget that is none: the quickstart has the default's."""

        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **{**tiny, **kwargs})

    monkeypatch.setattr("sb3_gps.GPS", Quick)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    assert names["env"].action_space.contains(names["action"]) and (tmp_path / "cube.zip").exists()
