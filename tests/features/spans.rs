//! With the feature `tracing`, whoever looks for what is slow or went wrong finds the spans and events that the crate's documentation lists.
//!
//! A name or a field that is not there breaks dashboards in silence; a span that is left entered makes everything after it its child.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use nestling::{CollectionDefinition, Durability, Metric, Observer, Operation, Store};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

const POINTS: CollectionDefinition = CollectionDefinition::new("points", 2, Metric::L2);

#[test]
fn spans_have_their_fields_and_parents() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        let store = Store::open(&path).unwrap();
        let open = log.take_one("open");
        open.has(&[
            ("path", &path.display().to_string()),
            ("read_only", "false"),
            ("created", "true"),
            ("commit", "0"),
        ]);
        assert_eq!((open.level, open.parent), (Level::INFO, None));

        let mut tx = store.begin_write().unwrap();
        tx.open_collection(POINTS)
            .unwrap()
            .insert_many((0..500).map(|key| (key, [key as f32, 0.0])))
            .unwrap();
        tx.set_durability(Durability::None);
        tx.commit().unwrap();
        let (commit, write) = log.take_two("commit", "write");
        write.has(&[("outcome", "committed")]);
        commit.has(&[("durability", "None"), ("commit", "1")]);
        assert!(commit.number("rows") >= 500 && commit.number("bytes") > 500, "{commit:?}");
        assert_eq!((commit.parent, commit.level), (Some(write.id), Level::DEBUG));

        let points = store.begin_read().unwrap().open_collection(POINTS).unwrap();
        let hits = points.query(&[7.2, 0.0]).k(3).ef(20).run().unwrap();
        let distances = hits.statistics().distances.to_string();
        log.take_one("search").has(&[
            ("collection", "points"),
            ("k", "3"),
            ("ef", "20"),
            ("strategy", "Walk"),
            ("distances", &distances),
            ("hits", "3"),
            ("partial", "false"),
        ]);
        points.query(&[7.2, 0.0]).k(3).exact().run().unwrap();
        log.take_one("search").has(&[("strategy", "Scan"), ("distances", "500")]);
        points.within(&[7.2, 0.0], 1.5).run().unwrap();
        log.take_one("within").has(&[("radius", "1.5"), ("hits", "3"), ("collection", "points")]);
        points.browse(&[7.2, 0.0], 10).unwrap().next().unwrap().unwrap();
        log.take_one("page").has(&[("k", "10"), ("hits", "10")]);
        points.search(&[1.0], 1).unwrap_err();
        assert_eq!(log.take_one("search").fields.len(), 2, "a search that is refused did nothing");
        drop(points);

        store.check().unwrap();
        let check = log.take_one("check");
        check.has(&[("vectors", "500"), ("problems", "0")]);
        assert!(check.number("links") > 500);
        let copy = dir.path().join("copy");
        let backup = store.backup(&copy).unwrap();
        let bytes = backup.bytes.to_string();
        log.take_one("backup").has(&[
            ("to", &copy.display().to_string()),
            ("commit", "1"),
            ("bytes", &bytes),
        ]);
        let (store, compaction) = store.compact().unwrap();
        let [before, after] =
            [compaction.bytes_before, compaction.bytes_after].map(|bytes| bytes.to_string());
        log.take_one("compact").has(&[
            ("vectors", "500"),
            ("bytes_before", &before),
            ("bytes_after", &after),
        ]);
        store.close().unwrap();
        let repaired = dir.path().join("repaired");
        Store::repair(&copy, &repaired).unwrap();
        let spans = log.take();
        let repair = spans.iter().find(|span| span.name == "repair").unwrap();
        repair.has(&[("from", &copy.display().to_string()), ("to", &repaired.display().to_string())]);
        let write = spans.iter().find(|span| span.name == "write").unwrap();
        assert_eq!(write.parent, Some(repair.id), "what a repair writes is a part of it");
        assert_eq!(log.warnings(), [""; 0]);
    });
}

/// The journal is folded once in some sixteen small commits, inside of one.
#[test]
fn folds_are_parts_of_commits() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        for round in 0..200 {
            let tx = store.begin_write().unwrap();
            let points = (8 * round..8 * round + 8)
                .map(|key| (key, [(key * 79 % 211) as f32, (key * 97 % 193) as f32]));
            tx.open_collection(POINTS).unwrap().insert_many(points).unwrap();
            tx.commit().unwrap();
        }
        let tx = store.begin_write().unwrap();
        tx.open_collection(POINTS).unwrap().remove(3).unwrap();
        drop(tx);
    });
    let spans = log.take();
    let named = |name| spans.iter().filter(move |span| span.name == name).collect::<Vec<_>>();
    let (writes, commits, folds) = (named("write"), named("commit"), named("fold"));
    assert_eq!((writes.len(), commits.len()), (201, 200));
    assert!((5..40).contains(&folds.len()), "{} folds", folds.len());
    for fold in &folds {
        assert!(commits.iter().any(|commit| fold.parent == Some(commit.id)), "{fold:?}");
        assert!(fold.number("entries") <= 48, "{fold:?}");
    }
    assert!(folds.iter().any(|fold| fold.number("links") > 0), "{folds:?}");
    writes[200].has(&[("outcome", "aborted")]);
    assert!(spans.iter().all(|span| span.is_closed), "a span was left open");
}

