"""The report of a study: one HTML file with its tables, figure and plan, and Plotly inside."""

import json
import re
from importlib import resources
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from app.core.resources import folder
from app.studies.schemas import StudyOut

NUMBERS = re.compile(r"\[[\s\d.,eE+-]+\]")


def readable(plan: dict[str, Any]) -> str:
    """JSON with lists of numbers, of which there may be thousands, on one line each."""
    return NUMBERS.sub(lambda found: " ".join(found[0].split()), json.dumps(plan, indent=2))


def render_report(study: StudyOut, plan: dict[str, Any]) -> str:
    """Opens without the server and without a network: everything is in it."""
    environment = Environment(
        loader=FileSystemLoader(folder("templates")), autoescape=select_autoescape()
    )
    plotly = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text("utf-8")
    return environment.get_template("study_report.html").render(
        study=study,
        plan=readable(plan),
        plotly=plotly,
        figures=study.figures,
        panels=[panel.model_dump(mode="json") for panel in study.figures],
    )
