"""Display labels of the values that the API names by a key: kinds, formats, issues, reasons."""

import chesboard.issues

KINDS = {
    "score": "CHES scoring",
    "train": "Training",
    "evaluate": "Evaluation",
    "check": "Text check",
    "preflight": "Pre-flight",
    "generate": "Generation",
    "judge": "Judge",
    "external": "External training",
}
FORMATS = {
    "text": "plain text",
    "chat": "chat messages",
    "hh-rlhf": "HH-RLHF dialogues",
    "persona": "persona questions",
    "ultrafeedback": "UltraFeedback",
    "implicit": "texts that begin alike",
    "orpo": "system and question",
    "h2o": "H2O LLM Studio",
    "alpacafarm": "AlpacaFarm",
    "shp": "SHP scores",
    "safe-rlhf": "SafeRLHF",
    "stack-exchange": "Stack Exchange, paired",
    "webgpt": "WebGPT scores",
    "arena": "Chatbot Arena",
    "winner": "two responses and a winner",
    "signed": "signed preferences",
    "rated": "rated responses",
    "ranked": "ranked responses",
    "kto": "KTO, paired by prompt",
    "rated-rows": "rated rows, paired by prompt",
}
ISSUES = {kind: issue.label for kind, issue in chesboard.issues.ISSUES.items()}
REASONS = {
    "unreadable": "not readable",
    "missing": "column missing",
    "empty": "empty prompt or response",
    "identical": "identical responses",
    "undecided": "no preference",
    "unpaired": "no counterpart",
    "unusable": "not usable otherwise",
}
