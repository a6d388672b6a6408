"""Files whose bytes were damaged: cut off, overwritten, doubled, mixed with what no export holds."""

from pathlib import Path
from random import Random

STRANGE_BYTES = (
    *(b'"', b"'", b"\x00", b"\r", b"\n\n", b"\\", b"\t", b";", b",,,,", b"\x1a", b"{", b"}]", b"[[[["),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\xed\xa0\x80", "\u202e\u200b\U0001f9ff".encode()),
    *(b"PAR1", b"ARROW1", b"\x1f\x8b", b"<html>", b"=cmd|'/c'!A1", b" " * 70_000),
    *(b"-", b"NaN", b"null", b"1e999", b"9" * 40, b"0000-00-00 00:00:00"),
)


def break_files(folder: Path, seed: int) -> list[str]:
    """Damages the bytes of one or more files below a folder; returns what was done, for a message."""
    rng = Random(seed)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    done = []
    for path in rng.sample(paths, min(len(paths), rng.randrange(1, 3))):
        content = bytearray(path.read_bytes())
        done += [f"{path.name}: {_damage(content, rng)}" for _ in range(rng.randrange(1, 6))]
        path.write_bytes(bytes(content))
    return done


def _damage(content: bytearray, rng: Random) -> str:
    place = rng.randrange(len(content) + 1)
    kind = rng.choice(["cut", "flip", "insert", "insert", "delete", "double", "swap line ends"])
    if kind == "cut":
        del content[place:]
    elif kind == "flip" and place < len(content):
        content[place] ^= 1 << rng.randrange(8)
    elif kind == "insert":
        strange = rng.choice(STRANGE_BYTES)
        content[place:place] = strange
        return f"{strange[:12]!r} put in at {place}"
    elif kind == "delete":
        del content[place : place + rng.randrange(1, 40)]
    elif kind == "double":
        content[place:place] = content[place : place + rng.randrange(1, 200)]
    elif kind == "swap line ends":
        content[:] = content.replace(b"\n", rng.choice([b"\r", b"\r\n", b"\n\r"]))
    return f"{kind} at {place}"
