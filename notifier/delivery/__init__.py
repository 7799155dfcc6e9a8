"""The delivery of mails, from a queued alert to a sent mail: dispatch, batching, deliver, retries, store."""
