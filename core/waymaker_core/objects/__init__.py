"""Objects: payloads of any size in a bucket, which is the stream `obj:<bucket>`. See docs/objects.md."""
