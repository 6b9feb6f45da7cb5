"""TLS: what a program states about encryption, and the certificates that it names."""
