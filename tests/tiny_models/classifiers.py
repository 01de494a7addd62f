"""Folders of tiny sequence classifiers and reward models with random weights."""

from pathlib import Path
from typing import Any

import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from tests.tiny_models import VOCABULARY, build_tokenizer

LABELS = {0: "answers", 1: "refuses", 2: "evades"}
BERT_TOKENS = 64
"""Longest text of the tiny encoder."""


def segment_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, with the marks around one or two segments that encoders have, and padding."""
    tokenizer = build_tokenizer(chat=False)
    start, end = "<|im_start|>", "<|im_end|>"
    ids = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in (start, end)}
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} $B:1 {end}:1",
        special_tokens=list(ids.items()),
    )
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.model_max_length = BERT_TOKENS
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return tokenizer


def bert(tokenizer: Any, **settings: Any) -> BertForSequenceClassification:
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=BERT_TOKENS + 2,
        pad_token_id=tokenizer.pad_token_id,
        id2label=LABELS,
        label2id={name: i for i, name in LABELS.items()},
        initializer_range=0.5,
        **settings,
    )
    return BertForSequenceClassification(config)


def reward_llama(pad: int | None) -> LlamaForSequenceClassification:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        pad_token_id=pad,
        num_labels=1,
        initializer_range=0.5,
    )
    return LlamaForSequenceClassification(config)


def save_classifier(folder: Path, **settings: Any) -> Path:
    """An encoder with three labels, without a chat template."""
    torch.manual_seed(5)
    tokenizer = segment_tokenizer()
    bert(tokenizer, **settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_reward_model(folder: Path, *, padded: bool = True) -> Path:
    """A decoder with one score and a chat template. padded: with a token to pad by."""
    torch.manual_seed(1)
    tokenizer = build_tokenizer(chat=True)
    if padded:
        tokenizer.pad_token = "<|endoftext|>"
    reward_llama(tokenizer.pad_token_id).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
