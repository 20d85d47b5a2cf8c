"""What hypothesis makes of valid files: cut off, flipped, doubled, renamed, packed otherwise, of other types."""

import copy
import csv
import io
import zipfile

import numpy as np
import torch
from hypothesis import strategies as st

PIECES = [
    b"",
    b"\0",
    b"\xff" * 8,
    b"\n",
    b"9" * 12,
    b"9" * 5000,
    b"PK\x03\x04",
    b"\xef\xbb\xbf",
    b"[" * 3000,
    b",",
    b'"',
]
TEXTS = [
    *(
        "",
        "\0",
        "nan",
        "-inf",
        "1e400",
        "1e300",
        "9" * 30,
        "9" * 5000,
        "-1",
        "0.5",
        "0",
        "1",
        "1_0",
        " 3 ",
        "٣",
        "None",
    ),
    *("..", ".", "/", "../x", "/etc/hostname", "a/" * 3000, "x" * 300, "x" * 140_000, "=1+1", "'=1", '"', "\r", "a\nb"),
    *("outlier", "same", "different", "nobody", "name", "path", "0.jpg", "c/0.jpg", "\u202e", "\ud800", "\\", "\x1c"),
]
TOKENS = [
    *("&a [*a]", "*a", "<<: *a", "!!python/object/apply:os.mkdir [ran]", "!!set {a}", "!!binary x", "!x y", "? ", "- "),
    *("{", "}", "[", "]", "|", ">", "---\n", "...", "\t", ": ", "#", "%YAML 9.0\n", "~", "yes", "2020-01-01", ".nan"),
]
ODD = [
    *(
        None,
        True,
        -1,
        10**400,
        2**40,
        0.5,
        float("nan"),
        float("inf"),
        "word",
        "",
        "\0",
        b"bytes",
        [],
        [1],
        {},
        {"a": 1},
    ),
    *((1, 2), {1: {2: 3}}, {"state_dict": {}}, [{"epoch": "x"}], "cluster: {eps: {a: 1}}", "a: &a [*a]\ncluster: *a"),
    *(torch.zeros(3), torch.zeros(2, 2), torch.tensor(1), torch.tensor([1], dtype=torch.int64), torch.zeros(0)),
    *(torch.zeros(3, dtype=torch.complex64), torch.zeros(3, dtype=torch.bool), torch.zeros(3).to_sparse()),
    *(
        torch.zeros(2, device="meta"),
        torch.zeros(1).expand(10**13),
        torch.full((3,), float("nan")),
        torch.zeros(3).half(),
    ),
    *(torch.zeros(1).expand(10**6, 10**6), torch.quantize_per_tensor(torch.zeros(3), 1.0, 0, torch.qint8)),
]
ARRAYS = [
    *(np.array(text) for text in ("{}", "", "word", '{"eps": 7}', '{"eps": "x", "k1": null}', "[" * 5000, "\0")),
    *(np.array(number) for number in (0, -1, 2**62, np.uint64(2**64 - 1), 0.5, np.nan, True, 1j, np.float16(1))),
    *(np.zeros(shape, kind) for shape in (0, 4, (4, 0), (0, 8), (4, 8), (4, 8, 1)) for kind in ("f4", "f2", "g", "U3")),
    *(np.full((4, 8), value, np.float32) for value in (np.nan, np.inf, 1.0)),
    *(np.zeros(4, kind) for kind in ("O", "M8[s]", "V8", "S3", "i8", ">f4", [("a", "f4")])),
    *(np.array(["0.jpg"] * 4), np.array(["", "..", "/", "a\0b"]), np.array(["0.jpg", "x" * 5000, "\ud800", "2.jpg"])),
]


@st.composite
def mangled_bytes(draw, data, pieces=PIECES):
    """Some pieces of it are cut out, or others put in."""
    for _ in range(draw(st.integers(1, 3))):
        start, other = (draw(st.integers(0, len(data))) for _ in range(2))
        length = draw(st.sampled_from([0, 1, 1, 2, 8, 100, len(data)]))
        put = draw(st.sampled_from(pieces) | st.binary(max_size=4) | st.just(data[other : other + length]))
        data = data[:start] + put + data[start + length :]
    return data


@st.composite
def mangled_zip(draw, data):
    """Members are gone, renamed, doubled or mangled, packed in another way, and what is said of them is not true."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(members) - 1))
        name, content = members[place]
        members[place : place + 1] = draw(
            st.sampled_from([[], [("other", content)], [("../../x", content)], [(name, content)] * 2, [(name, b"")]])
            | mangled_bytes(content).map(lambda mangled, name=name: [(name, mangled)])
        ) or [("nothing", b"")]
    packed = io.BytesIO()
    kinds = [zipfile.ZIP_STORED] * 4 + [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    with zipfile.ZipFile(packed, "w", draw(st.sampled_from(kinds))) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, archive.compression)
    whole = packed.getvalue()
    for _ in range(draw(st.integers(0, 2))):
        entry = whole.rfind(draw(st.sampled_from([b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"])))
        start = entry + draw(st.integers(4, 30))
        put = draw(st.binary(min_size=1, max_size=4))
        whole = whole[:start] + put + whole[start + len(put) :]
    return whole


def places(tree, path=()):
    """The paths to all values of nested mappings and lists, the tree itself excluded."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


@st.composite
def mangled_tree(draw, tree, odd):
    """Values of nested mappings and lists are gone, renamed, or others."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(list(places(tree)) or [("new",)]))
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        change = draw(st.sampled_from(["other", "other", "gone", "renamed"]))
        value = draw(st.sampled_from(odd)) if change == "other" or path == ("new",) else parent.pop(path[-1])
        if change == "other":
            parent[path[-1]] = copy.deepcopy(value) if isinstance(value, dict | list) else value
        elif change == "renamed" and isinstance(parent, dict):
            parent[draw(st.sampled_from([f"{path[-1]}x", 0, "module." + str(path[-1]), "state_dict"]))] = value
    return tree


@st.composite
def mangled_table(draw, rows):
    """Cells, rows and columns of a table are gone, doubled, or others; and it is written in another way."""
    rows = copy.deepcopy(rows)
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        place = draw(st.integers(0, len(rows) - 1))
        row, column = rows[place], draw(st.integers(0, max(0, len(rows[place]) - 1)))
        changed = draw(
            st.one_of(
                st.sampled_from([cell for row in rows for cell in row] or TEXTS),
                st.integers(-2, 9).map(str),
                st.sampled_from(TEXTS),
                st.text(max_size=5),
            )
        )
        other = [*row[:column], changed, *row[column + 1 :]]
        rows[place : place + 1] = draw(
            st.sampled_from([[other]] * 8 + [[row, other]] * 4 + [[row, row], [[]], [row[:column]], [[*row, changed]]])
        ) or [[]]
    text = io.StringIO()
    # Python 3.10 cannot write a NUL that stands in a cell.
    cells = [[cell.replace("\0", "\ue000") for cell in row] for row in rows]
    csv.writer(text, delimiter=draw(st.sampled_from([","] * 20 + [";", "\t", " "]))).writerows(cells)
    encoding = draw(st.sampled_from(["utf-8"] * 20 + ["utf-8-sig", "utf-16", "latin-1"]))
    whole = text.getvalue().replace("\ue000", "\0").encode(encoding, "replace")
    return draw(st.one_of([st.just(whole)] * 3 + [mangled_bytes(whole)]))
