"""Checks an environment that holds the library without the server; run by check_wheel.sh.

Every tracked file of the packages and data folders, listed on stdin, is in it. `import chesboard`
loads no torch, and no module of it needs a package that only the server needs.
"""

import importlib
import pkgutil
import sys
from importlib.metadata import files
from importlib.util import find_spec

SERVER = ("fastapi", "sqlalchemy", "psycopg", "celery", "redis", "pydantic_settings", "alembic")
RESOURCES = ("templates/", "static/", "migrations/")

tracked = {
    f"app/_resources/{path}" if path.startswith(RESOURCES) else path
    for path in sys.stdin.read().split()
}
installed = {path.as_posix() for path in files("chesboard") or ()}
assert len(tracked) > 100, "the list of tracked files is missing"
assert not tracked - installed, f"the wheel lacks {sorted(tracked - installed)}"
assert any(path.endswith("LICENSE") for path in installed), "the wheel lacks the license"

chesboard = importlib.import_module("chesboard")
loaded = {"torch", "transformers"} & set(sys.modules)
assert not loaded, f"import chesboard loads {loaded}"
brought = [name for name in SERVER if find_spec(name) is not None]
assert not brought, f"the library's dependencies bring {brought}"

# These import trainers that need not be installed.
FOR_TRAINERS = ("chesboard.axolotl", "chesboard.client.swift_plugin.chesboard_plugin")
modules = [
    module.name
    for module in pkgutil.walk_packages(chesboard.__path__, prefix="chesboard.")
    if module.name not in FOR_TRAINERS
]
for name in modules:
    importlib.import_module(name)
assert len(modules) > 10, modules
print(f"{len(tracked)} files are in the wheel; {len(modules)} modules import without the server.")
