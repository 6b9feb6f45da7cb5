"""What the node does by itself: retention, inactivity, free space, drain, self-checks."""
