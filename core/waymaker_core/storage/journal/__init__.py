"""The journal: segments of frames, appended and synced in order."""
