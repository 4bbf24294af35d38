import pytest

from ray_sft.compression.gates import check_budget, check_parity, check_speedup
from ray_sft.core import CompressionError

SOURCE = {"intent/accuracy": 0.90, "intent/loss": 0.50}


def found(*, accuracy=0.90, loss=0.50) -> dict[str, float]:
    return {"intent/accuracy": accuracy, "intent/loss": loss}


@pytest.mark.parametrize(
    ("figures", "budget"),
    [
        (found(accuracy=0.891), {"accuracy": -0.01}),
        (found(accuracy=0.95), {"accuracy": -0.01}),
        (found(loss=0.54), {"loss": 0.05}),
        (found(loss=0.1), {"intent/loss": 0.05}),
        (found(), {"accuracy": 0.0, "loss": 0.0}),
        (found(accuracy=0.1), {}),
    ],
)
def test_a_change_within_the_budget_passes(figures, budget):
    check_budget("quantize_int8", SOURCE, figures, budget)


@pytest.mark.parametrize(
    ("figures", "budget", "match"),
    [
        (found(accuracy=0.889), {"accuracy": -0.01}, r"0\.9000 to 0\.8890, a change of -0\.0110"),
        (found(loss=0.551), {"loss": 0.05}, r"the budget is \+0\.05"),
        (found(loss=0.551), {"intent/loss": 0.05}, "intent/loss went"),
        (found(accuracy=0.91), {"accuracy": 0.0}, r"\+0\.0100"),
        (found(loss=float("nan")), {"loss": 0.05}, "nan"),
    ],
)
def test_a_change_beyond_the_budget_is_refused(figures, budget, match):
    with pytest.raises(CompressionError, match=match):
        check_budget("quantize_int8", SOURCE, figures, budget)


def test_parity_has_a_limit_and_nan_is_beyond_it():
    check_parity("export_onnx", 1e-4, 1e-4)
    for difference in (1.1e-4, float("nan")):
        with pytest.raises(CompressionError, match=r"parity_tolerance of 0\.0001"):
            check_parity("export_onnx", difference, 1e-4)


def test_speed_has_a_limit():
    check_speedup("quantize_int8", 1.2, 1.2)
    with pytest.raises(CompressionError, match=r"1\.19 times.*min_speedup is 1\.2"):
        check_speedup("quantize_int8", 1.19, 1.2)
