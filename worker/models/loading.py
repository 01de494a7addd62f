"""From the name of a model to a loaded model and its tokenizer.

A name is a folder or a GGUF file in the models folder, `run:ID` for the result of a training
run, or a hub name. Nothing outside those is opened, and no code that comes with a model is run.

A GGUF file is dequantized to float32 once and kept as safetensors beside the data: reading that
back takes a fraction of a second where dequantizing takes many.
"""

import logging
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from huggingface_hub import get_safetensors_metadata
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.core.settings import Settings
from chesboard import cpu
from chesboard.configs import ModelConfig, TrainConfig
from chesboard.cpu.precision import computed_in
from chesboard.model import LoadedModel

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class ModelError(Exception):
    """A model that can't be used; the message is for the user and says what to do."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Where weights are read from: a folder on disk, or a hub name (folder None)."""

    folder: Path | None
    location: str
    fingerprint: tuple[object, ...]


def choose_device(asked: str) -> torch.device:
    """Raises:
    ModelError: a GPU was asked for that is not there.
    """
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(asked)
    if device.type == "cuda" and (
        not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()
    ):
        raise ModelError(
            f"The run asks for {asked}, but this worker sees {torch.cuda.device_count()} GPUs. "
            "Choose device auto or cpu."
        )
    return device


def describe_device(device: torch.device) -> str:
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{device} ({properties.name}, {properties.total_memory / 2**30:.0f} GiB)"
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'' if threads == 1 else 's'})"


def other_precision(config: ModelConfig, loaded: LoadedModel) -> str | None:
    """What to say where a run computes in another precision than was asked for."""
    if config.dtype == "auto" or DTYPES[config.dtype] == loaded.compute_dtype:
        return None
    weights = "" if isinstance(config, TrainConfig) else ", with weights rounded to bfloat16"
    return (
        "This worker's processor has no instructions for bfloat16 (AMX or AVX-512 BF16), which "
        f"makes it slow. The run computes in float32{weights}."
    )


