"""The notifier: it sends each alert as a mail once, and a failed mail delays no other user's mails."""
