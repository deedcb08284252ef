import numpy as np
import pytest

from faceforge.errors import BadInput
from faceforge.io.attributes import merge, read_attributes

IDS = ["Ann/Ann_0001.jpg", "Ann/Ann_0002.jpg", "Bob/x.jpg", "Cid/x.jpg"]


def table(tmp_path, text):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return str(path)


def column(tmp_path, *values):
    """What one column of four values becomes."""
    text = "image,c\n" + "".join(f"{face},{value}\n" for face, value in zip(IDS, values, strict=True))
    names, found = read_attributes(table(tmp_path, text), IDS)
    assert found.dtype == np.float32
    return {name: [None if np.isnan(v) else float(v) for v in found[:, n]] for n, name in enumerate(names)}


def test_kinds_of_columns(tmp_path):
    assert column(tmp_path, 1, -1, "", 1) == {"c": [1, 0, None, 1]}
    assert column(tmp_path, 1, 0, "", 1) == {"c": [1, 0, None, 1]}
    assert column(tmp_path, -1, 0.5, 2, "nan") == {"c": [-1, 0.5, 2, None]}
    assert column(tmp_path, "True", "false", "yes", "NO") == {"c": [1, 0, 1, 0]}
    assert column(tmp_path, "sad", "happy", "", "sad") == {"c=happy": [0, 1, None, 0], "c=sad": [1, 0, None, 1]}


def test_rows_find_faces_by_id_then_by_a_name_that_is_alone(tmp_path):
    text = "image,a,b\nAnn_0001.jpg,1,2\n.\\Ann\\Ann_0002.jpg,0,3\nx.jpg,1,4\nelse/where.jpg,1,5\nCid/x.jpg,0,6\n"
    names, values = read_attributes(table(tmp_path, "\ufeff" + text), IDS)
    assert names == ["a", "b"]
    assert np.array_equal(values, np.array([[1, 2], [0, 3], [np.nan] * 2, [0, 6]], np.float32), equal_nan=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must have a header, a column of file names and one of labels"),
        ("image,a\n", "must have a header"),
        ("image\nx\n", "must have a header"),
        ("image,a\nAnn/Ann_0001.jpg,1,2\n", "row 2 has 3 values, the header 2"),
        ("image,a\nnobody.jpg,1\n", r"no row names an image of the dataset \(nobody.jpg, Ann/Ann_0001.jpg\)"),
        ("image,a\nAnn_0001.jpg,1\nAnn/Ann_0001.jpg,1\n", "Ann/Ann_0001.jpg has 2 rows"),
        ("image,a\n" + "".join(f"{n}.jpg,text {n}\n" for n in range(60)) + f"{IDS[0]},x\n", "column a has 61 diff"),
    ],
)
def test_bad_tables_are_one_line(tmp_path, text, reason):
    with pytest.raises(BadInput, match=rf"data.attributes=.*labels.csv: {reason}"):
        read_attributes(table(tmp_path, text), IDS)


def test_missing_and_binary_files_are_one_line(tmp_path):
    with pytest.raises(BadInput, match=r"cannot be read as CSV .*No such file"):
        read_attributes(str(tmp_path / "none.csv"), IDS)
    (tmp_path / "labels.csv").write_bytes(b"\xff\xd8\xff\0")
    with pytest.raises(BadInput, match="cannot be read as CSV"):
        read_attributes(str(tmp_path / "labels.csv"), IDS)


def test_added_attributes_replace_their_namesakes():
    own = (["a", "b"], np.array([[1.0, 2.0]], np.float32))
    names, values = merge(own, (["b", "c"], np.array([[5.0, 6.0]], np.float32)))
    assert names == ["a", "b", "c"]
    assert values.tolist() == [[1, 5, 6]]
    assert merge(own, None) is own
    assert merge(None, None) is None
