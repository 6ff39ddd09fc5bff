"""Download public data sets to the user's cache, whole and as their publishers made them, or not at all.

Each file has one address and one checksum, and nothing is kept whose checksum differs. What is downloaded goes to a
temporary directory next to the final one, and is renamed when it is complete; so a data set is complete or absent.
Nothing else in refnet uses the network.

Sources of the checksums: CIFAR-10, the MD5 on its own page; Imagenette, the MD5 that torchvision states. Fashion-MNIST
is compressed differently in different places, so the SHA-256 is of the uncompressed files, as they come out of
Debian's package.
"""

import gzip
import hashlib
import http.client
import os
import shutil
import ssl
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import IO, BinaryIO
from urllib.parse import urlsplit

from refnet.data.archive import regular
from refnet.errors import ConfigError, DataError
from refnet.machine.version import __version__
from refnet.terminal.printable import printable, reason
from refnet.terminal.progress import Advance, Show
from refnet.terminal.spelling import setting
from refnet.terminal.suggestion import did_you_mean

BLOCK = 1 << 18
TIMEOUT = 60.0  # seconds without a byte
MAX_FILES = 1 << 16  # in an archive


@dataclass(frozen=True)
class Download:
    """A file to download.

    Attributes
    ----------
    checksum
        The algorithm and the digits, as in "md5:...".
    size
        Largest number of bytes of the file, and of everything unpacked from it.
    unpack
        "" for a file kept as it is, "gzip" for one that is uncompressed (the checksum is then of what comes out), "tar"
        for an archive that is unpacked.
    """

    url: str
    checksum: str
    size: int
    unpack: str = ""


_FASHION = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
SETS: dict[str, tuple[Download, ...]] = {
    "cifar10": (
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "md5:c32a1d4ab5d03f1284b67883e8d87530",
            200_000_000,
            "tar",
        ),
    ),
    "fashion-mnist": tuple(
        Download(f"{_FASHION}{name}.gz", f"sha256:{digits}", 50_000_000, "gzip")
        for name, digits in {
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        }.items()
    ),
    "imagenette": (
        Download(
            "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz",
            "md5:3df6f0d01a2c9592104656642f5e78a3",
            500_000_000,
            "tar",
        ),
    ),
}


def fetch(name: str, to: Path | None, show: Show, *, context: ssl.SSLContext | None = None) -> Path:
    """Download a data set; return the directory to train on.

    Parameters
    ----------
    to
        The directory to make; None for one in the user's cache, which is returned as it is if it is there.
    context
        The certificates to trust; the system's by default.

    Raises
    ------
    ConfigError
        There is no such data set, or the directory holds something already or cannot be written.
    DataError
        The network fails, a checksum differs, or an archive has an unsafe member.
    """
    if name not in SETS:
        raise ConfigError(
            f"data set {printable(name)} is not known; there are {', '.join(SETS)}{did_you_mean(name, SETS)}"
        )
    place = to or cache() / name
    if place.exists():
        if to is None:
            return _inside(place)
        raise ConfigError(f"{setting('to', place)} exists already: choose a new folder, so that nothing is overwritten")
    with _made_whole(place) as workplace:
        for file in SETS[name]:
            _download(file, workplace, show, context)
    return _inside(place)


def cache() -> Path:
    """Return the directory of fetched data sets: refnet/data in the user's cache.

    Raises ``ConfigError`` for an account that has no home folder.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError as error:
            raise ConfigError(
                f"this account has no home folder to keep data in; name a folder with {setting('to')}"
            ) from error
    return base / "refnet" / "data"


def _inside(place: Path) -> Path:
    """Return the only folder in a directory, as archives make it; the directory itself if it has more."""
    inner = list(place.iterdir())
    return inner[0] if len(inner) == 1 and inner[0].is_dir() else place


@contextmanager
def _made_whole(place: Path) -> Iterator[Path]:
    """Yield a temporary directory; rename it to `place` on success and delete it on failure."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        workplace = Path(mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        try:
            yield workplace
            workplace.chmod(0o755)
            workplace.rename(place)
        finally:
            shutil.rmtree(workplace, ignore_errors=True)
    except OSError as error:
        raise ConfigError(
            f"{printable(error.filename or place)} cannot be written: {error.strerror}; make room, or choose another "
            f"directory with {setting('to')}"
        ) from error


