"""The layout of the form of a new run: groups of fields, labels, types and visibility."""

from chesboard.configs import MAX_PREFLIGHT_PAIRS
from chesboard.configs.objective import OBJECTIVES, READ_BY

NESTED = ("probes", "selection", "lora", "pair_weights", "refresh_filter")
"""Settings that are objects; their fields have dotted names."""
SWITCHED: dict[str, str] = {
    "lora": "Train adapters (LoRA)",
    "pair_weights": "Weigh pairs by a measure",
}
"""Objects that may be left out: a checkbox of this label shows their fields."""

REMEDIES = "Against displacement"
"""The group of what helps under any objective."""
FILTER = "Filter as the model improves"
"""The group of filtered DPO."""

GROUPS: dict[str, tuple[str, ...]] = {
    "Model": ("model", "revision"),
    "Objective": (
        "objective",
        "beta",
        "slic_delta",
        "simpo_gamma",
        "dpop_lambda",
        "odpo_alpha",
        "odpo_offset",
        "odpo_unscored",
        "dpo_shift_lambda",
        "dpo_shift_schedule",
        "bdpo_lambda",
        "alphapo_alpha",
        "label_smoothing",
        "robust",
        "ld_alpha",
        "sft_coef",
        "length_normalize",
    ),
    REMEDIES: (
        "reward_calibration",
        "extend_sft_epochs",
        "pair_weights",
        "pair_weights.score_run",
        "pair_weights.measure",
        "pair_weights.slope",
    ),
    "Optimizer": (
        "optimizer",
        "learning_rate",
        "scheduler",
        "warmup_steps",
        "batch_size",
        "epochs",
        "max_steps",
    ),
    "Answers": ("samples", "temperature", "top_p", "answer_tokens", "seed"),
    "Probes": (
        "probes.strategy",
        "probes.count",
        "probes.pairs",
        "probe_every",
        "probes.prompts",
        "token_groups",
        "opposite_groups",
        "answer_every",
        "answer_tokens",
        "ledger_positions",
    ),
    "Pairs": (
        "selection.exclude_flagged",
        "selection.exclude_verdicts",
        "selection.only_verdicts",
        "selection.exclude_issues",
        "selection.only_issues",
        "selection.measures",
        "selection.pairs",
        "selection.complement",
        "selection.random",
        "selection.limit",
    ),
    FILTER: (
        "refresh_filter.reward_model",
        "refresh_filter.label",
        "refresh_filter.answer_tokens",
        "refresh_filter.temperature",
        "refresh_filter.top_p",
    ),
    "Chat template": ("chat_template_kwargs", "chat_template"),
}
"""A kind of run has the groups whose first field it has."""
ADVANCED = "Advanced"
"""The group of all other fields."""
REST_OF: dict[str, str] = {"check": "Limits"}
"""What that group is called for kinds of runs on whose form it is open."""
UNUSED: dict[str, tuple[str, ...]] = {
    "check": ("dtype", "device", "batch_tokens"),
    "generate": ("max_response_tokens",),
    "preflight": ("batch_tokens",),
}
"""Settings that a kind of run shares with others but does not use; its form leaves them out."""
FOLDED = (REMEDIES, FILTER, "Chat template", ADVANCED)
"""Groups that are folded at first."""

