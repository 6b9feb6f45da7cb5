"""The pipeline: sessions that know no transport, and the transports that carry them."""
