//! Any byte of any of a store's files, and any pages of `store.redb`.
//!
//! redb does not verify its pages when it reads them, so damage of its trees can show in any way: what is promised is that no
//! wrong answer comes of it, and no panic of ours. Where redb itself panics, its place is counted; where it panics again while it cleans
//! up, the process is gone, so every store is asked in a process of its own, which another one follows.
//!
//! The story: keys were looked up in a damaged leaf, or not found in a branch that led astray, and were taken to be absent.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::index;

use crate::asking::{Fixture, Outcome, last_stage};
use crate::large::Large;
use crate::pages::Pages;
use crate::patch::{mask, open_for_patching, with_flipped};
use crate::rows::rewrite;
use crate::watch::{Origin, Watched, origin, watch};
use crate::writing::write_to_copy;

#[test]
fn flipped_bytes_anywhere_in_a_small_store_never_give_wrong_answers() {
    let tally = Campaign { subject: "small", flips: flips(1_200) }.run();
    assert!(tally.refused > tally.flips / 4, "much of the damage is noticed");
}

#[test]
fn flipped_bytes_anywhere_in_a_large_store_never_give_wrong_answers() {
    let tally = Campaign { subject: "large", flips: flips(600) }.run();
    assert!(tally.refused > tally.flips / 20, "some of the damage is noticed");
}

/// Where a page is noise, redb's panics are caught all the same.
#[test]
fn damaged_pages_never_give_wrong_answers_nor_panics() {
    let tally = Campaign { subject: "pages", flips: flips(60) }.run();
    assert_eq!(tally.panics, BTreeMap::new(), "panics came out");
    let aborts: usize = tally.aborts.values().sum();
    assert!(aborts <= tally.flips / 100, "{aborts} second panics");
    assert!(tally.refused > tally.flips / 4, "much of the damage is noticed");
}

fn flips(or: usize) -> usize {
    match std::env::var("NESTLING_FLIPS") {
        Ok(all) if all == "all" => usize::MAX,
        Ok(flips) => flips.parse().unwrap(),
        Err(_) => or,
    }
}

fn seed() -> u64 {
    std::env::var("NESTLING_SEED").map_or(36, |seed| seed.parse().unwrap())
}

// -------------------------------------------------------------------------------------------------------------- the subjects

enum Subject {
    Small(Box<Fixture>),
    Large(Box<Large>),
    Pages(Box<Pages>),
}

/// One byte of one file, and the bits of it that flip.
struct Flip {
    file: PathBuf,
    offset: u64,
    mask: u8,
}

enum Damage {
    Flip(Flip),
    /// Pages that this seed chooses.
    Pages(u64),
}

impl Subject {
    fn new(name: &str) -> Self {
        if name == "large" {
            return Self::Large(Box::new(Large::new()));
        }
        if name == "pages" {
            return Self::Pages(Box::new(Pages::new(seed())));
        }
        // Enough for tables of several pages; without the pages of earlier commits, which nobody reads.
        let fixture = Fixture::with_vectors(300, seed());
        rewrite(&fixture);
        fixture.ask().assert_unnoticed("rewritten");
        Self::Small(Box::new(fixture))
    }

    fn path(&self) -> &PathBuf {
        match self {
            Self::Small(fixture) => &fixture.path,
            Self::Large(large) => &large.path,
            Self::Pages(pages) => &pages.fixture.path,
        }
    }

    fn damages(&self, most: usize) -> Vec<Damage> {
        match self {
            Self::Pages(_) => {
                // There is no end to them.
                let most = most.min(10_000);
                say(format_args!("flips {most} stores with damaged pages"));
                (0..most as u64).map(|n| Damage::Pages(seed() + n)).collect()
            }
            _ => self.flips(most).into_iter().map(Damage::Flip).collect(),
        }
    }

    fn story(&self, damage: &Damage) -> String {
        match (self, damage) {
            (Self::Pages(pages), Damage::Pages(seed)) => format!("seed {seed}, {}", pages.story(*seed)),
            (_, Damage::Pages(seed)) => format!("seed {seed}"),
            (_, Damage::Flip(flip)) => {
                let name = flip.file.file_name().unwrap().to_string_lossy();
                format!("{name}, offset {}, mask {:02x}", flip.offset, flip.mask)
            }
        }
    }

    fn watch(&self, number: usize, damage: &Damage, limit: usize) -> Watched<Outcome> {
        match (self, damage) {
            (Self::Pages(pages), Damage::Pages(seed)) => {
                let watched = watch(limit.max(64 << 20), || pages.ask(*seed));
                pages.mend();
                watched
            }
            (_, Damage::Flip(flip)) => {
                let next_to = self.next_to(flip);
                let file = open_for_patching(&flip.file);
                let ask = || self.ask(number, flip, next_to);
                with_flipped(&file, flip.offset, flip.mask, || watch(limit, ask))
            }
            (_, Damage::Pages(_)) => unreachable!("pages are damaged in a store of their own"),
        }
    }

