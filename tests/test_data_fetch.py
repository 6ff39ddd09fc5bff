"""Downloads from a server on this machine: only complete files are kept."""

import gzip
import hashlib
import http.server
import io
import ssl
import subprocess
import tarfile
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from refnet.cli.main import main
from refnet.data import fetch as fetching
from refnet.data.fetch import SETS, Download, cache, extract, fetch
from refnet.errors import ConfigError, DataError
from refnet.terminal.progress import Quiet


def tgz(entries):
    """Write an archive: (name, content) or a TarInfo that has no content."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
                continue
            info = tarfile.TarInfo(entry[0])
            info.size = len(entry[1])
            archive.addfile(info, io.BytesIO(entry[1]))
    return content.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what the server holds; an entry may be a function that answers itself."""

    def do_GET(self):
        content = self.server.contents.get(self.path)
        if callable(content):
            content(self)
        elif content is None:
            self.send_error(404)
        else:
            self.answer(content)

    def answer(self, content, length=None):
        self.send_response(200)
        if length != "none":
            self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def redirect(self, to):
        self.send_response(302)
        self.send_header("Location", to)
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    """Speaks TLS; a client that breaks off is no concern of its."""

    def finish_request(self, request, address):
        with self.context.wrap_socket(request, server_side=True) as secure:
            super().finish_request(secure, address)

    def handle_error(self, *_):
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    root = tmp_path_factory.mktemp("certificate")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", root / "key", "-out", root / "certificate"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files]
    subprocess.run(make, check=True, capture_output=True)
    return root


@pytest.fixture
def server(certificate):
    server = Server(("localhost", 0), Handler)
    server.contents = {}
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.load_cert_chain(certificate / "certificate", certificate / "key")
    server.url = f"https://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def offered(server, certificate, monkeypatch, tmp_path):
    """Offer contents as a data set named "mine", and fetch it."""
    context = ssl.create_default_context(cafile=certificate / "certificate")

    def offer(contents, unpack="tar", *, checksum=None, size=10_000_000, answers=None):
        files = []
        for name, content in contents.items():
            server.contents[f"/{name}"] = (answers or {}).get(name, content)
            summed = gzip.decompress(content) if unpack == "gzip" else content
            digits = checksum or f"sha256:{hashlib.sha256(summed).hexdigest()}"
            files.append(Download(f"{server.url}/{name}", digits, size, unpack))
        monkeypatch.setitem(SETS, "mine", tuple(files))
        return partial(fetch, "mine", tmp_path / "to", Quiet(), context=context)

    return offer


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(tmp_path):
    yield
    assert not list(tmp_path.glob(".*"))


def refused(get, match, tmp_path, error=DataError):
    with pytest.raises(error, match=match) as caught:
        get()
    assert str(caught.value).isprintable()
    assert not (tmp_path / "to").exists()


# What arrives


def test_an_archive(offered, tmp_path):
    get = offered(
        {"set.tgz": tgz([("set/train/a/1.jpg", b"one"), ("set/train/b/2.jpg", b"two" * 10**6)])}, size=4_000_000
    )
    assert get() == tmp_path / "to" / "set"
    found = {path.relative_to(tmp_path / "to").as_posix() for path in (tmp_path / "to").rglob("*") if path.is_file()}
    assert found == {"set/train/a/1.jpg", "set/train/b/2.jpg"}
    assert (tmp_path / "to" / "set/train/b/2.jpg").read_bytes() == b"two" * 10**6
    assert (tmp_path / "to").stat().st_mode & 0o777 == 0o755


def test_compressed_files_by_the_checksum_of_what_is_in_them(offered, tmp_path):
    get = offered({f"{name}.gz": gzip.compress(name.encode(), mtime=3) for name in ("images", "labels")}, "gzip")
    assert get() == tmp_path / "to"
    assert {path.name: path.read_bytes() for path in (tmp_path / "to").iterdir()} == {
        "images": b"images",
        "labels": b"labels",
    }


def test_a_file_as_it_is_and_a_redirection(offered, server, tmp_path):
    server.contents["/elsewhere"] = b"content"
    get = offered({"x": b"content"}, "", answers={"x": lambda h: h.redirect(f"{server.url}/elsewhere")})
    get()
    assert (tmp_path / "to" / "x").read_bytes() == b"content"


