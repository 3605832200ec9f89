"""Brings a whole environment up, changes it, and takes it down. Python's own library alone; deploy.sh starts it."""
