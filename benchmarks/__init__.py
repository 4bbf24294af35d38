"""One file per claim: each runs ours and the peer alternately and ends by one line of JSON."""
