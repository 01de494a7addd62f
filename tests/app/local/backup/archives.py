"""Archives changed or made by hand, and what a database or folder holds."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import create_engine, make_url

from app.local import migrate as migrations
from tests.app import filling


def content(url: str) -> dict[str, list[str]]:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        found = filling.content(connection)
    engine.dispose()
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def query(url: str, statement: str) -> Any:
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchone()


def write_format_1(url: str, target: Path, files: dict[str, bytes]) -> None:
    """An archive as versions before pg_dump was used wrote it: COPY's output for each table."""
    manifest: dict[str, Any] = {"format": 1, "created_at": "2026-11-24T10:00:00Z"}
    members = {f"files/{name}": body for name, body in files.items()}
    manifest["files"] = {name: described(body) for name, body in members.items()}
    manifest["tables"] = {}
    with psycopg.connect(url) as connection:
        manifest["revision"] = query(url, "SELECT version_num FROM alembic_version")[0]
        for name in migrations.METADATA.tables:
            found = connection.execute(f'SELECT * FROM "{name}"')
            columns = [column.name for column in found.description or ()]
            listed = ", ".join(f'"{column}"' for column in columns)
            with connection.cursor().copy(f'COPY "{name}" ({listed}) TO STDOUT') as copy:
                body = gzip.compress(b"".join(map(bytes, copy)))
            members[f"database/{name}.copy.gz"] = body
            manifest["tables"][name] = {
                "columns": columns,
                "rows": found.rowcount,
                **described(body),
            }
    members["manifest.json"] = json.dumps(manifest, indent=1).encode()
    with tarfile.open(target, "w") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))


def described(body: bytes) -> dict[str, Any]:
    return {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def rewrite(source: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> Path:
    """The archive with each member changed, or left out where None is returned."""
    target = source.with_name("changed.tar")
    with tarfile.open(source) as archive, tarfile.open(target, "w") as out:
        for member in archive:
            body = archive.extractfile(member).read()  # type: ignore[union-attr]
            if changed := change(member.name, body):
                info = tarfile.TarInfo(changed[0])
                info.size = len(changed[1])
                out.addfile(info, io.BytesIO(changed[1]))
    return target
