"""The forms of preference files, declared once, and which of them columns make up.

    columns                                                       form
    prompt, chosen, rejected                                      text: three texts
                                                                  chat: chat messages
                                                                  ultrafeedback: with the scores
    chosen, rejected                                              chat: whole dialogues
                                                                  hh-rlhf: dialogues in one text
                                                                  implicit: texts that begin alike
    chosen, rejected_1, rejected_2, …                             text, chat: several rejected
    system, question, chosen, rejected                            orpo
    prompt, chosen_response, rejected_response                    h2o
    question, answer_matching_behavior, answer_not_matching_…     persona
    instruction, input, output_1, output_2, preference            alpacafarm
    history, human_ref_A, human_ref_B, labels (or the scores)     shp
    prompt, response_0, response_1, better_response_id            safe-rlhf
    question, response_j, response_k                              stack-exchange
    question, answer_0, answer_1, score_0, score_1                webgpt
    prompt, response_a, response_b, winner_model_a, …_b           arena
    conversation_a, conversation_b, winner                        arena
    context, response1, response2, overall_preference             signed (also preference_strength)
    prompt, response_a, response_b, winner                        winner (and other such names)
    input, preferred_output, non_preferred_output                 chat (OpenAI)
    messages, rejected_response (or rejected_messages)            chat (ms-swift)
    query, response, rejected_response                            text (ms-swift)

`preferred` and `dispreferred` are accepted for `chosen` and `rejected`, and `question`,
`instruction` (with `input`) or `conversations` for `prompt`; any form may have a `system` column.
Lists of rated responses are recognized in `candidates`, single rated responses in `unpaired`. A
mapping (`mapping`) gives the roles of columns with other names.
"""

import dataclasses
import re
from collections.abc import Iterable

from chesboard.formats.columns import Columns

FORMS_IN_WORDS = {
    "text": "a prompt and two responses as plain text",
    "chat": "chat messages",
    "ultrafeedback": "chat messages with scores (UltraFeedback, binarized)",
    "hh-rlhf": "whole dialogues in one text (HH-RLHF)",
    "implicit": "two texts whose common beginning is the prompt",
    "orpo": "a system prompt, a question and two responses",
    "h2o": "a prompt and two responses (H2O LLM Studio)",
    "persona": "a question with a matching and a not matching answer (persona)",
    "alpacafarm": "an instruction, two outputs and which is preferred (AlpacaFarm)",
    "shp": "a history, two answers and which scored higher (SHP)",
    "safe-rlhf": "a prompt, two responses and which is better (SafeRLHF)",
    "stack-exchange": "a question, and a better and a worse answer (Stack Exchange, paired)",
    "webgpt": "a question, two answers and their scores (WebGPT)",
    "arena": "two models' answers and which won (Chatbot Arena)",
    "winner": "a prompt, two responses and the name of the preferred one",
    "signed": "a prompt, two responses and a signed preference (HelpSteer)",
    "rated": "a prompt and a list of rated responses",
    "ranked": "a prompt and a list of ranked responses",
    "kto": "single responses, desirable or not (KTO), paired by their prompt",
    "rated-rows": "single rated responses, paired by their prompt",
}
KNOWN = (
    "prompt/chosen/rejected (text or chat messages; `rejected` may be a list), chosen/rejected "
    "(whole dialogues: chat messages, or text as in HH-RLHF), system/question/chosen/rejected, "
    "prompt/chosen_response/rejected_response, question/answer_matching_behavior/"
    "answer_not_matching_behavior (persona), instruction/output_1/output_2/preference "
    "(AlpacaFarm), history/human_ref_A/human_ref_B/labels (SHP), input/preferred_output/"
    "non_preferred_output (OpenAI), messages/rejected_response (ms-swift), "
    "prompt/response_a/response_b/winner (Arena), context/response1/response2/overall_preference "
    "(HelpSteer), instruction/completions and other lists of rated or ranked responses, "
    "prompt/completion/label (KTO)"
)


_TWO_RESPONSES = (
    *(("response_a", "response_b"), ("answer_a", "answer_b"), ("output_a", "output_b")),
    *(("completion_a", "completion_b"), ("model_a_response", "model_b_response")),
    *(("response1", "response2"), ("response_1", "response_2"), ("response_0", "response_1")),
    *(("answer1", "answer2"), ("answer_1", "answer_2"), ("answer_0", "answer_1")),
    *(("output_1", "output_2"), ("completion_1", "completion_2"), ("output_0", "output_1")),
)
_WINNERS = (
    *("winner", "better", "better_response", "preferred", "preferred_response"),
    *("preference", "choice", "chosen"),
)
_SIGNED = ("overall_preference", "preference_strength")

