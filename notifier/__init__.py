"""The notifier: it mails each alert and each notice once, and a failed mail delays no other user's mails."""
