"""What a service says of itself."""

from apps.client.call import Call, Reply, get, picked
from apps.client.endpoint import endpoint
from apps.replies.operation import Model, Models

__all__ = ["OperationCalls"]


class OperationCalls:
    """``/readyz`` and ``/v1/models``."""

    @endpoint
    def check_ready(self) -> Call[None]:
        """Returns where the service would answer a request; asked once, never again.

        Raises:
            ServiceError: it is away, or says why it is not ready.
        """
        return get("/readyz", Reply.check, is_retried=False)

    @endpoint
    def models(self) -> Call[list[Model]]:
        """The models that the service offers.

        Raises:
            ServiceError: it is away or refuses, such as for a wrong key.
        """
        return get("/v1/models", picked(Models, lambda models: models.data))
