"""One handler a request: it decides, or says what it must wait for."""
