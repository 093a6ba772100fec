"""What the documents say of files and of each other is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "guard" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
# A file of ours in backticks: with a folder before it, so that `master.key` and the like are none.
NAMED = re.compile(r"`((?:api|bench|docs|ledger|projections|tests)/[\w/.-]+\.\w+)`")
# A section that code and settings point to: docs/decisions.md, "Rotation".
POINTED_TO = re.compile(r'docs/(\w+\.md),?\s+"([^"]+)"')


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_and_file_of_a_document_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = [link for link in LINK.findall(text) if "://" not in link]
    missing = [link for link in links if not (document.parent / link).exists()]
    missing += [named for named in NAMED.findall(text) if not (ROOT / named).exists()]
    assert missing == []


def test_every_section_that_code_points_to_is_there() -> None:
    sources = [
        ROOT / "pyproject.toml",
        *(path for folder in ("api", "ledger", "projections") for path in (ROOT / folder).rglob("*.py")),
    ]
    pointed = {found for path in sources for found in POINTED_TO.findall(path.read_text(encoding="utf-8"))}
    assert ("decisions.md", "Rotation") in pointed
    for name, section in pointed:
        headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / name).read_text(encoding="utf-8"), re.MULTILINE)
        assert any(heading.startswith(section) for heading in headings), f"{name} has no section {section!r}"