def test_the_cache(offered, server, monkeypatch, tmp_path):
    get = offered({"set.tgz": tgz([("set/a", b"one")])})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache() == tmp_path / "cache" / "refnet" / "data"
    context = get.keywords["context"]
    assert fetch("mine", None, Quiet(), context=context) == cache() / "mine" / "set"
    server.contents.clear()
    assert fetch("mine", None, Quiet(), context=context) == cache() / "mine" / "set"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache() == tmp_path / ".cache" / "refnet" / "data"


# What does not


def test_a_wrong_checksum(offered, tmp_path):
    get = offered({"set.tgz": tgz([("a", b"one")])}, checksum="md5:" + "0" * 32)
    refused(get, r"set\.tgz is not what it was: its md5 is [0-9a-f]{32}, expected 0{32}; nothing was kept", tmp_path)


def test_a_truncated_body(offered, tmp_path):
    content = tgz([("a", bytes(range(256)) * 400)])
    get = offered({"set.tgz": content}, answers={"set.tgz": lambda h: h.answer(content[:50], len(content))})
    refused(get, r"set\.tgz (broke off after 50 of|cannot be fetched)", tmp_path)


def test_a_truncated_body_whose_length_nobody_said(offered, tmp_path):
    content = tgz([("a", b"one")])
    get = offered({"set.tgz": content}, answers={"set.tgz": lambda h: h.answer(content[:50], "none")})
    refused(get, "is not what it was: its sha256", tmp_path)


def test_a_body_that_is_cut_in_gzip(offered, tmp_path):
    content = gzip.compress(b"images" * 99)
    get = offered({"images.gz": content}, "gzip", answers={"images.gz": content[:-10]})
    refused(get, r"images\.gz is damaged or cut short", tmp_path)


@pytest.mark.parametrize("length", [None, "none"])
def test_too_much(offered, tmp_path, length):
    """More than the set has is not written to the disk for ever."""
    content = bytes(3_000_000)
    get = offered({"x": content}, "", size=1_000_000, answers={"x": lambda h: h.answer(content, length)})
    refused(get, "sends more than 1,000,000 bytes", tmp_path)


def test_a_bomb_in_gzip(offered, tmp_path):
    get = offered({"x.gz": gzip.compress(bytes(3_000_000))}, "gzip", size=1_000_000)
    refused(get, "is more than 1,000,000 bytes uncompressed", tmp_path)


def test_no_such_file(offered, server, tmp_path):
    get = offered({"x": b"content"}, "")
    server.contents.clear()
    refused(get, "/x answers 404 Not Found", tmp_path)


def test_the_second_file_fails(offered, server, tmp_path):
    get = offered({"x": b"1", "y": b"2"}, "")
    del server.contents["/y"]
    refused(get, "/y answers 404", tmp_path)


@pytest.mark.parametrize("to", ["http://localhost:1/x", "file:///etc/passwd", "ftp://localhost/x"])
def test_a_redirection_to_something_else(offered, tmp_path, to):
    get = offered({"x": b"content"}, "", answers={"x": lambda h: h.redirect(to)})
    refused(get, "which is not https: nothing was fetched|is not allowed", tmp_path)


@pytest.mark.parametrize("url", ["http://localhost/x", "file:///etc/passwd"])
def test_addresses_that_are_not_https(offered, monkeypatch, tmp_path, url):
    get = offered({"x": b"content"}, "")
    monkeypatch.setitem(SETS, "mine", (replace(SETS["mine"][0], url=url),))
    refused(get, "is not https", tmp_path)


def test_a_server_that_nobody_vouches_for(offered, tmp_path):
    get = offered({"x": b"content"}, "")
    refused(partial(get, context=ssl.create_default_context()), "cannot be fetched .*certificate", tmp_path)


def test_no_server(offered, server, tmp_path):
    get = offered({"x": b"content"}, "")
    server.socket.close()
    refused(get, "/x cannot be fetched .*: see whether there is a network", tmp_path)


def test_a_server_that_says_nothing(offered, monkeypatch, tmp_path):
    released = threading.Event()
    get = offered({"x": b"content"}, "", answers={"x": lambda _: released.wait(20)})
    monkeypatch.setattr(fetching, "TIMEOUT", 0.2)
    refused(get, r"cannot be fetched \(.*timed out\)", tmp_path)
    released.set()


def test_places_that_are_taken(offered, tmp_path):
    get = offered({"x": b"content"}, "")
    (tmp_path / "to").mkdir()
    with pytest.raises(ConfigError, match="exists already: choose a new folder"):
        get()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        fetch("mine", tmp_path / "file" / "to", Quiet(), context=get.keywords["context"])


