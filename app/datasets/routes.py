"""Routes of datasets and samples: upload, preview, paging, export, deletion."""

from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Query, Response, UploadFile
from fastapi.responses import StreamingResponse

from app.core.errors import ConflictError
from app.core.settings import get_settings
from app.datasets import exporting, progress, queries
from app.datasets.exporting import Export
from app.datasets.issues import Issue
from app.datasets.preview import preview_file
from app.datasets.schemas import (
    DatasetList,
    DatasetOut,
    Manifest,
    PairPage,
    Preview,
    RejectionPage,
    SampleList,
    SampleOut,
    UploadProgress,
)
from app.datasets.storing import measure_file, store_dataset
from app.samples import SAMPLES, get_sample
from app.store.datasets import Dataset
from app.store.lookup import require_dataset
from app.web.session import SessionDep
from chesboard.configs import Verdict
from chesboard.formats.rows import Reason

router = APIRouter(tags=["datasets"])

Exclude = Annotated[
    list[Literal["flagged"] | Verdict],
    Query(description="Exclude flagged pairs, or pairs with one of these verdicts."),
]
ExportForm = Annotated[
    exporting.Form,
    Query(
        description="trl: the columns prompt, chosen and rejected, as TRL's trainers expect. "
        "original: the columns of the uploaded file."
    ),
]
UploadKey = Annotated[
    str | None,
    Query(
        alias="progress",
        pattern="^[0-9A-Za-z_-]{8,64}$",
        description="A key chosen by the client: GET /datasets/progress/KEY then reports the "
        "progress of the upload.",
    ),
]
Upload = Annotated[UploadFile, File(description="JSONL, JSON, CSV or Parquet, each also gzipped.")]
Mapping = Annotated[
    str | None,
    Form(
        description="JSON: the columns of prompt, preferred and dispreferred, where they have "
        'other names. {"prompt": "q", "preferred": "good", "dispreferred": "bad"}; also `system`, '
        "and `preference`: a column with 1 or 2, which says which of the two responses is "
        "preferred."
    ),
]


@router.post("/datasets", status_code=201)
def create_dataset(
    session: SessionDep,
    file: Upload,
    name: Annotated[str | None, Form(description="Default: the name of the file.")] = None,
    mapping: Mapping = None,
    if_known: Annotated[
        Literal["store", "refuse"],
        Form(
            description="What to do if the same file is stored already; refuse: answer 409 with "
            "its `dataset_id`."
        ),
    ] = "store",
    key: UploadKey = None,
) -> DatasetOut:
    """Store a preference dataset. Rejected rows are listed with their number and the reason.

    A file that is stored already is stored again; `same_file` lists the earlier datasets.
    """
    upload = progress.begin(key)
    max_bytes = get_settings().max_upload_bytes
    try:
        digest = measure_file(file.file, max_bytes)
        known = queries.find_by_sha256(session, digest.sha256)
        if known and if_known == "refuse":
            raise _stored_already(known[0])
        dataset = store_dataset(
            session,
            file.file,
            file.filename or "dataset",
            max_bytes=max_bytes,
            digest=digest,
            name=name,
            mapping=mapping,
            progress=upload,
        )
        stored = queries.get_dataset(session, dataset.id)
    except BaseException:
        upload.phase = "failed"
        raise
    upload.phase = "done"
    return stored.model_copy(update={"same_file": [earlier.id for earlier in known]})


def _stored_already(dataset: Dataset) -> ConflictError:
    error = ConflictError(
        f"The same file is stored already, as dataset {dataset.id} (“{dataset.name}”). "
        "Send if_known=store to store it again.",
        dataset_id=dataset.id,
    )
    error.headers = {"Location": f"/api/v1/datasets/{dataset.id}"}
    return error


@router.post("/datasets/preview")
def preview_dataset(
    file: Upload,
    mapping: Mapping = None,
    whole: Annotated[
        bool, Form(description="Whether this is the whole file, or only its first part.")
    ] = True,
) -> Preview:
    """Parse the first rows of a file and report columns, form and pairs. Nothing is stored."""
    return preview_file(
        file.file,
        file.filename or "dataset",
        max_bytes=get_settings().max_upload_bytes,
        mapping=mapping,
        is_whole=whole,
    )


