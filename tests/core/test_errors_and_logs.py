import logging

import pytest
from rich.console import Console

from ray_sft import core
from ray_sft.core.logs import configure_logging, log_to_file


def test_all_errors_that_a_user_can_fix_are_one_tree():
    names = [name for name in core.__all__ if name.endswith("Error")]
    assert len(names) == 7
    for name in names:
        error = getattr(core, name)
        assert issubclass(error, core.RaySFTError)
        assert error.__doc__


@pytest.fixture
def restored_logging():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.mark.usefixtures("restored_logging")
def test_what_is_shown_is_also_in_the_file(tmp_path):
    console = Console(record=True, width=120)
    configure_logging(console)
    handler = log_to_file(tmp_path / "deep" / "run.log")
    logging.getLogger("ray_sft.training").info("chose %s workers", 2)
    logging.getLogger("ray_sft.training").debug("not this")
    logging.getLogger("httpx").info("nor this")
    logging.getLogger("other").warning("但这个")
    handler.close()
    shown, kept = console.export_text(), (tmp_path / "deep" / "run.log").read_text("utf-8")
    for text in (shown, kept):
        assert "chose 2 workers" in text
        assert "但这个" in text
        assert "not this" not in text
        assert "nor this" not in text


@pytest.mark.usefixtures("restored_logging")
def test_verbose_says_more():
    console = Console(record=True, width=120)
    configure_logging(console, verbose=True)
    logging.getLogger("ray_sft.data").debug("a detail")
    assert "a detail" in console.export_text()
