"""이 폴더에서 `python3 -m unittest`. Belfry도 네트워크도 없이, 127.0.0.1의 가짜 Spotify만 쓴다."""
import base64
import contextlib
import hashlib
import http.server
import io
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.parse
import urllib.request
from pathlib import Path
from unittest import mock

import related_artists
import top_tracks

HERE = Path(__file__).resolve().parent
DATE = "2026-07-09"


def run_script(script, cwd=HERE, **env):
    """Belfry처럼 실행한다: 환경은 물려받지 않고, 표준 입력은 비어 있다."""
    base = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1", "BELFRY_DATE": DATE}
    return subprocess.run([sys.executable, str(HERE / script)], cwd=cwd, env={**base, **env},
                          stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=30)


def publish(source, target):
    """Belfry가 하는 발행을 흉내 낸다: 데이터, 그다음 _manifest.json, 맨 나중에 _SUCCESS."""
    target.mkdir(parents=True)
    files = []
    for path in sorted(source.rglob("*")):
        data = path.read_bytes()
        (target / path.name).write_bytes(data)
        files.append({"path": path.name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    (target / "_manifest.json").write_text(json.dumps({
        "job": "top-tracks", "run": "01J2A3B4C5D6E7F8G9HJKMNPQR", "attempt": 1, "fires_at": "2026-07-08T16:00:00Z",
        "date": DATE, "release": "", "files": files}), encoding="utf-8")
    (target / "_SUCCESS").touch()


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class Spotify(http.server.ThreadingHTTPServer):
    """sample/의 응답을 주는 가짜 Spotify. answers에 경로별로 먼저 줄 응답을 넣어 둘 수 있다."""
    daemon_threads = True
    user, secret, token = "id", "secret:with:colons", "a-token"

    def __init__(self):
        super().__init__(("127.0.0.1", 0), SpotifyHandler)
        self.answers = {}           # 경로의 처음 → [(상태, 헤더, 내용), …]
        self.requests = []          # [(경로, 매개변수), …]

    def env(self):
        url = f"http://127.0.0.1:{self.server_address[1]}"
        return {"SPOTIFY_API_URL": url, "SPOTIFY_ACCOUNTS_URL": url + "/",
                "SPOTIFY_CLIENT_ID": self.user, "SPOTIFY_CLIENT_SECRET": self.secret}

    def batches(self):
        return [params["ids"].split(",") for path, params in self.requests if path == "/v1/audio-features"]


class SpotifyHandler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        basic = base64.b64encode(f"{self.server.user}:{self.server.secret}".encode()).decode()
        if self.path != "/api/token" or body != b"grant_type=client_credentials":
            self.answer(404, {}, {"error": "not_found"})
        elif self.headers["Authorization"] != f"Basic {basic}":
            self.answer(400, {}, {"error": "invalid_client"})
        else:
            self.answer(200, {}, {"access_token": self.server.token, "token_type": "Bearer", "expires_in": 3600})

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        params = dict(urllib.parse.parse_qsl(url.query))
        self.server.requests.append((url.path, params))
        for prefix, prepared in self.server.answers.items():
            if url.path.startswith(prefix) and prepared:
                return self.answer(*prepared.pop(0))
        if self.headers["Authorization"] != f"Bearer {self.server.token}":
            return self.answer(401, {}, {"error": {"status": 401}})
        if url.path == "/v1/audio-features" and params["ids"].count(",") >= 100:
            return self.answer(400, {}, {"error": {"status": 400, "message": "Too many ids requested"}})
        if url.path.endswith("/top-tracks") and params.get("market") != "KR":
            return self.answer(400, {}, {"error": {"status": 400, "message": "Invalid market"}})
        self.answer(200, {}, top_tracks.get_sample(url.path, **params))

    def answer(self, status, headers, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def log_message(self, *args):
        pass


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.output = self.folder / "output"

    def succeeds(self, script, **env):
        done = run_script(script, BELFRY_OUTPUT=str(self.output), **env)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        return done.stdout

    def fails(self, script, saying, **env):
        done = run_script(script, **{"BELFRY_OUTPUT": str(self.output), **env})
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(saying, done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        self.assertFalse(self.output.exists(), "실패한 실행이 결과를 남겼다")
        return done.stderr


class TopTracksFromSample(Case):
    def test_writes_two_data_sets(self):
        said = self.succeeds("top_tracks.py")
        self.assertIn(f"아티스트 36명의 {DATE} 인기곡", said)
        self.assertIn("지어낸 것", said)
        self.assertEqual(files(self.output), ["audio-features/audio_features.jsonl", "top-tracks/top_tracks.jsonl"])

        tracks = rows(self.output / "top-tracks" / "top_tracks.jsonl")
        self.assertEqual(tracks[0], {
            "artist_id": "SampleArtist0000000001", "artist_name": "아이유", "rank": 1,
            "track_id": "SampleTrack00000000001", "track_name": "밤편지", "popularity": tracks[0]["popularity"],
            "duration_ms": tracks[0]["duration_ms"], "snapshot_date": DATE})
        self.assertEqual(len({row["artist_id"] for row in tracks}), 36)
        self.assertIn("아이유", (self.output / "top-tracks" / "top_tracks.jsonl").read_text(encoding="utf-8"))

        features = rows(self.output / "audio-features" / "audio_features.jsonl")
        ids = [row["track_id"] for row in features]
        self.assertGreater(len(ids), 100, "묶음이 하나면 이 예제가 보여 주는 것이 줄어든다")
        self.assertEqual(len(ids), len(set(ids)))
        self.assertEqual(set(ids), {row["track_id"] for row in tracks})
        self.assertEqual(set(features[0]), {"track_id", "snapshot_date", *top_tracks.FEATURES})

    def test_says_how_to_run_it_without_belfry(self):
        self.assertIn("BELFRY_OUTPUT", self.fails("top_tracks.py", "belfry run top-tracks", BELFRY_OUTPUT=""))
        self.assertIn("BELFRY_DATE", self.fails("top_tracks.py", "belfry run top-tracks", BELFRY_DATE=""))

    def test_refuses_half_of_the_credentials(self):
        self.fails("top_tracks.py", "SPOTIFY_CLIENT_SECRET: 값이 없습니다", SPOTIFY_CLIENT_ID="id")
        self.fails("top_tracks.py", "SPOTIFY_CLIENT_ID: 값이 없습니다", SPOTIFY_CLIENT_SECRET="secret")


class TopTracksFromApi(Case):
    def setUp(self):
        super().setUp()
        self.spotify = Spotify()
        thread = threading.Thread(target=self.spotify.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.addCleanup(self.spotify.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(self.spotify.shutdown)

    def test_gets_what_the_sample_has_through_429_and_503(self):
        again = {"Retry-After": "0"}
        self.spotify.answers = {"/v1/artists/": [(429, again, {}), (429, again, {}), (503, again, b"busy")],
                                "/v1/audio-features": [(429, again, {})]}
        done = run_script("top_tracks.py", BELFRY_OUTPUT=str(self.output), **self.spotify.env())
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr.count("HTTP 429. 0초 뒤에 다시 합니다."), 3)
        self.assertEqual(done.stderr.count("HTTP 503. 0초 뒤에 다시 합니다."), 1)

        sizes = [len(batch) for batch in self.spotify.batches()]
        self.assertEqual(sizes, [100, 100, 100, 1], "429를 받은 첫 묶음은 두 번 묻는다")
        from_api, self.output = self.output, self.folder / "sample"
        self.succeeds("top_tracks.py")
        for name in files(self.output):
            self.assertEqual((from_api / name).read_bytes(), (self.output / name).read_bytes(), name)

    def test_gives_up_after_five_times(self):
        self.spotify.answers = {"/v1/artists/": [(500, {"Retry-After": "0"}, {})] * 9}
        self.fails("top_tracks.py", "5번 해 보고 그만둡니다", **self.spotify.env())
        self.assertEqual(len(self.spotify.requests), 5)

    def test_tries_again_after_an_answer_cut_short(self):
        self.spotify.answers = {"/v1/artists/": [(200, {"Content-Length": "99"}, b'{"tra'), (200, {}, b'{"tra')]}
        request = urllib.request.Request(self.spotify.env()["SPOTIFY_API_URL"] + "/v1/artists/SampleArtist0000000001"
                                         "/top-tracks?market=KR", headers={"Authorization": "Bearer a-token"})
        with mock.patch.dict(os.environ, {"no_proxy": "*"}), mock.patch("time.sleep") as sleep, \
                contextlib.redirect_stderr(io.StringIO()) as said:
            answer = top_tracks.call(request)
        self.assertEqual(answer["tracks"][0]["name"], "밤편지")
        self.assertEqual([call.args for call in sleep.call_args_list], [(2,), (4,)])
        self.assertIn("4초 뒤에 다시 합니다", said.getvalue())

    def test_does_not_wait_for_hours(self):
        self.spotify.answers = {"/v1/artists/": [(429, {"Retry-After": "43200"}, {})]}
        self.fails("top_tracks.py", "43200초", **self.spotify.env())
        self.assertEqual(len(self.spotify.requests), 1)

    def test_does_not_repeat_what_was_refused(self):
        self.spotify.answers = {"/v1/audio-features": [(403, {}, {})]}
        self.fails("top_tracks.py", "권한이 없습니다", **self.spotify.env())
        self.assertEqual(len(self.spotify.batches()), 1)

    def test_refused_credentials_stay_out_of_the_log(self):
        wrong = {**self.spotify.env(), "SPOTIFY_CLIENT_SECRET": "hunter2"}
        self.assertNotIn("hunter2", self.fails("top_tracks.py", "자격 증명", **wrong))
        self.assertEqual(self.spotify.requests, [])

    def test_leaves_out_tracks_without_features(self):
        self.spotify.answers = {"/v1/audio-features": [(200, {}, {"audio_features": [None] * 100})]}
        self.succeeds("top_tracks.py", **self.spotify.env())
        self.assertEqual(len(rows(self.output / "audio-features" / "audio_features.jsonl")), 101)


class RelatedArtists(Case):
    def setUp(self):
        super().setUp()
        self.succeeds("top_tracks.py")
        self.lake = self.folder / "lake"
        for name in ("top-tracks", "audio-features"):
            publish(self.output / name, self.lake / name / f"dt={DATE}")
        self.output = self.folder / "related"

    def partition(self, name):
        return self.lake / name / f"dt={DATE}"

    def test_finds_three_for_each(self):
        said = self.succeeds("related_artists.py", LAKE=str(self.lake))
        self.assertEqual(files(self.output), ["related_artists.jsonl"])
        self.assertRegex(said, r"아이유 → \S.*, \S.*, \S")
        found = rows(self.output / "related_artists.jsonl")
        self.assertEqual(len(found), 36 * 3)
        for first, second, third in zip(found[::3], found[1::3], found[2::3]):
            self.assertEqual([row["rank"] for row in (first, second, third)], [1, 2, 3])
            self.assertEqual(len({row["related_id"] for row in (first, second, third)} | {first["artist_id"]}), 4)
            self.assertLessEqual(first["distance"], second["distance"])
            self.assertLessEqual(second["distance"], third["distance"])

    def test_reads_only_what_the_manifest_lists(self):
        (self.partition("top-tracks") / "left_behind.jsonl").write_text("no JSON", encoding="utf-8")
        self.succeeds("related_artists.py", LAKE=str(self.lake))

    def test_refuses_what_is_not_published(self):
        (self.partition("audio-features") / "_SUCCESS").unlink()
        self.fails("related_artists.py", "_SUCCESS가 없습니다", LAKE=str(self.lake))
        self.fails("related_artists.py", "dt=2026-07-10: _SUCCESS가 없습니다", LAKE=str(self.lake),
                   BELFRY_DATE="2026-07-10")

    def test_refuses_what_was_changed_after_publishing(self):
        path = self.partition("top-tracks") / "top_tracks.jsonl"
        path.write_bytes(path.read_bytes().replace("아이유".encode(), "아이돌".encode(), 1))
        self.fails("related_artists.py", "SHA-256과 다릅니다", LAKE=str(self.lake))

    def test_says_how_to_run_it_without_belfry(self):
        self.fails("related_artists.py", "belfry run top-tracks --with-after", BELFRY_OUTPUT="")

    def test_averages_and_distances(self):
        def feature(track_id, value):
            return {"track_id": track_id, **{name: value for name in related_artists.FEATURES}}
        tracks = [{"artist_id": artist, "track_id": track} for artist, track in
                  [("a", "1"), ("a", "2"), ("a", "unknown"), ("b", "3"), ("c", "4"), ("d", "unknown"), ("e", "3")]]
        averages = related_artists.average_features(
            tracks, [feature("1", 0.0), feature("2", 1.0), feature("3", 0.25), feature("4", 1.0)])
        self.assertEqual({artist: vector[0] for artist, vector in averages.items()},
                         {"a": 0.5, "b": 0.25, "c": 1.0, "e": 0.25})
        near, same, far = related_artists.nearest("a", averages)
        self.assertEqual([near[1], same[1], far[1]], ["b", "e", "c"])
        self.assertTrue(math.isclose(near[0], math.sqrt(7) * 0.25))


class Sample(unittest.TestCase):
    def test_has_the_shape_of_the_api(self):
        base62 = re.compile(r"[0-9A-Za-z]{22}\Z")
        known = {found["id"] for found in
                 json.loads((HERE / "sample/audio-features.json").read_text(encoding="utf-8"))["audio_features"]}
        used = set()
        for path in (HERE / "sample/top-tracks").iterdir():
            self.assertRegex(path.stem, base62)
            tracks = json.loads(path.read_text(encoding="utf-8"))["tracks"]
            self.assertTrue(3 <= len(tracks) <= 10, path.name)
            self.assertEqual(tracks, sorted(tracks, key=lambda track: -track["popularity"]))
            for track in tracks:
                self.assertRegex(track["id"], base62)
                self.assertIn(path.stem, [artist["id"] for artist in track["artists"]])
                used.add(track["id"])
        self.assertEqual(used, known)


if __name__ == "__main__":
    unittest.main()
