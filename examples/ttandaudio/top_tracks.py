#!/usr/bin/env python3
"""아티스트마다 인기곡을 받고, 그 곡들의 오디오 특징을 받아 $BELFRY_OUTPUT에 남긴다.

Belfry와 한 약속은 셋뿐이다.
  1. 날짜는 시계가 아니라 $BELFRY_DATE에서 읽는다. 사흘 뒤에 다시 돌려도 그날의 결과다.
  2. 결과는 $BELFRY_OUTPUT 아래에만 쓴다. 어디로 보낼지는 belfry.yaml의 publish가 정한다.
  3. 실패하면 0이 아닌 코드로 끝난다. 그러면 아무것도 발행되지 않고, retry가 다시 돌린다.
"""
import base64
import csv
import functools
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
API_URL = os.environ.get("SPOTIFY_API_URL", "https://api.spotify.com").rstrip("/")
ACCOUNTS_URL = os.environ.get("SPOTIFY_ACCOUNTS_URL", "https://accounts.spotify.com").rstrip("/")
MARKET = os.environ.get("MARKET", "KR")

BATCH = 100     # audio-features가 한 번에 받는 곡 수의 한계
ATTEMPTS = 5    # 요청 하나를 보내는 횟수의 한계
TIMEOUT = 20    # 응답을 기다리는 시간, 초
MAX_WAIT = 60   # 이보다 오래 기다리라고 하면 그만두고 retry에 맡긴다, 초

FEATURES = ("danceability", "energy", "speechiness", "acousticness", "instrumentalness", "liveness",
            "valence", "tempo", "loudness", "key", "mode", "time_signature")

REFUSED = "자격 증명과 artists.csv의 id를 확인하세요. 저장소에 있는 id는 지어낸 것입니다."
FORBIDDEN = "이 Spotify 앱에는 이 API를 쓸 권한이 없습니다. README.md의 'The real API'를 보세요."


def main():
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8")  # 로캘이 무엇이든 한국어로 쓴다
    date, output = from_belfry("BELFRY_DATE"), Path(from_belfry("BELFRY_OUTPUT"))
    get = source()
    with open(HERE / "artists.csv", encoding="utf-8-sig", newline="") as file:
        artists = list(csv.DictReader(file))

    print(f"아티스트 {len(artists)}명의 {date} 인기곡을 모읍니다.")
    tracks = fetch_top_tracks(get, artists, date)
    if not tracks:
        sys.exit("인기곡이 한 곡도 없습니다. artists.csv를 확인하세요.")
    track_ids = list(dict.fromkeys(row["track_id"] for row in tracks))  # 함께 부른 곡은 한 번만 묻는다
    features = fetch_audio_features(get, track_ids, date)

    write_rows(output / "top-tracks" / "top_tracks.jsonl", tracks)
    write_rows(output / "audio-features" / "audio_features.jsonl", features)
    print(f"인기곡 {len(tracks)}줄, 오디오 특징 {len(features)}줄을 남겼습니다.")


def from_belfry(name):
    return os.environ.get(name) or sys.exit(
        f"환경 변수 {name}: 값이 없습니다. Belfry로 실행하거나 직접 정해 주세요:\n"
        "  belfry run top-tracks\n"
        "  BELFRY_OUTPUT=/tmp/output BELFRY_DATE=2026-07-09 python3 top_tracks.py")


def fetch_top_tracks(get, artists, date):
    rows = []
    for artist in artists:
        answer = get(f"/v1/artists/{artist['id']}/top-tracks", market=MARKET)
        for rank, track in enumerate(answer["tracks"], start=1):
            rows.append({"artist_id": artist["id"], "artist_name": artist["name"], "rank": rank,
                         "track_id": track["id"], "track_name": track["name"],
                         "popularity": track["popularity"], "duration_ms": track["duration_ms"],
                         "snapshot_date": date})
    return rows


def fetch_audio_features(get, track_ids, date):
    rows = []
    for start in range(0, len(track_ids), BATCH):
        batch = track_ids[start:start + BATCH]
        answer = get("/v1/audio-features", ids=",".join(batch))
        rows += [{"track_id": found["id"], **{name: found[name] for name in FEATURES}, "snapshot_date": date}
                 for found in answer["audio_features"] if found]  # 특징을 모르는 곡의 자리는 null이다
        print(f"오디오 특징: {len(track_ids)}곡 가운데 {start + len(batch)}곡을 물었습니다.")
    return rows


def source():
    """응답을 어디에서 읽을지 고른다: 자격 증명이 있으면 Spotify, 없으면 sample/."""
    names = ("SPOTIFY_CLIENT_ID", "SPOTIFY_CLIENT_SECRET")
    missing = [name for name in names if not os.environ.get(name)]
    if len(missing) == 1:
        sys.exit(f"환경 변수 {missing[0]}: 값이 없습니다. {names[0]}, {names[1]} 둘 다 있어야 합니다.")
    if missing:
        print("자격 증명이 없어서 sample/의 응답을 읽습니다. 숫자는 지어낸 것입니다.")
        return get_sample
    print(f"Spotify API에서 읽습니다: {API_URL}")
    return functools.partial(get_api, get_token(*(os.environ[name] for name in names)))


def get_sample(path, **params):
    """API와 같은 모양의 응답을 sample/에서 읽는다."""
    if path == "/v1/audio-features":
        answer = json.loads((HERE / "sample" / "audio-features.json").read_text(encoding="utf-8"))
        known = {found["id"]: found for found in answer["audio_features"]}
        return {"audio_features": [known.get(track_id) for track_id in params["ids"].split(",")]}
    artist_id = path.split("/")[3]
    file = HERE / "sample" / "top-tracks" / f"{artist_id}.json"
    if not file.exists():
        sys.exit(f"sample/에 없는 아티스트입니다: {artist_id}. 실제 API를 쓰려면 README.md를 보세요.")
    return json.loads(file.read_text(encoding="utf-8"))


def get_api(token, path, **params):
    url = f"{API_URL}{path}?{urllib.parse.urlencode(params)}"
    return call(urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"}))


def get_token(client_id, client_secret):
    basic = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
    return call(urllib.request.Request(
        f"{ACCOUNTS_URL}/api/token", data=b"grant_type=client_credentials",
        headers={"Authorization": f"Basic {basic}"}))["access_token"]


def call(request):
    """요청을 보내고 JSON을 돌려준다. 429, 5xx, 끊긴 연결은 ATTEMPTS번까지 다시 해 본다."""
    where = request.full_url.split("?")[0]
    for attempt in range(1, ATTEMPTS + 1):
        wait = 2 ** attempt
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            problem = f"HTTP {error.code}"
            if error.code != 429 and error.code < 500:
                sys.exit(f"{where}: {problem}. {FORBIDDEN if error.code == 403 else REFUSED}")
            if error.headers.get("Retry-After", "").isdigit():
                wait = int(error.headers["Retry-After"])  # 서버가 기다리라는 만큼
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem = f"{error}"
        if attempt == ATTEMPTS or wait > MAX_WAIT:
            sys.exit(f"{where}: {problem}. {attempt}번 해 보고 그만둡니다 (다음 시도는 {wait}초 뒤).")
        print(f"{where}: {problem}. {wait}초 뒤에 다시 합니다.", file=sys.stderr)
        time.sleep(wait)


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    main()
