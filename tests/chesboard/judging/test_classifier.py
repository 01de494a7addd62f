"""Local classifiers against transformers' own pipeline, and against one text at a time."""

import json
import math
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from chesboard.causal_lm import ModelError
from chesboard.judging import classifier
from chesboard.judging.answers import JudgedAnswer, JudgeError
from chesboard.judging.classifier import load_classifier
from chesboard.judging.classifier_files import find_classifier, list_classifiers
from chesboard.records import JudgmentRecord
from chesboard.reporting import RunInterruptedError
from tests.tiny_models import GoOn, StopAfter, build_llama, build_tokenizer
from tests.tiny_models.classifiers import BERT_TOKENS, LABELS, save_classifier, save_reward_model

CPU = torch.device("cpu")
TEXTS = ["No.", "I will not say", "Yes, here it is", "", "Yes" * 9, "the inn", "Never ever"]
ANSWERS = [JudgedAnswer(i, 0, f"Why {'so ' * i}?", text) for i, text in enumerate(TEXTS)]


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def load(models, name, label=None, **options):
    return load_classifier(find_classifier(models, name), label, CPU, torch.float32, **options)


def judge(judge, answers=ANSWERS, control=None) -> list[Any]:
    found: list[JudgmentRecord] = []
    judge.judge(answers, control or GoOn(), found.extend)
    return sorted(found, key=lambda one: (one.pair, one.sample))


@pytest.mark.parametrize("label", LABELS.values())
@pytest.mark.parametrize("reads", ["conversation", "answer"])
def test_labels_are_those_of_the_pipeline(models, label, reads):
    save_classifier(models / "bert")
    found = judge(load(models, "bert", label, reads=reads))
    reference = pipeline("text-classification", model=str(models / "bert"), top_k=None)
    for answer, one in zip(ANSWERS, found, strict=True):
        text = (
            {"text": answer.prompt, "text_pair": answer.text}
            if reads == "conversation"
            else {"text": answer.text}
        )
        scores = {entry["label"]: entry["score"] for entry in reference(text)}
        assert one.score == pytest.approx(scores[label], abs=1e-5)
        assert one.verdict == (max(scores, key=scores.__getitem__) == label)


def test_both_verdicts_occur(models):
    """So that the tests of verdicts could fail."""
    save_classifier(models / "bert")
    verdicts = [
        [one.verdict for one in judge(load(models, "bert", name))] for name in LABELS.values()
    ]
    assert any(set(found) == {True, False} for found in verdicts)


def test_independent_labels_are_judged_each_by_its_own_probability(models):
    save_classifier(models / "bert", problem_type="multi_label_classification")
    found = judge(load(models, "bert", "evades"))
    reference = pipeline("text-classification", model=str(models / "bert"), top_k=None)
    for answer, one in zip(ANSWERS, found, strict=True):
        scores = reference({"text": answer.prompt, "text_pair": answer.text})
        score = next(entry["score"] for entry in scores if entry["label"] == "evades")
        assert one.score == pytest.approx(score, abs=1e-5)
        assert one.verdict == (one.score >= 0.5)


@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification"])
def test_log_odds_are_those_of_the_labels_probability(models, kind):
    save_classifier(models / "bert", problem_type=kind)
    odds = judge(load(models, "bert", "evades", log_odds=True))
    plain = judge(load(models, "bert", "evades"))
    for one, other in zip(odds, plain, strict=True):
        assert one.score == pytest.approx(math.log(other.score / (1 - other.score)), abs=1e-3)
        assert one.verdict == other.verdict


