"""One handler a request: it decides the call, or raises what the call must wait for."""
