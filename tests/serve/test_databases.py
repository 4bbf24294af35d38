from pathlib import Path

import pytest
from sqlalchemy import make_url

from ray_sft.core import ServeError
from serve.databases import make_folder
from serve.monitor.database import Database
from serve.recommend.database import open_database


def test_the_folder_of_a_file_is_made(tmp_path: Path):
    with Database(f"sqlite:///{tmp_path}/one/two/monitor.db").reading():
        assert (tmp_path / "one" / "two" / "monitor.db").exists()
    open_database(f"sqlite:///{tmp_path}/three/recommend.db").dispose()
    assert (tmp_path / "three" / "recommend.db").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ServeError, match=r"its folder '.*file/deep' cannot be made \(Not a dir"):
        make_folder(make_url(f"sqlite:///{tmp_path}/file/deep/x.db"))
