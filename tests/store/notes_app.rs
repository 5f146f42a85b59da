//! `examples/notes`: texts, tags and vectors of a note are one thing, whatever happens to it.
//!
//! An app keeps three or four records for what its user calls a note. They drift apart where one is written without the others:
//! a deleted note that is still found, a tag that counts what is gone, an edit whose vector is that of the old text. The
//! example's own code runs here, beside a plain map that does the same, through edits, deletions, aborts and deaths.
//!
//! `NESTLING_NOTES_SEED=… cargo test --test store notes_app` replays a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use nestling::Store;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{RngExt, SeedableRng};

use embedder::Embedder;
use notes::{Draft, Note, Notes};
use word_vectors::WordVectors;

use crate::words::{self, Words};

#[path = "../../examples/notes/app.rs"]
mod app;
#[path = "../../examples/notes/embedder.rs"]
mod embedder;
#[path = "../../examples/notes/notes.rs"]
mod notes;
#[path = "../../examples/notes/word_vectors.rs"]
mod word_vectors;

const SEED: &str = "NESTLING_NOTES_SEED";
const CRASH_IN: &str = "NESTLING_NOTES_CRASH_IN";
const CRASH_AFTER: &str = "NESTLING_NOTES_CRASH_AFTER";

/// What the example's user types, from a new store on, and what the screen says.
#[test]
fn a_conversation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.nestling");
    let screen = |commands: &str| converse(&path, &words::words(), commands).unwrap();

    let first =
        screen("add Cello practice at noon #music #home\nadd Buy cheese and bread #home\nlist #home\n");
    assert!(first.starts_with("Began with 5000 entries of WordNet in "), "{first}");
    assert!(
        first.contains(" 5001  Buy cheese and bread #home\n 5000  Cello practice at noon #home #music\n")
    );

    let second = screen("find food for dinner #home\nfind violin #home\ntags\nfind\nnonsense\ndelete 5002\n");
    assert!(!second.contains("Began with"), "a store begins only once: {second}");
    let lines = found(&second);
    assert_eq!(lines, [5001, 5000, 5000, 5001], "food is nearer to cheese, a violin to a cello: {second}");
    assert!(second.contains("\n     2  #home\n"), "{second}");
    for refusal in ["find what?", "no command \"nonsense\"", "no note 5002"] {
        assert!(second.contains(refusal), "{second}");
    }
    assert!(
        second.lines().all(|line| line.chars().count() < 80),
        "a line is wider than the terminal: {second}"
    );
}

/// Uncommitted changes are seen where they are made and nowhere else, and an abort leaves no trace of them.
#[test]
fn changes_are_tried_out_and_undone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.nestling");
    let begun = "add Walk the dog along the beach #dog\n";
    let changes = "begin\nedit 500 Take the boat out on the lake #boat\nadd Dog show #dog\nfind dog #dog\nlist #dog\nfind lake #boat\n";

    let screen = converse(
        &path,
        &few_words(),
        &format!("{begun}{changes}abort\nfind dog #dog\nfind lake #boat\ntags\n"),
    )
    .unwrap();
    assert_eq!(found(&screen), [501, 500, 500, 500], "{screen}");
    assert!(
        screen.contains("As of the last commit:\n  500  Walk the dog along the beach #dog\n"),
        "{screen}"
    );
    assert!(screen.contains("No note that words can find has these tags."), "{screen}");
    assert!(!screen.contains("#boat\nnotes> "), "an aborted tag is counted: {screen}");

    let screen =
        converse(&path, &few_words(), &format!("{changes}commit\nfind lake #boat\nfind dog #dog\n")).unwrap();
    let after = &found(&screen)[3..];
    assert_eq!(after, [500, 501, 500], "{screen}");
}

/// A search with tags is the search without, less what does not have them.
#[test]
fn tags_filter_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.nestling");
    converse(&path, &words::words(), "add A dance at the lake #music #place\n").unwrap();
    let notes = Notes::open(&path, word_vectors()).unwrap();
    for words in ["stringed instrument", "a city by the sea", "cheese", "bird"] {
        let all = notes.find(words, &[], usize::MAX).unwrap();
        assert_eq!(all.len(), 5_001);
        for tags in [&["music"][..], &["place"], &["music", "place"], &["music", "game"], &["food", "animal"]]
        {
            let tags: Vec<String> = tags.iter().map(|&tag| tag.to_owned()).collect();
            let passing = all.iter().filter(|(_, note)| tags.iter().all(|tag| note.tags.contains(tag)));
            let expected: Vec<u64> = passing.take(20).map(|(_, note)| note.id).collect();
            assert!(!expected.is_empty(), "nothing has the tags {tags:?}, so nothing is tested");
            let found: Vec<u64> =
                notes.find(words, &tags, 20).unwrap().iter().map(|(_, note)| note.id).collect();
            assert_eq!(found, expected, "{words:?} {tags:?}");
        }
    }
}

