"""README, docs and what cites them: links, paths, sections, commands, settings and code blocks are those of this repository."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest
import typer
import yaml

from thinkrec.cli.main import app, main
from thinkrec.config import run as run_file
from thinkrec.config.run import Config
from thinkrec.config.section import Section
from thinkrec.distributed.failures import TABLE
from thinkrec.events import ExpertStep, FleetDone, FleetStarted
from thinkrec.journal import Journal
from thinkrec.sweep import trials

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "cluster/README.md", *sorted(ROOT.glob("docs/*.md"))]
CODE = [
    path for folder in ("thinkrec", "tests", "benchmarks", "ray_jobs", "docs", "cluster") for path in sorted((ROOT / folder).rglob("*"))
]
CITING = [
    path for path in [*CODE, *PAGES, ROOT / "Makefile", ROOT / "pyproject.toml"] if path.suffix in (".py", ".toml", ".md", "", ".yaml")
]
PACKAGE = sorted((ROOT / "thinkrec").rglob("*.py"))
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^()\s]+)\)")
PATH = re.compile(r"^[\w.-]+/[\w./-]*$|(?<![\w./])[\w./-]*[\w-]\.(?:py|sbatch|ya?ml)(?!\w)")
IMPORTED = re.compile(r"^\s*(?:from|import) thinkrec(?:\.| import )(\w+)", re.MULTILINE)
SETTING = re.compile(r"[a-z]\w*(?:\.(?!jsonl\b|toml\b|py\b|llm\b)[a-z]\w*)+(?:\s*=\s*\S.*)?")
ELSEWHERE = {"quarantine", "ledger", "interactions", "assignment", "lease", "KEY", "STAGE", "NAME", "runs", "run", "~", "venv"}
PLACEHOLDERS = ("run.toml", "RUN_DIR")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, *languages: str) -> list[str]:
    return [block for language, block in FENCE.findall(text_of(page)) if language in languages]


def spans(page: Path) -> list[str]:
    """What stands in single backticks, code blocks left out."""
    return SPAN.findall(FENCE.sub("", text_of(page)))


def each(find: Any) -> list[Any]:
    """(page, thing) of all pages, as parameters with names."""
    found = {(page, thing): None for page in PAGES for thing in find(page)}
    return [pytest.param(page, thing, id=f"{page.relative_to(ROOT)}: {thing}"[:120]) for page, thing in found]


def commands(page: Path) -> Iterator[str]:
    """Every `thinkrec` command line of a page, in blocks and in backticks."""
    lines = [line for block in blocks(page, "", "sh", "bash") for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *spans(page)]:
        command = " ".join(shlex.split(line, comments=True)) if line.lstrip().startswith(("thinkrec ", ".venv/bin/thinkrec ")) else ""
        if command:
            yield re.split(r" [|] ", command.removeprefix(".venv/bin/"))[0]


def goals(page: Path) -> Iterator[str]:
    """Every `make` command of a page."""
    for line in [*(line for block in blocks(page, "") for line in block.splitlines()), *spans(page)]:
        if line.startswith("make "):
            yield " ".join(shlex.split(line, comments=True))


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    return LINK.findall(SPAN.sub("", FENCE.sub("", text_of(page))))


def test_the_readme_is_one_page():
    assert len(text_of(ROOT / "README.md").splitlines()) <= 160


def test_every_page_is_linked_from_the_readme():
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in links(ROOT / "README.md")}
    assert set(PAGES) - linked == {ROOT / "README.md"}


def test_every_link_leads_somewhere():
    found = [(page, *target.partition("#")[::2]) for page in PAGES for target in links(page) if "://" not in target]
    assert len(found) > 50
    broken = [(page.name, path, anchor) for page, path, anchor in found if not leads(page.parent / path if path else page, anchor)]
    assert broken == []


def leads(there: Path, anchor: str) -> bool:
    return there.exists() and (not anchor or anchor in slugs(there))


def test_every_path_is_there():
    """Relative to the repository, the package, the stored figures or the page. What lies in a run folder, and NAME.py, are left out."""
    found = [
        (page, name)
        for page in PAGES
        for said in spans(page)
        for name in PATH.findall(said)
        if not set(re.split(r"[/.]", name)) & ELSEWHERE
    ]
    assert len(found) > 100
    bases = (ROOT, ROOT / "thinkrec", ROOT / "benchmarks/baselines")
    assert [(page.name, name) for page, name in found if not any((base / name).exists() for base in (*bases, page.parent))] == []


def test_imports_run_down_the_table_of_the_design():
    """Its rows are the floors of the house, top down: a module imports from its own floor and from those below."""
    table = text_of(ROOT / "docs/design.md").partition("\n## 2. ")[2].partition("\n## ")[0]
    rows = [re.findall(r"`(\w+)(?:/|\.py)`", row.split("|")[1]) for row in table.splitlines() if row.startswith("| `")]
    floor = {name: number for number, names in enumerate(rows) for name in names}
    used = {
        (path.relative_to(ROOT / "thinkrec").parts[0].removesuffix(".py"), name)
        for path in PACKAGE
        for name in IMPORTED.findall(text_of(path))
    }
    used = {(who, whom) for who, whom in used if who not in ("__init__", "__main__") and whom not in ("__version__",)}
    assert {name for pair in used for name in pair} <= set(floor)
    assert [(who, whom) for who, whom in sorted(used) if floor[who] > floor[whom]] == []


def test_every_defect_has_its_line():
    numbers = re.findall(r"^\| D(\d+) \|", text_of(ROOT / "docs/method.md"), re.MULTILINE)
    assert [int(number) for number in numbers] == list(range(1, 40))


def test_what_code_and_docs_cite_is_there():
    """D-numbers, sections of docs ("docs/design.md 5") and formulas ("M7"); nothing else outside the repository is cited by section."""
    method = text_of(ROOT / "docs/method.md")
    known = {f"D{number}" for number in range(1, 40)} | {f"M{number}" for number in re.findall(r"\(M(\d+)\)", method)}
    missing = []
    for path in CITING:
        if not path.is_file() or path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8")
        missing += [(path, cited) for cited in re.findall(r"(?<![\w.#-])[DM]\d{1,2}(?![\w%])", text) if cited not in known]
        for page, section in re.findall(r"docs/([\w-]+)\.md (\d+)", text):
            there = ROOT / f"docs/{page}.md"
            if not there.is_file() or f"\n## {section}. " not in text_of(there):
                missing.append((path, f"docs/{page}.md {section}"))
        missing += [(path, cited) for cited in re.findall(r"DESIGN \d|(?<!docs/)\bmethod\.md \d|anchors_\w+|stack_\w+\.md", text)]
    assert missing == []


@pytest.mark.parametrize(("page", "command"), each(commands))
def test_a_command_is_one_of_the_command_line(page, command):
    """Its options exist, and what --set names is a setting of the file that is given. A mere name in a sentence has no arguments."""
    try:
        parsed = parse(shlex.split(command)[1:])
    except Exception as error:
        if type(error).__name__ == "MissingParameter" and command in spans(page):
            return
        raise
    file, overrides = parsed.get("file"), parsed.get("overrides") or ()
    if file and (ROOT / file).suffix == ".toml" and str(file) not in PLACEHOLDERS:
        loaded = trials.load(ROOT / file, overrides) if "sweeps" in str(file) else run_file.load(ROOT / file, overrides)
        assert loaded


def parse(words: list[str]) -> dict[str, Any]:
    """The parameters of a command line, read by the real parser; raises its error for what it does not take."""
    command, parent = typer.main.get_command(app), None
    while hasattr(command, "resolve_command"):
        parent = command.make_context("thinkrec", list(words), parent=parent)
        _, command, words = command.resolve_command(parent, words)
    return dict(command.make_context("thinkrec", words, parent=parent).params)


def test_a_wrong_command_would_be_found():
    for wrong in (["run", "run.toml", "--sed", "1"], ["runn"], ["run"], ["evaluate", "s.csv", "--k", "no"]):
        with pytest.raises(Exception, match=r"(?i)no such|missing|valid integer"):
            parse(wrong)


@pytest.mark.parametrize(("page", "command"), each(goals))
def test_a_goal_is_one_of_the_makefile(page, command):
    makefile = text_of(ROOT / "Makefile")
    for word in command.split()[1:]:
        name, assigns, _ = word.partition("=")
        assert re.search(rf"^{name} \?=" if assigns else rf"^{name}:", makefile, re.MULTILINE)


@pytest.mark.parametrize(("page", "block"), each(lambda page: blocks(page, "toml")))
def test_a_toml_block_is_a_run_file(page, block):
    assert run_file.parse(tomllib.loads(block), str(page))


@pytest.mark.parametrize(("page", "block"), each(lambda page: blocks(page, "python")))
def test_a_python_block_compiles(page, block):
    compile(block, str(page), "exec")


def test_every_setting_exists():
    """`section.key`, perhaps with a value behind it, which must be TOML; in the page on Python `run` is an opened run."""
    pages = [page for page in PAGES if page.name != "python.md"]
    found = [
        (page, said) for page in pages for said in spans(page) if SETTING.fullmatch(said) and said.partition(".")[0] in Config.model_fields
    ]
    assert len(found) > 100
    assert [(page.name, said) for page, said in found if not is_setting(said)] == []


def is_setting(said: str) -> bool:
    key, given, value = said.partition("=")
    kind: Any = Config
    for name in key.strip().split("."):
        if not (isinstance(kind, type) and issubclass(kind, Section) and name in kind.model_fields):
            return False
        kind = kind.model_fields[name].annotation
        kind = next((part for part in get_args(kind) if isinstance(part, type) and issubclass(part, Section)), kind)  # of a list of tables
    return not given or bool(tomllib.loads(f"value = {value.strip()}"))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with what the examples name: a run file, a log, score files, a run that has begun, raters' sheets."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ray_jobs").symlink_to(ROOT / "ray_jobs")
    (tmp_path / "run.toml").write_text(blocks(ROOT / "README.md", "toml")[0])
    (tmp_path / "data").mkdir()
    rows = [
        (f"c{user}", f"s{item}", 1_600_000_000 + 60 * item + user, float(1 + 4 * ((user + item) % 2)))
        for item in range(30)
        for user in range(6)
    ]
    log = pl.DataFrame(rows, schema=["customer", "sku", "bought_at", "stars"], orient="row")
    log.write_csv(tmp_path / "data/log.csv")
    pl.DataFrame({"sku": [f"s{item}" for item in range(30)], "name": [f"Thing {item}" for item in range(30)]}).write_csv(
        tmp_path / "data/items.csv"
    )
    scores = log.select(
        user_id="customer", item_id="sku", label=(pl.col("stars") > 3).cast(pl.Int64), score=pl.col("bought_at").cast(pl.Float64)
    )
    for name in ("scores", "b", "train"):
        scores.write_parquet(tmp_path / f"{name}.parquet")
    typed = scores.rename({"user_id": "user_id:token", "item_id": "item_id:token", "label": "label:float", "score": "score:float"})
    typed.write_csv(tmp_path / "scores.inter", separator="\t")
    for run in ("runs/mine", "runs/world_nano"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "run.jsonl").write_text('{"at": 1.0, "event": "run", "to_do": ["ingest"]}\n')
    return tmp_path


CHEAP = {  # commands that start nothing: by their first words, and what must or must not stand behind
    "config": lambda words: True,
    "init": lambda words: True,
    "plan": lambda words: True,
    "submit": lambda words: "--go" not in words,
    "k8s": lambda words: True,
    "status": lambda words: True,
    "evaluate": lambda words: "--shards" not in words and len(words) > 1,
    "run": lambda words: "--dry-run" in words,
    "sweep": lambda words: "--plan" in words,
}


def cheap(page: Path) -> list[str]:
    """Those whose words are all given: DATA and RUN_DIR stand for the reader's own."""
    found = [command for command in commands(page) if len(shlex.split(command)) > 2 and not re.search(r" [A-Z_]+( |$)", command)]
    return [command for command in found if (check := CHEAP.get(command.split()[1])) and check(shlex.split(command)[2:])]


