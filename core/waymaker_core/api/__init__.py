"""The one door of the core: what comes in (inputs, requests), what goes out (effects), and who may ask for what."""
