"""Changing the bundles of a service while it serves: swaps, candidates, safe deployments.

In a replica: `swap` exchanges bundles, `arms` holds a name's two while there is a candidate,
`text_shadow` and `reply_shadow` ask it, `compare` and `figures` say how it does. In the command
``ray-sft deploy``: `wishes` says what is meant, `gate` whether it may be, `plan` how it is done,
`deploy` does it, `watch` and `golden` see whether it serves, `history` remembers. Ray is known to
`target` alone. While bundles are exchanged, and as long as there is a candidate, a replica holds
two bundles for a name, and needs the memory.

Example:
    >>> from serve.release import Release
    >>> Release(bundle="runs/intents/bundles/int8", percent=10).shadow
    0.0
"""

from serve.release.settings import Release, Wanted

__all__ = ["Release", "Wanted"]
