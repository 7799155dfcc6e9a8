"""A synthetic sky over a timetable: where each aircraft is at any time, and what of it is heard.

Pure: everything is a function of the timetable, the seed and the time. Instants are Unix seconds; lengths are metres,
speeds metres a second, directions degrees clockwise from true north.
"""
