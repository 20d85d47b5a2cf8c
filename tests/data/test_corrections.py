"""corrections.csv: what is read, which answers stand, and what is refused in one sentence."""

import pytest
from crops import ODD_PATHS

from hhcl_torchreid.data.corrections import Correction, latest, on_paths, read_corrections, write_corrections
from hhcl_torchreid.errors import InputError

HEADER = "answer,path,other,name\n"


def without_rows(corrections):
    return [given._replace(row="") for given in corrections]


def test_every_name_comes_back(tmp_path):
    given = [Correction("same", path, other) for path, other in zip(ODD_PATHS[1:], ODD_PATHS, strict=False)]
    given += [Correction("nobody", "=1+1.jpg"), *(Correction("name", "a.jpg", "", name) for name in ("=1+1", "'x", ""))]
    write_corrections(tmp_path / "corrections.csv", given)
    found = read_corrections(tmp_path / "corrections.csv")
    assert without_rows(on_paths(found[: len(ODD_PATHS) - 1], ODD_PATHS, tmp_path)) == given[: len(ODD_PATHS) - 1]
    assert without_rows(found[len(ODD_PATHS) - 1 :]) == given[len(ODD_PATHS) - 1 :]
    assert (tmp_path / "corrections.csv").read_text().count("\n=") == 0


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("between", [",", ";"])
@pytest.mark.parametrize("header", [HEADER, '"answer","path","other","name"\n'])
def test_what_spreadsheets_make_of_it_makes_no_difference(tmp_path, ending, mark, between, header):
    text = (header + "same,é/1.jpg,./b.jpg,\n\nname,b.jpg,,Zoë\nnobody,c.jpg,,\n").replace(",", between)
    (tmp_path / "table.csv").write_bytes(mark + text.replace("\n", ending).encode())
    found = read_corrections(tmp_path / "table.csv")
    assert [given[:4] for given in found] == [
        ("same", "é/1.jpg", "b.jpg", ""),
        ("name", "b.jpg", "", "Zoë"),
        ("nobody", "c.jpg", "", ""),
    ]
    assert [given.row for given in found] == [f"{tmp_path / 'table.csv'}, line {line}" for line in (2, 4, 5)]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "answer,path,other,name"),
        (b"answer\tpath\tother\tname\n", "answer,path,other,name"),
        ((HEADER + "name,a,,é\n").encode("latin-1"), "UTF-8"),
        (HEADER.encode("utf-16"), "UTF-8"),
        ((HEADER + 'same,"a,b\n').encode(), "table"),
        ((HEADER + "same,a,b\n").encode(), "line 2 has 3 cells"),
        ((HEADER + "perhaps,a,b,\n").encode(), "line 2 has the answer 'perhaps'"),
        ((HEADER + "same,a,,\n").encode(), "line 2 is no answer 'same': give path and other"),
        ((HEADER + "nobody,a,b,\n").encode(), "line 2 is no answer 'nobody': give path,"),
        ((HEADER + "different,a,b,Anna\n").encode(), "line 2 is no answer"),
        ((HEADER + "name,,,Anna\n").encode(), "line 2 is no answer 'name': give path and a name"),
        ((HEADER + "same,a,./a,\n").encode(), "line 2 compares 'a' with itself"),
        ((HEADER + f"name,a,,{'N' * 200_000}\n").encode(), "field larger than field limit"),
    ],
)
def test_what_is_no_table_of_answers(tmp_path, content, named):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(InputError, match=named) as error:
        read_corrections(tmp_path / "table.csv")
    assert "table.csv" in str(error.value) and "\n" not in str(error.value)


def test_no_table_at_all(tmp_path):
    for path in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(InputError, match="cannot read"):
            read_corrections(path)


def test_later_answers_replace_earlier_ones():
    def kept(*given):
        return [tuple(filter(None, answer)) for answer in latest([Correction(*row) for row in given])]

    assert kept(("same", "a", "b"), ("same", "b", "a"), ("different", "a", "b")) == [("different", "a", "b")]
    assert kept(("name", "a", "", "Anna"), ("name", "a", "", "Bea")) == [("name", "a", "Bea")]
    assert kept(("nobody", "a"), ("nobody", "a")) == [("nobody", "a")]
    assert kept(("same", "a", "b"), ("different", "a", "c"), ("nobody", "a")) == [
        ("different", "a", "c"),
        ("nobody", "a"),
    ]
    assert kept(("nobody", "a"), ("same", "b", "a")) == [("same", "b", "a")]
    assert kept(("nobody", "a"), ("name", "a", "", "Anna")) == [("name", "a", "Anna")]
    assert len(kept(("nobody", "a"), ("different", "a", "b"))) == 2


def test_images_that_are_not_there(tmp_path):
    (tmp_path / "left out.jpg").write_bytes(b"")
    given = [Correction("same", "a.jpg", "left out.jpg"), Correction("nobody", "gone.jpg", row="table.csv, line 3")]
    assert on_paths(given[:1], ["a.jpg"], tmp_path) == given[:1]
    with pytest.raises(InputError, match=r"^1 of the 3 images .* 'gone\.jpg' \(table\.csv, line 3\): give") as error:
        on_paths(given, ["a.jpg"], tmp_path)
    assert str(tmp_path) in str(error.value)
    for name in ("../x.jpg", "/etc/hostname", "a" * 5000, "\0"):
        with pytest.raises(InputError, match="1 of the 2"):
            on_paths([Correction("same", "a.jpg", name)], ["a.jpg"], tmp_path)
