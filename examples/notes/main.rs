//! A notes app for the terminal that searches by meaning: texts, tags and vectors change together, in one transaction.
//!
//! ```text
//! cargo run --release --example notes -- STORE                                # then type; `help` tells the commands
//! cargo run --release --example notes -- STORE add "Cello practice at noon #music"
//! cargo run --release --example notes -- STORE find "stringed instruments #music"
//! ```
//!
//! STORE is the directory of the store; a new one begins with the 5,000 dictionary entries of `examples/data` as its notes. Quote
//! what has a #, which begins a comment in the shell.
//!
//! - `notes.rs` keeps the notes: what to copy.
//! - `embedder.rs` is where a model goes that turns texts into vectors. `word_vectors.rs` does without, and not as well as one;
//!   `local_model/` has one.
//! - `app.rs` is the user interface.

use std::path::Path;
use std::process::ExitCode;

mod app;
mod embedder;
mod notes;
mod word_vectors;
#[path = "../../tests/common/words.rs"]
mod words;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((store, command)) = arguments.split_first() else {
        eprintln!("usage: notes STORE [COMMAND]\n{}", app::HELP);
        return ExitCode::FAILURE;
    };
    let command = (!command.is_empty()).then(|| command.join(" "));
    let words = words::words();
    let embedder = Box::new(word_vectors::WordVectors::new(&words));
    let (input, mut output) = (std::io::stdin().lock(), std::io::stdout());
    match app::run(Path::new(store), embedder, &words, command.as_deref(), input, &mut output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
