"""Odd tables: labels in any CSV, CelebA's and LFW's own tables, manifests that a spreadsheet saved."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.hostile.odd_doors import Case, Expected, Verdict, encoded, face, feed_set, put
from faceforge.io import manifest

COUNT = 12
ANY = "."
NAMES = tuple(f"face_{n:02d}.png" for n in range(COUNT))
ACCENTS = ("José", "Zoë", "Müller", "Łukasz", "Åse", "Çelik", "Ñandú", "Søren", "Günter", "Björk", "Élise", "Übü")
WESTERN = ("José", "Zoë", "Müller", "Françoise", "Åse", "Çelik", "Ñandú", "Søren", "Günter", "Björk", "Élise", "Übü")
CHINESE = tuple(f"写真{n}" for n in range(COUNT))
LATIN = {"smile": {n: float(n % 3 == 0) for n in range(COUNT)}, "age": {n: 20.5 + n for n in range(COUNT)}}
Labels = Mapping[str, Mapping[int, float]]
Table = list[list[str]]


# ------------------------------------------------------------------------------------------------- tables of labels


@dataclass(frozen=True)
class Sheet:
    """A table of labels by hand: two columns, smile and age, of twelve pictures."""

    name: str  # of the case
    files: Sequence[str] = NAMES  # on disk
    named: Sequence[str] = NAMES  # in the table
    header: Sequence[str] = ("file", "smile", "age")
    yes: str = "1"
    no: str = "0"
    age: Callable[[int], str] = lambda n: f"{20 + n}.5"
    cells: Callable[[Table], Table] = lambda rows: rows  # the rows, header first, changed
    separator: str = ","
    quoted: bool = False
    end: str = "\n"
    text: Callable[[str], str] = lambda text: text
    encoding: str = "utf-8"
    raw: bytes | None = None
    labels: Labels | None = None
    others: Sequence[Labels] = ()
    refusal: str | None = None
    read: bool = True

    def data(self) -> bytes:
        """The bytes of the file."""
        if self.raw is not None:
            return self.raw
        rows = [[name, self.yes if n % 3 == 0 else self.no, self.age(n)] for n, name in enumerate(self.named)]
        mark = '"' if self.quoted else ""
        lines = [self.separator.join(mark + c + mark for c in row) for row in self.cells([list(self.header), *rows])]
        return self.text(self.end.join(lines) + self.end).encode(self.encoding)


def _with(column: int, value: str, where: Callable[[int], bool]) -> Callable[[Table], Table]:
    """Another value in some rows of a column."""

    def change(rows: Table) -> Table:
        for n, row in enumerate(rows[1:]):
            row[column] = value if where(n) else row[column]
        return rows

    return change


def _some(n: int) -> bool:
    return n % 5 == 4


def _without(name: str, missing: Callable[[int], bool]) -> Labels:
    kept = {n: value for n, value in LATIN[name].items() if not missing(n)}
    return {**LATIN, name: kept}


def _labels(cases: Sequence[Sheet], seed: int) -> list[Case]:
    def feed(sheet: Sheet, folder: Path) -> Verdict:
        files = {name: encoded(face(seed, n), "PNG") for n, name in enumerate(sheet.files)}
        root, table = put(files, folder / "faces"), folder / "labels.csv"
        table.write_bytes(sheet.data())
        right = Expected(range(COUNT), labels=sheet.labels or LATIN, refusal=sheet.refusal, read=sheet.read)
        others = [replace(right, labels=other) for other in sheet.others]
        return feed_set("crops", root, folder, right, seed, others=others, attributes=str(table))

    return [Case("tables", f"labels: {c.name}", lambda folder, c=c: feed(c, folder)) for c in cases]


def encodings() -> Iterator[Sheet]:
    """Encodings, line ends, byte order marks."""
    for names in (ACCENTS, CHINESE):
        files = [f"{name}.png" for name in names]
        for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030"):
            refusal = ANY if encoding in {"utf-32", "gb18030"} else None
            yield Sheet(f"{encoding}, {names[0]}", files, files, encoding=encoding, refusal=refusal)
    files = [f"{name}.png" for name in WESTERN]
    yield Sheet("cp1252", files, files, encoding="cp1252")
    yield Sheet("latin-1 with semicolons", files, files, encoding="latin-1", separator=";")
    yield Sheet("the encoding of an old Mac", files, files, encoding="mac-roman", refusal=ANY)
    yield Sheet("UTF-16 of big-endian with a mark", text=lambda text: "\ufeff" + text, encoding="utf-16-be")
    yield Sheet("two byte order marks", text=lambda text: "\ufeff\ufeff" + text, encoding="utf-8")
    yield Sheet("a byte order mark and quotes", text=lambda text: "\ufeff" + text, quoted=True)
    for what, end in {"Windows": "\r\n", "an old Mac": "\r", "two line ends": "\n\n", "a space": " \n"}.items():
        yield Sheet(f"lines end as on {what}", end=end)
    yield Sheet("mixed line ends", text=lambda text: text.replace("\n", "\r\n", 5))
    yield Sheet("no last line end", text=lambda text: text.rstrip("\n"))
    yield Sheet("a ctrl-z at the end", text=lambda text: text + "\x1a", refusal=ANY)
    yield Sheet("zeros at the end", text=lambda text: text + "\0" * 40, refusal=ANY)
    yield Sheet("blank lines before and amid", text=lambda text: "\n\n" + text.replace("\nface_05", "\n\n \nface_05"))


def separators() -> Iterator[Sheet]:
    """Separators, quotes, decimal commas, what spreadsheets add."""
    for separator in (";", "\t", "|", " ", ", ", " ; ", "\t\t"):
        yield Sheet(f"separated by {separator!r}", separator=separator, refusal=ANY if separator == "\t\t" else None)
    for separator in (",", ";", "\t"):
        yield Sheet(f"all cells quoted, {separator!r}", separator=separator, quoted=True)
        yield Sheet(f"decimal commas, {separator!r}", separator=separator, quoted=True, age=lambda n: f"{20 + n},5")
    yield Sheet("decimal commas without quotes", separator=";", age=lambda n: f"{20 + n},5")
    aligned = lambda text: "\n".join("   ".join(line.split(" ")) for line in text.splitlines())  # noqa: E731
    yield Sheet("columns by spaces", separator=" ", text=aligned)
    yield Sheet("a line sep=;", separator=";", text=lambda text: "sep=;\n" + text)
    yield Sheet("a line sep=, in quotes", text=lambda text: '"sep=,"\n' + text)
    yield Sheet("separators at the ends of all lines", cells=lambda rows: [[*row, ""] for row in rows], refusal=ANY)
    yield Sheet(
        "separators at the ends of rows", cells=lambda rows: [rows[0], *([*r, ""] for r in rows[1:])], refusal=ANY
    )
    yield Sheet("lines of separators at the end", text=lambda text: text + ",,\n,,\n")
    yield Sheet("quotes of another kind", named=[f"'{name}'" for name in NAMES], refusal=ANY)
    yield Sheet(
        "thousands by commas",
        quoted=True,
        age=lambda n: f"1,{200 + n}.5",
        labels={**LATIN, "age": {n: 1200.5 + n for n in range(COUNT)}},
    )
    yield Sheet(
        "thousands by points",
        quoted=True,
        age=lambda n: f"1.{200 + n},5",
        labels={**LATIN, "age": {n: 1200.5 + n for n in range(COUNT)}},
    )
    yield Sheet(
        "thousands by spaces",
        quoted=True,
        age=lambda n: f"1\u00a0{200 + n},5",
        labels={**LATIN, "age": {n: 1200.5 + n for n in range(COUNT)}},
        refusal=ANY,
    )
    yield Sheet("exponents", age=lambda n: f"{2.05 + n / 10:.2f}E+01")
    yield Sheet("a minus of typesetters", yes="1", no="\u22121", refusal=ANY)
    with_commas = [f"Face, {n}.png" for n in range(COUNT)]
    yield Sheet("commas within names", with_commas, with_commas, quoted=True)
    with_commas = [f"a;b{n}.png" for n in range(COUNT)]
    yield Sheet("semicolons within names", with_commas, with_commas)
    with_quotes = [f'the "{n}".png' for n in range(COUNT)]
    doubled = [name.replace('"', '""') for name in with_quotes]
    yield Sheet("quotes within names", with_quotes, doubled, quoted=True)
    with_hash = [f"#{n}.png" for n in range(COUNT)]
    yield Sheet("names that begin as comments do", with_hash, with_hash)
    two_lines = [f"two\nlines {n}.png" for n in range(COUNT)]
    yield Sheet("names of two lines", two_lines, two_lines, quoted=True)


def _text(yes: str, no: str) -> Labels:
    """A column of words as one column for each of them."""
    smiling = LATIN["smile"]
    words = {f"smile={yes}": smiling, f"smile={no}": {n: 1 - value for n, value in smiling.items()}}
    return {**{name: values for name, values in words.items() if not name.endswith("=")}, "age": LATIN["age"]}


def values() -> Iterator[Sheet]:
    """How programs and people write yes and no, and what they write where they do not know."""
    for yes, no in (
        ("1", "-1"),
        ("True", "False"),
        ("TRUE", "FALSE"),
        ("true", "false"),
        ("yes", "no"),
        ("Yes", "No"),
        ("1.0", "0.0"),
        ("1.0", "-1.0"),
        ("+1", "-1"),
        ("01", "00"),
        ("WAHR", "FALSCH"),
        ("VRAI", "FAUX"),
        (" 1 ", " 0"),
        ("1e0", "0e0"),
        ("1,0", "0,0"),
        ("VERDADERO", "FALSO"),
        ("1.", "0."),
        ("YES", "NO"),
    ):
        yield Sheet(f"yes is {yes!r}, no is {no!r}", yes=yes, no=no, quoted="," in yes)
    for yes, no in (("y", "n"), ("T", "F"), ("on", "off"), ("ja", "nein"), ("smiling", "not"), ("PRAWDA", "FAŁSZ")):
        yield Sheet(f"yes is {yes!r}, no is {no!r}", yes=yes, no=no, others=[_text(yes, no)])
    yield Sheet("yes is 1, no is TRUE's opposite", yes="TRUE", no="0")
    only = {n: 1.0 for n in range(COUNT) if n % 3 == 0}
    for yes in ("1", "True", "yes"):
        yield Sheet(f"yes is {yes!r}, no is empty", yes=yes, no="", labels={**LATIN, "smile": only}, others=[LATIN])
    for unknown in (
        "",
        "nan",
        "NaN",
        "NA",
        "N/A",
        "null",
        "NULL",
        " ",
        "None",
        "-",
        "?",
        "#N/A",
        "#NV",
        "<NA>",
        "#DIV/0!",
        "NaT",
        "missing",
        ".",
    ):
        strange = ANY if unknown not in {"", "nan", "NaN", "NA", "N/A", "null", "NULL", " "} else None
        yield Sheet(
            f"an unknown age is {unknown!r}",
            cells=_with(2, unknown, _some),
            labels=_without("age", _some),
            refusal=strange,
        )
    for unknown in ("", "nan", "None", "#N/A", "<NA>"):
        yield Sheet(
            f"an unknown smile is {unknown!r}",
            cells=_with(1, unknown, _some),
            yes="True",
            no="False",
            labels=_without("smile", _some),
            refusal=ANY if unknown in {"None", "#N/A", "<NA>"} else None,
        )
    three = {n: float((1, -1, 0)[n % 3]) for n in range(COUNT)}
    yield Sheet(
        "1, 0 and -1",
        cells=lambda rows: [rows[0], *([r[0], str((1, -1, 0)[n % 3]), r[2]] for n, r in enumerate(rows[1:]))],
        labels={**LATIN, "smile": three},
        refusal=ANY,
    )
    yield Sheet("an age of inf", cells=_with(2, "inf", _some), labels=_without("age", _some), refusal=ANY)
    yield Sheet(
        "a column without a value",
        cells=_with(2, "", lambda n: True),
        labels={"smile": LATIN["smile"], "age": {}},
        refusal=ANY,
    )
    yield Sheet("words with other cases", yes="Male", no="female", labels=_text("Male", "female"))


def names() -> Iterator[Sheet]:
    """How tables name pictures."""
    stems = [name.removesuffix(".png") for name in NAMES]
    for what, named in {
        "without endings": stems,
        "with the ending of another format": [f"{stem}.jpg" for stem in stems],
        "in capitals": [name.upper() for name in NAMES],
        "below their folder": [f"images/{name}" for name in NAMES],
        "from here": [f"./{name}" for name in NAMES],
        "with backslashes": [f"images\\{name}" for name in NAMES],
        "by an absolute path": [f"/home/me/faces/{name}" for name in NAMES],
        "by a path of Windows": [f"C:\\Users\\me\\{name}" for name in NAMES],
        "by an address": [f"https://example.org/faces/{name}" for name in NAMES],
        "with spaces around": [f" {name} " for name in NAMES],
        "without endings, below a folder": [f"x/{stem}" for stem in stems],
        "by a full name of another depth": [f"a/b/c/{name}" for name in NAMES],
    }.items():
        yield Sheet(f"named {what}", named=named)
    composed = [unicodedata.normalize("NFC", f"{name}.png") for name in ACCENTS]
    apart = [unicodedata.normalize("NFD", name) for name in composed]
    yield Sheet("composed on disk, decomposed in the table", composed, apart)
    yield Sheet("decomposed on disk, composed in the table", apart, composed)
    yield Sheet("decomposed in both", apart, apart)
    escaped = [name.replace("é", "%C3%A9") for name in (f"é{n}.png" for n in range(COUNT))]
    yield Sheet("escaped as in addresses", [f"é{n}.png" for n in range(COUNT)], escaped, refusal=ANY)
    numbers = [f"{n:06d}.png" for n in range(COUNT)]
    yield Sheet("numbers that lost their zeros", numbers, [str(n) for n in range(COUNT)], refusal=ANY)
    yield Sheet(
        "numbers that became fractions",
        [f"{n}.png" for n in range(COUNT)],
        [f"{n}.0" for n in range(COUNT)],
        refusal=ANY,
    )
    yield Sheet("numbers alone", [f"{n}.png" for n in range(COUNT)], [str(n) for n in range(COUNT)])
    yield Sheet("names with points", [f"a.b.{n}.png" for n in range(COUNT)], [f"a.b.{n}" for n in range(COUNT)])
    folders = [f"{'ab'[n % 2]}/{n // 2}.png" for n in range(COUNT)]
    sets = {f: {n: float(n % 2 == k) for n in range(COUNT)} for k, f in enumerate("ab")}
    yield Sheet("the same name in two folders", folders, folders, labels={**LATIN, **sets})
    yield Sheet(
        "the same name in two folders, from above",
        folders,
        [f"data/x/{name}" for name in folders],
        labels={**LATIN, **sets},
    )
    yield Sheet(
        "the same name in two folders, without folders",
        folders,
        [name[2:] for name in folders],
        refusal=ANY,
        read=False,
    )
    twins = [f"{n // 2}.{'png' if n % 2 else 'jpg'}" for n in range(COUNT)]
    yield Sheet("twins of two endings", twins, twins)
    yield Sheet("twins of two endings, without endings", twins, [name[:-4] for name in twins], refusal=ANY, read=False)
    cased = [f"{'Aa'[n % 2]}{n // 2}.png" for n in range(COUNT)]
    yield Sheet("twins of two cases", cased, cased)
    yield Sheet("of another set", named=[f"other_{n}.png" for n in range(COUNT)], refusal=ANY, read=False)


def _numbered(first: str, start: int) -> Callable[[Table], Table]:
    return lambda rows: [[first, *rows[0]], *([str(n + start), *row] for n, row in enumerate(rows[1:]))]


def headers() -> Iterator[Sheet]:
    """Headers, index columns, and rows that should not be there."""
    for first in (
        "filename",
        "Image Name",
        "image_id",
        "",
        "id",
        "path",
        "img",
        "Datei",
        "#file",
        "index",
        "Unnamed: 0",
    ):
        yield Sheet(f"the first column is called {first!r}", header=(first, "smile", "age"))
    for first, start in (("", 0), ("Unnamed: 0", 0), ("", 1), ("index", 0), ("id", 0), ("", 7)):
        odd: dict[str, Any] = {"refusal": ANY} if first == "id" else {}
        yield Sheet(f"an index called {first!r} from {start}", cells=_numbered(first, start), **odd)
    shuffled = lambda rows: [["", *rows[0]], *([str((n * 5) % 12), *row] for n, row in enumerate(rows[1:]))]  # noqa: E731
    yield Sheet("an index that was shuffled", cells=shuffled, refusal=ANY)
    yield Sheet(
        "R's names of rows",
        cells=lambda rows: [rows[0], *([str(n + 1), *row] for n, row in enumerate(rows[1:]))],
        quoted=True,
        refusal=ANY,
    )
    yield Sheet("names in the second column", cells=lambda rows: [[r[1], r[0], r[2]] for r in rows], refusal=ANY)
    yield Sheet("names in the last column", cells=lambda rows: [[r[1], r[2], r[0]] for r in rows], refusal=ANY)
    yield Sheet("no header", cells=lambda rows: rows[1:], refusal=ANY, read=False)
    yield Sheet("spaces in the header", header=(" file", " smile ", "age "))
    yield Sheet("two columns of one name", header=("file", "age", "age"), refusal=ANY, read=False)
    yield Sheet(
        "a column without a name",
        header=("file", "smile", ""),
        labels={"smile": LATIN["smile"], "": LATIN["age"]},
        refusal=ANY,
    )
    yield Sheet("a second header amid", cells=lambda rows: [*rows[:6], list(rows[0]), *rows[6:]], refusal=ANY)
    yield Sheet("a line of units", cells=lambda rows: [rows[0], ["", "0/1", "years"], *rows[1:]], refusal=ANY)
    yield Sheet("a comment before", text=lambda text: "# made by hand, 2026\n" + text, refusal=ANY)
    yield Sheet("a comment after", text=lambda text: text + "# end\n", refusal=ANY)
    yield Sheet("a title before", text=lambda text: "My faces\n\n" + text, refusal=ANY)
    yield Sheet("the sum at the end", text=lambda text: text + "Total,4,312\n")
    yield Sheet("the number of rows before", text=lambda text: "12\n" + text)
    yield Sheet("rows of other pictures", text=lambda text: text + "".join(f"other_{n}.png,0,1\n" for n in range(50)))
    yield Sheet(
        "rows are missing",
        cells=lambda rows: rows[:7],
        labels={k: {n: v for n, v in c.items() if n < 6} for k, c in LATIN.items()},
    )
    yield Sheet("a row twice", cells=lambda rows: [*rows, rows[3]], refusal="rows|twice|more than once")
    yield Sheet(
        "a row twice, with other values",
        cells=lambda rows: [*rows, [NAMES[3], "0", "99"]],
        refusal="rows|twice|more",
        read=False,
    )
    yield Sheet(
        "a row twice, without its ending",
        cells=lambda rows: [*rows, [NAMES[3][:-4], "0", "99"]],
        refusal="rows|twice|more",
        read=False,
    )
    yield Sheet("a short row", cells=lambda rows: [*rows[:4], rows[4][:2], *rows[5:]], refusal=ANY, read=False)
    yield Sheet("a long row", cells=lambda rows: [*rows[:4], [*rows[4], "1"], *rows[5:]], refusal=ANY, read=False)
    yield Sheet("an open quote", text=lambda text: text.replace("face_05.png", '"face_05.png'), refusal=ANY, read=False)
    yield Sheet("sorted by label", cells=lambda rows: [rows[0], *sorted(rows[1:], key=lambda row: row[1])])


def relatives() -> Iterator[Sheet]:
    """Relatives of what the other families have; most may be refused, none may be read wrong."""
    yield Sheet("a title of a spreadsheet", text=lambda text: "My faces,,\n,,\n" + text, refusal=ANY)
    yield Sheet("a source below", text=lambda text: text + "Source: my camera\n", refusal=ANY)
    yield Sheet("what a database says below", text=lambda text: text + "(12 rows affected)\n", refusal=ANY)
    yield Sheet("a table of markdown", text=lambda t: "\n".join(_piped(t.splitlines())) + "\n", refusal=ANY)
    yield Sheet(
        "a table of psql", separator=" | ", text=lambda t: t.replace("\n", "\n------+-----+----\n", 1), refusal=ANY
    )
    yield Sheet("the header again at the end", cells=lambda rows: [*rows, rows[0]], refusal=ANY)
    yield Sheet("the header at the end", cells=lambda rows: [*rows[1:], rows[0]], refusal=ANY, read=False)
    yield Sheet(
        "no header, names without endings",
        named=[n[:-4] for n in NAMES],
        cells=lambda rows: rows[1:],
        refusal=ANY,
        read=False,
    )
    yield Sheet(
        "no header, names of another format",
        named=[n[:-4] + ".jpg" for n in NAMES],
        cells=lambda rows: rows[1:],
        refusal=ANY,
        read=False,
    )
    yield Sheet(
        "no header, below a folder",
        named=[f"x/{n}" for n in NAMES],
        cells=lambda rows: rows[1:],
        refusal=ANY,
        read=False,
    )
    numbers = [f"{n}.png" for n in range(COUNT)]
    yield Sheet(
        "no header, numbers alone",
        numbers,
        [str(n) for n in range(COUNT)],
        cells=lambda rows: rows[1:],
        refusal=ANY,
        read=False,
    )
    for unknown in (
        "unknown",
        "n.a.",
        "\u2014",
        "N/D",
        "nil",
        "k.A.",
        "undefined",
        "--",
        "#REF!",
        "#WERT!",
        "#VALUE!",
        "x",
        "20 years",
        "~20",
        ">20",
        "12:30",
    ):
        yield Sheet(
            f"among ages {unknown!r}", cells=_with(2, unknown, _some), labels=_without("age", _some), refusal=ANY
        )
        yield Sheet(
            f"one age is {unknown!r}",
            cells=_with(2, unknown, lambda n: n == 7),
            labels=_without("age", lambda n: n == 7),
            refusal=ANY,
        )
    yield Sheet("yes in several ways", cells=_with(1, "TRUE", lambda n: n in (0, 6)), yes="1", no="0")
    yield Sheet("no in several ways", cells=_with(1, "no", lambda n: n in (1, 4)), yes="Yes", no="false")
    yield Sheet("yes of other cases", cells=_with(1, "true", lambda n: n == 3), yes="TRUE", no="False")
    yield Sheet("texts of a spreadsheet", yes="'1", no="'0", refusal=ANY, others=[_text("'1", "'0")])
    yield Sheet("digits of full width", yes="\uff11", no="\uff10", others=[_text("\uff11", "\uff10")])
    yield Sheet(
        "percents",
        yes="100%",
        no="0%",
        others=[_text("100%", "0%"), {**LATIN, "smile": {n: 100 * v for n, v in LATIN["smile"].items()}}],
    )
    yield Sheet("formulas", quoted=True, named=[f'=""{name}""' for name in NAMES], refusal=ANY)
    yield Sheet(
        "inches within a table of tabs",
        separator="\t",
        header=("file", "smile", 'age 5" x 7"'),
        labels={"smile": LATIN["smile"], 'age 5" x 7"': LATIN["age"]},
        refusal=ANY,
    )
    for what, named in {
        "with a question": [f"{name}?w=640" for name in NAMES],
        "with a no-break space": [f"{name}\u00a0" for name in NAMES],
        "with an invisible mark": [f"\u200b{name}" for name in NAMES],
        "as files": [f"file:///home/me/{name}" for name in NAMES],
        "with an ending more": [f"{name}.jpg" for name in NAMES],
        "with their numbers alone": [str(n) for n in range(COUNT)],
        "by their places": [f"row {n}" for n in range(COUNT)],
        "with quotes around": [f'"""{name}"""' for name in NAMES],
    }.items():
        yield Sheet(f"named {what}", named=named, refusal=ANY)
    dotted = ["I\u0307lke.png", "\u0130brahim.png", *NAMES[2:]]
    yield Sheet("Turkish names", dotted, dotted)
    sharp = ["STRASSE.png", "stra\u00dfe.png", *NAMES[2:]]
    yield Sheet("names that are one in capitals", sharp, sharp)
    yield Sheet(
        "semicolons within a table of commas",
        cells=lambda rows: [[*row, "a;b;c;d"] if n else [*row, "note"] for n, row in enumerate(rows)],
        others=[{**LATIN, "note=a;b;c;d": dict.fromkeys(range(COUNT), 1.0)}],
        labels={**LATIN, "note=a;b;c;d": dict.fromkeys(range(COUNT), 1.0)},
    )
    yield Sheet(
        "JSON by lines", text=lambda text: '{"file": "face_00.png", "smile": 1}\n' * 12, refusal=ANY, read=False
    )
    yield Sheet(
        "YAML", text=lambda text: "face_00.png:\n  smile: 1\nface_01.png:\n  smile: 0\n", refusal=ANY, read=False
    )


def _piped(lines: list[str]) -> list[str]:
    rows = ["| " + line.replace(",", " | ") + " |" for line in lines]
    return [rows[0], "|---|---|---|", *rows[1:]]


def nothing() -> Iterator[Sheet]:
    """Files that are no table."""
    for what, raw in {
        "nothing": b"",
        "a header alone": b"file,smile,age\n",
        "one column": b"file\n" + "\n".join(NAMES).encode(),
        "JSON": b'[{"file": "face_00.png", "smile": 1}]',
        "HTML": b"<!DOCTYPE html><html><body>404</body></html>",
        "a workbook": b"PK\3\4" + bytes(200),
        "a picture": encoded(face(0, 0)),
        "parquet": b"PAR1" + bytes(range(256)) + b"PAR1",
        "a pointer of git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12\n",
        "zeros": bytes(4000),
        "a byte order mark alone": b"\xef\xbb\xbf",
        "spaces": b" \n \n",
    }.items():
        yield Sheet(f"a table of {what}", raw=raw, refusal=ANY, read=False)


# --------------------------------------------------------------------------------------------- CelebA's own tables

FLAGS = [f"Flag_{n}" for n in range(39)] + ["Smiling"]
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Official:
    """CelebA's three tables as rows, and how they are written."""

    name: str
    changed: Callable[[dict[str, Table]], dict[str, Table]] = lambda tables: tables
    csv: bool = False
    separator: str = " "
    text: Callable[[str], str] = lambda text: text
    encoding: str = "utf-8"
    files: Callable[[int], str] = lambda n: f"{n + 1:06d}.jpg"
    refusal: str | None = None
    read: bool = True
    unknown: Sequence[int] = ()  # pictures without rows


