"""Which configurations describe a causal language model that the installed transformers can open.

From config.json and, without importing it, from transformers' own tables of model types.
"""

import ast
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

OTHER_HEADS = {
    "ForSequenceClassification": "a classifier or reward model: it gives a text one score",
    "ForTokenClassification": "a classifier of tokens",
    "ForQuestionAnswering": "a model that marks answers in a text",
    "ForMultipleChoice": "a classifier",
    "ForMaskedLM": "an encoder: it fills gaps in a text that it reads in both directions",
    "ForPreTraining": "an encoder: it reads a text in both directions",
    "ForNextSentencePrediction": "an encoder: it reads a text in both directions",
    "ForImageClassification": "a classifier of images",
    "ForAudioClassification": "a classifier of sound",
    "ForCTC": "a model of speech",
    "ForSpeechSeq2Seq": "a model of speech",
}
"""Ends of the names of classes that are no causal language models, and what these are."""
ENCODERS = frozenset((
    "albert", "bert", "big_bird", "camembert", "canine", "convbert", "data2vec-text", "deberta",
    "deberta-v2", "distilbert", "electra", "ernie", "esm", "eurobert", "flaubert", "fnet",
    "funnel", "gte", "ibert", "jina_embeddings_v3", "layoutlm", "longformer", "luke",
    "megatron-bert", "mobilebert", "modernbert", "mpnet", "mra", "nomic_bert", "nystromformer",
    "rembert", "roberta", "roberta-prelayernorm", "roformer", "splinter", "squeezebert",
    "tapas", "xlm", "xlm-roberta", "xlm-roberta-xl", "xmod", "yoso",
))  # fmt: skip
"""Model types that read a text in both directions unless their configuration says `is_decoder`."""
ENCODER_DECODERS = frozenset((
    "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "marian", "mbart", "musicgen",
    "musicgen_melody", "mvp", "pegasus", "plbart", "prophetnet", "whisper",
))  # fmt: skip
"""Model types of encoder-decoders whose decoder alone transformers opens as a causal language
model, whether or not the weights were trained to be one."""
_NEEDED = (
    "Chesboard measures causal language models, which give each token of a response a probability "
    "after those before it."
)


def class_name(config: dict[str, Any]) -> str:
    """The class that a model was saved from, by its config.json; "" where that does not say."""
    named = config.get("architectures") or []
    return next((name for name in named if isinstance(name, str)), "")


def find_refusal(config: dict[str, Any]) -> str | None:
    """Why a model of this config.json cannot be measured, as sentences; None if it may be."""
    name = class_name(config)
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        return "config.json has no `model_type`: it is not the configuration of a whole model."
    if "Reward" in name:
        return f"{name} is a reward model: it gives a text one score. {_NEEDED}"
    for end, what in OTHER_HEADS.items():
        if name.endswith(end):
            return f"{name} is {what}. {_NEEDED}"
    is_decoder_alone = name.endswith("ForCausalLM")
    if config.get("is_encoder_decoder") or (kind in ENCODER_DECODERS and not is_decoder_alone):
        return f"{name or kind} is an encoder-decoder: it reads prompts by another part. {_NEEDED}"
    if kind in ENCODERS and not config.get("is_decoder"):
        return f"{name or kind} is an encoder: it reads a text in both directions. {_NEEDED}"
    if {"group_size", "bits"} <= set(config.get("quantization") or ()):
        return (
            "The weights are quantized for MLX (`quantization` in config.json), which transformers "
            "does not open. Take the model in its original precision, or as GGUF."
        )
    return _unknown_type(config, kind, name)


def _unknown_type(config: dict[str, Any], kind: str, name: str) -> str | None:
    tables = transformers_tables()
    if tables is None or kind in tables.causal:
        return None
    if kind not in tables.known:
        if config.get("auto_map"):
            return (
                f"The model type “{kind}” needs code of its own that comes with the model "
                "(`auto_map` in config.json), and such code is never run. Take a model that "
                "transformers supports by itself, or a GGUF file of this one."
            )
        return (
            f"The model type “{kind}” is newer than this server's transformers "
            f"{version('transformers')}, or misspelled in config.json."
        )
    if name.endswith("ForConditionalGeneration") or "vision_config" in config:
        return (
            f"{name or kind} reads images or sound beside text, and transformers "
            f"{version('transformers')} opens no language model of it alone. {_NEEDED}"
        )
    return f"{name or kind} is no causal language model. {_NEEDED}"


@dataclass(frozen=True, slots=True)
class TransformersTables:
    """Model types that the installed transformers knows, and those with a causal language model."""

    known: frozenset[str]
    causal: frozenset[str]


@lru_cache(maxsize=1)
def transformers_tables() -> TransformersTables | None:
    """None where they cannot be found: then the worker finds out when it opens the model."""
    spec = importlib.util.find_spec("transformers")
    places = spec.submodule_search_locations if spec is not None else None
    if not places:
        return None
    folder = Path(places[0]) / "models"
    try:
        known = _keys(folder / "auto" / "auto_mappings.py", "CONFIG_MAPPING_NAMES")
        causal = _keys(folder / "auto" / "modeling_auto.py", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")
    except (OSError, SyntaxError, ValueError, LookupError):
        return None
    return TransformersTables(known | causal, causal)


def _keys(file: Path, name: str) -> frozenset[str]:
    """The keys of a module's `NAME = OrderedDict([(key, value), ...])`.

    Raises:
        LookupError: the module has none of that form.
    """
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        if any(isinstance(target, ast.Name) and target.id == name for target in node.targets):
            [pairs] = node.value.args
            assert isinstance(pairs, ast.List)
            first = [pair.elts[0] for pair in pairs.elts if isinstance(pair, ast.Tuple)]
            return frozenset(str(key.value) for key in first if isinstance(key, ast.Constant))
    raise LookupError(name)
