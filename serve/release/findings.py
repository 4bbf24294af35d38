"""What an inspection of a bundle has found."""

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about a bundle that the person who deploys it should know."""

    model: str
    """The name that it is to have."""
    text: str
    refuses: bool
    """Whether the bundle is not deployed because of it, unless by force."""
