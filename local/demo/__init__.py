"""The demo of `make demo`: replays real flights of 2013 through a local stack, and checks the mails."""
