"""Work that no call asks for: retention, inactivity, free space, drain, self-checks."""
