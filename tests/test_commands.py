"""The command line: exit statuses, errors in one line, and what the doctor calls missing."""

from __future__ import annotations

import argparse
import json
import sys
from types import ModuleType

import pytest

from sb3_gps import __main__ as cli
from sb3_gps.commands import doctor
from sb3_gps.commands.benchmark import BENCHMARKS


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command "fail" that raises what a user's mistake raises."""
    module = ModuleType("failing_command")

    def main(args: argparse.Namespace) -> int:
        raise ValueError(f"expected a positive number, got {args.number}")

    module.add_arguments = lambda parser: parser.add_argument("--number", type=int)  # type: ignore
    module.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "failing_command", module)
    monkeypatch.setitem(cli.COMMANDS, "fail", ("failing_command", "fails"))


@pytest.mark.parametrize("argv", [[], ["nope"], ["doctor", "--nope"]])
def test_wrong_usage_is_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(argv)
    assert stopped.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.usefixtures("failing")
def test_a_users_mistake_is_one_line_and_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fail", "--number", "-3"]) == 1
    assert capsys.readouterr().err == "error: expected a positive number, got -3\n"


@pytest.mark.parametrize("words", [["--traceback", "trials"], ["trials", "--traceback"]])
def test_traceback_of_a_benchmark_anywhere(words: list[str]) -> None:
    assert cli.make_parser("benchmark").parse_args(["benchmark", *words]).traceback
    assert not cli.make_parser("benchmark").parse_args(["benchmark", "trials"]).traceback


@pytest.mark.usefixtures("failing")
def test_traceback_on_request() -> None:
    with pytest.raises(ValueError, match="got -3"):
        cli.main(["fail", "--number", "-3", "--traceback"])


def test_help_imports_no_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "COMMANDS", {"later": ("no_such_module", "is described")})
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--help"])
    assert stopped.value.code == 0
    assert "is described" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [*([name] for name in cli.COMMANDS), *(["benchmark", name] for name in BENCHMARKS)],
    ids=" ".join,
)  # fmt: skip
def test_every_command_has_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*words, "--help"])
    assert stopped.value.code == 0
    assert "--traceback" in capsys.readouterr().out


def test_doctor_names_the_fix(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(doctor, "rendering", lambda: {"error": "RuntimeError: none"})
    monkeypatch.setattr(doctor.shutil, "which", lambda tool: tool == "apt-get")
    assert cli.main(["doctor", "--gl", "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert "apt-get install -y libegl1 libgl1" in problem["fix"]


def test_doctor_blames_an_unusable_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    assert doctor.gl_fix() == "unset MUJOCO_GL"


def test_doctor_forgives_missing_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "rendering", lambda: {"backend": "egl", "frames_per_second": 1})
    monkeypatch.setattr(doctor, "OPTIONAL", ("a-package-that-nobody-has",))
    monkeypatch.setattr(doctor, "REQUIRED", ("numpy",))
    assert [problem["needed"] for problem in doctor.problems(doctor.examine())] == [False]
