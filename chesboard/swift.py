"""`python -m chesboard.swift` prints the file that ms-swift takes as `--external_plugins`."""

from pathlib import Path

PLUGIN = Path(__file__).parent / "client" / "swift_plugin" / "chesboard_plugin.py"

if __name__ == "__main__":
    print(PLUGIN)
