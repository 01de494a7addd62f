"""Routes of datasets and samples: upload, preview, paging, export, deletion."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Query, Response, UploadFile
from pydantic import BaseModel, Field

from app.core.errors import ConflictError
from app.core.json_body import JsonBody
from app.core.paging import Offset
from app.core.settings import get_settings
from app.datasets import exporting, progress, queries
from app.datasets.exporting import Export
from app.datasets.hub import preview_from_hub, store_from_hub
from app.datasets.offsets import Offsets, summarize_offsets
from app.datasets.preview import preview_file
from app.datasets.schemas import (
    DatasetList,
    DatasetOut,
    HubDatasetRequest,
    HubPreviewRequest,
    Manifest,
    PairPage,
    PairTexts,
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
from app.web.downloads import Download
from app.web.json_route import JsonRoute
from app.web.session import SessionDep
from chesboard.configs import Verdict
from chesboard.formats.rows import Reason
from chesboard.issues import IssueKind
from chesboard.offsets import OffsetKind

MAX_CLIP = 1 << 20

router = APIRouter(tags=["datasets"])
MAX_TEXTS = 100
_hub_router = APIRouter(route_class=JsonRoute, include_in_schema=False)


def _or_json(body: type[BaseModel]) -> dict[str, Any]:
    """For OpenAPI: the body of the route of the same path in `_hub_router`."""
    return {"requestBody": {"content": {"application/json": {"schema": body.model_json_schema()}}}}


Exclude = Annotated[
    list[Literal["flagged"] | Verdict],
    Query(description="Exclude flagged pairs, or pairs with one of these verdicts."),
]
ExcludeIssue = Annotated[
    list[IssueKind], Query(description="Exclude pairs with one of these issues.")
]
OnlyIssue = Annotated[list[IssueKind], Query(description="Only pairs with one of these issues.")]
Ordinals = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**31)]],
    Query(min_length=1, max_length=MAX_TEXTS, description="Ordinals of the pairs, from 0."),
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
Upload = Annotated[
    UploadFile,
    File(
        description="JSONL, JSON, CSV, Parquet, Arrow or ORC, each also compressed (gzip, bzip2, "
        "xz, zstd), or a zip or tar archive of them."
    ),
]
Member = Annotated[
    str | None,
    Form(
        description="Which table to read, where an archive or a JSON object holds several. The "
        "error without it names them: the `snippet` of each item whose `field` is member."
    ),
]
Mapping = Annotated[
    str | None,
    Form(
        description="JSON: the columns of prompt, preferred and dispreferred, where they have "
        'other names. {"prompt": "q", "preferred": "good", "dispreferred": "bad"}; also `system`. '
        "Where another column says which of the two is preferred: `preference` (it names the "
        "response, or is 1 or 2; `first` and `second` give other values), `signed_preference` (a "
        "number, negative for the first), or `preferred_score` and `dispreferred_score`. For a "
        "list of responses: `candidates` with `ratings`, `ranks` or `best` (the position of the "
        "best; without any of them the best comes first), and `response` and `models`. For single "
        "responses: `completion` with `label` or `rating`."
    ),
]
Pairing = Annotated[
    str | None,
    Form(
        description="How rows that hold several responses make pairs: best_worst, best_rest (the "
        "best against each other one), all, or gap:1.5 (all whose ratings differ by at least "
        "1.5). Default: best_worst; all, where a preferred response comes with several "
        "dispreferred ones. The same rating never makes a pair."
    ),
]


@_hub_router.post("/datasets", status_code=201)
def create_from_hub(wanted: JsonBody[HubDatasetRequest], key: UploadKey = None) -> DatasetOut:
    with progress.begin(key).ending() as upload:
        return store_from_hub(wanted, upload)


@_hub_router.post("/datasets/preview")
def preview_of_hub(wanted: JsonBody[HubPreviewRequest], key: UploadKey = None) -> Preview:
    with progress.begin(key).ending() as upload:
        return preview_from_hub(wanted, upload)


router.include_router(_hub_router)  # before the routes for forms of the same paths


@router.post("/datasets", status_code=201, openapi_extra=_or_json(HubDatasetRequest))
def create_dataset(
    session: SessionDep,
    file: Upload,
    name: Annotated[str | None, Form(description="Default: the name of the file.")] = None,
    mapping: Mapping = None,
    pairing: Pairing = None,
    member: Member = None,
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

    A file that is stored already is stored again; `same_file` lists the earlier datasets. As JSON:
    a dataset of the Hugging Face hub by its name, downloaded by the server and stored with the id
    of its commit.
    """
    max_bytes = get_settings().max_upload_bytes
    with progress.begin(key).ending() as upload:
        digest = measure_file(file.file, max_bytes)
        known = queries.find_by_sha256(session, digest.sha256, member or None)
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
            pairing=pairing,
            member=member,
            progress=upload,
        )
        stored = queries.get_dataset(session, dataset.id)
    return stored.model_copy(update={"same_file": [earlier.id for earlier in known]})


