"""The Python client: asyncio first, with a synchronous twin. Programs import its names from `waymaker`."""
