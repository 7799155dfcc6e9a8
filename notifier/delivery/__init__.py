"""The delivery of mails: alerts are queued per user and mailed together; each confirmation has a mail of its own."""
