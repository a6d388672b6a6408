"""`make style-report`: how readable the house is, in numbers. It reads sources only and runs none of them.

The library is every Python file outside `tests/`, `benchmarks/` and `scripts/`. Underscores and capitals
divide a name into words. A local is a name that a function assigns. `--write` keeps the figures.
"""

import argparse
import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import fmean, median

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

_MAX_LINE_LENGTH = 110
_WORD_BORDER = re.compile(r"_+|(?<=[a-z0-9])(?=[A-Z])")
_NO_PROSE = re.compile(r"```.*?```|^\s*\|.*?$|^#.*?$|<!--.*?-->|!\[.*?\]\(.*?\)", re.S | re.M)
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+(?=[A-Z`*\[\d])|\n\s*\n|\n\s*(?:[-*]|\d+\.)\s")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def list_files(pattern: str, *, outside: tuple[str, ...] = ()) -> list[Path]:
    """Tracked files that match git's pattern and lie in none of some top-level folders."""
    command = ["git", "-C", str(ROOT), "ls-files", pattern]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file() and not name.startswith(outside)]


def count_words(name: str) -> int:
    """Words of an identifier."""
    return sum(1 for word in _WORD_BORDER.split(name.strip("_")) if word)


def list_locals(function: Function) -> set[str]:
    """Names that a function assigns."""
    names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
    return {name.id for name in names if isinstance(name.ctx, ast.Store)}


def list_top_names(tree: ast.Module) -> set[str]:
    """Classes and type aliases at the top of a module. An alias is a capitalized, subscripted type."""
    names = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
            targets = [target.id for target in node.targets if isinstance(target, ast.Name)]
            names |= {name for name in targets if name[:1].isupper() and not name.isupper()}
    return names


def list_sentence_lengths(page: Path) -> list[int]:
    """Words of each sentence of a Markdown page, without its code, tables and headings."""
    sentences = _SENTENCE_END.split(_NO_PROSE.sub("\n\n", page.read_text(encoding="utf-8")))
    lengths = [len(re.findall(r"[\w`'./-]*\w[\w`'./-]*", sentence)) for sentence in sentences]
    return [length for length in lengths if length > 1]


def count_lines(paths: list[Path]) -> int:
    """Lines of some files together."""
    return sum(path.read_text(encoding="utf-8").count("\n") for path in paths)


def measure_style() -> dict[str, float]:
    """The figures, by result id."""
    library = list_files("*.py", outside=("tests/", "benchmarks/", "scripts/"))
    texts = [path.read_text(encoding="utf-8") for path in library]
    trees = [ast.parse(text) for text in texts]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, Function)]
    locals_by_function = [list_locals(function) for function in functions]
    top_names = Counter(name for tree in trees for name in list_top_names(tree))
    shared_names = sorted(name for name, count in top_names.items() if count > 1)
    print(f"classes and aliases that stand in more than one module: {', '.join(shared_names) or 'none'}")
    # Pages of components are generated from docstrings.
    pages = [page for page in list_files("*README.md") if page.parents[1].name != "components"]
    reference = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    return {
        "style.words_per_function": fmean(
            count_words(function.name) for function in functions if not function.name.startswith("__")
        ),
        "style.one_word_locals": fmean(
            count_words(name) <= 1 for names in locals_by_function for name in names
        ),
        "style.long_lines": sum(len(line) > _MAX_LINE_LENGTH for text in texts for line in text.splitlines()),
        "style.shared_names": len(shared_names),
        "style.library_lines": count_lines(library),
        "style.benchmark_lines": count_lines(list_files("benchmarks/*.py")),
        "style.config_keys": len(set(re.findall(r"^\| `([\w.]+)`", reference, re.M))),
        "style.readme_sentence_words": median(
            length for page in pages for length in list_sentence_lengths(page)
        ),
    }


def main() -> None:
    """Prints the figures; writes them where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/style.json")
    is_writing = parser.parse_args().write
    for row_id, value in (figures := measure_style()).items():
        print(f"{row_id:32s} {value:10,.2f}")
    if is_writing:
        from benchmarks.shared.results import make_row, write_rows

        facts = {"unit": "count", "data": "this repository", "command": "make style-report"}
        higher_is_better = {"style.words_per_function"}
        rows = [
            make_row(row_id, [value], better="higher" if row_id in higher_is_better else "lower", **facts)
            for row_id, value in figures.items()
        ]
        print(f"wrote {write_rows('style', rows)}")


if __name__ == "__main__":
    main()