DESCRIPTIONS: dict[str, str] = {
    "Chat template": "How prompts become the text that the model reads. Empty: as the model does.",
    FILTER: "Before each epoch the model answers the prompt of every pair that is left. A reward "
    "model compares that answer with the preferred response; a pair whose preferred response is no "
    "better is dropped for good.",
    "Objective": "The loss. m is the margin: how much more log-probability y+ gained than y−.",
    REMEDIES: "What keeps the preferred response from being pulled down, under any objective.",
    "Optimizer": "The size of a step. Small steps show displacement as theory describes it.",
    "Probes": "A few pairs that are measured during training: the log-probability of every token, "
    "and the whole distribution at the fork. You can add prompts of your own.",
    "preflight: Pairs": "The pairs of the dataset to look at: those that pass every rule, "
    f"{MAX_PREFLIGHT_PAIRS} at most. Each pair’s step is followed through all of them.",
    "Answers": "Each prompt is answered token by token, until the model ends its answer or the "
    "limit cuts it.",
    "Pairs": "The pairs of the dataset that take part: those that pass every rule. No rules: all.",
    "Limits": "Give those that you will score or train with: runs cut longer texts the same way.",
}
HELPS: dict[str, str] = {
    "objective": "m = r+ − r−: the changes of log p(y+) and log p(y−) against the reference. The "
    "formula of the chosen one is below.",
}
"""Help in place of a field's description, where the form says the rest elsewhere."""
LABELS: dict[str, str] = {
    "chat_template": "Template",
    "stream": "Layer by layer, from disk",
    "chat_template_kwargs": "Arguments",
    "beta": "Beta (KL coefficient)",
    "dtype": "Precision",
    "slic_delta": "SLiC delta",
    "simpo_gamma": "Gamma",
    "dpop_lambda": "DPOP lambda",
    "odpo_alpha": "ODPO alpha",
    "odpo_offset": "Offset from the scores",
    "odpo_unscored": "Pairs without an offset",
    "dpo_shift_lambda": "DPO-Shift lambda",
    "dpo_shift_schedule": "Schedule of lambda",
    "bdpo_lambda": "BDPO lambda",
    "alphapo_alpha": "AlphaPO alpha",
    "robust": "Robust (unbiased)",
    "ld_alpha": "Weight of the longer tail",
    "reward_calibration": "Reward calibration",
    "extend_sft_epochs": "Epochs on both first",
    "pair_weights.score_run": "Score run",
    "pair_weights.measure": "Measure",
    "pair_weights.slope": "Slope",
    "sft_coef": "SFT coefficient",
    "length_normalize": "Length-normalize",
    "probes.strategy": "Choose pairs",
    "probes.count": "How many",
    "probes.pairs": "Or name the pairs",
    "probes.prompts": "Prompts of your own",
    "opposite_groups": "Opposites among them",
    "probe_every": "Measure every … steps",
    "answer_every": "Generate answers every … steps",
    "answer_tokens": "Longest answer, tokens",
    "samples": "Answers to a prompt",
    "top_p": "Top-p",
    "ledger_positions": "Ledgers at",
    "measure_displacement": "Measure displacement",
    "ledger_top": "Tokens in a ledger",
    "forecast_run": "Forecast by score run",
    "selection.pairs": "Only these pairs",
    "selection.limit": "At most",
    "selection.exclude_flagged": "Leave out flagged pairs",
    "selection.exclude_verdicts": "Leave out by verdict",
    "selection.only_verdicts": "Only with verdict",
    "selection.exclude_issues": "Leave out by issue",
    "selection.only_issues": "Only with issue",
    "selection.measures": "By measure",
    "selection.complement": "Take what they leave out",
    "selection.random": "At random",
    "refresh_filter.reward_model": "Reward model",
    "refresh_filter.label": "Its label",
    "refresh_filter.answer_tokens": "Longest answer",
    "refresh_filter.top_p": "Top-p",
    "lora.rank": "LoRA rank",
    "lora.alpha": "LoRA alpha",
    "lora.dropout": "LoRA dropout",
    "lora.target_modules": "LoRA target modules",
    "max_grad_norm": "Clip gradient norm",
}
TYPES = {
    "chat_template_kwargs": "arguments",
    "chat_template": "template",
    "probes.prompts": "prompts",
    "refresh_filter.reward_model": "reward_model",
    "ledger_positions": "positions",
    "opposite_groups": "opposites",
    "selection.measures": "measures",
    "selection.random": "subset",
    "pair_weights.score_run": "score_run",
}
"""Types of fields whose schema does not determine the control."""
OPTIONAL_TYPES = (
    "arguments",
    "ordinals",
    "groups",
    "opposites",
    "prompts",
    "choices",
    "measures",
    "reward_model",
)
"""Types of fields that may be left empty, whatever the schema says."""

_OF_PREFERENCES = f"objective={'|'.join(name for name in OBJECTIVES if name != 'cross_entropy')}"
VISIBLE_WITH: dict[str, str] = {
    **{name: f"objective={'|'.join(readers)}" for name, readers in READ_BY.items()},
    "reward_calibration": _OF_PREFERENCES,
    "extend_sft_epochs": _OF_PREFERENCES,
    **{f"pair_weights.{part}": "pair_weights=on" for part in ("score_run", "measure", "slope")},
    "revision": "model=*/*",
    "answer_tokens": "answer_every=*",
    "refresh_filter.label": "refresh_filter.reward_model=*",
    "refresh_filter.answer_tokens": "refresh_filter.reward_model=*",
    "refresh_filter.temperature": "refresh_filter.reward_model=*",
    "refresh_filter.top_p": "refresh_filter.reward_model=*",
    "lora.rank": "lora=on",
    "lora.alpha": "lora=on",
    "lora.dropout": "lora=on",
    "lora.target_modules": "lora=on",
}
"""Fields that are visible only while another, where the form has it, has this value, or one of
several between bars ("*": any value; "*/*": one with a slash, which a hub name has)."""