#[test]
fn what_was_mended_or_is_refused_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let insert = |store: &Store| {
        let tx = store.begin_write()?;
        tx.open_collection(POINTS)?.insert(7, &[1.0, 0.0])?;
        tx.commit()
    };
    insert(&Store::open(&path).unwrap()).unwrap();
    // As a crash leaves it: a file that was created and neither written nor named by a commit.
    fs::write(path.join("0000002a.vectors"), []).unwrap();
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        let disk = Arc::new(Disk::default());
        let store = Store::builder().observer(disk.clone()).open(&path).unwrap();
        let warning =
            "a crash has left a segment that no commit names, to be removed (file=0000002a.vectors)";
        assert_eq!(log.warnings(), [warning]);

        disk.is_full.store(true, Ordering::Relaxed);
        insert(&store).unwrap_err();
        let warnings = log.warnings();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings[0].starts_with("a write or sync has failed; the store takes no more of them"),
            "{warnings:?}"
        );
        assert!(warnings[1].starts_with("a commit has failed"), "{warnings:?}");
        let writes: Vec<_> = log.take().into_iter().filter(|span| span.name == "write").collect();
        writes[0].has(&[("outcome", "failed")]);
    });

    let segment = path.join("00000000.vectors");
    let mut bytes = fs::read(&segment).unwrap();
    // The first code, which is one of the bytes of the vector that are not zero in the first 64 KiB behind the header.
    let first = 65_536 + bytes[65_536..].iter().position(|&byte| byte != 0).unwrap();
    bytes[first] ^= 1;
    fs::write(&segment, bytes).unwrap();
    tracing::subscriber::with_default(log.clone(), || {
        assert!(!Store::open(&path).unwrap().check().unwrap().is_clean());
        let warnings = log.warnings();
        assert!(
            warnings.iter().any(|warning| warning.contains("damaged") && warning.contains("problems=")),
            "{warnings:?}"
        );
    });
}

/// A disk on which nothing can be written any more, once it is full.
#[derive(Debug, Default)]
struct Disk {
    is_full: AtomicBool,
}

impl Observer for Disk {
    fn before(&self, operation: Operation<'_>) -> io::Result<()> {
        match operation {
            Operation::Sync { .. } if self.is_full.load(Ordering::Relaxed) => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
}

/// A span as it was told to the subscriber.
#[derive(Debug, Clone)]
struct Span {
    id: u64,
    name: &'static str,
    level: Level,
    parent: Option<u64>,
    fields: BTreeMap<&'static str, String>,
    is_closed: bool,
}

impl Span {
    fn has(&self, expected: &[(&str, &str)]) {
        for (field, value) in expected {
            assert_eq!(self.fields.get(field).map(String::as_str), Some(*value), "{field} of {self:?}");
        }
    }

    fn number(&self, field: &str) -> u64 {
        self.fields[field].parse().unwrap()
    }
}

/// A subscriber that keeps what it is told.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    spans: Vec<Span>,
    warnings: Vec<String>,
    next: u64,
}

thread_local! {
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl Log {
    /// The spans so far, which must have ended.
    fn take(&self) -> Vec<Span> {
        std::mem::take(&mut self.0.lock().unwrap().spans)
    }

    fn take_one(&self, name: &str) -> Span {
        let spans = self.take();
        assert!(spans.len() == 1 && spans[0].name == name && spans[0].is_closed, "{name}: {spans:?}");
        spans[0].clone()
    }

    fn take_two(&self, first: &str, second: &str) -> (Span, Span) {
        let spans = self.take();
        assert!(spans.len() == 2 && spans.iter().all(|span| span.is_closed), "{spans:?}");
        let named = |name| spans.iter().find(|span| span.name == name).unwrap().clone();
        (named(first), named(second))
    }

    fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().warnings)
    }

    fn with<T>(&self, id: &Id, change: impl FnOnce(&mut Span) -> T) -> Option<T> {
        let mut kept = self.0.lock().unwrap();
        kept.spans.iter_mut().find(|span| span.id == id.into_u64()).map(change)
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "nestling"
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut kept = self.0.lock().unwrap();
        kept.next += 1;
        let entered = || ENTERED.with_borrow(|entered| entered.last().copied());
        let parent = attributes.parent().map(Id::into_u64);
        let mut span = Span {
            id: kept.next,
            name: attributes.metadata().name(),
            level: *attributes.metadata().level(),
            parent: if attributes.is_contextual() { entered() } else { parent },
            fields: BTreeMap::new(),
            is_closed: false,
        };
        attributes.record(&mut Fields(&mut span.fields));
        kept.spans.push(span);
        Id::from_u64(kept.next)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        self.with(id, |span| values.record(&mut Fields(&mut span.fields)));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        assert_eq!(*event.metadata().level(), Level::WARN);
        let message = fields.remove("message").unwrap();
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.0.lock().unwrap().warnings.push(format!("{message} ({})", fields.join(", ")));
    }

    fn enter(&self, id: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(id.into_u64()));
    }

    fn exit(&self, id: &Id) {
        assert_eq!(
            ENTERED.with_borrow_mut(Vec::pop),
            Some(id.into_u64()),
            "spans are left in another order than entered"
        );
    }

    fn try_close(&self, id: Id) -> bool {
        self.with(&id, |span| span.is_closed = true);
        true
    }
}

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}
