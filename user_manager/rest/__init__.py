"""The REST API of accounts, and the pages behind the links in mails."""
