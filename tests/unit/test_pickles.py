"""Nothing is pickled and nothing loads a pickle or runs text: the whole tree is searched for the calls that would."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import thinkrec

HOUSE = Path(thinkrec.__file__).parent
RESTRICTED = HOUSE / "data/readers/collm.py"  # its allow-list is tested in test_collm.py
CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "pickle.load",
    "pickle.loads",
    "torch.load",
    "torch.save",
    "np.load",
    "np.save",
    "joblib.load",
}
CALLS |= {"pickle.dump", "pickle.dumps", "pd.read_pickle", "yaml.load", "yaml.unsafe_load", "os.system", "shelve.open", "marshal.loads"}
FLAGS = {("allow_pickle", True), ("trust_remote_code", True), ("shell", True), ("weights_only", False)}


def findings(tree: ast.AST) -> Iterator[str]:
    """Every call of `CALLS` and every argument of `FLAGS`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in CALLS:
                yield name
            yield from (keyword.arg or "" for keyword in node.keywords if (keyword.arg, getattr(keyword.value, "value", None)) in FLAGS)


def test_no_file_of_the_house_does():
    files = [file for file in HOUSE.rglob("*.py") if file != RESTRICTED]
    assert len(files) > 100
    found = {str(file.relative_to(HOUSE)): list(findings(ast.parse(file.read_text()))) for file in files}
    assert {file: calls for file, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "text", ["torch.load(path)", "pickle.loads(b'')", "f(path, allow_pickle=True)", "subprocess.run(line, shell=True)"]
)
def test_the_search_finds_what_it_is_for(text):
    assert list(findings(ast.parse(text)))
