"""Every response carries the security headers, and no page needs more than they allow."""

import re

from fastapi.testclient import TestClient

from tests import PROJECT_ROOT

STUDY_REPORT = PROJECT_ROOT / "templates" / "study_report.html"


def test_every_answer_carries_the_security_headers(http: TestClient) -> None:
    for path in ("/api/v1/samples", "/docs", "/login", "/static/style.css", "/nowhere"):
        headers = http.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "script-src" not in policy  # falls back to 'self'
        assert "unsafe-inline" not in policy
        assert "unsafe-eval" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_our_own_templates_have_no_inline_style_or_script() -> None:
    # The report of a study is a file of its own, which opens without the server's files.
    pages = set((PROJECT_ROOT / "templates").glob("*.html")) - {STUDY_REPORT}
    for template in pages:
        text = template.read_text()
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", text), template.name
        assert not re.search(r"<script(?![^>]*(\bsrc=|application/json))", text), template.name
