"""MLflow, at a tracking server or in a database."""

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from sqlalchemy.exc import SQLAlchemyError

from ray_sft.core import ConfigError, reason_of
from ray_sft.training.trackers.base import Following, TrackedRun, Tracker

__all__ = ["Mlflow"]

_URI = "MLFLOW_TRACKING_URI"
_IDENTITY = "ray_sft.run"
_HASTE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""Unless set otherwise: mlflow's own patience with a dead server would be minutes."""
_LONGEST = 500
"""Characters of a setting's value; servers refuse much longer ones."""


class Mlflow(Tracker):
    """Follows runs in MLflow."""

    package: ClassVar[str] = "mlflow"

    kind: Literal["mlflow"] = "mlflow"
    uri: str = ""
    """The tracking server or database, such as ``http://mlflow:5000`` or ``sqlite:////data/m.db``;
    empty for that of MLFLOW_TRACKING_URI."""
    experiment: str = "ray-sft"
    """The experiment that runs are part of; it is made."""

    def check(self) -> None:
        """See `Tracker.check`."""
        super().check()
        if not self.uri and _URI not in os.environ:
            raise ConfigError(
                f"trackers: mlflow has no uri, and {_URI} is not set. Give one of them, such as "
                "uri: http://127.0.0.1:5000"
            )

    def follow(self, run: TrackedRun) -> Following:
        """See `Tracker.follow`.

        Raises:
            ConfigError: the server cannot be reached, or refuses.
        """
        from mlflow.exceptions import MlflowException  # seconds, and few runs need it
        from mlflow.tracking import MlflowClient

        failures = (MlflowException, SQLAlchemyError, OSError)
        os.environ |= {name: value for name, value in _HASTE.items() if name not in os.environ}
        try:
            client = MlflowClient(tracking_uri=self.uri or os.environ[_URI])
            return _Run(client, self._run_id(client, run), failures=failures)
        except failures as error:
            raise ConfigError(
                f"trackers: mlflow cannot follow the run: {reason_of(error)} Start the server, "
                "correct uri, or leave mlflow out."
            ) from None

    def _run_id(self, client: Any, run: TrackedRun) -> str:
        """Of the run that this folder had before, or of a new one."""
        experiment = client.get_experiment_by_name(self.experiment)
        number = experiment.experiment_id if experiment else None
        number = number or client.create_experiment(self.experiment)
        identity = run.identity()
        for former in client.search_runs([number], f"tags.`{_IDENTITY}` = '{identity}'"):
            client.set_terminated(former.info.run_id, status="RUNNING")
            return str(former.info.run_id)
        made = client.create_run(number, run_name=run.title, tags={_IDENTITY: identity})
        for name, value in _flat(run.settings):
            client.log_param(made.info.run_id, name, value[:_LONGEST])
        return str(made.info.run_id)


class _Run(Following):
    def __init__(self, client: Any, run_id: str, *, failures: tuple[type[Exception], ...]) -> None:
        self._client, self._run_id, self.failures = client, run_id, failures

    def write(self, event: str, step: int, figures: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(f"{event}/{name}", value, now, step) for name, value in figures.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self, *, failed: bool) -> None:
        self._client.set_terminated(self._run_id, status="FAILED" if failed else "FINISHED")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Leaves by their dotted path."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)