def _stored_already(dataset: Dataset) -> ConflictError:
    error = ConflictError(
        f"The same file is stored already, as dataset {dataset.id} (“{dataset.name}”). "
        "Send if_known=store to store it again.",
        dataset_id=dataset.id,
    )
    error.headers = {"Location": f"/api/v1/datasets/{dataset.id}"}
    return error


@router.post("/datasets/preview", openapi_extra=_or_json(HubPreviewRequest))
def preview_dataset(
    file: Upload,
    mapping: Mapping = None,
    pairing: Pairing = None,
    member: Member = None,
    whole: Annotated[
        bool, Form(description="Whether this is the whole file, or only its first part.")
    ] = True,
) -> Preview:
    """Parse the first rows of a file and report columns, form and pairs. Nothing is stored.

    As JSON: of a dataset of the hub. Where it has several splits and none is named, `splits` of
    the 422 lists them with their sizes.
    """
    return preview_file(
        file.file,
        file.filename or "dataset",
        max_bytes=get_settings().max_upload_bytes,
        mapping=mapping,
        pairing=pairing,
        member=member,
        is_whole=whole,
    )


@router.get("/datasets/progress/{key}")
def get_progress(key: str) -> UploadProgress:
    """Progress of downloading, parsing and storing, once the request's bytes were received."""
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
    """Cancel it while it is downloaded or its rows are read: nothing of it is stored."""
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
    offset: Offset = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    issue: Annotated[IssueKind | None, Query(description="Only pairs with this issue.")] = None,
    clip: Annotated[
        int | None, Query(ge=1, le=MAX_CLIP, description="Cut each text to this many characters.")
    ] = None,
) -> PairPage:
    return queries.list_pairs(session, dataset_id, offset, limit, issue=issue, clip=clip)


@router.get("/datasets/{dataset_id}/texts")
def read_texts(session: SessionDep, dataset_id: int, pair: Ordinals) -> PairTexts:
    """The texts of named pairs, edits included, and nothing else of them: what a trainer elsewhere
    needs to watch them. A recorder may ask for them, too."""
    return queries.read_texts(session, dataset_id, pair)


@router.get("/datasets/{dataset_id}/rejected")
def list_rejected(
    session: SessionDep,
    dataset_id: int,
    offset: Offset = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    reason: Annotated[
        Reason | None, Query(description="Only rows rejected for this reason.")
    ] = None,
) -> RejectionPage:
    """Rejected rows of the file, with the reason: empty, identical, unreadable, …"""
    return queries.list_rejections(session, dataset_id, offset, limit, reason=reason)


@router.get("/datasets/{dataset_id}/offsets")
def get_offsets(
    session: SessionDep,
    dataset_id: int,
    odpo_alpha: Annotated[float, Query(ge=0, le=1000)] = 1.0,
    odpo_offset: OffsetKind = "log_difference",
) -> Offsets:
    """How strongly the objective odpo would weigh the pairs by their scores in the dataset: the
    distribution of alpha times the offset, and the pairs that have none."""
    return summarize_offsets(session, dataset_id, odpo_alpha, odpo_offset)


@router.delete("/datasets/{dataset_id}", status_code=204)
def delete_dataset(session: SessionDep, dataset_id: int) -> None:
    """Refused with 409 while a run uses it."""
    queries.delete_dataset(session, dataset_id)


def _asked_export(
    dataset_id: int,
    exclude: Exclude = [],  # noqa: B006 - FastAPI copies defaults
    format: exporting.Format = "jsonl",
    form: ExportForm = "trl",
    exclude_issue: ExcludeIssue = [],  # noqa: B006
    only_issue: OnlyIssue = [],  # noqa: B006
) -> Export:
    return Export(dataset_id, format, form, tuple(exclude), tuple(exclude_issue), tuple(only_issue))


AskedExport = Annotated[Export, Depends(_asked_export)]
"""The export that the query asks for; its manifest has the same query."""


@router.get("/datasets/{dataset_id}/export", response_class=Response)
def export_dataset(session: SessionDep, dataset_id: int, export: AskedExport) -> Download:
    """The pairs as training input, with edits applied. Uploaded again, they are the same pairs."""
    exporting.check_export(require_dataset(session, dataset_id), export)
    return Download(
        exporting.export_dataset(export),
        f"dataset-{dataset_id}.{export.format}",
        headers={"Link": '<export/manifest>; rel="describedby"'},
    )


@router.get("/datasets/{dataset_id}/export/manifest")
def get_manifest(session: SessionDep, export: AskedExport) -> Manifest:
    """The provenance of the export with the same query: source, rules, verdicts, score runs."""
    return exporting.make_manifest(session, export)


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
