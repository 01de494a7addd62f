"""Display labels of the values that the API names by a key: kinds, formats, issues, reasons."""

KINDS = {"score": "CHES scoring", "train": "Training", "evaluate": "Evaluation"}
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
}
ISSUES = {
    "duplicate": "Repeated pairs",
    "contradiction": "Contradicting pairs",
    "long": "Over-long pairs",
}
REASONS = {
    "unreadable": "not readable",
    "missing": "column missing",
    "empty": "empty prompt or response",
    "identical": "identical responses",
    "undecided": "no preference",
    "unusable": "not usable otherwise",
}
