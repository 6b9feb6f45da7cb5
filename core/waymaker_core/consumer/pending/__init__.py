"""Delivered and unsettled messages: their states, in batches of one deadline."""
