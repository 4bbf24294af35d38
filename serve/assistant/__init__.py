"""The customer-service assistant: answers with citations, or says that it does not know.

Example:
    >>> from serve.assistant import AssistantArgs
    >>> AssistantArgs(embedding_model="minilm").knowledge
    'knowledge.lance'
"""

from serve.assistant.args import AssistantArgs
from serve.assistant.assistant import Assistant, Classify, Embed, IntentGuess

__all__ = ["Assistant", "AssistantArgs", "Classify", "Embed", "IntentGuess"]
