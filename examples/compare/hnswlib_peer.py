#!/usr/bin/env python3
"""hnswlib, measured as src/measure.rs measures the others; `run` drives it, and README.md says what is measured.

    hnswlib_peer.py build  --base F --query F --truth F --metric cosine --directory D --ef 10,16,… [--order F]
    hnswlib_peer.py reopen --query F --metric cosine --directory D
    hnswlib_peer.py insert --query F --metric cosine --directory D --inserts 32
"""
import argparse
import importlib.metadata
import json
import os
import statistics
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
import hnswlib
import numpy as np

# As in src/main.rs.
M, EF_CONSTRUCTION, K = 16, 200, 10


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["build", "reopen", "insert"])
    parser.add_argument("--query", required=True)
    parser.add_argument("--metric", choices=["cosine", "l2"], required=True)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--base")
    parser.add_argument("--truth")
    parser.add_argument("--order")
    parser.add_argument("--ef", type=lambda text: [int(ef) for ef in text.split(",")])
    parser.add_argument("--inserts", type=int)
    options = parser.parse_args()
    {"build": build, "reopen": reopen, "insert": insert}[options.command](options)


def build(options):
    report(measure="about", version=importlib.metadata.version("hnswlib"), elements="f32", m=M,
           ef_construction=EF_CONSTRUCTION)
    base, queries = vectors(options.base, options.metric), vectors(options.query, options.metric)
    truth = rows(options.truth, "<i4")
    if len(truth) != len(queries) or truth.shape[1] < K:
        raise SystemExit(f"{options.truth} has not {K} true neighbors of each of {len(queries)} queries")
    # The truth tells rows of the file. What is kept of it are distances, and these do not depend on the order.
    kth = np.array([distances(options.metric, query, base[[row]])[0] for query, row in zip(queries, truth[:, K - 1])])
    bounds = kth + np.abs(kth) * 1e-5 + 1e-5
    if options.order:
        order = np.loadtxt(options.order, dtype=np.int64)
        if not np.array_equal(np.sort(order), np.arange(len(base))):
            raise SystemExit(f"{options.order} is no order of {len(base)} rows")
        base = base[order]

    os.makedirs(options.directory, exist_ok=True)
    started = time.perf_counter()
    index = hnswlib.Index(space(options.metric), base.shape[1])
    index.init_index(len(base), M=M, ef_construction=EF_CONSTRUCTION)
    index.set_num_threads(1)
    index.add_items(base, num_threads=1)
    built = time.perf_counter() - started
    save(index, options.directory)
    saved = time.perf_counter() - started
    report(measure="build", durable=False, vectors_per_second=len(base) / built,
           vectors_per_second_durable=len(base) / saved)

    for ef in options.ef:
        index.set_ef(ef)
        seconds = float("inf")
        for _ in range(2):
            started = time.perf_counter()
            found = [index.knn_query(query, K, num_threads=1)[0][0] for query in queries]
            seconds = min(seconds, time.perf_counter() - started)
        right = sum((distances(options.metric, query, base[np.unique(keys).astype(np.int64)]) <= bound).sum()
                    for query, keys, bound in zip(queries, found, bounds))
        report(ef=ef, recall=float(right) / (K * len(queries)), qps=len(queries) / seconds)

    report(measure="disk", bytes=os.stat(file(options.directory)).st_blocks * 512)


def reopen(options):
    query = vectors(options.query, options.metric)[0]
    started = time.perf_counter()
    index = hnswlib.Index(space(options.metric), len(query))
    index.load_index(file(options.directory))
    opened = time.perf_counter() - started
    index.set_ef(64)
    found = index.knn_query(query, K, num_threads=1)[0][0]
    first_result = time.perf_counter() - started
    assert len(found) == K
    report(measure="reopen", how="load", opened_ms=opened * 1e3, first_result_ms=first_result * 1e3)


def insert(options):
    queries = vectors(options.query, options.metric)
    if not 1 <= options.inserts <= len(queries):
        raise SystemExit(f"there are {len(queries)} queries to be inserted")
    count = hnswlib.Index(space(options.metric), queries.shape[1])
    count.load_index(file(options.directory))
    first = count.get_current_count()
    del count
    index = hnswlib.Index(space(options.metric), queries.shape[1])
    index.load_index(file(options.directory), max_elements=first + options.inserts)
    index.set_num_threads(1)
    # The file is replaced as a whole every time, so there is no need to measure on a copy, other than to leave the original.
    copy = options.directory.rstrip("/") + ".copy"
    os.mkdir(copy)
    milliseconds, written = [], bytes_written()
    for key, vector in enumerate(queries[:options.inserts], first):
        started = time.perf_counter()
        index.add_items(vector[None], [key], num_threads=1)
        save(index, copy)
        milliseconds.append((time.perf_counter() - started) * 1e3)
    written = (bytes_written() - written) / options.inserts
    assert index.get_current_count() == first + options.inserts
    report(measure="insert", inserts=options.inserts, median_ms=statistics.median(milliseconds),
           mean_ms=statistics.mean(milliseconds), max_ms=max(milliseconds), bytes_written_each=written)
    os.remove(file(copy))
    os.rmdir(copy)


def save(index, directory):
    """Writes beside the old file and renames, since a crash within an overwritten file would cost everything."""
    new = os.path.join(directory, "new.hnswlib")
    index.save_index(new)
    sync(new)
    os.rename(new, file(directory))
    sync(directory)


def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def file(directory):
    return os.path.join(directory, "index.hnswlib")


def space(metric):
    # Vectors are normalised where the metric is cosine.
    return {"cosine": "ip", "l2": "l2"}[metric]


def vectors(path, metric):
    values = rows(path, "<f4").copy()
    if metric == "cosine":
        values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values


def rows(path, dtype):
    """All rows of a file in a TEXMEX format: per row a little-endian i32 width, then as many components."""
    words = np.fromfile(path, dtype="<i4")
    return np.ascontiguousarray(words.reshape(-1, words[0] + 1)[:, 1:]).view(dtype)


def distances(metric, query, base):
    query, base = query.astype(np.float64), base.astype(np.float64)
    return 1 - base @ query if metric == "cosine" else ((base - query) ** 2).sum(axis=1)


def bytes_written():
    """Bytes that this process has caused to be written to the disk so far, by Linux's count."""
    with open("/proc/self/io") as counters:
        return next(int(line.split()[1]) for line in counters if line.startswith("write_bytes:"))


def report(**measurement):
    print(json.dumps({"peer": "hnswlib", **measurement}), flush=True)


if __name__ == "__main__":
    main()
