"""Tools that build the container image, and test it where no image registry can be reached."""
