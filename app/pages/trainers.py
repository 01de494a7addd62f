"""The lines that record a training run, by trainer, as the page "Watch a run of your own" shows
them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trainer:
    key: str
    label: str
    where: str
    """Where the lines go."""
    code: str


TRAINERS = (
    Trainer(
        "trl",
        "TRL, Hugging Face",
        "In the script, before trainer.train():",
        "import chesboard\n\ntrainer.add_callback(chesboard.Callback())",
    ),
    Trainer(
        "report_to",
        "report_to",
        "In the script, if it sets its trackers by report_to:",
        'import chesboard.hf\n\nconfig = DPOConfig(..., report_to="chesboard")',
    ),
    Trainer(
        "axolotl",
        "axolotl",
        "In the configuration file:",
        "plugins:\n  - chesboard.axolotl.Plugin",
    ),
    Trainer(
        "swift",
        "ms-swift",
        "On the command line:",
        "swift rlhf ... \\\n  --external_plugins $(python -m chesboard.swift) \\\n"
        "  --callbacks chesboard",
    ),
    Trainer(
        "llamafactory",
        "LLaMA-Factory",
        "In place of llamafactory-cli train, as a script for its file; beta is pref_beta:",
        "import chesboard\nfrom llamafactory.train.tuner import run_exp\n\n"
        'config = {"objective": "dpo", "beta": 0.1}\n'
        "run_exp(callbacks=[chesboard.Callback(config=config)])",
    ),
    Trainer(
        "loop",
        "A loop of your own",
        "Around the loop; the numbers are those that you have:",
        "import chesboard\n\n"
        "watch = chesboard.watch(model, tokenizer, pairs)\n"
        "for step, batch in enumerate(batches, start=1):\n"
        "    ...  # as before\n"
        '    watch.step(step, {"loss": loss.item()})\n'
        "watch.finish()",
    ),
)
