"""Changing the bundles of a service while it serves: swaps, candidates, safe deployments.

What a replica does stands in `swap`, `arms`, `shadow` and `compare`; what the command
``ray-sft deploy`` does in `deploy`, `gate`, `plan`, `history` and `golden`. Ray is known to
`target` alone.

Example:
    >>> from serve.release import Release
    >>> Release(bundle="runs/intents/bundles/int8", percent=10).shadow
    0.0
"""

from serve.release.settings import Release, Wanted

__all__ = ["Release", "Wanted"]
