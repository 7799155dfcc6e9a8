"""A stand-in for the OpenSky Network's REST API that replays the real flights out of New York of 2013."""
