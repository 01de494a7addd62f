"""The layout of the form of a new run: groups of fields, labels, types and visibility."""

NESTED = ("probes", "selection", "lora")
"""Settings that are objects; their fields have dotted names."""

GROUPS: dict[str, tuple[str, ...]] = {
    "Model": ("model",),
    "Objective": (
        "objective",
        "beta",
        "slic_delta",
        "simpo_gamma",
        "dpop_lambda",
        "sft_coef",
        "length_normalize",
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
    "Probes": (
        "probes.strategy",
        "probes.count",
        "probes.pairs",
        "probe_every",
        "probes.prompts",
        "token_groups",
        "answer_every",
        "answer_tokens",
        "ledger_positions",
    ),
    "Pairs": (
        "selection.exclude_flagged",
        "selection.exclude_verdicts",
        "selection.only_verdicts",
        "selection.measures",
        "selection.pairs",
        "selection.complement",
        "selection.random",
        "selection.limit",
    ),
}
ADVANCED = "Advanced"

DESCRIPTIONS: dict[str, str] = {
    "Objective": "The loss. m is the margin: how much more log-probability y+ gained than y−.",
    "Optimizer": "The size of a step. Small steps show displacement as theory describes it.",
    "Probes": "A few pairs that are measured during training: the log-probability of every token, "
    "and the whole distribution at the fork. You can add prompts of your own.",
    "Pairs": "The pairs of the dataset to train on: those that pass every rule. No rules: all.",
}
LABELS: dict[str, str] = {
    "beta": "Beta (KL coefficient)",
    "dtype": "Precision",
    "slic_delta": "SLiC delta",
    "simpo_gamma": "SimPO gamma",
    "dpop_lambda": "DPOP lambda",
    "sft_coef": "SFT coefficient",
    "length_normalize": "Length-normalize",
    "probes.strategy": "Choose pairs",
    "probes.count": "How many",
    "probes.pairs": "Or name the pairs",
    "probes.prompts": "Prompts of your own",
    "probe_every": "Measure every … steps",
    "answer_every": "Generate answers every … steps",
    "answer_tokens": "Longest answer, tokens",
    "ledger_positions": "Ledgers at",
    "measure_displacement": "Measure displacement",
    "ledger_top": "Tokens in a ledger",
    "selection.pairs": "Only these pairs",
    "selection.limit": "At most",
    "selection.exclude_flagged": "Leave out flagged pairs",
    "selection.exclude_verdicts": "Leave out by verdict",
    "selection.only_verdicts": "Only with verdict",
    "selection.measures": "By measure",
    "selection.complement": "Take what they leave out",
    "selection.random": "At random",
    "lora.rank": "LoRA rank",
    "lora.alpha": "LoRA alpha",
    "lora.dropout": "LoRA dropout",
    "lora.target_modules": "LoRA target modules",
    "max_grad_norm": "Clip gradient norm",
}
TYPES = {
    "probes.prompts": "prompts",
    "ledger_positions": "positions",
    "selection.measures": "measures",
    "selection.random": "subset",
}
"""Types of fields whose schema does not determine the control."""
OPTIONAL_TYPES = ("ordinals", "groups", "prompts", "choices", "measures")
"""Types of fields that may be left empty, whatever the schema says."""

VISIBLE_WITH: dict[str, str] = {
    "slic_delta": "objective=slic",
    "simpo_gamma": "objective=simpo",
    "dpop_lambda": "objective=dpop",
    "answer_tokens": "answer_every=*",
    "lora.rank": "lora=on",
    "lora.alpha": "lora=on",
    "lora.dropout": "lora=on",
    "lora.target_modules": "lora=on",
}
"""Fields that are visible only while another has this value ("*": any value)."""
