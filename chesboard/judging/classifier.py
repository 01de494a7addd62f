"""A judge that is a local sequence classifier, or a reward model with its one score.

Dimensions: B texts of a batch, L labels.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from chesboard.causal_lm import (
    ModelError,
    reason_of,
    refuse_if_damaged,
    refuse_if_incomplete,
)
from chesboard.judging.answers import JudgedAnswer, OnJudged, plain_prompt
from chesboard.judging.classifier_files import ClassifierFiles, check_label
from chesboard.loading import read_tokenizer
from chesboard.rendering import as_messages, assistant, try_render
from chesboard.reporting import Control
from chesboard.transformers_api import dtype_option

Reads = Literal["conversation", "answer"]
BATCH_TOKENS = {"cpu": 4_096, "cuda": 32_768}
"""Padded tokens of a batch, by device type."""
EVEN = 0.5
"""A label's probability from which on it is said to hold where labels are independent."""
ENCODED_AT_A_TIME = 2_048
"""Answers that are tokenized before they are scored: sorted by length, they pad little."""
POSITIONS_OFFSET = 2
"""Positions that some encoders (RoBERTa) reserve among those that their configuration counts."""


Encoding = dict[str, list[int]]
"""A tokenizer's output for one text: input_ids, and token_type_ids where the model reads them."""


class ClassifierJudge:
    """Scores answers by a sequence classifier.

    The score is a reward model's logit; else the probability of the label (the softmax over labels,
    or the sigmoid of its logit where labels are independent of each other). The verdict is whether
    the score is at least `threshold`. Without one: whether the label is the likeliest, or at least
    1/2 likely where labels are independent; and none of a reward model, which only compares.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        label: int | None,
        threshold: float | None = None,
        reads: Reads = "conversation",
        *,
        log_odds: bool = False,
    ) -> None:
        """label: its index among the scores; None of a reward model. log_odds: the score is the
        label's log-odds, in nats, which tell two texts apart where both probabilities round to 1.

        reads: conversation: prompt and answer, through the tokenizer's chat template if it has one,
        else as the two segments of one text; answer: the answer alone.
        """
        self._model = model
        self._tokenizer = tokenizer
        self._label = label
        self._threshold = threshold
        self._reads = reads
        self._log_odds = log_odds
        config = model.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
        self._limit = min(int(tokenizer.model_max_length), positions - POSITIONS_OFFSET)
        # Decoders look for the last token that is not this one, whatever the attention mask says.
        self._pad = getattr(config, "pad_token_id", None)

    def judge(self, answers: Sequence[JudgedAnswer], control: Control, on_judged: OnJudged) -> None:
        """See `Judge`. The reason says how much of a text was too long to be read.

        Raises:
            MemoryError: one text alone does not fit into the GPU's memory.
        """
        for start in range(0, len(answers), ENCODED_AT_A_TIME):
            control.check()
            self._judge_some(answers[start : start + ENCODED_AT_A_TIME], control, on_judged)

    def _judge_some(
        self, answers: Sequence[JudgedAnswer], control: Control, on_judged: OnJudged
    ) -> None:
        encoded = [self._encode(answer) for answer in answers]
        waiting = self._batches([len(one["input_ids"]) for one, _ in encoded])
        while waiting:
            control.check()
            batch = waiting.pop(0)
            scored = self._score_if_fits([encoded[i][0] for i in batch])
            if scored is None:
                if len(batch) == 1:
                    raise MemoryError(
                        "An answer with its prompt does not fit into the GPU's memory. Choose "
                        "another device or a smaller classifier."
                    )
                torch.cuda.empty_cache()
                waiting[:0] = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
                continue
            on_judged(
                [
                    answers[i].judged(verdict, score, _cut_reason(encoded[i][1]))
                    for i, (score, verdict) in zip(batch, scored, strict=True)
                ]
            )

    def _batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Indices in batches of similar length, the longest first. Each alone without a token to
        pad by."""
        budget = BATCH_TOKENS.get(self._model.device.type, 0) if self._pad is not None else 0
        batches: list[list[int]] = []
        width = 0
        for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
            if not batches or (len(batches[-1]) + 1) * width > budget:
                batches.append([])
                width = lengths[i]
            batches[-1].append(i)
        return batches

    def _encode(self, answer: JudgedAnswer) -> tuple[Encoding, int]:
        """An answer's encoding, and the tokens that did not fit.

        Where something has to go it is the beginning of the prompt; then, the end of the answer.
        """
        tokenizer = self._tokenizer
        if self._reads == "conversation" and tokenizer.chat_template:
            turns = as_messages(answer.prompt)
            begun = try_render(tokenizer, turns, header=True)
            whole = try_render(tokenizer, [*turns, assistant(answer.text)])
            if begun is not None and whole is not None and whole.startswith(begun):
                prompt = tokenizer(begun, add_special_tokens=False)["input_ids"]
                rest = tokenizer(whole[len(begun) :], add_special_tokens=False)["input_ids"]
                joined = prompt[max(0, len(prompt) + len(rest) - self._limit) :] + rest
                cut = len(prompt) + len(rest) - min(len(joined), self._limit)
                return {"input_ids": joined[: self._limit]}, cut
        if self._reads == "answer":
            return self._clipped(answer.text)
        prompt = plain_prompt(answer.prompt)
        encoding = tokenizer(prompt, answer.text)
        over = len(encoding["input_ids"]) - self._limit
        if over <= 0:
            return _kept(encoding), 0
        prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        if over >= len(prompt_ids):
            encoding, cut = self._clipped(answer.text)
            return encoding, cut + len(prompt_ids)
        prompt = tokenizer.decode(prompt_ids[over:])
        encoding = tokenizer(prompt, answer.text, truncation=True, max_length=self._limit)
        return _kept(encoding), over

    def _clipped(self, text: str) -> tuple[Encoding, int]:
        whole = len(self._tokenizer(text)["input_ids"])
        encoding = self._tokenizer(text, truncation=True, max_length=self._limit)
        return _kept(encoding), whole - len(encoding["input_ids"])

    def _score_if_fits(self, texts: Sequence[Encoding]) -> list[tuple[float, bool | None]] | None:
        try:
            return self._score(texts)
        except torch.OutOfMemoryError:
            return None

    @torch.no_grad()
    def _score(self, texts: Sequence[Encoding]) -> list[tuple[float, bool | None]]:
        device = self._model.device
        width = max(len(one["input_ids"]) for one in texts)

        def padded(rows: Sequence[Sequence[int]], by: int) -> Tensor:
            filled = [[*row, *[by] * (width - len(row))] for row in rows]
            return torch.tensor(filled, device=device)

        inputs = {
            name: padded([one[name] for one in texts], self._pad or 0 if name == "input_ids" else 0)
            for name in texts[0]
        }
        ones = [[1] * len(one["input_ids"]) for one in texts]
        logits_BL = self._model(**inputs, attention_mask=padded(ones, 0)).logits.float()
        return list(zip(*self._read(logits_BL), strict=True))

    def _read(self, logits_BL: Tensor) -> tuple[list[float], list[bool | None]]:
        if self._label is None:
            scores_B, holds_B = logits_BL[:, 0], None
        elif getattr(self._model.config, "problem_type", None) == "multi_label_classification":
            odds_B = logits_BL[:, self._label]
            scores_B = odds_B.sigmoid()
            holds_B = scores_B >= EVEN
        else:
            others = [label for label in range(logits_BL.shape[1]) if label != self._label]
            odds_B = logits_BL[:, self._label] - logits_BL[:, others].logsumexp(dim=-1)
            scores_B = logits_BL.softmax(dim=-1)[:, self._label]
            holds_B = logits_BL.argmax(dim=-1) == self._label
        if self._log_odds and self._label is not None:
            scores_B = odds_B
        if self._threshold is not None:
            holds_B = scores_B >= self._threshold
        verdicts = [None] * len(scores_B) if holds_B is None else holds_B.tolist()
        return scores_B.tolist(), verdicts


