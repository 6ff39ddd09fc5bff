"""A ``meta.json`` that another program wrote beside images does not make their folder a prepared one."""

import pytest
from PIL import Image

from refnet.data.opening import is_prepared, open_dataset


@pytest.mark.parametrize("content", ['{"classes": [{"title": "cat"}], "projectType": "images"}', "[]", "", "\xff"])
def test_meta_json_of_another_program(tmp_path, content):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("L", (8, 8), number).save(tmp_path / name / f"{number}.png")
    (tmp_path / "meta.json").write_text(content)
    assert not is_prepared(str(tmp_path))
    assert open_dataset(str(tmp_path), image_size=8, channels=1).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("content", "other"),
    [('{"format": "refnet-prepared", "version": 99}', "x"), ("{damaged", "mean.npy")],
)
def test_meta_json_of_refnet_even_if_damaged(tmp_path, content, other):
    (tmp_path / "meta.json").write_text(content)
    (tmp_path / other).write_text("")
    assert is_prepared(str(tmp_path))
