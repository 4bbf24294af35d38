"""The shapes of the service's replies, as far as the client reads them; the rest is ignored."""
