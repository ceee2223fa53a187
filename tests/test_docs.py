"""The documentation: links resolve, commands compose, variants and names exist."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from importlib import resources
from pathlib import Path

import pytest

import mvdiff
from mvdiff.cli import main as cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code_blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    text = page.read_text(encoding="utf-8")
    return [code for kind, code in FENCE.findall(text) if kind == language]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """The targets of links and images outside code blocks, without those on the web."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in targets if not target.startswith(("https://", "http://"))]


def broken_links(page: Path) -> list[str]:
    """The links of a page whose file or anchor does not exist."""
    broken = []
    for target in links(page):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        inside = path.exists() and path.is_relative_to(ROOT.resolve())
        if not inside or (anchor and anchor not in anchors(path)):
            broken.append(target)
    return broken


def command_lines(page: Path) -> list[list[str]]:
    """The words after `mvdiff` of every command line in the page's shell blocks."""
    commands = []
    for block in code_blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "mvdiff" not in words:
                continue
            start = words.index("mvdiff")
            if start == 0 or words[start - 1] == "-m":
                commands.append(words[start + 1 :])
    return commands


COMMANDS = sorted({tuple(words) for page in PAGES for words in command_lines(page)})


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page):
    assert broken_links(page) == []


def test_every_page_is_in_the_index():
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    pages = {page.resolve() for page in (ROOT / "docs").glob("*.md")} - {index.resolve()}
    assert pages <= listed


def test_broken_links_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "a.md").write_text("# One, two\n[x](b.md) [y](#one-two) [z](#three) [c](a.md)\n")
    assert broken_links(tmp_path / "a.md") == ["b.md", "#three"]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_command_lines_compose(words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # inputs need not exist
    command, *overrides = words
    if command == "COMMAND":
        return
    assert command in cli.COMMANDS
    if command == "list" or "--help" in overrides:
        return
    words = [word for word in overrides if word != "--cfg"]
    assert cli.main([command, *words, "--cfg"]) == 0, capsys.readouterr().err


def test_the_command_lines_are_many():
    assert len(COMMANDS) > 40
    assert {words[0] for words in COMMANDS} >= set(cli.COMMANDS)


def test_help_and_documentation_name_the_same_commands(capsys):
    assert cli.main(["--help"]) == 0
    overview = capsys.readouterr().out
    shown = set(re.findall(r"^  ([a-z]+)  ", overview, re.MULTILINE))
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    table = page.split("## Overrides")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == shown
    example = re.findall(r"^  mvdiff (generate .+)$", overview, re.MULTILINE)
    assert tuple(shlex.split(example[-1])) in COMMANDS


def readme_variants() -> set[tuple[str, str]]:
    """(group, variant) of every row of the README's table of variants."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## Variants")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {pair for cell in cells for pair in re.findall(r"`(\w+)=([\w-]+)`", cell)}


def shipped_variants() -> set[tuple[str, str]]:
    """(group, variant) of every YAML file of the package, recipes apart."""
    root = resources.files("mvdiff.conf")
    folders = [folder for folder in root.iterdir() if folder.is_dir() and folder.name != "recipe"]
    return {
        (folder.name, file.name.removesuffix(".yaml"))
        for folder in folders
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    }


def test_the_variants_of_the_readme_are_those_that_exist():
    assert readme_variants() == shipped_variants()


def registered_variants() -> set[tuple[str, str]]:
    """(group, variant) of every `register("name")` in the source; read, not imported, for speed."""
    root = Path(mvdiff.__file__).parent
    source = "\n".join(path.read_text(encoding="utf-8") for path in root.rglob("*.py"))
    groups = dict(re.findall(r'^(\w+)\b.* = Registry.*?\("(\w+)"', source, re.MULTILINE))
    decorators = re.findall(r"^@(\w+)\.register\(\"([\w-]+)\"\)", source, re.MULTILINE)
    return {(groups[registry], name) for registry, name in decorators}


def test_every_registered_variant_is_in_the_readme():
    registered = {pair for pair in registered_variants() if pair[0] != "shape"}
    groups = {group for group, _ in registered}
    assert groups >= {"attention", "volume", "radiance", "reconstructor", "latents", "rig"}
    assert registered <= readme_variants()
    unregistered = {pair for pair in readme_variants() - registered if pair[0] in groups}
    settings_of_a_ring = {("rig", "mvdream"), ("rig", "imagedream")}
    unregistered -= settings_of_a_ring | {("context", "token")}  # the denoiser's own
    assert {name for _, name in unregistered} <= {"none"}


def test_recipes_are_documented():
    names = {
        file.name.removesuffix(".yaml")
        for file in (resources.files("mvdiff.conf") / "recipe").iterdir()
        if file.name.endswith(".yaml")
    }
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `recipe=(\w+)`", readme, re.MULTILINE)) == names


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_python_examples_name_what_exists(page):
    for block in code_blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            is_public = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            if is_public and node.value.id == "mvdiff":
                assert node.attr in dir(mvdiff)


def test_documented_names_exist():
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    for name in re.findall(r"`mvdiff\.(\w+)`", page):
        assert name in dir(mvdiff)


def test_extras_are_documented():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text.split("[project.optional-dependencies]")[1].split("\n[")[0]
    extras = set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    table = page.split("## Optional features")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == extras


def test_the_citation_has_the_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {mvdiff.__version__}\n" in text


def test_pictures_stay_small():
    pictures = [path for path in (ROOT / "docs" / "images").iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in pictures) < 400_000
