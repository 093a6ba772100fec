"""The log: what happened, in one order. Start at log.py, then execute.py."""
