//! Arrows only point down.
//!
//! The crate is built in layers so that each can be understood, tested and replaced with what lies below it alone: the graph
//! algorithms know no database, the vectors know no graph, and the disk is reached through one seam. Nothing in Rust keeps modules
//! of one crate from importing each other, and an upward import is easy to add and hard to see; so this test reads the sources.
//!
//! It looks at code only: comments, strings and `#[cfg(test)]` modules may name whatever they like.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The modules from the bottom up. A file may use its own module and those before it.
const LAYERS: [&str; 18] = [
    "trace",
    "error",
    "options",
    "archive",
    "io",
    "distance",
    "vectors",
    "graph",
    "hnsw",
    "collection",
    "transaction",
    // Of what the store offers, each uses what it is made of.
    "stats",
    "check",
    "site",
    "opening",
    "backup",
    "compact",
    // Lets fuzz targets reach what is private.
    "fuzzing",
];
/// On top of all of them: `store`, `repair`, which makes one, then `lib`, which names everything.
const TOP: [&str; 3] = ["store", "repair", "lib"];

/// Names that only these places may use; a place is a file or a folder.
const CONFINED: [(&str, &[&str]); 3] = [
    // Rows, commits and snapshots; `store` opens them, `lib` hands redb on to the app.
    (
        "redb",
        &[
            "lib.rs",
            "store.rs",
            "error.rs",
            "io/",
            "graph/numbering.rs",
            "graph/reader.rs",
            "graph/salvage.rs",
            "graph/storage.rs",
            "collection/state.rs",
            "collection/writer.rs",
            "transaction/",
            "opening.rs",
            "repair.rs",
            // The command line is an app: it keeps tables of its own.
            "bin/",
        ],
    ),
    ("memmap2", &["vectors/segment.rs"]),
    ("unsafe", &["distance/x86.rs", "distance/x86/", "distance/aarch64.rs", "vectors/segment.rs"]),
];

#[test]
fn every_import_points_down_and_every_confined_name_stays_in_its_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    collect(&root, &root, &mut sources);
    assert!(sources.len() > 30, "only {} sources found below {}", sources.len(), root.display());
    let found = violations(&sources);
    assert!(found.is_empty(), "{found:#?}");

    // What the rules speak of exists: a renamed module must not slip out of them.
    let modules: BTreeSet<&str> = sources.iter().map(|source| module(&source.path)).collect();
    for layer in LAYERS.iter().chain(&TOP) {
        assert!(modules.contains(layer), "there is no module {layer}");
    }
    for (name, places) in CONFINED {
        for place in places {
            let used = |source: &Source| {
                source.path.starts_with(place) && tokens(&source.text).contains(&name.to_owned())
            };
            assert!(
                sources.iter().any(used),
                "{place} may use `{name}` and does not any more: take it off the list"
            );
        }
    }
}

/// A file below `src/`.
struct Source {
    /// Relative to `src/`, with `/`.
    path: String,
    text: String,
}

fn collect(root: &Path, directory: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root).unwrap().components();
            let relative: Vec<_> = relative.map(|part| part.as_os_str().to_str().unwrap()).collect();
            sources.push(Source { path: relative.join("/"), text: fs::read_to_string(&path).unwrap() });
        }
    }
}

/// The top-level module that a file belongs to.
fn module(path: &str) -> &str {
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

fn violations(sources: &[Source]) -> Vec<String> {
    let tests = test_files(sources);
    let mut found = Vec::new();
    for Source { path, text } in sources.iter().filter(|source| !tests.contains(&source.path)) {
        let tokens = tokens(text);
        for (name, places) in CONFINED {
            let allowed =
                places.iter().any(|place| path == place || (place.ends_with('/') && path.starts_with(place)));
            if tokens.iter().any(|token| token == name) && !allowed {
                found.push(format!("{path} names `{name}`, which only {places:?} may"));
            }
        }
        // A binary is a crate of its own, above the library.
        if path.starts_with("bin/") {
            continue;
        }
        for used in used_modules(path, &tokens) {
            match (rank(module(path)), rank(&used)) {
                (Some(own), Some(other)) if other <= own => {}
                (Some(_), Some(_)) => found.push(format!("{path} uses crate::{used}, which lies above it")),
                (None, _) => found.push(format!("{path} is in no layer: place it in `LAYERS`")),
                (_, None) => found.push(format!("{path} uses crate::{used}, which is in no layer")),
            }
        }
    }
    found
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().chain(&TOP).position(|layer| *layer == module)
}

/// Files that are test modules as a whole: `#[cfg(test)] mod name;`.
fn test_files(sources: &[Source]) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for Source { path, text } in sources {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let own = if matches!(name, "mod.rs" | "lib.rs") {
            directory.to_owned()
        } else {
            path.trim_end_matches(".rs").to_owned()
        };
        for child in declared_test_modules(&all_tokens(text)) {
            for file in [format!("{own}/{child}.rs"), format!("{own}/{child}/mod.rs")] {
                files.insert(file.trim_start_matches('/').to_owned());
            }
        }
    }
    files
}

