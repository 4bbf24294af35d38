"""The model card: what a bundle is, in the words of a person who has to decide about it."""

from collections.abc import Mapping, Sequence

from ray_sft.bundle import Manifest

__all__ = ["markdown_table", "model_card"]


def model_card(
    manifest: Manifest,
    figures: Mapping[str, Mapping[str, float | str]],
    *,
    sections: Sequence[str] = (),
) -> str:
    """Markdown with front matter; ``figures`` is one row of the table per variant.

    Columns are the union of the rows' keys in order of appearance; a row without one shows a dash.
    ``sections`` are lines that stand behind the table.
    """
    columns = list(dict.fromkeys(name for row in figures.values() for name in row))
    model = manifest.recipe.get("model", "unknown")
    kinds = ", ".join(f"{name} ({task.kind})" for name, task in manifest.tasks.items())
    lines = [
        "---",
        "library_name: ray-sft",
        f"base_model: {model}",
        "---",
        "",
        f"# {manifest.name}, {manifest.variant}",
        "",
        f"- Task: {kinds}",
        f"- Base model: {model}",
        f"- Format: {manifest.format}",
        f"- Made with: {_versions(manifest)}",
        "",
        "## Measured",
        "",
        *markdown_table(
            ["variant", *columns], [[name, *_cells(figures[name], columns)] for name in figures]
        ),
        "",
        "Every figure was measured on this very bundle or, in the other rows, on the bundle named",
        "there, on the evaluation data of the run and the machine that made it.",
        "",
        *sections,
        "## Use",
        "",
        "    ray-sft predict PATH_OF_THIS_FOLDER --text '...'",
        "    ray-sft serve PATH_OF_THIS_FOLDER",
        "",
    ]
    return "\n".join(lines)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table whose first column is text and whose others are figures."""
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return ["| " + " | ".join(cells) + " |" for cells in (header, rule, *rows)]


def _cells(row: Mapping[str, float | str], columns: Sequence[str]) -> list[str]:
    return [_cell(row.get(name, "-")) for name in columns]


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _versions(manifest: Manifest) -> str:
    return ", ".join(f"{name} {version}" for name, version in manifest.libraries.items()) or "-"
