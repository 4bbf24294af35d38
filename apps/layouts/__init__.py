"""Where everything stands on each page; what it does is in the module of the page."""
