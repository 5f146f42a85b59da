//! What holds for every command.

use super::*;

/// The rest of a command line that is right but for the store and the collection.
const ON_STORES: [&[&str]; 3] =
    [&["search", "--key", "1"], &["bench", "--queries", "query.fvecs"], &["remove", "--keys", "1"]];

fn on<'a>(store: &'a str, collection: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&rest[..1], &[store, collection], &rest[1..]].concat()
}

#[test]
fn only_import_creates_stores() {
    let work = Workplace::new();
    work.write("file", b"not a directory");
    fs::create_dir(work.path("other")).unwrap();
    work.write("other/readme", b"somebody else's");
    let commands = ON_STORES.map(|rest| on("s", "c", rest)).into_iter();
    for command in commands.chain([vec!["stats", "s"], vec!["check", "s"]]) {
        work.fails(command.iter().copied(), &["no store at s", "check the path"]);
        assert!(!work.path("s").exists(), "{command:?} created a store");
        for elsewhere in ["file", "other"] {
            let command = command.iter().map(|&word| if word == "s" { elsewhere } else { word });
            work.fails(command, &[elsewhere, "is not a Nestling store"]);
        }
    }
    work.fails(["import", "file", "c", "base.fvecs"], &["file is not a Nestling store"]);
    work.fails(["import", "no/parent", "c", "base.fvecs"], &["no/parent"]);
}

#[test]
fn an_unknown_collection_is_answered_with_those_there_are() {
    let work = Workplace::with_store();
    work.succeeds(["import", "s", "d", "query.fvecs"]);
    for rest in ON_STORES {
        work.fails(on("s", "x", rest), &["no collection \"x\" in s", "it has \"c\", \"d\""]);
    }
    assert_eq!(work.json(["stats", "s"])["collections"].as_array().unwrap().len(), 2, "none was created");
}

#[test]
fn readers_share_a_store_and_a_writer_does_not() {
    let work = Workplace::with_store();
    let readers =
        [on("s", "c", ON_STORES[0]), on("s", "c", ON_STORES[1]), vec!["stats", "s"], vec!["check", "s"]];
    let writers = [on("s", "c", ON_STORES[2]), vec!["import", "s", "c", "base.fvecs"], vec!["compact", "s"]];
    let reading = Store::builder().read_only().open(work.path("s")).unwrap();
    for command in &readers {
        work.succeeds(command.iter().copied());
    }
    for command in &writers {
        work.fails(command.iter().copied(), &["the store at s is open in another process"]);
    }
    drop(reading);
    let writing = Store::open(work.path("s")).unwrap();
    for command in &readers {
        work.fails(command.iter().copied(), &["the store at s is open for writing in another process"]);
    }
    for command in &writers {
        work.fails(command.iter().copied(), &["the store at s is open in another process"]);
    }
    drop(writing);
    assert_eq!(work.contents("s").len(), ROWS);
}

/// What a process imported, the next ones find, change and find changed.
#[test]
fn processes_take_turns() {
    let work = Workplace::new();
    for (batch, limit) in [(0, "100"), (100, "200"), (300, "200")] {
        let first = batch.to_string();
        work.succeeds([
            "import",
            "s",
            "c",
            "base.fvecs",
            "--skip",
            &first,
            "--first-key",
            &first,
            "--limit",
            limit,
        ]);
        let last = batch + limit.parse::<u64>().unwrap() - 1;
        assert_eq!(keys(&work.json(["search", "s", "c", "--key", &last.to_string()]))[0], last);
        work.succeeds(["remove", "s", "c", "--keys", &last.to_string()]);
        work.fails(["search", "s", "c", "--key", &last.to_string()], &["is not in collection"]);
        assert!(work.succeeds(["check", "s"]).ends_with("no problems\n"));
    }
    // Every one of them found itself after reopening.
    let store = Store::builder().read_only().open(work.path("s")).unwrap();
    let collection = store.begin_read().unwrap().open_stored_collection("c").unwrap();
    assert_eq!((collection.len(), collection.parameters().metric), (497, Metric::Cosine));
    for (key, vector) in work.contents("s") {
        assert_eq!(collection.search(&vector, 1).unwrap()[0].key, key);
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    let work = Workplace::with_store();
    let before = work.contents("s");
    for ranges in ["", "9-5", "5-", "-5", "x", "1,,2", "1-2-3", "1;2", "1.5", "18446744073709551616"] {
        let keys = format!("--keys={ranges}");
        work.is_misuse(["remove", "s", "c", &keys]);
    }
    let cases: [&[&str]; 15] = [
        &[],
        &["frobnicate"],
        &["import", "s", "c"],
        &["import", "s", "c", "base.fvecs", "--metric", "hamming"],
        &["import", "s", "c", "base.fvecs", "--m", "1"],
        &["import", "s", "c", "base.fvecs", "--batch", "0"],
        &["import", "s", "c", "base.fvecs", "--limit", "0"],
        &["import", "s", "c", "base.fvecs", "--threads", "0"],
        &["search", "s", "c"],
        &["search", "s", "c", "--queries", "query.fvecs"],
        &["search", "s", "c", "--key", "1", "--queries", "query.fvecs", "--row", "1"],
        &["search", "s", "c", "--key", "1", "--row", "1"],
        &["search", "s", "c", "--key", "1", "-k", "0"],
        &["bench", "s", "c"],
        &["bench", "s", "c", "--queries", "query.fvecs", "--ef", "16,zero"],
    ];
    for arguments in cases {
        work.is_misuse(arguments.iter().copied());
    }
    assert_eq!(work.contents("s"), before);
}

/// `nestling … | head` closes the pipe early. That is no failure, and no panic.
#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let work = Workplace::with_store();
    let commands = [
        on("s", "c", ON_STORES[0]),
        on("s", "c", ON_STORES[1]),
        on("s", "c", ON_STORES[2]),
        vec!["import", "s", "c", "base.fvecs"],
        vec!["stats", "s"],
        vec!["check", "s"],
        vec!["--help"],
    ];
    for command in commands {
        for json in [&[][..], &["--json"]] {
            if command == ["--help"] && !json.is_empty() {
                continue;
            }
            let arguments = command.iter().chain(json).copied();
            let output =
                work.command(arguments).stdout(closed_pipe()).stderr(Stdio::piped()).output().unwrap();
            assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{command:?}");
        }
    }
    assert_eq!(work.contents("s").len(), ROWS, "1 was removed and imported again");
}

/// Any other failure to print is one: a result that was not delivered.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_standard_output_is_reported() {
    let work = Workplace::with_store();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = work.command(["stats", "s"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: cannot write to standard output"));
}
