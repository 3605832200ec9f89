"""What a database host does by itself: its first boot, who founds the ring, who may join it and when, and who may log in.

Python's standard library alone, 3.9 or newer: whatever runs on every system that the role knows.
"""