@router.get("/datasets/progress/{key}")
def get_progress(key: str) -> UploadProgress:
    """Progress of parsing and storing an upload, once its bytes were received."""
    found = progress.find(key)
    return UploadProgress(
        phase=found.phase,
        bytes_done=found.bytes_done,
        bytes_total=found.bytes_total,
        pairs=found.pairs,
        rejected=found.rejected,
        eta_seconds=found.eta_seconds(),
    )


@router.delete("/datasets/progress/{key}", status_code=204)
def cancel_upload(key: str) -> None:
    """Cancel an upload while its rows are read: nothing of it is stored."""
    progress.find(key).is_cancelled = True


@router.get("/datasets")
def list_datasets(session: SessionDep) -> DatasetList:
    items = queries.list_datasets(session)
    return DatasetList(total=len(items), items=items)


@router.get("/datasets/{dataset_id}")
def get_dataset(session: SessionDep, dataset_id: int) -> DatasetOut:
    return queries.get_dataset(session, dataset_id)


@router.get("/datasets/{dataset_id}/pairs", response_model_exclude_unset=True)
def list_pairs(
    session: SessionDep,
    dataset_id: int,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    issue: Annotated[Issue | None, Query(description="Only pairs with this issue.")] = None,
    clip: Annotated[
        int | None, Query(ge=1, description="Cut each text to this many characters.")
    ] = None,
) -> PairPage:
    return queries.list_pairs(session, dataset_id, offset, limit, issue=issue, clip=clip)


@router.get("/datasets/{dataset_id}/rejected")
def list_rejected(
    session: SessionDep,
    dataset_id: int,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    reason: Annotated[
        Reason | None, Query(description="Only rows rejected for this reason.")
    ] = None,
) -> RejectionPage:
    """Rejected rows of the file, with the reason: empty, identical, unreadable, …"""
    return queries.list_rejections(session, dataset_id, offset, limit, reason=reason)


@router.delete("/datasets/{dataset_id}", status_code=204)
def delete_dataset(session: SessionDep, dataset_id: int) -> None:
    """Refused with 409 while a run uses it."""
    queries.delete_dataset(session, dataset_id)


MEDIA_TYPES = {
    "jsonl": "application/jsonl",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}


@router.get("/datasets/{dataset_id}/export", response_class=Response)
def export_dataset(
    session: SessionDep,
    dataset_id: int,
    exclude: Exclude = [],  # noqa: B006 - FastAPI copies defaults
    format: exporting.Format = "jsonl",
    form: ExportForm = "trl",
) -> StreamingResponse:
    """The pairs as training input, with edits applied. Uploaded again, they are the same pairs."""
    require_dataset(session, dataset_id)
    return StreamingResponse(
        exporting.export_dataset(Export(dataset_id, format, form, tuple(exclude))),
        media_type=MEDIA_TYPES[format],
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
    format: exporting.Format = "jsonl",
    form: ExportForm = "trl",
) -> Manifest:
    """The provenance of the export with the same query: source, rules, verdicts, score runs."""
    return exporting.make_manifest(session, Export(dataset_id, format, form, tuple(exclude)))


@router.get("/samples")
def list_samples() -> SampleList:
    """The bundled sample datasets."""
    items = [
        SampleOut(name=sample.name, description=sample.description, pairs=sample.pairs)
        for sample in SAMPLES
    ]
    return SampleList(total=len(items), items=items)


@router.post("/samples/{name}", status_code=201, responses={200: {"model": DatasetOut}})
def create_from_sample(session: SessionDep, name: str, response: Response) -> DatasetOut:
    """Store a sample. If it is stored already, that dataset is returned with status 200."""
    sample = get_sample(name)
    max_bytes = get_settings().max_upload_bytes
    with sample.path.open("rb") as file:
        digest = measure_file(file, max_bytes)
        if existing := queries.find_by_sha256(session, digest.sha256):
            response.status_code = 200
            return DatasetOut.model_validate(existing[0])
        dataset = store_dataset(session, file, sample.path.name, max_bytes=max_bytes, digest=digest)
    return queries.get_dataset(session, dataset.id)
