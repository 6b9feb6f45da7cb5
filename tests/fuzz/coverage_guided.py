"""The coverage-guided driver: atheris (libFuzzer) over instrumented core and server code. Linux, optional extra `fuzz`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def run(name: str, seed: int, seconds: float, corpus: Path | None) -> int:
    """Fuzz one target; ends the process. An input that fails is saved among the regressions before it does."""
    import atheris

    with atheris.instrument_imports(include=["waymaker_core", "waymaker"]):
        from tests.fuzz.registry import TARGETS, save
    from tests.fuzz.mutation import BYTES_MAX
    from tests.fuzz.target import limited_address_space, run_bounded

    target = TARGETS[name]
    folder = Path(tempfile.mkdtemp(prefix=f"waymaker-fuzz-{name}-"))
    grown = corpus or folder / "corpus"
    grown.mkdir(parents=True, exist_ok=True)
    seeds = folder / "seeds"
    seeds.mkdir()
    for number, data in enumerate(target.seeds()):
        (seeds / str(number)).write_bytes(data)
    words = folder / "tokens"
    words.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in token) + '"\n' for token in target.tokens))

    def one_input(data: bytes) -> None:
        try:
            run_bounded(target, data)
        except Exception as problem:
            path = save(target, data, f"{type(problem).__name__}: {str(problem)[:100]}".replace("\n", " "))
            print(f"saved as {path}", file=sys.stderr)
            raise

    arguments = [
        sys.argv[0], str(grown), str(seeds), *([f"-dict={words}"] if target.tokens else []), f"-max_total_time={int(seconds)}",
        f"-seed={seed & 0x7FFFFFFF or 1}", f"-max_len={BYTES_MAX}", "-timeout=30", "-rss_limit_mb=4096",
        f"-artifact_prefix={folder}/", "-print_final_stats=1",
        "-verbosity=1",
    ]  # fmt: skip
    atheris.Setup(arguments, one_input)
    with limited_address_space():
        atheris.Fuzz()
    return 0
