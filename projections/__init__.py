"""The views folded from the log, and every query that reads them."""
