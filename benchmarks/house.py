"""What the code is held to: its size, its functions, what is not typed, circles of imports.

python -m benchmarks.house [FOLDER]
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "faceforge"
BESIDE = ("drawn", "cut", "studio", "fetch")  # parts that are not the core
SEAMS = {"data", "module", "model", "run", "plan", "scheme", "trainer", "faces", "task", "net", "network"}
SEAMS |= {"manifest", "clock"}


def untyped(tree: ast.AST) -> Iterator[int]:
    """Lines of parameters, fields and functions of a seam's name that are annotated with nothing but Any."""
    for node in ast.walk(tree):
        names: list[tuple[str, ast.expr | None]] = []
        if isinstance(node, ast.arg):
            names = [(node.arg, node.annotation)]
        elif isinstance(node, ast.AnnAssign):
            names = [(ast.unparse(node.target).rpartition(".")[2], node.annotation)]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [(node.name, node.returns)]
        for name, annotation in names:
            if name.strip("_") in SEAMS and annotation is not None and ast.unparse(annotation) == "Any":
                yield node.lineno  # type: ignore[attr-defined]


def part_of(path: Path, root: Path) -> str:
    """The package, or the module, right below the root."""
    return path.relative_to(root).parts[0].removesuffix(".py")


def used_by(tree: ast.AST, package: str) -> set[str]:
    """The parts of the package that a file imports, wherever it does."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            found |= set(node.module.split(".")[1:2] or [alias.name for alias in node.names])  # type: ignore[union-attr]
    return found


def circles(uses: dict[str, set[str]]) -> set[frozenset[str]]:
    """Sets of parts of which each comes to each of the others."""
    reached = {part: set(used) for part, used in uses.items()}
    for _ in uses:
        for found in reached.values():
            found |= {far for near in found for far in reached.get(near, set())}
    together = {frozenset(b for b in uses if b in reached[a] and a in reached[b]) for a in uses}
    return {parts for parts in together if len(parts) > 1}


def counts(root: Path = PACKAGE) -> dict[str, object]:
    """All counts, by name."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    functions = [
        ((node.end_lineno or 0) - node.lineno + 1, f"{path.relative_to(root)}:{node.name}")
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    uses: dict[str, set[str]] = {}
    for path, tree in trees.items():
        uses.setdefault(part_of(path, root), set()).update(used_by(tree, root.name) - {part_of(path, root)})
    whole, (most, longest) = "\n".join(texts.values()), max(functions)
    return {
        "core_lines": sum(len(t.splitlines()) for path, t in texts.items() if part_of(path, root) not in BESIDE),
        "functions": len(functions),
        "median_length": statistics.median(lines for lines, _ in functions),
        "max_length": f"{most} ({longest})",
        "hasattr": len(re.findall(r"\bhasattr\(", whole)),
        "dict_str_any": whole.count("dict[str, Any]"),
        "untyped_seams": sum(len(list(untyped(tree))) for tree in trees.values()),
        "import_circles": len(circles(uses)),
    }


if __name__ == "__main__":
    for name, count in counts(*map(Path, sys.argv[1:2])).items():
        print(name, count)
