"""The API of datasets and samples."""

from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Query, Response, UploadFile
from fastapi.responses import StreamingResponse

from app.database import SessionDep
from app.datasets import queries
from app.datasets.schemas import DatasetList, DatasetOut, Manifest, PairPage, SampleList, SampleOut
from app.datasets.storing import store_dataset
from app.samples import SAMPLES, get_sample
from app.settings import get_settings

router = APIRouter(tags=["datasets"])

Exclude = Annotated[
    list[Literal["flagged"]],
    Query(description="Leave out the pairs that are flagged for review."),
]


@router.post("/datasets", status_code=201)
def create_dataset(
    session: SessionDep,
    file: Annotated[UploadFile, File(description="JSONL, a JSON array or CSV, also gzipped.")],
    name: Annotated[str | None, Form(description="Default: the file's name.")] = None,
    mapping: Annotated[
        str | None,
        Form(
            description="JSON: which columns hold prompt, preferred and dispreferred, where they "
            'are called something else. {"prompt": "q", "preferred": "good", "dispreferred": "bad"}'
        ),
    ] = None,
) -> DatasetOut:
    """Store a preference dataset. Rows that cannot be used are listed with number and reason."""
    dataset = store_dataset(
        session,
        file.file,
        file.filename or "dataset",
        max_bytes=get_settings().max_upload_bytes,
        name=name,
        mapping=mapping,
    )
    return queries.get_dataset(session, dataset.id)


@router.get("/datasets")
def list_datasets(session: SessionDep) -> DatasetList:
    items = queries.list_datasets(session)
    return DatasetList(total=len(items), items=items)


@router.get("/datasets/{dataset_id}")
def get_dataset(session: SessionDep, dataset_id: int) -> DatasetOut:
    return queries.get_dataset(session, dataset_id)


@router.get("/datasets/{dataset_id}/pairs")
def list_pairs(
    session: SessionDep,
    dataset_id: int,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> PairPage:
    return queries.list_pairs(session, dataset_id, offset, limit)


@router.delete("/datasets/{dataset_id}", status_code=204)
def delete_dataset(session: SessionDep, dataset_id: int) -> None:
    """Refused with 409 while a run uses it."""
    queries.delete_dataset(session, dataset_id)


@router.get("/datasets/{dataset_id}/export", response_class=Response)
def export_dataset(
    session: SessionDep,
    dataset_id: int,
    exclude: Exclude = [],  # noqa: B006 - FastAPI copies defaults
    format: Literal["jsonl"] = "jsonl",
) -> StreamingResponse:
    """The pairs as training input: one {prompt, chosen, rejected} a line."""
    queries.get_dataset(session, dataset_id)
    return StreamingResponse(
        queries.export_jsonl(dataset_id, exclude_flagged="flagged" in exclude),
        media_type="application/jsonl",
        headers={
            "Content-Disposition": f'attachment; filename="dataset-{dataset_id}.{format}"',
            "Link": '<export/manifest>; rel="describedby"',
        },
    )


@router.get("/datasets/{dataset_id}/export/manifest")
def get_manifest(
    session: SessionDep,
    dataset_id: int,
    exclude: Exclude = [],  # noqa: B006 - FastAPI copies defaults
) -> Manifest:
    """How the export with the same query comes about: the source and how much is left out."""
    return queries.make_manifest(session, dataset_id, exclude_flagged="flagged" in exclude)


@router.get("/samples")
def list_samples() -> SampleList:
    """The sample datasets that come with the program."""
    items = [
        SampleOut(name=sample.name, description=sample.description, pairs=sample.pairs)
        for sample in SAMPLES
    ]
    return SampleList(total=len(items), items=items)


@router.post("/samples/{name}", status_code=201, responses={200: {"model": DatasetOut}})
def create_from_sample(session: SessionDep, name: str, response: Response) -> DatasetOut:
    """Bring in a sample. Where it is there already, that dataset is returned, with 200."""
    sample = get_sample(name)
    if existing := queries.find_by_sha256(session, sample.sha256):
        response.status_code = 200
        return DatasetOut.model_validate(existing)
    with sample.path.open("rb") as file:
        dataset = store_dataset(
            session, file, sample.path.name, max_bytes=get_settings().max_upload_bytes
        )
    return queries.get_dataset(session, dataset.id)
