"""A mail server for one machine: takes every mail and keeps it in a Maildir."""