@pytest.mark.parametrize(("page", "command"), each(cheap))
def test_a_cheap_command_does_what_it_says(page, command, folder, capsys):
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(command)[1:])
    assert not ended.value.code
    assert capsys.readouterr().out


def messages() -> list[str]:
    """What troubleshooting.md says that messages begin with."""
    rows = re.findall(r"^\| `([^`]+)` \|", text_of(ROOT / "docs/troubleshooting.md"), re.MULTILINE)
    return [row for row in rows if not row.startswith("faults.")]


@pytest.mark.parametrize("message", messages())
def test_a_message_is_one_that_the_program_has(message):
    words = [failure.name.replace("_", " ") for failure in TABLE]
    assert all(piece.strip() in SOURCE or piece.strip() in words for piece in message.split("...") if piece.strip())


@pytest.mark.parametrize("name", sorted(path.name for path in ROOT.glob("docs/pictures/*.svg")))
def test_a_picture_is_small_and_asks_for_nothing(name):
    text = text_of(ROOT / "docs/pictures" / name)
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert len(text) < 20_000
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]


def test_pictures_can_be_drawn_again(tmp_path):
    spec = importlib.util.spec_from_file_location("draw", ROOT / "docs/pictures/draw.py")
    assert spec
    assert spec.loader
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    auc = {"value": 0.7, "low": 0.6, "high": 0.8}
    metrics = [{"name": name, "kind": "model", "metrics": {"auc": auc}} for name in ("fusion", "user_item_rate")]
    timeline = [{"expert": "0", "group": 0, "start_s": 0.0, "end_s": 9.0}]
    (tmp_path / "report.json").write_text(json.dumps({"metrics": metrics, "timeline": timeline}))
    events = (FleetStarted(1, 1, "PACK", ((0,),), {0: 9.0}), ExpertStep(0, 0, 1, 2, 0.5, 8.0), FleetDone(9.0, 0.0))
    for event in events:
        Journal(str(tmp_path))(event)
    draw.main(tmp_path, tmp_path)
    drawn = {path.name: text_of(path) for path in tmp_path.glob("*.svg")}
    assert set(drawn) == {path.name for path in ROOT.glob("docs/pictures/*.svg")}
    assert all(ElementTree.fromstring(text) is not None for text in drawn.values())
    assert "1/2" in drawn["fleet_table.svg"]


def test_the_visible_workflow_is_the_one_command():
    workflow = yaml.safe_load(text_of(ROOT / ".github/workflows/ci.yml"))
    assert [step["run"] for step in workflow["jobs"]["run"]["steps"] if "run" in step] == [".ci/run"]
    assert (
        yaml.safe_load(text_of(ROOT / "CITATION.cff"))["version"] == tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["version"]
    )
    for form in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        assert yaml.safe_load(text_of(form))