// ------------------------------------------------------------------------------------------------------------------ reading

/// The tokens of code: identifiers, `::`, and single characters. No comments, no strings, no test modules.
fn tokens(text: &str) -> Vec<String> {
    without_test_modules(all_tokens(text))
}

fn all_tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(len) = string(rest) {
            len
        } else if c.is_alphanumeric() || c == '_' {
            let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(rest[..len].to_owned());
            len
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !c.is_whitespace() {
                tokens.push(c.to_string());
            }
            c.len_utf8()
        };
        rest = &rest[taken..];
    }
    tokens
}

/// The length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of a string or character literal that begins here, raw or not.
fn string(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| text.starts_with(prefix));
    if let Some(prefix) = prefix {
        let hashes = text[prefix.len()..].chars().take_while(|&c| c == '#').count();
        if text[prefix.len() + hashes..].starts_with('"') {
            let open = prefix.len() + hashes + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            return Some(text[open..].find(&close).map_or(text.len(), |at| open + at + close.len()));
        }
    }
    let open = ["b\"", "c\"", "\""].into_iter().find(|open| text.starts_with(open));
    if let Some(open) = open {
        return Some(closing(text, open.len(), '"'));
    }
    let open = ["b'", "'"].into_iter().find(|open| text.starts_with(open))?;
    // A lifetime is no literal: 'a without a second quote right behind it.
    let mut inside = text[open.len()..].chars();
    let first = inside.next()?;
    (first == '\\' || inside.next() == Some('\'')).then(|| closing(text, open.len(), '\''))
}

/// The length up to and with the closing quote, past escapes.
fn closing(text: &str, open: usize, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text[open..].char_indices() {
        if !escaped && c == quote {
            return open + at + 1;
        }
        escaped = !escaped && c == '\\';
    }
    text.len()
}

const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];

/// Drops `#[cfg(test)] mod … { … }`.
fn without_test_modules(tokens: Vec<String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match test_module(&tokens[at..]) {
            Some((_, len)) => at += len,
            None => {
                kept.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    kept
}

fn declared_test_modules(tokens: &[String]) -> Vec<String> {
    (0..tokens.len()).filter_map(|at| test_module(&tokens[at..])).map(|(name, _)| name).collect()
}

/// A test module that begins here: its name and how many tokens it takes.
fn test_module(tokens: &[String]) -> Option<(String, usize)> {
    let rest = tokens.strip_prefix(&CFG_TEST.map(str::to_owned))?;
    let at = rest.iter().take(5).position(|token| token == "mod")?;
    let name = rest.get(at + 1)?.clone();
    let body = at + 2;
    let mut depth = 0;
    for (i, token) in rest.iter().enumerate().skip(body) {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            ";" if depth == 0 => {}
            _ => continue,
        }
        if depth == 0 {
            return Some((name, CFG_TEST.len() + i + 1));
        }
    }
    Some((name, tokens.len()))
}

/// The top-level modules that a file's paths name, as `crate::…` or by climbing out with `super::`.
fn used_modules(path: &str, tokens: &[String]) -> BTreeSet<String> {
    // How many `super` lead from this file to the crate's root.
    let parts = path.split('/').count();
    let depth = if path.ends_with("mod.rs") || path == "lib.rs" { parts - 1 } else { parts };
    let mut used = BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        let mut next = at + 1;
        let mut climbed = 0;
        if tokens[at] == "super" && (at == 0 || tokens[at - 1] != "::") {
            climbed = 1;
            while tokens.get(next).is_some_and(|t| t == "::")
                && tokens.get(next + 1).is_some_and(|t| t == "super")
            {
                climbed += 1;
                next += 2;
            }
        }
        let is_root = tokens[at] == "crate" || (climbed > 0 && climbed == depth);
        if is_root && tokens.get(next).is_some_and(|token| token == "::") {
            used.extend(first_names(&tokens[next + 1..]));
        }
        at = next;
    }
    // Macros and re-exports at the root are `lib`'s.
    used.into_iter().map(|name| if name == "*" || name == "self" { "lib".to_owned() } else { name }).collect()
}