/// The default embedder promises little, but that much.
#[test]
fn words_find_what_they_mean() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.nestling");
    converse(&path, &words::words(), "").unwrap();
    let notes = Notes::open(&path, word_vectors()).unwrap();
    for (words, about) in [
        ("stringed instruments", ["string", "viol", "bow"]),
        ("cheese from Holland", ["cheese", "cheeses", "milk"]),
        ("bicycles", ["bicycle", "cycle", "wheel"]),
        ("penguin", ["penguin", "penguins", "seabird"]),
    ] {
        let found = notes.find(words, &[], 10).unwrap();
        let right =
            found.iter().filter(|(_, note)| about.iter().any(|word| note.text.contains(word))).count();
        println!("{words:?}: {right} of 10");
        assert!(right >= 7, "{words:?} finds {found:#?}");
    }
}

/// Random notes, edits and deletions in transactions that are committed or aborted, beside a map. The words' vectors are replaced
/// by something cheaper, so that the store is all that takes time.
#[test]
fn texts_tags_and_vectors_never_part() {
    let seed = env::var(SEED).map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("{SEED}={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.nestling");
    let mut reference = Reference::default();
    let mut undone = 0;

    let mut notes = Notes::open(&path, Box::new(Letters)).unwrap();
    for round in 0..60 {
        let mut changed = reference.clone();
        let changes = notes.begin().unwrap();
        for _ in 0..rng.random_range(1..8) {
            let tags: Vec<String> =
                (0..rng.random_range(0..3)).map(|_| format!("t{}", rng.random_range(0..5))).collect();
            let text =
                *["cab", "bad cafe", "fed", "x-ray 7", "", "a face", "decade"].choose(&mut rng).unwrap();
            let draft = Draft { text, tags: &tags };
            let known = changed.notes.keys().copied().choose(&mut rng);
            match (rng.random_range(0..4), known) {
                (0, Some(id)) => {
                    changes.delete(id).unwrap();
                    changed.notes.remove(&id);
                    assert!(changes.delete(id).is_err(), "note {id} is deleted twice");
                    assert!(changes.edit(id, draft).is_err(), "note {id} is edited after its end");
                }
                (1, Some(id)) => {
                    let written = changes.edit(id, draft).unwrap();
                    changed.write(id, draft);
                    assert_eq!(written.is_findable, Letters::of(text).is_some());
                }
                _ => {
                    let written = changes.add(draft).unwrap();
                    assert_eq!(written.id, changed.next, "numbers are given out once");
                    changed.next += 1;
                    changed.write(written.id, draft);
                }
            }
        }
        let found = changes.find("abc", &[], usize::MAX).unwrap();
        assert_eq!(
            ids(&found),
            changed.findable(None),
            "round {round}: uncommitted changes are seen by their maker"
        );
        reference.compare(&notes, &format!("round {round}, uncommitted"));
        if rng.random_ratio(1, 3) {
            changes.abort().unwrap();
            undone += 1;
        } else {
            changes.commit().unwrap();
            reference = changed;
        }
        reference.compare(&notes, &format!("round {round}, ended"));
        if rng.random_ratio(1, 10) {
            drop(notes);
            notes = Notes::open(&path, Box::new(Letters)).unwrap();
            reference.compare(&notes, &format!("round {round}, reopened"));
        }
    }
    assert!((5..55).contains(&undone), "{undone} of 60 transactions were aborted");
}

/// `crash` dies by its own hand between changes and commit: what it had changed by then is gone, all else is there.
#[test]
fn a_crash_keeps_the_last_commit_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.nestling");
    converse(&path, &few_words(), "add Cello practice at noon #music\nadd Dog show #dog\n").unwrap();
    let before = everything(&path);
    for after in ["", "begin\nedit 500 Nothing of this #x\ndelete 7\nadd And nothing of that #y\n"] {
        let output = Command::new(env::current_exe().unwrap())
            .args(["notes_app::crash_child", "--exact", "--ignored", "--nocapture"])
            .envs([(CRASH_IN, path.as_os_str()), (CRASH_AFTER, after.as_ref())])
            .output()
            .unwrap();
        let screen = String::from_utf8_lossy(&output.stdout);
        assert!(screen.contains("committed nothing. Dying."), "{screen}");
        assert!(!screen.contains("survived"), "{screen}");
        #[cfg(unix)]
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&output.status),
            Some(6),
            "it aborts itself"
        );

        assert_eq!(everything(&path), before, "after {after:?} and a crash");
        let store = Store::open(&path).unwrap();
        let report = store.check().unwrap();
        assert!(report.is_clean(), "{:#?}", report.problems);
    }
}