    /// Bytes that were ever written: all but the pages of zeros. At most `most` of them, half of these in `store.redb`.
    fn flips(&self, most: usize) -> Vec<Flip> {
        const PAGE: usize = 4096;
        let mut rng = StdRng::seed_from_u64(seed());
        let mut files: Vec<PathBuf> =
            fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let (mut redb, mut segments) = (Vec::new(), Vec::new());
        for (number, file) in files.iter().enumerate() {
            let list = if file.ends_with("store.redb") { &mut redb } else { &mut segments };
            for (page, bytes) in fs::read(file).unwrap().chunks(PAGE).enumerate() {
                if bytes.iter().any(|&byte| byte != 0) {
                    list.extend((0..bytes.len()).map(|i| (number, (page * PAGE + i) as u64)));
                }
            }
        }
        let mut chosen = Vec::new();
        for (name, list) in [("store.redb", redb), ("segments", segments)] {
            let n = list.len().min(most.div_ceil(2));
            say(format_args!("flips {n} of {} bytes in {name}", list.len()));
            chosen.extend(index::sample(&mut rng, list.len(), n).into_iter().map(|i| list[i]));
        }
        let flip = |(number, offset): (usize, u64)| Flip {
            file: files[number].clone(),
            offset,
            mask: mask(&mut rng),
        };
        chosen.into_iter().map(flip).collect()
    }

    fn ask(&self, number: usize, flip: &Flip, next_to: Option<u64>) -> Outcome {
        match self {
            // Copying it takes a while.
            Self::Small(fixture) if number.is_multiple_of(5) => {
                let mut outcome = fixture.ask();
                let written = write_to_copy(fixture, flip.offset);
                say(format_args!("written {}", if written.refused > 0 { "refused" } else { "right" }));
                outcome.wrong.extend(written.wrong);
                outcome
            }
            Self::Small(fixture) => fixture.ask(),
            // The whole of it takes some hundred times as long.
            Self::Large(large) => {
                large.ask(next_to, number.is_multiple_of(200), &mut StdRng::seed_from_u64(flip.offset))
            }
            Self::Pages(pages) => pages.fixture.ask(),
        }
    }

    fn next_to(&self, flip: &Flip) -> Option<u64> {
        match self {
            Self::Large(large) if !flip.file.ends_with("store.redb") => large.key_at(&flip.file, flip.offset),
            _ => None,
        }
    }
}

// -------------------------------------------------------------------------------------------------- the process that may die

const CHILD: &str = "NESTLING_CORRUPTION_CHILD";

/// Not a test: what the processes run. Tells each flip before it happens, and after it what came of it.
#[test]
#[ignore = "run by the other tests in processes of their own"]
fn child() {
    let Ok(arguments) = std::env::var(CHILD) else { return };
    let mut arguments = arguments.split(' ');
    let subject = Subject::new(arguments.next().unwrap());
    let mut numbers = arguments.map(|number| number.parse::<usize>().unwrap());
    let (most, from, step) = (numbers.next().unwrap(), numbers.next().unwrap(), numbers.next().unwrap());
    let files = fs::read_dir(subject.path()).unwrap();
    let size: u64 = files.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    let damages = subject.damages(most);
    for (number, damage) in damages.iter().enumerate().skip(from).step_by(step) {
        say(format_args!("begin {number} {}", subject.story(damage)));
        let watched = subject.watch(number, damage, 2 * size as usize);
        tell(watched, !matches!(subject, Subject::Large(_)));
    }
    say(format_args!("done"));
}

fn tell(watched: Watched<Outcome>, checked: bool) {
    if let Some((bytes, origin)) = watched.large {
        match origin {
            Origin::Redb(place) => say(format_args!("large {} MB by {place}", bytes >> 20)),
            Origin::Other(place) => say(format_args!("wrong {bytes} bytes allocated by {place}")),
        }
    }
    match watched.result {
        Err(Origin::Redb(file)) => say(format_args!("panic {} in {file}", last_stage())),
        Err(Origin::Other(place)) => say(format_args!("wrong panic at {place}")),
        Ok(outcome) => match (outcome.wrong.first(), outcome.refused, outcome.reported) {
            (Some(wrong), ..) => say(format_args!("wrong {}", wrong.replace('\n', " "))),
            (None, 0, false) => say(format_args!("harmless")),
            (None, 0, true) => say(format_args!("reported")),
            (None, _, false) if checked => say(format_args!("wrong refused, and check finds nothing")),
            (None, ..) => say(format_args!("refused")),
        },
    }
}

fn say(line: std::fmt::Arguments<'_>) {
    // The test runner captures what `println!` says; a pipe has no such reader any more when the parent is gone.
    if writeln!(std::io::stdout(), "@{line}").is_err() {
        std::process::exit(1);
    }
}

// --------------------------------------------------------------------------------------------------------------- the campaign