def _tables() -> dict[str, Table]:
    names = [f"{n + 1:06d}.jpg" for n in range(COUNT)]
    flags = [[name, *["-1"] * 39, "1" if n % 2 else "-1"] for n, name in enumerate(names)]
    people = [[name, str(n // 2 + 7)] for n, name in enumerate(names)]
    parts = [[name, str(n // 4)] for n, name in enumerate(names)]
    return {"list_attr_celeba": flags, "identity_CelebA": people, "list_eval_partition": parts}


def _each(
    change: Callable[[str, int], str], column: int, only: str = ""
) -> Callable[[dict[str, Table]], dict[str, Table]]:
    """A change of the cells of a column, in one table or all."""

    def changed(tables: dict[str, Table]) -> dict[str, Table]:
        for stem, rows in tables.items():
            for n, row in enumerate(rows):
                if only in ("", stem):
                    row[column] = change(row[column], n)
        return tables

    return changed


def _flags(change: Callable[[str], str]) -> Callable[[dict[str, Table]], dict[str, Table]]:
    def changed(tables: dict[str, Table]) -> dict[str, Table]:
        rows = [[row[0], *map(change, row[1:])] for row in tables["list_attr_celeba"]]
        return {**tables, "list_attr_celeba": rows}

    return changed


def _added(stem: str, *rows: list[str], at: int = COUNT) -> Callable[[dict[str, Table]], dict[str, Table]]:
    def changed(tables: dict[str, Table]) -> dict[str, Table]:
        return {**tables, stem: [*tables[stem][:at], *rows, *tables[stem][at:]]}

    return changed


def _written(case: Official) -> dict[str, bytes]:
    found = {}
    for stem, rows in case.changed(_tables()).items():
        heads = {"list_attr_celeba": FLAGS, "identity_CelebA": ["identity"], "list_eval_partition": ["partition"]}
        if case.csv:
            lines = [",".join(["image_id", *heads[stem]]), *map(",".join, rows)]
        else:
            head = [str(COUNT), " ".join(FLAGS) + " "] if stem == "list_attr_celeba" else []
            lines = [*head, *map(case.separator.join, rows)]
        found[f"{stem}.{'csv' if case.csv else 'txt'}"] = case.text("\n".join(lines) + "\n").encode(case.encoding)
    return found


OFFICIALS = (
    Official("as published"),
    Official("as on Kaggle", csv=True),
    Official("two spaces", separator="  "),
    Official("tabs", separator="\t"),
    Official("Windows line ends", text=lambda text: text.replace("\n", "\r\n")),
    Official("an old Mac's line ends", text=lambda text: text.replace("\n", "\r")),
    Official("a byte order mark", text=lambda text: "\ufeff" + text),
    Official("a byte order mark, csv", csv=True, text=lambda text: "\ufeff" + text),
    Official("UTF-16", csv=True, encoding="utf-16"),
    Official("semicolons", csv=True, text=lambda text: text.replace(",", ";")),
    Official(
        "all quoted",
        csv=True,
        text=lambda t: "\n".join('"' + line.replace(",", '","') + '"' for line in t.splitlines()),
    ),
    Official(
        "an index of pandas",
        csv=True,
        text=lambda t: "\n".join(("" if n == 0 else str(n - 1)) + "," + line for n, line in enumerate(t.splitlines())),
    ),
    Official("True and False", _flags(lambda cell: str(cell == "1")), csv=True),
    Official("true and false", _flags(lambda cell: str(cell == "1").lower()), csv=True),
    Official("1 and 0", _flags(lambda cell: str(int(cell == "1")))),
    Official("1.0 and -1.0", _flags(lambda cell: f"{cell}.0"), csv=True),
    Official("yes and no", _flags(lambda cell: "yes" if cell == "1" else "no"), csv=True),
    Official("names without endings", _each(lambda name, n: name[:-4], 0)),
    Official("PNG on disk", files=lambda n: f"{n + 1:06d}.png"),
    Official("JPG on disk", files=lambda n: f"{n + 1:06d}.JPG"),
    Official("names with folders", _each(lambda name, n: f"img_align_celeba/{name}", 0)),
    Official("names with backslashes", _each(lambda name, n: f"img_align_celeba\\{name}", 0), csv=True),
    Official("people as fractions", _each(lambda value, n: f"{value}.0", 1, "identity_CelebA"), csv=True),
    Official("splits in words", _each(lambda value, n: PARTS[int(value)], 1, "list_eval_partition"), csv=True),
    Official("splits as fractions", _each(lambda value, n: f"{value}.0", 1, "list_eval_partition"), csv=True),
    Official("blank lines at the end", text=lambda text: text + "\n\n \n"),
    Official("a wrong count of rows", text=lambda text: "202599" + text[2:] if text.startswith("12\n") else text),
    Official("no count of rows", text=lambda text: text.removeprefix("12\n")),
    Official("rows of other pictures", _added("identity_CelebA", *([f"{n:06d}.jpg", "99"] for n in range(50, 90)))),
    Official("a row is missing", lambda tables: {s: rows[:-1] for s, rows in tables.items()}, unknown=[11]),
    Official("a row twice", _added("identity_CelebA", ["000003.jpg", "8"]), refusal=ANY),
    Official("a row twice, of two people", _added("identity_CelebA", ["000003.jpg", "99"]), refusal=ANY, read=False),
    Official(
        "a value is missing",
        lambda t: {**t, "list_attr_celeba": [r[:-1] if n == 4 else r for n, r in enumerate(t["list_attr_celeba"])]},
        refusal=ANY,
        read=False,
    ),
    Official("a flag of 2", _added("list_attr_celeba", ["000099.jpg", *["2"] * 40]), refusal=ANY),
    Official("a split of 7", _added("list_eval_partition", ["000099.jpg", "7"]), refusal=ANY),
    Official("a stray line amid", _added("identity_CelebA", ["see", "the", "readme"], at=5), refusal=ANY, read=False),
    Official("a stray line before", _added("identity_CelebA", ["identities of CelebA"], at=0), refusal=ANY),
    Official("a comment before", text=lambda text: "# from the authors\n" + text, refusal=ANY),
    Official("names of another set", _each(lambda name, n: f"x{name}", 0), refusal=ANY, read=False),
    Official(
        "HTML instead of tables", text=lambda text: "<!DOCTYPE html>\n<html>404</html>\n", refusal=ANY, read=False
    ),
    Official("nothing in the tables", text=lambda text: "", refusal=ANY, read=False),
    Official(
        "pointers of git-lfs",
        text=lambda text: "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12\n",
        refusal=ANY,
        read=False,
    ),
)


def _celeba(seed: int) -> list[Case]:
    def feed(case: Official, split: str, folder: Path) -> Verdict:
        files = {f"img_align_celeba/{case.files(n)}": encoded(face(seed, n)) for n in range(COUNT)}
        root = put({**files, **_written(case)}, folder / "celeba")
        known = [n for n in range(COUNT) if n not in case.unknown]
        people = {n: n // 2 for n in known}
        splits = {n: PARTS[n // 4] for n in known}
        labels = {flag: {n: float(flag == "Smiling" and n % 2) for n in known} for flag in FLAGS}
        official = split == "official" and not case.unknown
        right = Expected(range(COUNT), people, splits if official else None, labels, case.refusal, read=case.read)
        return feed_set("celeba", root, folder, right, seed, split="official" if official else "identity")

    return [
        Case("tables", f"CelebA, {split}: {c.name}", lambda folder, c=c, s=split: feed(c, s, folder))
        for c in OFFICIALS
        for split in ("official", "by person")
    ]


# ------------------------------------------------------------------------------------------------------ LFW's table

WHO = ("Ann_Lee", "Bob", "José_Díaz", "D'Arcy", "Eve")
LFW = [(WHO[n % 5], n // 5 + 1) for n in range(COUNT)]


def _lfw_table(
    head: str = "#\tperson\timagenum\tMale\tSmiling", sep: str = "\t", number: str = "{:.6f}", spaced: bool = True
) -> str:
    rows = [head]
    for n, (who, k) in enumerate(LFW):
        male, smile = (number.format(v) for v in (1.5 if n % 5 in (1, 3) else -0.75, -2.25 if n % 3 else 0.001))
        rows.append(sep.join([who.replace("_", " ") if spaced else who, str(k), male, smile]))
    return "# lfw_attributes.txt - 2 attributes - 2010\n" + "\n".join(rows) + "\n"


def _lfw(seed: int) -> list[Case]:
    plain = _lfw_table()
    tables: dict[str, tuple[str, bytes, str | None, bool]] = {
        "as published": ("lfw_attributes.txt", plain.encode(), None, True),
        "with underscores": ("lfw_attributes.txt", _lfw_table(spaced=False).encode(), None, True),
        "Windows line ends": ("lfw_attributes.txt", plain.replace("\n", "\r\n").encode(), None, True),
        "a byte order mark": ("lfw_attributes.txt", plain.encode("utf-8-sig"), None, True),
        "UTF-16": ("lfw_attributes.txt", plain.encode("utf-16"), None, True),
        "cp1252": ("lfw_attributes.txt", plain.encode("cp1252"), None, True),
        "commas": ("lfw_attributes.csv", _lfw_table("person,imagenum,Male,Smiling", ",").encode(), None, True),
        "semicolons": ("lfw_attributes.csv", _lfw_table("person;imagenum;Male;Smiling", ";").encode(), None, True),
        "no mark before the header": (
            "lfw_attributes.txt",
            _lfw_table("person\timagenum\tMale\tSmiling").encode(),
            None,
            True,
        ),
        "blank lines": ("lfw_attributes.txt", plain.replace("\n", "\n\n").encode(), None, True),
        "a comment amid": ("lfw_attributes.txt", plain.replace("\nBob", "\n# men\nBob", 1).encode(), None, True),
        "rows of others": ("lfw_attributes.txt", (plain + "Zed\t1\t1\t1\nZed\t2\t1\t1\n").encode(), None, True),
        "decimal commas": ("lfw_attributes.txt", plain.replace(".", ",").encode(), None, True),
        "other cases of names": ("lfw_attributes.txt", plain.replace("Bob", "BOB").encode(), None, True),
        "decomposed names": ("lfw_attributes.txt", unicodedata.normalize("NFD", plain).encode(), None, True),
        "no header": ("lfw_attributes.txt", "\n".join(plain.splitlines()[2:]).encode(), ANY, False),
        "a word for a value": ("lfw_attributes.txt", plain.replace("-0.750000", "low", 1).encode(), ANY, False),
        "a line too short": ("lfw_attributes.txt", (plain + "Zed\t1\n").encode(), ANY, False),
        "nothing": ("lfw_attributes.txt", b"", ANY, False),
        "HTML": ("lfw_attributes.txt", b"<!DOCTYPE html><html></html>", ANY, False),
    }

    def feed(given: tuple[str, bytes, str | None, bool], inside: bool, folder: Path) -> Verdict:
        name, data, refusal, read = given
        files = {f"lfw/{who}/{who}_{k:04d}.jpg": encoded(face(seed, n)) for n, (who, k) in enumerate(LFW)}
        root = put({**files, f"lfw/{name}" if inside else name: data}, folder / "set")
        labels = {
            "Male": {n: float(n % 5 in (1, 3)) for n in range(COUNT)},
            "Smiling": {n: float(n % 3 == 0) for n in range(COUNT)},
        }
        right = Expected(range(COUNT), {n: n % 5 for n in range(COUNT)}, None, labels, refusal, read=read)
        return feed_set("lfw", root / "lfw", folder, right, seed)

    return [
        Case(
            "tables",
            f"LFW: {what}, {'inside' if n % 2 else 'beside'}",
            lambda folder, g=given, i=n % 2 == 1: feed(g, i, folder),
        )
        for n, (what, given) in enumerate(tables.items())
    ]


# --------------------------------------------------------------------------------------------------------- manifests

VERDICTS = (
    "accepted",
    "accepted",
    "rejected",
    "accepted",
    "doubtful",
    "accepted",
    "accepted",
    "rejected",
    "accepted",
    "accepted",
    "accepted",
    "accepted",
)
MEASURED = {
    "score": "0.92",
    "box_x": "12.5",
    "box_y": "8.25",
    "frame_x": "100.5",
    "frame_y": "99.5",
    "frame_w": "80.5",
    "frame_h": "80.5",
    "brightness": "127.4",
    "mean_colour": "#a0b0c0",
}
Rows = list[dict[str, str]]


def _manifest() -> Rows:
    rows = []
    for n, verdict in enumerate(VERDICTS):
        row = dict.fromkeys(manifest.COLUMNS, "") | MEASURED
        row |= {"face": f"p{n}.jpg", "source": f"photos/p{n}.jpg", "n": "1", "verdict": verdict}
        row |= {"person": f"p{n // 3 * 3}.jpg", "reason": "by hand" if verdict != "accepted" else ""}
        rows.append(row)
    rows.append(dict.fromkeys(manifest.COLUMNS, "") | {"source": "photos/none.jpg", "n": "0", "verdict": "none"})
    return rows


@dataclass(frozen=True)
class Saved:
    """A manifest as some program saved it."""

    name: str
    changed: Callable[[Rows], Rows] = lambda rows: rows
    columns: Sequence[str] = manifest.COLUMNS
    separator: str = ","
    quoted: bool = False
    text: Callable[[str], str] = lambda text: text
    encoding: str = "utf-8"
    accepted: Sequence[int] = tuple(n for n, verdict in enumerate(VERDICTS) if verdict == "accepted")
    people: bool = True
    file: str = "manifest.csv"
    raw: bytes | None = None
    below: str = ""  # the folder of the faces
    refusal: str | None = None
    read: bool = True

    def data(self) -> bytes:
        """The bytes of the file."""
        if self.raw is not None:
            return self.raw
        mark = '"' if self.quoted else ""
        rows = [
            list(self.columns),
            *([row.get(name, "") for name in self.columns] for row in self.changed(_manifest())),
        ]
        lines = [self.separator.join(mark + cell + mark for cell in row) for row in rows]
        return self.text("\n".join(lines) + "\n").encode(self.encoding)


def _commas(rows: Rows) -> Rows:
    return [{k: v.replace(".", ",") if k in MEASURED else v for k, v in row.items()} for row in rows]


def _all(column: str, change: Callable[[str], str]) -> Callable[[Rows], Rows]:
    return lambda rows: [{**row, column: change(row[column])} for row in rows]


SAVED = (
    Saved("as written"),
    Saved("semicolons and decimal commas", _commas, separator=";"),
    Saved("tabs and decimal commas", _commas, separator="\t"),
    Saved("all cells quoted", quoted=True),
    Saved("all cells quoted, semicolons, decimal commas", _commas, separator=";", quoted=True),
    Saved("a byte order mark", encoding="utf-8-sig"),
    Saved("a byte order mark, all quoted", encoding="utf-8-sig", quoted=True),
    Saved("text of Unicode, as Excel says", separator="\t", encoding="utf-16"),
    Saved("cp1252", encoding="cp1252"),
    Saved("Windows line ends", text=lambda text: text.replace("\n", "\r\n")),
    Saved("sep=;", separator=";", text=lambda text: "sep=;\n" + text),
    Saved(
        "lines of separators at the end", text=lambda text: text + "," * (len(manifest.COLUMNS) - 1) + "\n", refusal=ANY
    ),
    Saved("blank lines at the end", text=lambda text: text + "\n\n"),
    Saved("sorted from the end", lambda rows: rows[::-1]),
    Saved("columns in another order", columns=manifest.COLUMNS[::-1]),
    Saved("a column more", columns=(*manifest.COLUMNS, "my notes")),
    Saved(
        "an index of pandas",
        columns=("", *manifest.COLUMNS),
        changed=lambda rows: [{**r, "": str(n)} for n, r in enumerate(rows)],
    ),
    Saved("verdicts in capitals", _all("verdict", str.capitalize), refusal="verdict"),
    Saved("verdicts in capitals only", _all("verdict", str.upper), refusal="verdict"),
    Saved("verdicts with spaces", _all("verdict", lambda verdict: f"{verdict} "), refusal="verdict"),
    Saved("spaces after commas", text=lambda text: text.replace(",", ", "), refusal=ANY),
    Saved("names with backslashes", _all("source", lambda name: name.replace("/", "\\"))),
    Saved("names in capitals", _all("face", str.upper), people=False),
    Saved("names as PNG", _all("face", lambda name: name.replace(".jpg", ".png")), people=False),
    Saved("rows of photos without faces are gone", lambda rows: rows[:-1]),
    Saved("numbers as dates", _all("score", lambda score: "12.May")),
    Saved("counts as fractions", _all("n", lambda n: f"{n}.0"), refusal="n is"),
    Saved("frames in words", _all("frame_x", lambda value: "left"), refusal=ANY),
    Saved(
        "a verdict that is none",
        lambda rows: [{**rows[0], "verdict": "maybe"}, *rows[1:]],
        refusal="verdict",
        read=False,
    ),
    Saved("a verdict is empty", lambda rows: [{**rows[0], "verdict": ""}, *rows[1:]], refusal="verdict", read=False),
    Saved(
        "a face twice, with two verdicts",
        lambda rows: [*rows, {**rows[0], "verdict": "rejected"}],
        refusal=ANY,
        read=False,
    ),
    Saved("a row too short", text=lambda text: text.replace("p4.jpg,photos", "photos", 1), refusal=ANY, read=False),
    Saved("no header", text=lambda text: text.partition("\n")[2], refusal=ANY, read=False),
    Saved(
        "the header at the end",
        text=lambda text: text.partition("\n")[2] + text.partition("\n")[0] + "\n",
        refusal=ANY,
        read=False,
    ),
    Saved(
        "no column of verdicts",
        columns=tuple(name for name in manifest.COLUMNS if name != "verdict"),
        refusal="verdict",
        read=False,
    ),
    Saved("two columns of verdicts", columns=(*manifest.COLUMNS, "verdict"), refusal="verdict", read=False),
    Saved(
        "columns in another language",
        text=lambda text: text.replace("face,source,n,verdict", "Gesicht,Quelle,n,Urteil", 1),
        refusal=ANY,
        read=False,
    ),
    Saved(
        "columns in capitals",
        columns=tuple(name.upper() for name in manifest.COLUMNS),
        changed=lambda rows: [{k.upper(): v for k, v in r.items()} for r in rows],
        refusal=ANY,
    ),
    Saved("a blank line before", text=lambda text: "\n" + text, refusal=ANY),
    Saved("a title before", text=lambda text: "My faces\n" + text, refusal=ANY, read=False),
    Saved("cut short", text=lambda text: text[: len(text) // 2], refusal=ANY, read=False),
    *(Saved(f"called {name}", file=name, refusal=ANY) for name in ("Manifest.csv", "MANIFEST.CSV", "manifest.CSV")),
    *(
        Saved(f"of {what}", raw=raw, refusal=ANY, read=False)
        for what, raw in {
            "nothing": b"",
            "a workbook": b"PK\3\4" + bytes(90),
            "JSON": b'[{"face": "p0.jpg", "verdict": "accepted"}]',
            "HTML": b"<!DOCTYPE html><html></html>",
            "zeros": bytes(900),
            "a pointer of git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12\n",
        }.items()
    ),
    Saved("UTF-32", encoding="utf-32", refusal=ANY),
    Saved("faces from here", _all("face", lambda name: f"./{name}"), people=False, refusal=ANY),
    Saved("faces by an absolute path", _all("face", lambda name: f"/home/me/cut/{name}"), people=False, refusal=ANY),
    Saved("faces of a folder", _all("face", lambda name: f"Ann/{name}"), people=False, below="Ann/"),
    Saved("faces of a folder, with backslashes", _all("face", lambda name: f"Ann\\{name}"), people=False, below="Ann/"),
    Saved("verdicts of another kind", _all("verdict", lambda v: v.removesuffix("ed")), refusal="verdict", read=False),
    Saved("verdicts with no-break spaces", _all("verdict", lambda v: f"{v}\u00a0"), refusal="verdict"),
    Saved("verdicts in quotes", _all("verdict", lambda v: f"'{v}'"), refusal="verdict"),
    Saved("the header twice", text=lambda text: text.partition("\n")[0] + "\n" + text, refusal=ANY),
    Saved("two manifests in one", text=lambda text: text + text, refusal=ANY),
    Saved("a face twice, equal", lambda rows: [*rows, rows[3]], refusal=ANY),
    Saved("lines of spaces", text=lambda text: text + "  \n\t\n"),
    Saved("UTF-16 without a mark", encoding="utf-16-le"),
    Saved("names and verdicts alone", columns=("face", "verdict"), refusal=ANY),
    Saved(
        "names and verdicts alone, in another language",
        columns=("face", "verdict"),
        text=lambda text: text.replace("face,verdict", "Gesicht,Urteil", 1),
        refusal=ANY,
        read=False,
    ),
    Saved("measurements are gone", columns=("face", "source", "n", "verdict", "reason", "person", "same_as")),
)


def _manifests(seed: int) -> list[Case]:
    def feed(case: Saved, waiting: bool, folder: Path) -> Verdict:
        moved = {3: "_review/rejected/", 8: "_review/doubtful/"} if waiting else {}
        files = {f"{moved.get(n, '')}{case.below}p{n}.jpg": encoded(face(seed, n)) for n in range(COUNT)}
        root = put({**files, case.file: case.data()}, folder / "cut")
        people = {n: n // 3 for n in case.accepted} if case.people else None
        right = Expected(case.accepted, people, None, {}, case.refusal, read=case.read)
        return feed_set("crops", root, folder, right, seed, val_fraction=0.25, test_fraction=0.25)

    return [
        Case(
            "tables",
            f"manifest: {c.name}{', two in _review' * (n % 2)}",
            lambda folder, c=c, w=n % 2 == 1: feed(c, w, folder),
        )
        for n, c in enumerate(SAVED)
    ]


def cases(seed: int) -> list[Case]:
    """All of them."""
    sheets = [
        sheet for family in (encodings, separators, values, names, headers, relatives, nothing) for sheet in family()
    ]
    return [*_labels(sheets, seed), *_celeba(seed), *_lfw(seed), *_manifests(seed)]
