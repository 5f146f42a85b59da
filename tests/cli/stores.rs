//! What is asked of whole stores: stats, backup, compact, repair, check.

use super::*;

#[test]
fn stats_tell_what_was_imported() {
    let work = Workplace::with_store();
    work.succeeds(["import", "s", "a", "query.fvecs", "--metric", "dot"]);
    work.succeeds(["remove", "s", "c", "--keys", "7"]);
    let stats = work.json(["stats", "s"]);
    assert!(stats["bytes_on_disk"].as_u64().unwrap() > 0);
    assert_eq!(stats["commit"], 3);
    let collections = stats["collections"].as_array().unwrap();
    let facts = ["name", "vectors", "dimension", "metric", "m", "dead_slots"];
    let facts_of = |collection: &Value| facts.map(|fact| collection[fact].clone());
    let json = |facts: [&str; 6]| facts.map(|fact| serde_json::from_str::<Value>(fact).unwrap());
    assert_eq!(facts_of(&collections[0]), json([r#""a""#, "40", "16", r#""dot""#, "16", "0"]));
    assert_eq!(facts_of(&collections[1]), json([r#""c""#, "499", "16", r#""cosine""#, "16", "1"]));
    let base = &collections[1]["layers"][0];
    assert_eq!((&base["nodes"], &base["reachable"]), (&Value::from(499), &Value::from(499)));
    let mean = base["edges"].as_f64().unwrap() / 499.0;
    assert!((base["mean_degree"].as_f64().unwrap() - mean).abs() < 1e-9 && mean > 2.0);
    assert!(base["max_degree"].as_u64().unwrap() <= 32);
    for count in ["segments", "graph_pages"] {
        assert!(collections[1][count].as_u64().unwrap() > 0);
    }
    let table = work.succeeds(["stats", "s"]);
    for line in [["vectors", "499"], ["metric", "cosine"], ["vectors", "40"], ["metric", "dot"]] {
        let has = |printed: &str| printed.split_whitespace().eq(line);
        assert!(table.lines().any(has), "{line:?} is missing from\n{table}");
    }
}

#[test]
fn a_backup_is_a_store_with_the_same_vectors() {
    let work = Workplace::with_store();
    let backup = work.json(["backup", "s", "copy"]);
    assert_eq!(backup["commit"], work.json(["stats", "copy"])["commit"]);
    assert!(backup["bytes"].as_u64().unwrap() > (ROWS * WIDTH * 4) as u64, "{backup}");
    assert_eq!(work.contents("copy"), work.contents("s"));
    assert_eq!(work.json(["check", "copy"])["problems"], serde_json::json!([]));

    assert!(work.succeeds(["backup", "s", "other"]).starts_with("other: commit 1, "));
    work.fails(["backup", "s", "copy"], &["copy", "neither new nor an empty directory"]);
    work.fails(["backup", "nowhere", "new"], &["no store", "nowhere"]);
    assert!(!work.path("new").exists());
}

#[test]
fn compaction_gives_the_space_of_removed_vectors_back() {
    let work = Workplace::with_store();
    work.succeeds(["remove", "s", "c", "--keys", "100-499"]);
    let before = work.contents("s");
    let compaction = work.json(["compact", "s"]);
    assert_eq!(compaction["vectors"], 100);
    assert!(compaction["bytes_after"].as_u64() < compaction["bytes_before"].as_u64(), "{compaction}");
    assert_eq!(work.contents("s"), before);
    assert_eq!(work.json(["check", "s"])["problems"], serde_json::json!([]));
    assert_eq!(work.json(["stats", "s"])["collections"][0]["dead_slots"], 0);

    assert!(work.succeeds(["compact", "s"]).starts_with("s: 100 vectors, "));
    work.fails(["compact", "nowhere"], &["no store", "nowhere"]);
}

#[test]
fn a_repair_saves_what_verifies_and_tells_what_does_not() {
    let work = Workplace::with_store();
    let sound = work.contents("s");
    let needle: Vec<u8> = work.base[7].iter().flat_map(|x| x.to_le_bytes()).collect();
    let (file, place) = find_in_segments(&work.path("s"), &needle);
    let mut bytes = fs::read(&file).unwrap();
    bytes[place] ^= 1;
    fs::write(&file, bytes).unwrap();

    let repair = work.json(["repair", "s", "new"]);
    assert_eq!((&repair["rows_found"], &repair["tables_kept"]), (&true.into(), &true.into()));
    let collection = &repair["collections"][0];
    assert_eq!((collection["recovered"].as_u64(), collection["lost"].as_u64()), (Some(499), Some(1)));
    assert_eq!(collection["lost_keys"], serde_json::json!([7]));
    assert!(work.contents("new").iter().eq(sound.iter().filter(|(key, _)| *key != 7)));
    assert_eq!(work.json(["check", "new"])["problems"], serde_json::json!([]));

    fs::remove_file(work.path("s/store.redb")).unwrap();
    let told = work.succeeds(["repair", "s", "other"]);
    assert!(told.contains("removed may have come back") && told.contains("499 vectors recovered"), "{told}");
    work.fails(["repair", "s", "new"], &["new", "neither new nor an empty directory"]);
    work.fails(["repair", "nowhere", "newer"], &["nowhere"]);
    assert!(!work.path("newer").exists());
}

#[test]
fn a_sound_store_has_no_problems() {
    let work = Workplace::with_store();
    let printed = work.succeeds(["check", "s"]);
    assert!(printed.starts_with("500 vectors, ") && printed.ends_with(" links, no problems\n"), "{printed}");
    let verdict = work.json(["check", "s"]);
    assert_eq!(verdict["vectors"], ROWS);
    assert_eq!(verdict["problems"], Value::Array(vec![]));
    assert!(verdict["links"].as_u64().unwrap() > ROWS as u64);
}

/// One bit of one component, found by its bytes so that the test does not depend on the layout of the file.
#[test]
fn check_finds_a_flipped_bit() {
    let work = Workplace::with_store();
    let (file, at) = find_in_segments(&work.path("s"), &fvecs(&work.base[321..322])[4..]);
    let mut bytes = fs::read(&file).unwrap();
    bytes[at + 13] ^= 1;
    fs::write(&file, bytes).unwrap();
    let output = work.run(["check", "s"]);
    assert_eq!(output.status.code(), Some(1));
    let printed = text(&output.stdout);
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(printed.contains(name) && printed.ends_with(" 1 problem\n"), "{printed}");
    let output = work.run(["check", "s", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let verdict: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert_eq!(verdict["problems"].as_array().unwrap().len(), 1);
    assert!(verdict["problems"][0]["location"].as_str().unwrap().contains(name), "{verdict}");
    // The verdict does not depend on anybody reading it.
    assert_eq!(work.command(["check", "s"]).stdout(closed_pipe()).status().unwrap().code(), Some(1));
    // A search that needs the vector does not answer with it.
    let message = work.fails(["search", "s", "c", "--key", "321"], &["corrupted", name]);
    assert!(message.contains("check"), "{message}");
}

/// Where a store cannot even be opened, that is the problem that `check` has to tell.
#[test]
fn check_tells_of_a_store_that_cannot_be_opened() {
    let work = Workplace::with_store();
    fs::write(work.path("s").join("store.redb"), [7; 4096]).unwrap();
    let output = work.run(["check", "s", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let verdict: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert!(verdict["problems"][0]["location"].as_str().unwrap().contains("store.redb"), "{verdict}");
}

fn find_in_segments(store: &Path, needle: &[u8]) -> (PathBuf, usize) {
    let files = fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path());
    let segments = files.filter(|path| path.extension() == Some(OsStr::new("vectors")));
    let mut found = segments.filter_map(|path| {
        let at = fs::read(&path).unwrap().windows(needle.len()).position(|window| window == needle)?;
        Some((path, at))
    });
    found.next().expect("the vector is in one of the segments, as it was imported")
}