def _download(file: Download, workplace: Path, show: Show, context: ssl.SSLContext | None) -> None:
    name = PurePosixPath(urlsplit(file.url).path).name
    with show.task(f"fetching {name}") as advance:
        path = workplace / name
        _receive(file, path, advance, context)
    if file.unpack == "gzip":
        whole = workplace / name.removesuffix(".gz")
        _uncompress(file, path, whole)
        path.unlink()
        path = whole
    algorithm, _, expected = file.checksum.partition(":")
    with path.open("rb") as stream:
        actual = hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    if actual != expected:
        raise DataError(
            f"{file.url} is not what it was: its {algorithm} is {actual}, expected {expected}; nothing was kept. Try "
            f"again, or get the files elsewhere and give their folder with {setting('data')}"
        )
    if file.unpack == "tar":
        extract(path, workplace, file.size)
        path.unlink()


def _receive(file: Download, path: Path, advance: Advance, context: ssl.SSLContext | None) -> None:
    """Write the server's answer to a file, with progress."""
    request = urllib.request.Request(file.url, headers={"User-Agent": f"refnet/{__version__}"})  # noqa: S310
    opener = urllib.request.build_opener(_Secure(), urllib.request.HTTPSHandler(context=context))
    try:
        if urlsplit(file.url).scheme != "https":
            raise DataError(f"{file.url} is not https: nothing else is fetched")
        with opener.open(request, timeout=TIMEOUT) as response, path.open("wb") as out:
            promised = int(response.headers.get("Content-Length") or 0)
            done = 0
            while block := response.read(BLOCK):
                done += len(block)
                if done > file.size:
                    raise DataError(
                        f"{file.url} sends more than {file.size:,} bytes, which it should not; nothing was kept"
                    )
                out.write(block)
                advance(done, promised or file.size, f"{done / 1e6:.0f} MB")
            if promised and done < promised:
                raise DataError(f"{file.url} broke off after {done:,} of {promised:,} bytes: try again")
    except urllib.error.HTTPError as error:
        error.close()
        raise DataError(f"{file.url} answers {error.code} {printable(error.reason)}: try again later") from error
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        ConnectionError,
        TimeoutError,
        ssl.SSLError,
        ValueError,
    ) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        why = reason(cause) if isinstance(cause, Exception) else printable(cause)
        raise DataError(
            f"{file.url} cannot be fetched ({why}): see whether there is a network, and try again"
        ) from error


class _Secure(urllib.request.HTTPRedirectHandler):
    """Follows redirections to https only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != "https":
            fp.close()
            raise DataError(f"{req.full_url} leads to {printable(newurl)}, which is not https: nothing was fetched")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _uncompress(file: Download, path: Path, whole: Path) -> None:
    try:
        with gzip.open(path, "rb") as stream, whole.open("wb") as out:
            _copy(stream, out, file.size, f"{file.url} is more than {file.size:,} bytes uncompressed; nothing was kept")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{file.url} is damaged or cut short ({reason(error)}): try again") from error


def extract(archive: Path, to: Path, max_bytes: int) -> None:
    """Unpack a tar archive, trusting nothing in it.

    Only regular files are written, and only inside `to`; folders are made as needed. No existing file is overwritten.

    Raises
    ------
    DataError
        The archive is damaged; or it holds a link, a device, a name that is absolute, leads upwards or occurs twice; or
        more than `max_bytes` bytes or `MAX_FILES` files.
    """
    left = max_bytes
    try:
        with tarfile.open(archive, "r:*") as tar:
            for count, info in enumerate(regular(tar, printable(archive.name), remedy="nothing was kept"), start=1):
                where = f"{printable(archive.name)}: {printable(info.name)}"
                if count > MAX_FILES:
                    raise DataError(f"{where} is more than {MAX_FILES:,} files; nothing was kept")
                target = to / info.name
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                except (FileExistsError, NotADirectoryError) as error:
                    raise DataError(f"{where} needs a folder where a file is; nothing was kept") from error
                content = tar.extractfile(info)
                if content is None:
                    raise DataError(f"{where} cannot be read; nothing was kept")
                try:
                    out = target.open("xb")
                except FileExistsError as error:
                    raise DataError(f"{where} is in it twice; nothing was kept") from error
                with out:
                    left -= _copy(content, out, left, f"{where}: more than {max_bytes:,} bytes; nothing was kept")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{printable(archive.name)} is damaged or cut short ({reason(error)}); nothing was kept"
        ) from error


def _copy(source: IO[bytes] | gzip.GzipFile, out: BinaryIO, max_bytes: int, message: str) -> int:
    """Copy a stream; return its number of bytes. Raises ``DataError`` with the message for more than `max_bytes`."""
    done = 0
    while block := source.read(BLOCK):
        done += len(block)
        if done > max_bytes:
            raise DataError(message)
        out.write(block)
    return done