class ModelCache:
    """Loads models, and keeps the last one that nobody changed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._key: tuple[object, ...] | None = None
        self._kept: LoadedModel | None = None

    def load(self, config: ModelConfig) -> LoadedModel:
        """The model of a run's configuration, in eval mode on its device.

        A model to be trained has float32 weights whatever it computes in; any other has its
        weights in the precision that was asked for.

        Raises:
            ModelError: unknown, unreadable, or too large for the device.
        """
        training = isinstance(config, TrainConfig)
        device = choose_device(config.device)
        asked = _asked_dtype(config.dtype, device)
        weights_dtype = torch.float32 if training else asked
        compute_dtype = computed_in(asked, device)
        source = _find(config.model, self._settings)
        key = (source.location, source.fingerprint, device, weights_dtype, compute_dtype)
        if self._kept is not None and key == self._key:
            return self._kept if not training else self._hand_over()
        self.forget()
        loaded = _load(config, source, device, weights_dtype, compute_dtype)
        if not training:
            self._key, self._kept = key, loaded
        return loaded

    def _hand_over(self) -> LoadedModel:
        """Give the kept model away to be changed, and keep it no longer."""
        loaded = self._kept
        assert loaded is not None
        self._key = self._kept = None
        cpu.install(loaded.model, blockwise_attention=False)  # it goes to a training run
        return loaded

    def forget(self) -> None:
        self._key = self._kept = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _asked_dtype(asked: str, device: torch.device) -> torch.dtype:
    if asked == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return DTYPES[asked]


def _find(name: str, settings: Settings) -> _Source:
    models = settings.models_path.resolve()
    if name.startswith("run:"):
        folder = _result_folder(name, settings)
        return _Source(folder, str(folder), _fingerprint(folder))
    path = (models / name).resolve()
    if not path.is_relative_to(models):
        raise ModelError(f"The model “{name}” lies outside the models folder.")
    if path.is_file() and path.suffix == ".gguf":
        return _from_gguf(path, settings)
    if path.is_dir():
        ggufs = sorted(path.glob("*.gguf"))
        if any(path.glob("*.safetensors")):
            return _Source(path, str(path), _fingerprint(path))
        if ggufs:
            return _from_gguf(ggufs[0], settings)
        raise ModelError(
            f"The folder of the model “{name}” holds neither safetensors nor GGUF files. "
            "Other kinds of weights are not opened."
        )
    if name.count("/") == 1:
        return _Source(None, name, ())
    raise ModelError(
        f"There is no model “{name}”. The models that can be named are listed under GET "
        "/api/v1/models; `chesboard models pull` brings the starter model."
    )


def _result_folder(name: str, settings: Settings) -> Path:
    number = name.removeprefix("run:")
    folder = settings.run_path(int(number)) / "model" if number.isdigit() else None
    if folder is None or not folder.is_dir():
        raise ModelError(
            f"{name} has left no model: name a training run that succeeded, as run:ID."
        )
    return folder


def _fingerprint(folder: Path) -> tuple[object, ...]:
    """Changes when the weights do."""
    files = sorted(folder.glob("*.safetensors"))
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def _from_gguf(path: Path, settings: Settings) -> _Source:
    stat = path.stat()
    folder = settings.data_dir / "cache" / "gguf" / f"{path.stem}-{stat.st_size}-{stat.st_mtime_ns}"
    if not folder.is_dir():
        log.info("dequantizing %s; this happens once", path.name)
        _convert_gguf(path, folder)
    return _Source(folder, str(folder), _fingerprint(folder))


def _convert_gguf(path: Path, folder: Path) -> None:
    try:
        quantized = AutoModelForCausalLM.from_pretrained(
            str(path.parent), gguf_file=path.name, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    except Exception as error:
        raise ModelError(f"{path.name} can't be read as a GGUF model: {error}") from error
    # A model that came from GGUF refuses to be saved; its weights in a plain one do not.
    config = quantized.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(quantized.state_dict())
    save_folder(plain, tokenizer, folder)


def save_folder(model: torch.nn.Module, tokenizer: object, folder: Path) -> None:
    """Write a folder that from_pretrained opens: whole, or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        model.save_pretrained(unfinished)  # type: ignore[operator]
        tokenizer.save_pretrained(unfinished)  # type: ignore[attr-defined]
        unfinished.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.replace(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _load(
    config: ModelConfig,
    source: _Source,
    device: torch.device,
    weights_dtype: torch.dtype,
    compute_dtype: torch.dtype,
) -> LoadedModel:
    parameters = _parameters(source)
    if parameters is not None:
        _refuse_if_too_large(config, parameters, device, weights_dtype)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.location, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            source.location,
            dtype=weights_dtype,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except Exception as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ModelError(f"The model “{config.model}” can't be loaded: {first_line}") from error
    model.to(device).eval()
    cpu.install(
        model,
        compute_dtype=compute_dtype,
        blockwise_attention=not isinstance(config, TrainConfig),
        before_widening=lambda: _refuse_if_too_large(
            config, parameters or 0, device, torch.float32
        ),
    )
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        device=device,
        compute_dtype=compute_dtype,
        name=config.model,
    )


def count_parameters(folder: Path) -> int:
    """From the headers of the safetensors files: no weights are read."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict, it has no iterator
                size = 1
                for extent in tensors.get_slice(name).get_shape():
                    size *= extent
                total += size
    return total


def _parameters(source: _Source) -> int | None:
    """How many there are, before anything is loaded; of a hub name also before it is downloaded.

    None where the hub can't be asked: a model that is cached here loads without it.
    """
    if source.folder is not None:
        return count_parameters(source.folder)
    try:
        counts = get_safetensors_metadata(source.location).parameter_count
    except Exception as error:
        log.info("the hub does not tell the size of %s: %s", source.location, error)
        return None
    return sum(counts.values())


def _refuse_if_too_large(
    config: ModelConfig, parameters: int, device: torch.device, weights_dtype: torch.dtype
) -> None:
    needed = parameters * _bytes_a_parameter(config, weights_dtype)
    if device.type == "cuda":
        available, _ = torch.cuda.mem_get_info(device)
    else:
        available = psutil.virtual_memory().available
    if needed > available:
        raise ModelError(
            f"The model “{config.model}” has {parameters / 1e6:,.0f} million parameters and needs "
            f"at least {needed / 2**30:.1f} GiB here, but {device} has "
            f"{available / 2**30:.1f} GiB free. Choose a smaller model, "
            "LoRA, or another device."
        )


def _bytes_a_parameter(config: ModelConfig, weights_dtype: torch.dtype) -> int:
    if isinstance(config, TrainConfig) and config.lora is None:
        # float32 weights and gradient, and what the optimizer keeps of each parameter.
        return 8 + {"adamw": 8, "rmsprop": 4, "sgd": 0}[config.optimizer]
    return weights_dtype.itemsize
