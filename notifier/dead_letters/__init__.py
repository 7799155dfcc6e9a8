"""Dead letters: reading, showing and requeueing them (`python -m notifier dead-letters`)."""
