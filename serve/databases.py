"""What the applications' databases share."""

from pathlib import Path

from sqlalchemy.engine import URL

from ray_sft.core import ServeError

__all__ = ["make_folder"]


def make_folder(url: URL) -> None:
    """Makes the folder of a SQLite file where it is missing, which SQLite does not.

    Raises:
        ServeError: it cannot be made.
    """
    folder = Path(url.database or "").parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServeError(
            f"database '{url.render_as_string(hide_password=True)}' cannot be opened: its folder "
            f"'{folder}' cannot be made ({error.strerror}). Name a file elsewhere."
        ) from None
