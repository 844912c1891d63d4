#!/usr/bin/env python3
"""방금 발행된 파티션을 읽어, 소리가 가장 가까운 아티스트를 세 명씩 찾는다.

belfry.yaml의 `after: [top-tracks]` 덕분에 두 데이터가 모두 발행된 뒤에만, 같은 $BELFRY_DATE로 실행된다.
"""
import hashlib
import json
import math
import os
import statistics
import sys
from pathlib import Path

NEAREST = 3

# 모두 0과 1 사이에 있는 값이다. tempo(BPM)나 loudness(dB)를 섞으면 그 하나가 거리를 정해 버린다.
FEATURES = ("danceability", "energy", "speechiness", "acousticness", "instrumentalness", "liveness", "valence")


def main():
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8")  # 로캘이 무엇이든 한국어로 쓴다
    date, output = from_belfry("BELFRY_DATE"), Path(from_belfry("BELFRY_OUTPUT"))
    lake = Path(os.environ.get("LAKE", "lake"))

    tracks = read_partition(lake / "top-tracks" / f"dt={date}")
    features = read_partition(lake / "audio-features" / f"dt={date}")
    names = {row["artist_id"]: row["artist_name"] for row in tracks}
    averages = average_features(tracks, features)
    print(f"{date}: 아티스트 {len(averages)}명을 비교합니다.")

    rows = []
    for artist_id in averages:
        found = nearest(artist_id, averages)
        print(f"  {names[artist_id]} → {', '.join(names[other] for _, other in found)}")
        for rank, (distance, other) in enumerate(found, start=1):
            rows.append({"artist_id": artist_id, "artist_name": names[artist_id], "rank": rank,
                         "related_id": other, "related_name": names[other],
                         "distance": round(distance, 6), "snapshot_date": date})
    if not rows:
        sys.exit("비교할 아티스트가 두 명도 없습니다.")

    output.mkdir(parents=True, exist_ok=True)
    with open(output / "related_artists.jsonl", "w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    print(f"관련 아티스트 {len(rows)}줄을 남겼습니다.")


def from_belfry(name):
    return os.environ.get(name) or sys.exit(
        f"환경 변수 {name}: 값이 없습니다. Belfry로 실행하거나, 발행된 lake/ 옆에서 직접 정해 주세요:\n"
        "  belfry run top-tracks --with-after\n"
        "  BELFRY_OUTPUT=/tmp/output BELFRY_DATE=2026-07-09 python3 related_artists.py")


def read_partition(folder):
    """발행된 파티션 하나를 온전히 읽거나, 아니면 실패한다. 실패하면 retry가 조금 뒤에 다시 온다."""
    if not (folder / "_SUCCESS").exists():
        sys.exit(f"{folder}: _SUCCESS가 없습니다. 아직 발행되지 않았거나 바뀌는 중입니다.")
    manifest = json.loads((folder / "_manifest.json").read_text(encoding="utf-8"))
    rows = []
    for listed in manifest["files"]:  # 폴더에 있는 파일이 아니라, 목록에 있는 파일을 읽는다
        data = (folder / listed["path"]).read_bytes()
        if hashlib.sha256(data).hexdigest() != listed["sha256"]:
            sys.exit(f"{folder / listed['path']}: 내용이 _manifest.json의 SHA-256과 다릅니다.")
        rows += [json.loads(line) for line in data.splitlines()]
    return rows


def average_features(tracks, features):
    """아티스트마다 인기곡들의 특징을 평균 낸다. 특징을 모르는 곡은 세지 않는다."""
    vectors = {row["track_id"]: [row[name] for name in FEATURES] for row in features}
    by_artist = {}
    for row in tracks:
        if row["track_id"] in vectors:
            by_artist.setdefault(row["artist_id"], []).append(vectors[row["track_id"]])
    return {artist_id: [statistics.fmean(column) for column in zip(*found)]
            for artist_id, found in by_artist.items()}


def nearest(artist_id, averages):
    """유클리드 거리가 가장 짧은 아티스트들을 (거리, id)로, 가까운 순서대로 돌려준다."""
    return sorted((math.dist(averages[artist_id], averages[other]), other)
                  for other in averages if other != artist_id)[:NEAREST]


if __name__ == "__main__":
    main()
