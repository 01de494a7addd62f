"""Reference numbers of the starter model: each form of one question is read alike."""

from pathlib import Path

import pytest

import chesboard
from chesboard.configs import ScoreConfig
from chesboard.loading import load

RENDERED = "<|im_start|>user\nWhere is the Prado?<|im_end|>\n"
HEADER = "<|im_start|>assistant\n"


@pytest.mark.starter
def test_a_prompt_in_chatml_scores_as_the_same_turns(starter_model: Path) -> None:
    [file] = starter_model.glob("*.gguf") if starter_model.is_dir() else [starter_model]
    model, tokenizer = load(ScoreConfig(model=str(file), device="cpu", dtype="float32"))
    pairs = [
        chesboard.Pair("Where is the Prado?", "In Madrid.", "In Lisbon."),
        chesboard.Pair(RENDERED + HEADER, "In Madrid.<|im_end|>\n", "In Lisbon.<|im_end|>\n"),
        chesboard.Pair(RENDERED, "In Madrid.", "In Lisbon."),
    ]
    for record in chesboard.score(model, tokenizer, pairs):
        assert record.ches == pytest.approx(-255.2, abs=0.5)
        assert record.ln_ches == pytest.approx(-15.95, abs=0.05)
