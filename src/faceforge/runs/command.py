"""`faceforge runs`: the runs in a folder as a table, their reports, and the space of their checkpoints."""

from __future__ import annotations

import json
import shutil
import sys
import webbrowser
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from faceforge import words
from faceforge.errors import BadInput
from faceforge.io.amounts import in_bytes
from faceforge.runs import prune as pruning
from faceforge.runs import table
from faceforge.runs.found import Entry, Found, find

LIST = "list"


class _Group(TyperGroup):
    """``runs FOLDER`` without the name of a command is ``runs list FOLDER``."""

    # Any: the context's class depends on the version of typer

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if args and args[0] in self.commands else [LIST, *args])


app = typer.Typer(cls=_Group, help="List runs, open their reports, free space.", rich_markup_mode=None)
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the runs are, at any depth.")]
Filter = Annotated[
    list[str] | None,
    typer.Option("--filter", help="KEY=VALUE, also with != < <= > >=; may be given several times, and all must hold."),
]


@app.command(name=LIST, hidden=True, epilog="Example: faceforge runs --filter state=finished --sort best")
def show(
    folder: Folder = Path("runs"),
    sort: Annotated[str, typer.Option(help=f"A column: {' '.join(table.COLUMNS)}.")] = "age",
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    filters: Filter = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list instead of a table.")] = False,
    opened: Annotated[str | None, typer.Option("--open", help="Open the report of this run: its name or path.")] = None,
) -> None:
    """List the runs in a folder, those of sweeps included, newest first.

    The state of a run is running, finished, interrupted (by a signal), failed, or stopped: it says that it is running,
    but no process holds its lock. Filters take columns (state=finished, best<0.1, age>2d, size>1GB, name=*sweep*) and
    keys of a run's configuration (data.batch_size=64). `faceforge runs prune` frees the space of checkpoints.
    """
    if opened is not None:
        _open(_report(folder, opened))
        return
    found = find(folder.expanduser())
    entries = table.ordered(table.filtered(found.entries, filters or ()), sort, reverse)
    if as_json:
        print(json.dumps([_plain(entry) for entry in entries], indent=1))
        _tell(table.remarks(found))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    lines = table.lines(entries, width) if entries else []
    print("\n".join([*lines, _summary(entries, found), *table.remarks(found), *_next(entries)]))


def _next(entries: Sequence[Entry]) -> list[str]:
    """What to type next: the report of the first run that has one, or a training."""
    first = next((entry.path for entry in entries if (entry.path / "report.html").is_file()), None)
    if first is None:
        return [f"To train one:  {words.train()}"]
    return [f"To see a report:  {words.faceforge('runs', '--open', Path(words.relative(first)))}"]


@app.command(epilog="Example: faceforge runs prune --older 30d --yes")
def prune(
    folder: Folder = Path("runs"),
    keep: Annotated[
        Literal["best", "last"],
        typer.Option(help="best: only the best checkpoint stays, the run cannot be continued. last: all but previous."),
    ] = "last",
    state: Annotated[
        str, typer.Option(help="States, with commas: finished, interrupted, failed, stopped.")
    ] = "finished",
    older: Annotated[str | None, typer.Option(help="Only runs created at least so long ago, such as 30d.")] = None,
    filters: Filter = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove the files. Without it they are only shown.")] = False,
) -> None:
    """Show which checkpoints a rule would remove, and remove them with --yes.

    Best checkpoints, runs whose lock a process holds, and all other files of runs are never touched.
    """
    rule = pruning.Rule(keep, tuple(word.strip() for word in state.split(",")), older)
    found = find(folder.expanduser())
    steps = pruning.steps(table.filtered(found.entries, filters or ()), rule)
    print(rule)
    freed = _carry_out(steps, rule) if yes else _show(steps)
    runs = sum(bool(step.files) for step in steps)
    print(f"{'Freed' if yes else 'Would free'} {in_bytes(freed)} in {_runs(runs)} of {len(found.entries)}.")
    if runs and not yes:
        print("Nothing was removed; the same command with --yes removes it.")
    else:
        print(f"To see what is left:  {words.faceforge('runs', *[folder] * (folder != Path('runs')))}")
    _tell(table.remarks(found))


def _show(steps: Iterable[pruning.Step]) -> int:
    """Print what would be removed; the bytes."""
    freed = 0
    for step in steps:
        print(_line(step, [file.name for file in step.files], step.size, step.why))
        freed += step.size
    return freed


def _carry_out(steps: Iterable[pruning.Step], rule: pruning.Rule) -> int:
    """Remove the files and print which; the bytes freed."""
    freed = 0
    for step in steps:
        size = step.size
        removed, why = pruning.carry_out(step, rule) if step.files else ((), step.why)
        if not removed:
            size = 0
        print(_line(step, [file.name for file in removed], size, why), flush=True)
        freed += size
    return freed


def _line(step: pruning.Step, names: Sequence[str], size: int, why: str | None) -> str:
    what = f"{' '.join(names)}  {in_bytes(size)}" if names else ""
    return "  ".join(part for part in (f"  {step.entry.name}", what, f"kept: {why}" if why else "") if part)


def _summary(entries: Sequence[Entry], found: Found) -> str:
    some = len(entries) != len(found.entries)
    shown = f"{len(entries)} of " * some + _runs(len(found.entries))
    return f"{shown}, {in_bytes(sum(entry.size for entry in entries))}"


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"


def _plain(entry: Entry) -> dict[str, object]:
    """A run for programs: ages in seconds, sizes in bytes."""
    columns = {column: entry.value(column) for column in table.COLUMNS}
    return {**columns, "best": dict(entry.best) or None, "path": str(entry.path)}


def _report(folder: Path, name: str) -> Path:
    """The report of a run named by its path, its name in the table, or a part of that. Raises BadInput."""
    given = Path(name).expanduser()
    if given.is_dir() or given.is_file():
        run = given if given.is_dir() else given.parent
    else:
        entries = find(folder.expanduser()).entries
        exact = [entry for entry in entries if entry.name == name]
        matching = exact or [entry for entry in entries if name in entry.name]
        if len(matching) != 1:
            which = f"{len(matching)} runs are called so" if matching else "no run is called so"
            raise BadInput(f"--open {name}: {which}; must be a path, or the name of one run in {folder}")
        run = matching[0].path
    report = run / "report.html"
    if not report.is_file():
        raise BadInput(f"{report}: there is no report yet; a run writes it when it ends")
    return report


def _open(report: Path) -> None:
    """Open a page in the browser and print its path, which is all where there is no browser."""
    print(words.relative(report))
    try:
        webbrowser.open(report.resolve().as_uri())
    except (webbrowser.Error, OSError):
        return


def _tell(remarks: Iterable[str]) -> None:
    for remark in remarks:
        print(f"faceforge: {remark}", file=sys.stderr)