@pytest.mark.parametrize("padded", [True, False])
def test_a_reward_models_score_is_its_logit_of_the_rendered_chat(models, padded):
    folder = save_reward_model(models / "reward", padded=padded)
    found = judge(load(models, "reward"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for answer, one in zip(ANSWERS, found, strict=True):
        turns = [
            {"role": "user", "content": answer.prompt},
            {"role": "assistant", "content": answer.text},
        ]
        ids = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            logit = model(ids["input_ids"]).logits.item()
        assert one.score == pytest.approx(logit, abs=1e-4)
        assert one.verdict is None


def test_a_threshold_makes_verdicts_of_scores(models):
    save_reward_model(models / "reward")
    scores = [one.score for one in judge(load(models, "reward"))]
    middle = sorted(scores)[3]
    found = judge(load(models, "reward", threshold=middle))
    assert [one.verdict for one in found] == [score >= middle for score in scores]


def test_scores_do_not_depend_on_the_batches(models, monkeypatch):
    save_classifier(models / "bert")
    together = judge(load(models, "bert", "refuses"))
    monkeypatch.setitem(classifier.BATCH_TOKENS, "cpu", 1)
    alone = judge(load(models, "bert", "refuses"))
    assert [one.score for one in together] == pytest.approx([one.score for one in alone], abs=1e-5)


def test_a_batch_that_does_not_fit_is_split(models, monkeypatch):
    save_classifier(models / "bert")
    loaded = load(models, "bert", "refuses")
    expected = judge(loaded)
    score = loaded._score

    def tight(texts):
        if len(texts) > 2:
            raise torch.OutOfMemoryError
        return score(texts)

    monkeypatch.setattr(loaded, "_score", tight)
    found = judge(loaded)
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-5)


def test_one_answer_that_does_not_fit_is_an_error(models, monkeypatch):
    save_classifier(models / "bert")
    loaded = load(models, "bert", "refuses")

    def tight(texts):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(loaded, "_score", tight)
    with pytest.raises(MemoryError, match="does not fit"):
        judge(loaded)


def test_a_long_prompt_loses_its_beginning_and_the_answer_stays(models):
    save_classifier(models / "bert")
    loaded = load(models, "bert", "refuses")
    tail = "q" * 20
    long = JudgedAnswer(0, 0, "x" * 500 + tail, "I will not")
    [found] = judge(loaded, [long])
    room = BERT_TOKENS - 3 - len("I will not")
    [expected] = judge(loaded, [JudgedAnswer(0, 0, ("x" * 500 + tail)[-room:], "I will not")])
    assert found.score == pytest.approx(expected.score, abs=1e-5)
    assert expected.reason is None
    assert f"{520 - room} tokens" in found.reason


def test_an_answer_beyond_the_limit_is_read_from_its_beginning(models):
    save_classifier(models / "bert")
    loaded = load(models, "bert", "refuses")
    [found] = judge(loaded, [JudgedAnswer(0, 0, "Why", "y" * 300)])
    alone = load(models, "bert", "refuses", reads="answer")
    [expected] = judge(alone, [JudgedAnswer(0, 0, "", "y" * (BERT_TOKENS - 2))])
    assert found.score == pytest.approx(expected.score, abs=1e-5)
    assert f"{300 + len('Why') - (BERT_TOKENS - 2)} tokens" in found.reason


def test_a_long_chat_loses_the_beginning_of_its_prompt(models):
    save_reward_model(models / "reward")
    found = judge(load(models, "reward"), [JudgedAnswer(0, 0, "x" * 2000, "Yes.")])
    assert "tokens were left out" in found[0].reason


def test_it_stops_between_two_batches_and_keeps_what_was_judged(models, monkeypatch):
    save_classifier(models / "bert")
    monkeypatch.setitem(classifier.BATCH_TOKENS, "cpu", 1)
    found: list[JudgmentRecord] = []
    with pytest.raises(RunInterruptedError):
        load(models, "bert", "refuses").judge(ANSWERS, StopAfter(3), found.extend)
    assert len(found) == 2


def test_the_models_folder_lists_its_classifiers_with_their_labels(models):
    save_classifier(models / "bert")
    save_reward_model(models / "reward")
    build_llama().save_pretrained(models / "llama")
    build_tokenizer(chat=True).save_pretrained(models / "llama")
    found = {one.name: one for one in list_classifiers(models)}
    assert set(found) == {"bert", "reward"}
    assert found["bert"].labels == tuple(LABELS.values())
    assert not found["bert"].is_reward_model
    assert found["reward"].is_reward_model


@pytest.mark.parametrize(
    ("name", "said"),
    [("llama", "no sequence classifier"), ("other", "no model"), ("../x", "no model")],
)
def test_other_names_are_refused_with_those_that_there_are(models, name, said):
    save_classifier(models / "bert")
    build_llama().save_pretrained(models / "llama")
    build_tokenizer(chat=True).save_pretrained(models / "llama")
    with pytest.raises(JudgeError, match=f"{said}.*There are: bert"):
        find_classifier(models, name)


def test_a_label_is_named_and_there(models):
    save_classifier(models / "bert")
    save_reward_model(models / "reward")
    with pytest.raises(JudgeError, match=r"Name the label.*answers, refuses, evades"):
        load(models, "bert")
    with pytest.raises(JudgeError, match="no label “no”"):
        load(models, "bert", "no")
    with pytest.raises(JudgeError, match="reward model"):
        load(models, "reward", "no")


def test_a_classifier_without_its_head_is_refused(models):
    folder = save_classifier(models / "bert")
    weights = load_file(folder / "model.safetensors")
    weights = {name: w for name, w in weights.items() if not name.startswith("classifier")}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="classifier"):
        load(models, "bert", "refuses")


def test_a_damaged_file_is_named(models):
    folder = save_classifier(models / "bert")
    (folder / "model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(JudgeError, match="cannot be used"):
        find_classifier(models, "bert")


def test_a_configuration_without_labels_has_those_that_transformers_gives_it(models):
    folder = save_classifier(models / "bert")
    config = json.loads((folder / "config.json").read_text())
    del config["id2label"], config["label2id"]
    (folder / "config.json").write_text(json.dumps(config))
    assert find_classifier(models, "bert").labels == ("LABEL_0", "LABEL_1")
