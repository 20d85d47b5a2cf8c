"""hhcl review: the page from a server that saves every answer, and what that server refuses."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from contextlib import contextmanager

import pytest
import torch
from crops import ODD_PATHS, draw
from pages import Shown, wait_until
from playwright.sync_api import expect
from torch.nn.functional import normalize

from hhcl_torchreid.commands import main
from hhcl_torchreid.data.corrections import read_corrections
from hhcl_torchreid.identities import ReviewServer, compare_with_centroids

HEAD = "answer,path,other,name\n"


PATHS = [*"abcd", *ODD_PATHS]


@pytest.fixture
def folder(tmp_path):
    """Results that respect one answer."""
    for number, path in enumerate(PATHS):
        draw(tmp_path / "crops", path, colour=(20 * number, 0, 0))
    features = normalize(torch.rand(len(PATHS), 4, generator=torch.Generator().manual_seed(0)), dim=1)
    found = compare_with_centroids(features, torch.arange(len(PATHS)) % 2)
    Shown(tmp_path, PATHS, ["c"] * len(PATHS), found, answers=[("same", "a", "c", "")])
    for name in ("features.npz", "identities.csv"):
        (tmp_path / "out" / name).write_text("not for the browser", encoding="utf-8")
    return tmp_path / "out"


@contextmanager
def serving(folder):
    with ReviewServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server, path, method="GET", body=None, **headers):
    """Status, headers and content of a raw request, whose path is sent as it stands."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    if body is not None and "Content_Length" not in headers:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def save(server, text, result=None, token=None):
    result = result or server.result.data["id"]
    return ask(server, f"/{token or server.token}/corrections.csv?id={result}", "POST", text.encode())[0]


def data_of(server):
    script = ask(server, f"/{server.token}/page/data.js")[2]
    return json.loads(json.loads(script.removeprefix(b"window.identityData = JSON.parse(").removesuffix(b");\n")))


def answers_in(folder):
    return [answer[:4] for answer in read_corrections(folder / "corrections.csv")]


