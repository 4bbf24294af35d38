"""The applications of a service: made of its models, opened and closed with it.

An application knows models only as functions from texts to what it needs; where those functions
come from stands here, one file an application. Everything waits in the models' own queues, so an
application's texts and those of other requests share batches.
"""

from serve.applications.applications import Applications

__all__ = ["Applications"]