KNOWN_COLUMNS = (
    Columns("prompt", "chosen", "rejected"),
    Columns("prompt", "preferred", "dispreferred"),
    Columns("prompt", "chosen_response", "rejected_response", form="h2o"),
    Columns("input", "preferred_output", "non_preferred_output"),  # OpenAI, Together, Fireworks
    Columns("prompt", "messages", "rejected_response"),  # ms-swift
    Columns("prompt", "messages", "rejected_messages"),  # ms-swift
    Columns("query", "response", "rejected_response"),  # ms-swift
    Columns("question", "answer_matching_behavior", "answer_not_matching_behavior", persona=True),
    Columns(
        "instruction",
        "output_1",
        "output_2",
        choice=("preference", 1, 2),
        form="alpacafarm",
    ),
    Columns("history", "human_ref_A", "human_ref_B", choice=("labels", 1, 0), form="shp"),
    Columns("history", "human_ref_A", "human_ref_B", scores=("score_A", "score_B"), form="shp"),
    Columns(
        "prompt", "response_0", "response_1", choice=("better_response_id", 0, 1), form="safe-rlhf"
    ),
    Columns("question", "response_j", "response_k", form="stack-exchange"),
    Columns(
        "prompt",
        "response_a",
        "response_b",
        scores=("winner_model_a", "winner_model_b"),
        form="arena",
    ),
    Columns(
        "prompt",
        "conversation_a",
        "conversation_b",
        winner="winner",
        form="arena",
        is_dialogues=True,
    ),
    Columns("question", "answer_0", "answer_1", scores=("score_0", "score_1"), form="webgpt"),
    *(
        Columns("prompt", *two, signed=name, form="signed")
        for two in _TWO_RESPONSES
        for name in _SIGNED
    ),
    *(
        Columns("prompt", *two, winner=name, form="winner")
        for two in _TWO_RESPONSES
        for name in _WINNERS
    ),
    Columns("prompt", "chosen", "rejected_1"),
    Columns("prompt", "chosen", "rejected1"),
)
PROMPTS = ("prompt", "question", "instruction", "conversations", "messages", "input", "query")
_SYSTEMS = ("system", "system_prompt", "system_message")
_HISTORIES = ("history", "chat_history", "conversation_history")
_CONTEXTS = {"instruction": "input"}
_SECOND_OPINIONS = {"better_response_id": "safer_response_id"}
_NUMBERED = re.compile(r"(.*[^\d\n]|)(\d{1,9})$")


def recognize(found: Iterable[str]) -> Columns | None:
    """The known form that these columns match, if any; as they are, else without regard to case."""
    names = list(found)
    columns = _recognize(set(names))
    if columns is not None:
        return columns
    folded = folded_names(names)
    if folded is None:
        return None
    columns = _recognize(set(folded))
    return columns and columns.renamed(lambda known: folded.get(known, known))


def folded_names(names: Iterable[str]) -> dict[str, str] | None:
    """Each name in lower case -> the name; None where it cannot be told which of two is meant."""
    names = list(names)
    folded = {name.casefold().strip(): name for name in names}
    return folded if len(folded) == len(names) else None


def _recognize(names: set[str]) -> Columns | None:
    for known in KNOWN_COLUMNS:
        if not names.issuperset((known.preferred, known.dispreferred)):
            continue
        columns = with_optional(known, names)
        if columns.fit(names):
            return columns
    return None


def with_optional(columns: Columns, names: set[str]) -> Columns:
    """The form with the columns that it may have: another name of the prompt, a system prompt, an
    input, further rejected responses."""
    if columns.persona:
        return columns
    free = names - set(columns.responses())
    prompts = (
        columns.prompt,
        *PROMPTS,
        *(("context",) if columns.signed or columns.winner else ()),
    )
    prompt = next((name for name in prompts if name in free), columns.prompt)
    context = _CONTEXTS.get(prompt)
    histories = (name for name in _HISTORIES if name in free and name != prompt)
    other = _SECOND_OPINIONS.get(columns.choice[0]) if columns.choice else None
    return dataclasses.replace(
        columns,
        prompt=prompt,
        system=next((name for name in _SYSTEMS if name in names), None),
        context=context if context in names else None,
        history=next(histories, None),
        second_opinion=other if other in names else None,
        others=_others(columns.dispreferred, names) if not columns.verdicts() else (),
        has_scores={"prompt", "score_chosen", "score_rejected"} <= names,
    )


def _others(first: str, names: set[str]) -> tuple[str, ...]:
    """rejected_1 -> the columns rejected_2, rejected_3, … that are there, in order."""
    numbered = _NUMBERED.match(first)
    if numbered is None:
        return ()
    found = {
        int(other[2]): name
        for name in names
        if (other := _NUMBERED.match(name)) and other[1] == numbered[1] and name != first
    }
    return tuple(found[number] for number in sorted(found))


def extend(columns: Columns, found: Iterable[str]) -> Columns:
    """The form with its optional columns (system prompt, input, history) that a later row brings
    first."""
    names = set(found)
    if columns.persona:
        return columns
    wider = with_optional(columns, names | set(columns.all()))
    if wider.prompt != columns.prompt:
        return columns
    return dataclasses.replace(
        columns,
        system=columns.system or wider.system,
        context=columns.context or wider.context,
        history=columns.history or wider.history,
        second_opinion=columns.second_opinion or wider.second_opinion,
        others=wider.others or columns.others,
    )