def test_it_gives_the_page_and_its_images_and_nothing_else(folder):
    with serving(folder) as server:
        page = f"/{server.token}/"
        status, headers, content = ask(server, page)
        assert status == 200 and content == (folder / "index.html").read_bytes()
        assert headers["Cache-Control"] == "no-store" and headers["Content-Type"].startswith("text/html")
        assert (
            ask(server, page + "page/thumbnails/000/0.jpg")[2]
            == (folder / "page" / "thumbnails" / "000" / "0.jpg").read_bytes()
        )
        assert data_of(server)["path"] == PATHS
        for path in PATHS:
            address = urllib.parse.quote(os.fsencode(path))
            assert ask(server, f"{page}images/{address}")[2] == (folder.parent / "crops" / path).read_bytes(), path
        (folder / "page" / "way_out").symlink_to(folder / "features.npz")
        hidden = ["features.npz", "identities.csv", "page/../features.npz", "page/%2e%2e/features.npz", "page/way_out"]
        hidden += ["../crops/a", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd", "page", "page/%00", "images/"]
        hidden += ["images/../out/features.npz", "images/%2e%2e/out/features.npz", "images//etc/passwd"]
        for path in hidden:
            assert ask(server, page + path)[0] == 404, path


def test_whoever_does_not_know_the_address_is_refused(folder):
    with serving(folder) as server:
        host = f"127.0.0.1:{server.server_port}"
        for path in ("/", "/index.html", "/page/data.js", f"/{server.token[:-1]}/", f"/{server.token}", "/%ff%00/"):
            assert ask(server, path)[0] == 403, path
        for other in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1", ""):
            assert ask(server, f"/{server.token}/", Host=other)[0] == 403, other
        assert ask(server, f"/{server.token}/", Host=host)[0] == 200
        assert save(server, HEAD, token="guessed") == 403
        assert ask(server, f"/{server.token}/index.html", "POST", b"")[0] == 403
        assert ask(server, f"/{server.token}/", "DELETE")[0] == 501
    assert not (folder / "corrections.csv").exists()
    assert server.server_address[0] == "127.0.0.1"


def test_answers_take_the_place_of_those_before_and_leave_what_the_result_respects(folder):
    (folder / "corrections.csv").write_text(f"{HEAD}nobody,left/out.jpg,,\nsame,a,c,\n", encoding="utf-8")
    before = answers_in(folder)
    with serving(folder) as server:
        assert save(server, f"{HEAD}name,b,,Ann\n") == 200
        assert answers_in(folder) == [*before, ("name", "b", "", "Ann")]
        assert save(server, f"{HEAD}different,c,a,\n") == 200
        assert answers_in(folder) == [before[0], ("different", "c", "a", "")]
    with serving(folder) as server:  # another day: the page goes on with what it said
        assert data_of(server)["given"] == f"{HEAD}different,c,a,\n"
        assert save(server, HEAD) == 200
    assert answers_in(folder) == before


def test_what_is_no_table_of_answers_is_refused_and_changes_nothing(folder):
    with serving(folder) as server:
        assert save(server, f"{HEAD}nobody,b,,\n") == 200
        before = (folder / "corrections.csv").read_bytes()
        for table in ("", "path\n", f"{HEAD}nobody,elsewhere.jpg,,\n", f"{HEAD}perhaps,a,b,\n", f'{HEAD}nobody,"a,,\n'):
            assert save(server, table) == 409, table
        assert save(server, HEAD, result="another") == 409
        place = f"/{server.token}/corrections.csv?id={server.result.data['id']}"
        assert ask(server, place, "POST", HEAD.encode("utf-16"))[0] == 409
        assert ask(server, place, "POST")[0] == 411
        assert ask(server, place, "POST", Content_Length="-1")[0] == 411
        assert ask(server, place, "POST", Content_Length=str(1 << 40))[0] == 413
        assert (folder / "corrections.csv").read_bytes() == before


def test_the_page_saves_each_answer_and_goes_on_after_a_reload(browser, folder):
    with serving(folder) as server:
        page, complaints = browser.new_page(), []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(server.address + "#view=hard")
        page.wait_for_selector("html[data-ready]")
        first = page.locator("#results .card .file").first.text_content()
        page.keyboard.press("x")
        page.keyboard.press("x")
        page.keyboard.press("x")
        wait_for_answers(page, folder, 2)
        assert ("nobody", first, "", "") in [tuple(answer) for answer in answers_in(folder)]
        page.keyboard.press("u")
        wait_for_answers(page, folder, 1)
        page.evaluate("location.hash = 'open=0&image=4'")  # an image with an odd name, itself and not its thumbnail
        wait_until(page, "document.querySelector('.large')?.naturalHeight > 0")
        assert "/images/" in page.locator(".large").evaluate("image => image.src")
        page.close()
        # Another browser has nothing but what the folder keeps.
        page = browser.new_page()
        page.goto(server.address)
        page.wait_for_selector("html[data-ready]")
        expect(page.locator("#save")).to_have_text("Save corrections (1)")
        page.keyboard.press("5")
        expect(page.locator("#results .card .file")).to_have_text([first])
        assert complaints == []
    page.keyboard.press("1")
    page.keyboard.press("u")
    expect(page.locator("#trouble")).to_contain_text("Not saved: hhcl review has ended")
    page.close()


def wait_for_answers(page, folder, number):
    for _ in range(200):
        if (folder / "corrections.csv").exists() and len(answers_in(folder)) == number + 1:
            return
        page.wait_for_timeout(25)
    raise AssertionError(answers_in(folder))


def test_the_command_says_its_address_and_ends_with_ctrl_c(folder):
    command = [sys.executable, "-m", "hhcl_torchreid", "review", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    address = process.stdout.readline().split()[1]
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == (folder / "index.html").read_bytes()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted by SIGINT" in error


def test_a_folder_without_a_page_and_a_port_that_is_taken_are_named(folder, tmp_path, capsys):
    assert main(["review", str(tmp_path / "crops")]) == 2
    assert "holds no page of identities" in capsys.readouterr().err
    with serving(folder) as server:
        assert main(["review", str(folder), "--port", str(server.server_port)]) == 2
    error = capsys.readouterr().err
    assert f"cannot serve at port {server.server_port}" in error and "set --port" in error
