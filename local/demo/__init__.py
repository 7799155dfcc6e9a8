"""The story that `make demo` tells: real flights of 2013 go in, mails come out."""
