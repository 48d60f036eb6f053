"""Answers of a language model: a real HTTP server that speaks the protocol, and files."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from alt_ray.corpus.answers import Answers, Endpoint, NobodyAnswersError, Suggestion, read_answers
from alt_ray.errors import CorpusError

ROPE = {"name": "rope", "category": "object", "description": "a thick cord."}


class Server(ThreadingHTTPServer):
    """Answers with what stands in `contents`, one after the other; an int is an HTTP status."""

    contents: list[str | int]
    asked: list[dict]


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
        content = self.server.contents.pop(0)
        if isinstance(content, int):
            self.send_error(content)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"choices": [{"message": {"content": content}}]}).encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), _Handler)
    server.contents, server.asked = [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def endpoint(server: Server, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    monkeypatch.setenv("MY_KEY", "secret")
    monkeypatch.setattr("time.sleep", lambda s: None)
    return Endpoint(f"http://127.0.0.1:{server.server_port}/v1/", "small", "MY_KEY")


def test_an_endpoint_is_asked_and_its_answer_read(server: Server, endpoint: Endpoint) -> None:
    server.contents = ["```json\n" + json.dumps({"entities": [ROPE]}) + "\n```"]
    assert endpoint.suggest("abseiling") == [Suggestion("rope", "object", "a thick cord.")]
    (asked,) = server.asked
    assert asked["path"] == "/v1/chat/completions"
    assert asked["key"] == "Bearer secret"
    assert asked["model"] == "small"
    assert '"abseiling"' in asked["messages"][0]["content"]


def test_a_busy_endpoint_is_asked_again_and_a_refusal_is_not(server: Server, endpoint: Endpoint) -> None:
    server.contents = [503, 429, json.dumps({"entities": []})]
    assert endpoint.suggest("a") == []
    server.contents = [401, json.dumps({"entities": []})]
    with pytest.raises(CorpusError, match=r"401.*MY_KEY"):
        endpoint.suggest("a")
    assert len(server.asked) == 4


@pytest.mark.parametrize("content", ["no JSON", "[]", '{"entities": [{"name": "x", "category": "sound"}]}'])
def test_a_useless_answer_costs_its_label_only(
    server: Server, endpoint: Endpoint, content: str, tmp_path: Path
) -> None:
    server.contents = [content, json.dumps({"entities": [ROPE]})]
    answers = Answers(tmp_path / "answers.jsonl", endpoint)
    assert answers.suggest("a") == []
    assert len(answers.problems) == 1
    assert "'a'" in answers.problems[0]
    assert [entry.name for entry in answers.suggest("b")] == ["rope"]


def test_answers_are_kept_and_not_asked_for_twice(server: Server, endpoint: Endpoint, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    server.contents = [json.dumps({"entities": [ROPE]})]
    Answers(file, endpoint).suggest("abseiling")
    assert read_answers(file) == {"abseiling": [Suggestion("rope", "object", "a thick cord.")]}
    assert Answers(file, endpoint).suggest("abseiling") == Answers(file).suggest("abseiling")
    assert len(server.asked) == 1
    assert Answers(file).suggest("rowing") == []


def test_where_nobody_listens_no_other_label_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("time.sleep", lambda s: None)
    answers = Answers(tmp_path / "answers.jsonl", Endpoint("http://127.0.0.1:9/v1", "m"))
    with pytest.raises(NobodyAnswersError, match="can't be asked"):
        answers.suggest("a")


def test_a_server_that_speaks_no_http_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda s: None)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for _ in range(3):
                connection = listening.accept()[0]
                connection.recv(1 << 16)
                connection.sendall(b"hello\n")
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(NobodyAnswersError, match="can't be asked: hello"):
            Endpoint(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", "m").suggest("a")


def test_three_labels_without_an_answer_are_enough(server: Server, endpoint: Endpoint) -> None:
    useful = json.dumps({"entities": [ROPE]})
    server.contents = ["no", "no", useful, "no", "no", "no"]
    answers = Answers(model=endpoint)
    for label in "abcde":
        answers.suggest(label)
    with pytest.raises(NobodyAnswersError, match="3 labels in a row"):
        answers.suggest("f")
    assert len(answers.problems) == 5


def test_answers_that_cannot_be_written_are_said(server: Server, endpoint: Endpoint, tmp_path: Path) -> None:
    server.contents = [json.dumps({"entities": [ROPE]})] * 2
    Answers(tmp_path / "new" / "answers.jsonl", endpoint).suggest("a")
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match="can't be written"):
        Answers(tmp_path / "file" / "answers.jsonl", endpoint).suggest("a")


def test_bad_lines_of_a_file_are_named(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text('{"label": "a", "entities": []}\n{"label": 3}\nno\n')
    with pytest.raises(CorpusError, match=r"2 bad lines[\s\S]*line 2[\s\S]*line 3"):
        read_answers(file)
    with pytest.raises(CorpusError, match="no such file"):
        Answers(tmp_path / "missing.jsonl")
