//! Indexes that the real hnswlib and usearch have saved (`tests/data/make_peers.py`) are imported with the vectors, the keys and the
//! answers that those libraries give.

use super::*;

struct Peer {
    file: String,
    metric: String,
    answer: Value,
}

/// What the libraries answered, and the queries.
fn peers() -> (Vec<Vec<f32>>, Vec<Peer>) {
    let answers: Value = serde_json::from_slice(&fs::read(data("peers.json")).unwrap()).unwrap();
    let floats = |row: &Value| row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
    let queries = answers["queries"].as_array().unwrap().iter().map(floats).collect();
    let peer = |(file, answer): (&String, &Value)| Peer {
        file: file.clone(),
        metric: answer["metric"].as_str().unwrap().to_owned(),
        answer: answer.clone(),
    };
    (queries, answers["answers"].as_object().unwrap().iter().map(peer).collect())
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

#[test]
fn indexes_of_peers_answer_as_they_did() {
    let work = Workplace::new();
    let (queries, peers) = peers();
    assert_eq!(peers.len(), 7);
    for Peer { file, metric, answer } in peers {
        let path = data(&file);
        let mut arguments = vec!["import", &file, "c", path.to_str().unwrap()];
        if file.starts_with("hnswlib") {
            arguments.extend(["--format", "hnswlib", "--metric", &metric]);
        }
        assert_eq!(work.json(arguments)["inserted"], 47, "{file}: 50, of which 3 were deleted");
        assert_eq!(work.json(["stats", &file])["collections"][0]["metric"], metric.as_str());

        // Vectors as the library itself gives them back.
        let stored = answer["stored"].as_object().unwrap();
        let contents = work.contents(&file);
        assert_eq!(contents.len(), stored.len());
        for (key, vector) in contents {
            for (found, expected) in vector.iter().zip(stored[&key.to_string()].as_array().unwrap()) {
                assert_eq!(*found, expected.as_f64().unwrap() as f32, "{file}, key {key}");
            }
        }

        let store = Store::builder().read_only().open(work.path(&file)).unwrap();
        let collection = store.begin_read().unwrap().open_stored_collection("c").unwrap();
        for (row, query) in queries.iter().enumerate() {
            let hits = collection.query(query).k(10).ef(47).run().unwrap();
            let keys: Vec<u64> = hits.iter().map(|hit| hit.key).collect();
            let expected = answer["keys"][row].as_array().unwrap().iter().map(|key| key.as_u64().unwrap());
            assert_eq!(keys, expected.collect::<Vec<_>>(), "{file}, query {row}");
            for (hit, distance) in hits.iter().zip(answer["distances"][row].as_array().unwrap()) {
                let distance = distance.as_f64().unwrap();
                // usearch compares in the stored type: with bf16, the query is rounded too.
                let tolerance = if file.contains("bf16") || file.contains("f16") { 2e-2 } else { 1e-5 };
                let error = (f64::from(hit.distance) - distance).abs();
                assert!(error <= tolerance * distance.abs().max(1.0), "{file}, query {row}: {error}");
            }
        }
    }
}

#[test]
fn what_an_index_does_not_tell_has_to_be_stated() {
    let work = Workplace::new();
    let hnswlib = data("hnswlib-l2.bin");
    let import = ["import", "s", "c", hnswlib.to_str().unwrap()];
    work.fails(import, &["nothing tells the format of ", "--format"]);
    let import = [&import[..], &["--format", "hnswlib"]].concat();
    work.fails(import.iter().copied(), &["does not tell its metric", "--metric"]);
    let narrow = import.iter().copied().chain(["--metric", "l2", "--dimension", "8"]);
    work.fails(narrow, &["vectors of 16 components, the command says 8"]);
    work.succeeds(import.iter().copied().chain(["--metric", "l2"]));
    // What the collection is, need not be said again.
    work.succeeds(import);

    let i8 = data("usearch-i8.usearch");
    let i8 = ["import", "other", "c", i8.to_str().unwrap()];
    work.fails(i8, &["components of i8 (kind 23)", "f32, f16, bf16 and f64 can be read"]);
    let usearch = fs::read(data("usearch-f32.usearch")).unwrap();
    let piped = work.with_input(["import", "other", "c", "-", "--format", "usearch"], &usearch);
    assert!(text(&piped.stderr).contains("name a file"), "{}", text(&piped.stderr));
    work.fails(["import", "other", "c", "base.fvecs", "--format", "hnswlib"], &["contradicts itself"]);
    work.fails(["import", "other", "c", "base.fvecs", "--format", "usearch"], &["no index of usearch"]);
    assert!(!work.path("other").exists());
}

/// With 250 MB of address space, whatever a header claims; most of that is what the threads' stacks take.
#[cfg(target_os = "linux")]
#[test]
fn no_header_makes_the_tool_allocate_what_it_claims() {
    let work = Workplace::new();
    for (file, headers) in
        [("hnswlib-l2.bin", 0..96), ("usearch-f32.usearch", 3208..3312), ("usearch-f32.usearch", 0..8)]
    {
        let bytes = fs::read(data(file)).unwrap();
        // The highest byte of each field.
        for at in headers.filter(|at| at % 4 == 3) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x7f;
            work.write("flipped", &flipped);
            let format = file.split('-').next().unwrap();
            let tool = env!("CARGO_BIN_EXE_nestling");
            let script = format!(
                "ulimit -v 250000; exec {tool} import s{at} c flipped --format {format} --metric l2 --threads 1"
            );
            let mut command = Command::new("sh");
            let output = command.current_dir(work.directory.path()).args(["-c", &script]).output().unwrap();
            let message = text(&output.stderr);
            assert!(matches!(output.status.code(), Some(0 | 1)), "{file}, byte {at}: {output:?}");
            assert!(message.is_empty() || message.starts_with("error: "), "{file}, byte {at}: {message}");
        }
    }
}
