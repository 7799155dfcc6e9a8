"""The REST API of accounts, and the HTML pages that the links in mails open."""
