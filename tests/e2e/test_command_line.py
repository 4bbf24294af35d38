"""The command line answers at once: what is heavy is imported by the command that needs it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

RAY_SFT = Path(sys.executable).with_name("ray-sft")
HEAVY = ("torch", "ray", "transformers", "deepspeed", "onnxruntime", "gradio", "numpy", "fastapi")


def seconds(*arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([RAY_SFT, *arguments], check=True, capture_output=True, timeout=60)
    return time.perf_counter() - start


def test_help_answers_in_under_a_second():
    assert min(seconds("--help") for _ in range(5)) < 1.0


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from ray_sft.cli import app\n"
        "try:\n    app(['run', '--help'])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert "--runs-dir" in found.stdout
    assert found.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["run"], "Missing argument 'RECIPE'"),
        (["serve", "--port", "http"], "Invalid value for '--port'"),
        (["recipes", "cp", "no_such_recipe"], "recipe 'no_such_recipe' is neither a file nor"),
    ],
)
def test_a_wrong_command_line_ends_with_a_message_and_writes_nothing(tmp_path, arguments, message):
    found = subprocess.run(
        [RAY_SFT, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode in (1, 2)
    assert message in " ".join(found.stderr.split())
    assert "Traceback" not in found.stderr
    assert list(tmp_path.iterdir()) == []
