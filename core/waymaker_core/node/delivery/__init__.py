"""What leaves without a call: turns of subscribers, expired deliveries, dead letters."""
