"""A mail server for one machine: accepts every mail, stores it in a Maildir, and shows it on web pages."""