/// The first names of a path or of a group of paths.
fn first_names(tokens: &[String]) -> Vec<String> {
    if tokens.first().is_none_or(|token| token != "{") {
        return tokens.first().cloned().into_iter().collect();
    }
    let mut names = Vec::new();
    let (mut depth, mut fresh) = (0, true);
    for token in tokens {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," => fresh = depth == 1,
            name => {
                if fresh && depth == 1 {
                    names.push(name.to_owned());
                }
                fresh = false;
            }
        }
        if depth == 0 {
            break;
        }
    }
    names
}

// ---------------------------------------------------------------------------------------------------------------- self-test

fn check_one(path: &str, text: &str) -> Vec<String> {
    violations(&[Source { path: path.to_owned(), text: text.to_owned() }])
}

#[test]
fn violations_are_found_however_they_are_written() {
    for (path, text, culprit) in [
        ("hnsw/search.rs", "use crate::collection::View;", "crate::collection"),
        ("vectors/set.rs", "use crate::graph::rows::NodeRecord;", "crate::graph"),
        ("vectors/set.rs", "use crate::{error::Result, graph::rows};", "crate::graph"),
        (
            "vectors/set.rs",
            "use crate::{\n    error::{Error, Result},\n    io::{self, Directory},\n    graph,\n};",
            "crate::graph",
        ),
        ("graph/page.rs", "fn f() -> crate::hnsw::Anchors { todo!() }", "crate::hnsw"),
        ("graph/page.rs", "macro_rules! m { () => { $crate::transaction::Engine } }", "crate::transaction"),
        ("graph/page.rs", "use super::super::store::Store;", "crate::store"),
        ("graph/mod.rs", "use super::store::Store;", "crate::store"),
        ("stats.rs", "use super::check::Report;", "crate::check"),
        ("stats.rs", "use crate::store::bytes_on_disk;", "crate::store"),
        ("io/lock.rs", "// use crate::error;\nlet a = \"\\\"\"; use crate::store::Store;", "crate::store"),
        (
            "io/lock.rs",
            "#[cfg(test)] mod tests { fn f() {} } use crate::distance::Kernel;",
            "crate::distance",
        ),
        ("error.rs", "use crate::*;", "crate::lib"),
        ("novel/mod.rs", "use crate::error::Error;", "no layer"),
        ("graph/page.rs", "use crate::novel::Thing;", "no layer"),
        ("hnsw/search.rs", "use redb::Database;", "`redb`"),
        ("graph/page.rs", "fn f(t: redb::Table<u8, u8>) {}", "`redb`"),
        ("bin/nestling/main.rs", "fn f() { unsafe { g() } }", "`unsafe`"),
        ("graph/storage.rs", "use memmap2::Mmap;", "`memmap2`"),
        ("hnsw/visited.rs", "fn f<'a>(x: &'a u8) -> u8 { unsafe { *(x as *const u8) } }", "`unsafe`"),
    ] {
        let found = check_one(path, text);
        assert!(
            found.len() == 1 && found[0].contains(culprit) && found[0].contains(path),
            "{path}, {text:?}: {found:?}"
        );
    }
}

#[test]
fn what_is_allowed_or_only_mentioned_is_not_found() {
    for (path, text) in [
        ("hnsw/search.rs", "use crate::{error::Result, graph::{self, RowMut}, vectors::Slot};"),
        ("hnsw/search.rs", "use super::pool::Pool; use super::super::vectors::Slot;"),
        (
            "hnsw/search.rs",
            "/// See [`crate::store`], redb and `unsafe`.\n//! use crate::store;\n/* redb /* unsafe */ crate::store */",
        ),
        (
            "hnsw/search.rs",
            "const A: &str = \"crate::store redb\"; const B: &str = r#\"unsafe \" crate::store\"#; const C: char = '\"';",
        ),
        (
            "hnsw/search.rs",
            "#[cfg(test)]\nmod tests { use crate::store::Store; fn f() { unsafe {} } mod inner { use redb::X; } }",
        ),
        ("hnsw/search.rs", "fn unsafe_op(redb_file: u8) {}"),
        ("store.rs", "use crate::{check, stats, transaction::Engine};"),
        ("lib.rs", "mod a; pub use crate::store::Store; pub use redb;"),
        ("bin/nestling/main.rs", "use crate::output::Table;"),
        ("vectors/segment.rs", "use memmap2::MmapRaw; fn f() { unsafe { g() } }"),
    ] {
        let found = check_one(path, text);
        assert!(found.is_empty(), "{path}, {text:?}: {found:?}");
    }
    let sources = [
        Source { path: "distance/mod.rs".to_owned(), text: "#[cfg(test)]\nmod tests;".to_owned() },
        Source { path: "distance/tests.rs".to_owned(), text: "use crate::store::Store;".to_owned() },
    ];
    assert!(violations(&sources).is_empty());
}
