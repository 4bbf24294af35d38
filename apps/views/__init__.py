"""The HTML that pages write themselves: values in, text out; every word from outside is escaped."""
