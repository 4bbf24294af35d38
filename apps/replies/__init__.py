"""The shapes of the service's replies, as far as a page reads them; other fields are ignored."""
