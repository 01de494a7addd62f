"""The wall between the web side and the worker: what may import what."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from app.core.settings import PROJECT_ROOT

HEAVY = {"torch", "transformers", "peft", "tokenizers", "numpy", "gguf", "safetensors", "worker"}
ALLOWED_OF_APP_IN_WORKER = (
    "app.core",
    "app.store",
)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(package: str) -> list[Path]:
    found = sorted((PROJECT_ROOT / package).rglob("*.py"))
    assert len(found) > 5
    return found


def test_app_imports_neither_the_worker_nor_a_tensor() -> None:
    found = {
        (str(path.relative_to(PROJECT_ROOT)), name)
        for path in files("app")
        for name in imports(path)
        if name.split(".")[0] in HEAVY
    }
    assert found == set()


def test_worker_imports_of_app_only_what_it_records_to() -> None:
    found = {
        (str(path.relative_to(PROJECT_ROOT)), name)
        for path in files("worker")
        for name in imports(path)
        if name.split(".")[0] == "app" and not name.startswith(ALLOWED_OF_APP_IN_WORKER)
    }
    assert found == set()


def test_nothing_but_the_settings_reads_the_environment() -> None:
    # Handing the environment on to child processes is not reading a setting from it.
    launchers = {"processes.py", "embedded.py", "postgres.py", "stack.py", "tables.py", "cli.py"}
    for path in [*files("app"), *files("worker")]:
        if path.name not in launchers:
            assert "os.environ" not in path.read_text(), path
            assert "getenv" not in path.read_text(), path


def test_the_web_process_loads_nothing_heavy() -> None:
    code = (
        "import json, sys\n"
        "from app.main import create_app\n"
        "create_app()\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert HEAVY & set(json.loads(done.stdout)) == set()
