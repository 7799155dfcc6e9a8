"""A mail server for one machine: accepts every mail and stores it in a Maildir."""
