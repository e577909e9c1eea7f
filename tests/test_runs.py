"""Many runs: processes of their own, and what is left of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from processes import work

from sb3_gps.runs import ENGINES, Run, in_processes, records, report_failures, run_missing


@pytest.mark.parametrize("engine", list(ENGINES))
def test_no_failure_stops_the_rest(
    engine: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One dies at once, as if the memory had run out, one raises, and the others are done."""
    if engine == "ray":
        pytest.importorskip("ray")
        # Of the processes of its cluster, where the helpers are not known otherwise.
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "helpers"))
    items = [tmp_path / name for name in ("dies", "raises", "first", "second")]
    errors = {item.name: error for item, error in ENGINES[engine](work, items, 2)}
    assert set(errors) == {"dies", "raises", "first", "second"}
    assert isinstance(errors["raises"], ValueError)
    death = {"processes": "BrokenProcess", "ray": "WorkerCrashed"}
    assert death[engine] in repr(errors["dies"])
    assert errors["first"] is errors["second"] is None
    processes = {(tmp_path / name).read_text() for name in ("first", "second")}
    assert len({*processes, str(os.getpid())}) == 3
    run = Run(tmp_path / "a_seed0.json", "GPS/ShapeCube-v0", 0, 9)
    assert report_failures([(run, errors["raises"])]) == 1
    out = capsys.readouterr().out
    assert "a_seed0.json" in out and "no such task" in out
    assert 'raise ValueError("no such task")' in out  # where it happened, in the other process


def test_interrupted_runs_do_not_begin(tmp_path: Path) -> None:
    items = [tmp_path / str(i) for i in range(6)]
    for _ in in_processes(work, items, jobs=1):
        break
    assert 1 <= sum(item.exists() for item in items) < len(items)


def test_records_leave_out_what_is_being_written(tmp_path: Path) -> None:
    (tmp_path / "a_seed0.json").write_text(json.dumps({"seed": 0}))
    (tmp_path / ".partial_1_a_seed1.json").write_text('{"seed": ')
    assert records(tmp_path) == [{"seed": 0}]
    (tmp_path / "a_seed2.json").write_text('{"seed": ')
    with pytest.raises(ValueError, match=r"a_seed2\.json is not JSON.*is done again"):
        records(tmp_path)


def test_jobs_are_at_least_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--jobs must be at least 1, got 0"):
        run_missing([], 0)
