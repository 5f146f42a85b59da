"""Writes the index files of hnswlib and usearch that tests/cli reads, and `peers.json` with what those libraries answer.

    python3 -m venv venv && venv/bin/pip install hnswlib==0.8.0 usearch==2.26.6 numpy
    venv/bin/python tests/data/make_peers.py

Deterministic in vectors, keys and answers; usearch's and hnswlib's graphs may differ from one build of them to the next. The
answers come from each library's own exact search over the stored vectors, so that they do not depend on its graph.
"""

import json
import pathlib

import hnswlib
import numpy as np
import usearch.index

HERE = pathlib.Path(__file__).parent
ROWS, WIDTH, QUERIES, K = 50, 16, 5, 10
# Labels that are neither row numbers nor in order, one of them above 2^32.
KEYS = np.array([(row * 37) % 211 + 1000 for row in range(ROWS - 1)] + [2**40 + 7], dtype=np.uint64)
REMOVED = KEYS[[3, 20, 41]]

rng = np.random.default_rng(20260704)
VECTORS = rng.uniform(-3, 3, (ROWS, WIDTH)).astype(np.float32)
QUERY = rng.uniform(-3, 3, (QUERIES, WIDTH)).astype(np.float32)
LIVE = ~np.isin(KEYS, REMOVED)


def with_hnswlib(space):
    """One thread, so that the internal order is that of the rows; room for more elements than there are."""
    index = hnswlib.Index(space=space, dim=WIDTH)
    index.init_index(max_elements=ROWS + 20, M=4, ef_construction=40, random_seed=7)
    index.add_items(VECTORS, KEYS, num_threads=1)
    for key in REMOVED:
        index.mark_deleted(int(key))
    index.save_index(str(HERE / f"hnswlib-{space}.bin"))
    exact = hnswlib.BFIndex(space=space, dim=WIDTH)
    exact.init_index(max_elements=ROWS)
    exact.add_items(VECTORS[LIVE], KEYS[LIVE])
    # Unlike Index, BFIndex does not normalise the queries.
    queries = QUERY / np.linalg.norm(QUERY, axis=1, keepdims=True) if space == "cosine" else QUERY
    keys, distances = exact.knn_query(queries, k=K)
    # What the library gives back: under cosine, normalised.
    stored = np.asarray(index.get_items(KEYS[LIVE], return_type="numpy"), dtype=np.float32)
    return keys, distances, stored


def with_usearch(name, metric, dtype):
    index = usearch.index.Index(ndim=WIDTH, metric=metric, dtype=dtype, connectivity=4, expansion_add=40)
    index.add(KEYS, VECTORS, threads=1)
    for key in REMOVED:
        index.remove(int(key))
    index.save(str(HERE / f"usearch-{name}.usearch"))
    matches = index.search(QUERY, K, exact=True, threads=1)
    stored = np.asarray(index.get(KEYS[LIVE], dtype="f32"), dtype=np.float32)
    return np.asarray(matches.keys), np.asarray(matches.distances), stored


def main():
    answers = {}

    def note(file, metric, found):
        keys, distances, stored = found
        answers[file] = {
            "metric": metric,
            "keys": keys.astype(np.uint64).tolist(),
            # hnswlib and usearch tell 1 - <x, y> under the inner product, Nestling tells -<x, y>.
            "distances": [[float(d) - (metric == "dot") for d in row] for row in distances],
            "stored": {str(key): [float(x) for x in row[:3]] for key, row in zip(KEYS[LIVE], stored)},
        }

    for space, metric in [("l2", "l2"), ("cosine", "cosine"), ("ip", "dot")]:
        note(f"hnswlib-{space}.bin", metric, with_hnswlib(space))
    for name, metric, ours, dtype in [
        ("f32", "cos", "cosine", "f32"),
        ("f16", "l2sq", "l2", "f16"),
        ("bf16", "ip", "dot", "bf16"),
        ("f64", "l2sq", "l2", "f64"),
    ]:
        note(f"usearch-{name}.usearch", ours, with_usearch(name, metric, dtype))
    with_usearch("i8", "cos", "i8")
    text = json.dumps({"queries": QUERY.tolist(), "answers": answers}, indent=None, separators=(",", ":"))
    (HERE / "peers.json").write_text(text.replace('"usearch-', '\n"usearch-').replace('"hnswlib-', '\n"hnswlib-') + "\n")


main()