def test_unknown_sets():
    with pytest.raises(ConfigError, match="mnist is not known; there are cifar10, fashion-mnist, imagenette"):
        fetch("mnist", None, Quiet())


def test_every_set_is_pinned():
    for files in SETS.values():
        for file in files:
            algorithm, _, digits = file.checksum.partition(":")
            assert len(digits) == hashlib.new(algorithm).digest_size * 2
            assert file.url.startswith("https://")


def test_command(offered, tmp_path, monkeypatch, capsys):
    get = offered({"x": b"content"}, "")
    monkeypatch.setattr(ssl, "create_default_context", lambda *_, **__: get.keywords["context"])
    monkeypatch.setattr(ssl, "_create_default_https_context", lambda: get.keywords["context"])
    assert main(["data", "fetch", "mine", "--to", str(tmp_path / "to"), "--json"]) == 0
    assert f'"directory": "{tmp_path}/to"' in capsys.readouterr().out


# Archives that are hostile


def info(name, kind=tarfile.REGTYPE, link=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([("/etc/x", b"1")], "/etc/x in it is a name that leads elsewhere"),
        ([("../x", b"1")], r"\.\./x in it is a name that leads elsewhere"),
        ([("a/../../x", b"1")], "is a name that leads elsewhere"),
        ([("a\\..\\x", b"1")], "is a name that leads elsewhere"),
        ([info("../up", tarfile.DIRTYPE)], "is a name that leads elsewhere"),
        ([info("x", tarfile.SYMTYPE, "/etc/passwd")], "x in it is a link or a device"),
        ([info("x", tarfile.SYMTYPE, ".."), ("x/y", b"1")], "x in it is a link or a device"),
        ([info("x", tarfile.LNKTYPE, "/etc/passwd")], "x in it is a link or a device"),
        ([info("x", tarfile.FIFOTYPE)], "x in it is a link or a device"),
        ([info("x", tarfile.CHRTYPE)], "x in it is a link or a device"),
        ([info("x", tarfile.GNUTYPE_SPARSE)], "x in it is a link or a device|damaged"),
        ([("x", b"1"), ("x", b"2")], "x is in it twice"),
        ([("a/x", b"1"), ("a", b"2")], "a is in it twice"),
        ([("a", b"1"), ("a/x", b"2")], "a/x needs a folder where a file is"),
        ([("x", bytes(600)), ("y", bytes(600))], "y: more than 1,000 bytes"),
        ([("x\n\x1b[31m", bytes(2000))], r"x\\n\\x1b\[31m: more"),
    ],
)
def test_hostile_archives(tmp_path, entries, match):
    (tmp_path / "set.tgz").write_bytes(tgz(entries))
    (tmp_path / "to").mkdir()
    with pytest.raises(DataError, match=match) as caught:
        extract(tmp_path / "set.tgz", tmp_path / "to", 1000)
    assert str(caught.value).isprintable()
    assert {path.name for path in tmp_path.iterdir()} == {"set.tgz", "to"}
    assert not any(
        path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir())
        for path in tmp_path.rglob("*")
    )


def test_a_negative_size(tmp_path):
    """With which tarfile of Python 3.11.7 would go in a circle."""
    header = bytearray(info("x").tobuf())
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"  # -1024, in base 256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "set.tgz").write_bytes(gzip.compress(info("a").tobuf() + bytes(header) + bytes(1024)))
    (tmp_path / "to").mkdir()
    with pytest.raises(DataError, match="x in it has a negative size"):
        extract(tmp_path / "set.tgz", tmp_path / "to", 1000)


def test_a_hostile_archive_leaves_nothing(offered, tmp_path):
    get = offered({"set.tgz": tgz([("good", b"1"), ("../bad", b"2")])})
    refused(get, "leads elsewhere: nothing was kept", tmp_path)
    assert not (tmp_path.parent / "bad").exists()


def test_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "MAX_FILES", 3)
    (tmp_path / "set.tgz").write_bytes(tgz([(str(i), b"") for i in range(4)]))
    (tmp_path / "to").mkdir()
    with pytest.raises(DataError, match="3 is more than 3 files"):
        extract(tmp_path / "set.tgz", tmp_path / "to", 1000)


def test_an_account_without_a_home_is_told_to_name_a_folder(monkeypatch):
    def homeless():
        raise RuntimeError

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(ConfigError, match="no home folder to keep data in; name a folder with"):
        cache()
