"""The log folded anew without Faust: `python -m streams replay` and `verify`."""