/// So many flips of one store, in as many processes as there are cores.
struct Campaign {
    subject: &'static str,
    flips: usize,
}

/// What came of flips anywhere.
#[derive(Debug, Default)]
struct Tally {
    flips: usize,
    /// All answers were right…
    harmless: usize,
    /// …though `check` found the damage.
    reported: usize,
    /// An answer was refused.
    refused: usize,
    wrong: Vec<String>,
    /// What came of writing to a copy, where that was done.
    written: BTreeMap<String, usize>,
    /// Panics inside of redb, by what was being done and redb's file.
    panics: BTreeMap<String, usize>,
    /// Processes that redb aborted, by its file.
    aborts: BTreeMap<String, usize>,
    /// Allocations of more than twice the size of the files.
    large: BTreeMap<String, usize>,
}

impl Campaign {
    fn run(&self) -> Tally {
        let started = Instant::now();
        println!("seed {} (NESTLING_SEED)", seed());
        let tally = Mutex::new(Tally::default());
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for worker in 0..workers {
                let tally = &tally;
                scope.spawn(move || self.work(worker, workers, tally));
            }
        });
        let tally = tally.into_inner().unwrap();
        println!("{} store, {:.0} s: {tally:#?}", self.subject, started.elapsed().as_secs_f64());
        assert!(tally.wrong.is_empty(), "{} wrong answers", tally.wrong.len());
        assert!(tally.flips > 0);
        tally
    }

    /// Starts a process, and the next one where it died.
    fn work(&self, worker: usize, workers: usize, tally: &Mutex<Tally>) {
        let mut from = Some(worker);
        while let Some(start) = from {
            from = self.follow(start, workers, tally).map(|died_at| died_at + workers);
        }
    }

    /// Follows a process to its end; gives back the flip that it died at.
    fn follow(&self, from: usize, step: usize, tally: &Mutex<Tally>) -> Option<usize> {
        let errors = tempfile::NamedTempFile::new().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "anywhere::child", "--ignored", "--nocapture"])
            .env(CHILD, format!("{} {} {from} {step}", self.subject, self.flips))
            .stdout(Stdio::piped())
            .stderr(errors.reopen().unwrap())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let told = output.lines().map_while(Result::ok);
            let told = told.filter_map(|line| line.split_once('@').map(|(_, told)| told.to_owned()));
            told.for_each(|told| drop(sender.send(told)));
        });
        let mut current = None;
        let mut done = false;
        loop {
            let told = match lines.recv_timeout(Duration::from_secs(120)) {
                Ok(told) => told,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    child.kill().unwrap();
                    tally.lock().unwrap().wrong.push(format!("it hangs: {current:?}"));
                    break;
                }
            };
            match told.split_once(' ') {
                Some(("begin", flip)) => current = Some(flip.to_owned()),
                Some(("flips", how_many)) if from == 0 => println!("{how_many}"),
                Some(("flips", _)) => {}
                _ if told == "done" => (current, done) = (None, true),
                _ => tally.lock().unwrap().add(current.as_deref().unwrap_or_default(), &told),
            }
        }
        reader.join().unwrap();
        let status = child.wait().unwrap();
        let Some(flip) = current else {
            assert!(done && status.success(), "{status}: {}", fs::read_to_string(errors.path()).unwrap());
            return None;
        };
        let said = fs::read_to_string(errors.path()).unwrap();
        tally.lock().unwrap().died(&flip, &said);
        Some(flip.split(' ').next().unwrap().parse().unwrap())
    }
}

impl Tally {
    fn add(&mut self, flip: &str, told: &str) {
        let (kind, detail) = told.split_once(' ').unwrap_or((told, ""));
        self.flips += usize::from(kind != "large" && kind != "written");
        match kind {
            "harmless" => self.harmless += 1,
            "reported" => self.reported += 1,
            "refused" => self.refused += 1,
            "written" => *self.written.entry(detail.to_owned()).or_default() += 1,
            "panic" => *self.panics.entry(detail.to_owned()).or_default() += 1,
            "large" => *self.large.entry(detail.to_owned()).or_default() += 1,
            _ => self.wrong.push(format!("{flip}: {told}")),
        }
    }

    /// The process is gone: two panics of redb's, one while the other was cleaned up after, are all that may do that.
    fn died(&mut self, flip: &str, said: &str) {
        self.flips += 1;
        // The last word is that of what notices the second panic, in the standard library.
        let mut panics = said.lines().filter_map(|line| line.strip_prefix("panic at "));
        let last = panics.rfind(|place| !place.starts_with("/rustc/"));
        match last.map(origin) {
            Some(Origin::Redb(file)) if said.contains("aborting") => {
                *self.aborts.entry(file).or_default() += 1
            }
            _ => {
                let end: Vec<&str> = said.lines().rev().take(5).collect();
                self.wrong.push(format!("{flip}: the process is gone: {end:?}"));
            }
        }
    }
}
