"""The customer-service assistant: answers with citations, or says that it does not know.

The door holds what a service is configured with, and loads no library of search or models.

Example:
    >>> from serve.assistant import AssistantArgs
    >>> AssistantArgs(embedding_model="minilm").knowledge
    'knowledge.lance'
"""

from serve.assistant.args import AssistantArgs

__all__ = ["AssistantArgs"]