/// Not a test: what dies.
#[test]
#[ignore = "run by the other test in a process of its own"]
fn crash_child() {
    let Some(path) = env::var_os(CRASH_IN) else { return };
    let after = env::var(CRASH_AFTER).unwrap();
    let commands = format!("{after}crash\n");
    app::run(
        &PathBuf::from(path),
        word_vectors(),
        &words::words(),
        None,
        commands.as_bytes(),
        &mut std::io::stdout(),
    )
    .unwrap();
    println!("survived");
}

/// All that the app shows of a store.
#[derive(Debug, PartialEq)]
struct Shown {
    listed: Vec<Note>,
    tags: BTreeMap<String, u64>,
    found: Vec<(f32, Note)>,
}

fn everything(path: &Path) -> Shown {
    let notes = Notes::open(path, word_vectors()).unwrap();
    Shown {
        listed: notes.list(&[], usize::MAX).unwrap(),
        tags: notes.tags().unwrap(),
        found: notes.find("dog and cello", &[], usize::MAX).unwrap(),
    }
}

fn word_vectors() -> Box<WordVectors> {
    Box::new(WordVectors::new(&words::words()))
}

/// Enough for tests that are not about them.
fn few_words() -> Words {
    let Words { vectors, texts } = words::words();
    let (vectors, texts) =
        (vectors.into_iter().step_by(10).collect(), texts.into_iter().step_by(10).collect());
    Words { vectors, texts }
}

/// What the screen says to the commands.
fn converse(path: &Path, shipped: &Words, commands: &str) -> Result<String, Box<dyn Error>> {
    let mut screen = Vec::new();
    app::run(path, word_vectors(), shipped, None, commands.as_bytes(), &mut screen)?;
    Ok(String::from_utf8(screen)?)
}

/// The numbers of the notes that searches have put on the screen: such lines begin with a distance.
fn found(screen: &str) -> Vec<u64> {
    let lines = screen.lines().map(|line| line.rsplit("> ").next().unwrap_or(line));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            words.next()?.parse::<f32>().ok().filter(|_| line.contains('.'))?;
            words.next()?.parse().ok()
        })
        .collect()
}

fn ids(found: &[(f32, Note)]) -> BTreeSet<u64> {
    found.iter().map(|(_, note)| note.id).collect()
}

/// Counts the letters a to f.
struct Letters;

impl Letters {
    fn of(text: &str) -> Option<Vec<f32>> {
        let mut vector = vec![0.0; words::DIMENSION];
        for letter in text.bytes().filter(|letter| (b'a'..=b'f').contains(letter)) {
            vector[usize::from(letter - b'a')] += 1.0;
        }
        vector.iter().any(|&count| count > 0.0).then_some(vector)
    }
}

impl Embedder for Letters {
    fn embed(&self, text: &str) -> Result<Option<Vec<f32>>, Box<dyn Error>> {
        Ok(Self::of(text))
    }
}

/// What the notes should be.
#[derive(Debug, Clone, Default)]
struct Reference {
    notes: BTreeMap<u64, (String, BTreeSet<String>)>,
    next: u64,
}

impl Reference {
    fn write(&mut self, id: u64, draft: Draft<'_>) {
        let (text, tags) = self.notes.entry(id).or_default();
        *text = draft.text.to_owned();
        tags.extend(draft.tags.iter().cloned());
    }

    fn findable(&self, tag: Option<&String>) -> BTreeSet<u64> {
        let has = |tags: &BTreeSet<String>| tag.is_none_or(|tag| tags.contains(tag));
        let notes = self.notes.iter().filter(|(_, (text, tags))| Letters::of(text).is_some() && has(tags));
        notes.map(|(&id, _)| id).collect()
    }

    fn compare(&self, notes: &Notes, when: &str) {
        let listed = notes.list(&[], usize::MAX).unwrap().into_iter().rev();
        let listed: BTreeMap<_, _> = listed.map(|n| (n.id, (n.text, n.tags.into_iter().collect()))).collect();
        assert_eq!(listed, self.notes, "{when}: texts and tags");

        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for tag in self.notes.values().flat_map(|(_, tags)| tags) {
            *counts.entry(tag.clone()).or_default() += 1;
        }
        assert_eq!(notes.tags().unwrap(), counts, "{when}: tags and their counts");

        for tag in counts.keys() {
            let found = notes.find("abc", std::slice::from_ref(tag), usize::MAX).unwrap();
            assert_eq!(ids(&found), self.findable(Some(tag)), "{when}: found with tag {tag:?}");
        }
        let found = notes.find("abc", &[], usize::MAX).unwrap();
        assert_eq!(ids(&found), self.findable(None), "{when}: found");
        for (distance, note) in &found {
            let expected = cosine_distance(&Letters::of("abc").unwrap(), &Letters::of(&note.text).unwrap());
            assert!(
                (distance - expected).abs() < 1e-5,
                "{when}: note {} has the vector of another text",
                note.id
            );
        }
    }
}

fn cosine_distance(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