def load_classifier(
    files: ClassifierFiles,
    label: str | None,
    device: torch.device,
    dtype: torch.dtype,
    threshold: float | None = None,
    reads: Reads = "conversation",
    *,
    log_odds: bool = False,
) -> ClassifierJudge:
    """Load a classifier from its folder; safetensors only, and no code that comes with it.
    Arguments as of `ClassifierJudge`.

    Raises:
        JudgeError: it has no such label.
        ModelError: it cannot be opened, or its files are incomplete.
    """
    check_label(files, label)
    tokenizer = read_tokenizer(files.name, str(files.path))
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            str(files.path),
            **dtype_option(dtype),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
        )
    except Exception as error:
        raise ModelError(
            f"The classifier “{files.name}” cannot be loaded: {reason_of(error)}"
        ) from error
    refuse_if_incomplete(info)
    refuse_if_damaged(model.named_parameters())
    index = None if files.is_reward_model else files.labels.index(str(label))
    model = model.to(device).eval()
    return ClassifierJudge(model, tokenizer, index, threshold, reads, log_odds=log_odds)


def _kept(encoding: Any) -> Encoding:
    return {name: list(ids) for name, ids in encoding.items() if name != "attention_mask"}


def _cut_reason(tokens: int) -> str | None:
    if not tokens:
        return None
    return f"Longer than the classifier reads: {tokens} tokens were left out."
