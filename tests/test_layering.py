"""Imports point one way. Read from the sources, since importing ``sb3_gps`` itself loads torch."""

from __future__ import annotations

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE_MAY_USE = {"numpy", "scipy", *sys.stdlib_module_names}

# Each module of the core imports from the rows above its own only.
CORE_LAYERS = [
    {"types"},
    {"gaussian"},
    {"mixture", "lqr", "costs", "initial", "exploration", "step_size"},
    {"fitting", "duals"},
    {"badmm", "mirror_descent", "improvement"},
    {"bounds"},
]


def modules(folder: Path) -> dict[str, Path]:
    """Dotted names of the modules under a package's folder, with their files."""
    names = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


SB3_GPS = modules(ROOT / "sb3_gps")
GPS_ENVS = modules(ROOT / "envs" / "gps_envs")
CORE = {name: path for name, path in SB3_GPS.items() if name.startswith("sb3_gps.core")}


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere, functions and ``TYPE_CHECKING`` included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the full name"
            assert node.module is not None
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = members & (SB3_GPS.keys() | GPS_ENVS.keys())
            found |= submodules or {node.module}
    return found


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("name", CORE)
def test_core_needs_numpy_and_scipy_only(name: str) -> None:
    outside = {used for used in imports(CORE[name]) if not inside(used, "sb3_gps.core")}
    assert {used.partition(".")[0] for used in outside} <= CORE_MAY_USE


@pytest.mark.parametrize("name", [name for name in CORE if name != "sb3_gps.core"])
def test_core_imports_from_lower_layers_only(name: str) -> None:
    level = {f"sb3_gps.core.{stem}": i for i, row in enumerate(CORE_LAYERS) for stem in row}
    assert name in level, f"{name} is new: give it a row in CORE_LAYERS"
    upward = {
        used
        for used in imports(CORE[name])
        if inside(used, "sb3_gps") and level.get(used, len(CORE_LAYERS)) >= level[name]
    }
    assert not upward


@pytest.mark.parametrize("package", [SB3_GPS, GPS_ENVS], ids=["sb3_gps", "gps_envs"])
def test_no_import_cycle(package: dict[str, Path]) -> None:
    graph = {name: imports(path) & package.keys() for name, path in package.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError with the cycle


@pytest.mark.parametrize("name", GPS_ENVS)
def test_tasks_do_not_know_the_algorithm(name: str) -> None:
    assert not {used for used in imports(GPS_ENVS[name]) if inside(used, "sb3_gps")}


@pytest.mark.parametrize("name", SB3_GPS)
def test_algorithm_uses_the_public_face_of_the_tasks(name: str) -> None:
    used = {used for used in imports(SB3_GPS[name]) if inside(used, "gps_envs")}
    public = {"gps_envs", "gps_envs.rendering"}  # rendering: the doctor asks it which GL there is
    assert used <= public
