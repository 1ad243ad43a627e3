"""What imports what: the program nothing of the front door, jobs nothing but themselves, shared facts no SDK."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot.__main__ import COMMANDS

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAM = sorted(path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "stack").rglob("*.py"))
JOBS = [path for path in PROGRAM if path.startswith("stack/jobs/")]


def _imported(path: str) -> Iterator[str]:
    """The modules that the file imports, wherever in it."""
    for node in ast.walk(ast.parse((CHECKOUT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{each.name}" for each in node.names)


def _standard(module: str) -> bool:
    return module.split(".")[0] in sys.stdlib_module_names


@pytest.mark.parametrize("path", [*PROGRAM, "__main__.py"])
def test_the_program_imports_nothing_of_the_front_door_the_toolchain_and_the_tests(path: str) -> None:
    ours = {folder.name for folder in CHECKOUT.iterdir() if any(folder.glob("*.py"))} - {"stack"}
    assert ours >= {"pilot", "toolchain", "tests", "ci"}
    assert not [module for module in _imported(path) if module.split(".")[0] in ours]


@pytest.mark.parametrize("path", JOBS)
def test_a_job_imports_the_standard_library_and_other_jobs_alone(path: str) -> None:
    assert not [each for each in _imported(path) if not _standard(each) and not each.startswith("stack.jobs")]


def test_what_the_front_door_shares_with_the_program_needs_no_package() -> None:
    shared = {each for each in _imported("stack/settings.py") if not _standard(each)}
    assert shared == {"stack.jobs.names"}
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(f'pilot.{name}')"
    commands = [name.replace("-", "_") for name in COMMANDS]
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *commands], cwd=CHECKOUT, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_index_is_at_most_forty_lines() -> None:
    lines = (CHECKOUT / "__main__.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 40
    assert not [line for line in lines if "fmt:" in line]
